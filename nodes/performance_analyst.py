"""The Performance Analyst opens an iteration: one component, a diagnosis, a hypothesis, an instruction; or the end of the run."""

from statistics import median
from typing import Any

from dataset.mosaic import mosaic
from dataset.prepare import load_inner_images, load_inner_labels
from nodes.budget import reason_to_stop
from nodes.calls import team_of
from nodes.context import (
    brief_of,
    engineers_of,
    job_dir,
    ledger_of,
    profile_of,
    settings_of,
    trained_attempt,
)
from nodes.events import tell
from nodes.folds import folds_of
from nodes.services import Services
from sandbox import artifacts
from sandbox.acceptance import prior_from, smallest_kept
from sandbox.scoring import surest_mistakes
from schema.errors import BudgetSpent
from schema.events import NodeEntered, Proposed
from schema.pipeline import Fault
from schema.settings import Settings
from schema.state import State
from schema.team import LONGER, Evidence, LedgerRow, Mistake, MistakesShown, Proposal, TrainingEvidence
from schema.text import duration

MOST_SHOWN = 24  # images
USUALLY_LOST = 0.02  # of the images, before a comparison has shown how many


def performance_analyst(state: State, services: Services) -> dict[str, Any]:
    iteration = services.store().next_iteration(state["run"])
    tell(NodeEntered(node="performance_analyst", iteration=iteration))
    if spent := reason_to_stop(settings_of(state), services.store(), state["run"], state["clock"]):
        return {"stop": spent, "proposal": None}
    team = team_of(state, services, "performance_analyst", iteration)
    evidence = _evidence(state, services, iteration)
    if evidence.at_ceiling and not settings_of(state).until_budget:
        return {"stop": _ceiling(evidence, state["run"]), "proposal": None}
    try:
        proposal = team.analyse(evidence)
    except BudgetSpent as budget:
        return {"stop": str(budget), "proposal": None}
    tell(Proposed(iteration=iteration, proposal=proposal))
    if proposal.action == "stop":
        return {"stop": f"the analyst has nothing left to try: {proposal.diagnosis}", "proposal": None}
    proposal = _completed(proposal, services, state["run"])
    if short := _too_short(proposal, evidence, folds_of(state)):
        return {"stop": short, "proposal": None}
    return {
        "iteration": iteration,
        "iteration_clock": state["clock"],
        "base": state["best"],
        "attempt": 1,
        "proposal": proposal.model_dump(mode="json"),
        "queue": engineers_of(proposal),
        "draft": {},
        "fault": None,
        "faults": [],
        "seeds": 1,
        "verdict": None,
        "comparison": None,
        "reason": "",
    }


def _detectable(settings: Settings, training: TrainingEvidence, ledger: list[LedgerRow]) -> tuple[int | None, bool]:
    """From how many images net on a change would be kept, and whether none would be; (None, False) if that is not known."""
    if settings.metric != "accuracy":
        return None, False
    n, mistakes = training.score.n, round((1 - training.score.accuracy) * training.score.n)
    lost = [row.lost for row in ledger if row.lost is not None]
    usual = round(median(lost)) if lost else round(USUALLY_LOST * n)
    prior = prior_from(ledger, settings.metric)
    at_ceiling = smallest_kept(settings.accept, n, mistakes, 0, prior) is None
    return smallest_kept(settings.accept, n, mistakes, usual, prior), at_ceiling


def _ceiling(evidence: Evidence, run: str) -> str:
    score = evidence.training.score
    mistakes = round((1 - score.accuracy) * score.n)
    made = "no mistake" if not mistakes else "1 mistake" if mistakes == 1 else f"only {mistakes} mistakes"
    return (
        f"the best pipeline makes {made} on the {score.n:,} images that decide: not even one without any could be told from luck. "
        f"More images would tell. Go on all the same: improve resume {run} --until-budget"
    )


def _completed(proposal: Proposal, services: Services, run: str) -> Proposal:
    """A change that is given another chance is asked for as it was then, where the analyst does not say otherwise."""
    if proposal.action != "revisit" or proposal.revisit is None:
        return proposal
    then = services.store().proposal(run, proposal.revisit)
    if then is None:
        return proposal
    texts = {
        name: getattr(then, name) for name in ("diagnosis", "hypothesis", "instruction") if not getattr(proposal, name)
    }
    return proposal.model_copy(update=texts | {"longer": then.longer})


def _too_short(proposal: Proposal, evidence: Evidence, folds: int) -> str | None:
    """A change that is to train longer needs the time for it."""
    need = folds * min(evidence.brief.train_seconds, LONGER * evidence.training.seconds)
    if not proposal.longer or evidence.seconds_left is None or evidence.seconds_left >= need:
        return None
    left = duration(evidence.seconds_left)
    return f"{left} of the budget are left, and the next change ({proposal.move}) may train for {duration(need)}"


def _mistakes_shown(state: State, services: Services) -> MistakesShown | None:
    """The inner validation images that the incumbent's first training is the surest about, and wrong. None if there are none."""
    store, run, best = services.store(), state["run"], state["best"]
    profile = profile_of(state, store)
    if best is None or not profile.inner:
        return None
    labels = load_inner_labels(profile)
    directory = job_dir(run, best, trained_attempt(run, best, store), 0)
    answers = artifacts.probabilities(directory, "inner", len(labels), profile.num_classes)
    if isinstance(answers, Fault):
        return None
    places = surest_mistakes(answers, labels, MOST_SHOWN)
    if not len(places):
        return None
    chosen = [(int(labels[i]), int(answers[i].argmax()), float(answers[i].max())) for i in places]
    return MistakesShown(
        png=mosaic(load_inner_images(profile)[places]),
        mistakes=[
            Mistake(truth=profile.classes[truth], predicted=profile.classes[predicted], confidence=sure)
            for truth, predicted, sure in chosen
        ],
    )


def _evidence(state: State, services: Services, iteration: int) -> Evidence:
    store, run, best = services.store(), state["run"], state["best"]
    training = None if best is None else store.training(run, best)
    if best is None or training is None:
        raise RuntimeError(f"run {run} has no scored incumbent to improve")
    settings, ledger = settings_of(state), ledger_of(state, store)
    smallest, ceiling = _detectable(settings, training, ledger)
    budget = settings.budget_seconds
    return Evidence(
        brief=brief_of(state, store),
        iteration=iteration,
        best_iteration=best,
        pipeline=store.pipeline(run, best),
        training=training,
        shown=_mistakes_shown(state, services) if settings.show_images else None,
        ledger=ledger,
        smallest_kept=smallest,
        at_ceiling=ceiling,
        seconds_left=None if budget is None else max(0.0, budget - state["clock"]),
    )
