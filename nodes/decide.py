"""Keep the change or not: a paired comparison on held-out images, one more seed where it is undecided (DESIGN.md section 6)."""

from typing import Any

import numpy as np

from checkpoints.store import Store
from dataset.prepare import load_labels
from nodes.context import fault_of, job_dir, ledger_of, profile_of, settings_of, trained_attempt
from nodes.events import tell
from nodes.sandbox import evidence_of
from nodes.services import Services
from sandbox import acceptance, artifacts
from schema.events import NodeEntered
from schema.score import Comparison
from schema.settings import Settings
from schema.state import State
from schema.team import TrainingEvidence

BUSY = 1.25  # times as long as it would have taken alone


def decide(state: State, services: Services) -> dict[str, Any]:
    """`verdict` None sends the comparison back for one more seed of both pipelines."""
    tell(NodeEntered(node="decide", iteration=state["iteration"]))
    fault = fault_of(state)
    if fault:
        skipped = fault.cause == "skipped"
        return {
            "verdict": "skipped" if skipped else "failed",
            "reason": fault.message if skipped else str(fault),
            "comparison": None,
        }
    if state["base"] is None:
        return {
            "verdict": "first",
            "reason": "the first pipeline that runs",
            "comparison": None,
            "best": state["iteration"],
        }
    settings, store = settings_of(state), services.store()
    evidence = evidence_of(state, services)
    if evidence.cut:
        return {"verdict": "cut", "reason": _cut(evidence, settings), "comparison": None}
    incumbent, candidate = _paired(state, services)
    comparison = _compared(state, store, incumbent, candidate)
    asked_enough = (
        state["seeds"] >= settings.max_seeds or len(candidate) < state["seeds"] or _short_of_time(state, services)
    )
    decision = acceptance.decide(settings.accept, comparison, can_repeat=not asked_enough)
    update = {"comparison": comparison.model_dump(mode="json"), "reason": decision.reason}
    if decision.verdict == "undecided":
        return {**update, "verdict": None, "seeds": state["seeds"] + 1}
    kept = {"best": state["iteration"]} if decision.verdict == "accepted" else {}
    return {**update, "verdict": decision.verdict, **kept}


def _cut(evidence: TrainingEvidence, settings: Settings) -> str:
    done = evidence.curve[-1].epoch if evidence.curve else 0
    of = f" of {evidence.planned}" if evidence.planned else ""
    busy = evidence.alone and evidence.seconds > BUSY * evidence.alone
    why = "other programs took most of the machine" if busy else "it is slower than its first steps were"
    return (
        f"cut: {done}{of} epochs in {evidence.seconds:.0f} s, planned for {settings.longest_training:.0f} s ({why}), "
        "so its score says nothing about the change"
    )


def _short_of_time(state: State, services: Services) -> bool:
    """The rest of the budget does not hold one more training of each of the two."""
    budget = settings_of(state).budget_seconds
    return budget is not None and budget - state["clock"] < 2 * evidence_of(state, services).seconds


def _paired(state: State, services: Services) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Class probabilities [images, classes] of both pipelines for every seed that they have finished."""
    run, base, store = state["run"], state["base"], services.store()
    assert base is not None
    attempt, most = trained_attempt(run, base, store), settings_of(state).max_seeds
    theirs = [_read(state, services, (base, attempt, seed)) for seed in range(most)]
    ours = [_read(state, services, (state["iteration"], state["attempt"], seed)) for seed in range(state["seeds"])]
    return [one for one in theirs if one is not None], [one for one in ours if one is not None]


def _read(state: State, services: Services, job: tuple[int, int, int]) -> np.ndarray | None:
    """Of a job (iteration, attempt, seed); None where it has none, or a further seed was cut."""
    store, (iteration, attempt, seed) = services.store(), job
    directory = job_dir(state["run"], iteration, attempt, seed)
    result = services.jobs.result(directory)
    if store.score(state["run"], iteration, seed, "validation") is None or (seed and result and result.cut):
        return None
    profile, split = profile_of(state, store), settings_of(state).select_on
    found = artifacts.probabilities(directory, split, profile.size(split), profile.num_classes)
    return found if isinstance(found, np.ndarray) else None


def _compared(state: State, store: Store, incumbent: list[np.ndarray], candidate: list[np.ndarray]) -> Comparison:
    settings, profile = settings_of(state), profile_of(state, store)
    labels = load_labels(profile, settings.select_on)
    prior = acceptance.prior_from(ledger_of(state, store), settings.metric)
    return acceptance.compare(settings.metric, labels, incumbent, candidate, prior)
