"""An iteration is settled: one row in the ledger, its files in its folder, and the question whether there is another."""

import json
from typing import Any

from checkpoints.store import Store
from nodes.assemble import script_of
from nodes.budget import reason_to_stop
from nodes.calls import team_of
from nodes.context import components_of, fault_of, iteration_dir, job_dir, profile_of, proposal_of, settings_of
from nodes.events import tell
from nodes.sandbox import evidence_of
from nodes.services import Services
from sandbox import artifacts
from sandbox.acceptance import standings
from schema.errors import BudgetSpent
from schema.events import Settled
from schema.pipeline import COMPONENTS, Pipeline
from schema.score import Comparison, Score, Verdict
from schema.settings import Metric, higher_is_better
from schema.state import State
from schema.team import LedgerRow, Outcome, TrainingEvidence

MOST_CUT_IN_A_ROW = 3
DAY = 86_400.0  # at home the number of epochs ends a training, not the clock


def summarize(state: State, services: Services) -> dict[str, Any]:
    store = services.store()
    untrained = state["verdict"] in {"failed", "skipped"}
    training = None if untrained else evidence_of(state, services)
    pipeline = _complete_pipeline(state, store)
    row = _row(state, store, training)
    row = row.model_copy(update={"summary": _summary(row, state, services)})
    store.put_iteration(
        state["run"],
        row,
        previous=state.get("settled"),
        pipeline=pipeline,
        proposal=proposal_of(state),
        fault=fault_of(state),
        training=training,
    )
    store.set_seconds(state["run"], state["clock"])
    if pipeline:
        _write_files(state, pipeline, row, _defaults(state, store, training))
    best = best_score(state, store)
    tell(_told(row, state, store))
    return settled(state["iteration"], reason_to_end(state, store, best))


def _told(row: LedgerRow, state: State, store: Store) -> Settled:
    ledger, metric = store.ledger(state["run"], state["iteration"]), settings_of(state).metric
    incumbent = next((one for one in standings(ledger, metric) if one.iteration == state.get("best")), None)
    return Settled(
        row=row,
        reason=state.get("reason", ""),
        best_iteration=state.get("best"),
        best_validation=incumbent.shown if incumbent else None,
        best_believed=incumbent.believed(metric) if incumbent and incumbent.standard_error else None,
    )


def settled(iteration: int, stop: str | None) -> dict[str, Any]:
    """The part of the state that an iteration under way has to itself, when it is over."""
    return {
        "stop": stop,
        "settled": iteration,
        "draft": {},
        "fault": None,
        "faults": [],
        "proposal": None,
        "queue": [],
    }


def _summary(row: LedgerRow, state: State, services: Services) -> str:
    if row.verdict == "skipped":
        return f"{row.move}: {state['reason']}"
    outcome = Outcome(row=row, proposal=proposal_of(state), fault=fault_of(state), reason=state.get("reason", ""))
    try:
        return team_of(state, services, "summarize").summarise(outcome)
    except BudgetSpent:
        return f"{row.move}: {row.verdict}"


def _complete_pipeline(state: State, store: Store) -> Pipeline | None:
    """None where the first pipeline was never completed."""
    components = components_of(state, store)
    return Pipeline.model_validate(components) if len(components) == len(COMPONENTS) else None


def _row(state: State, store: Store, training: TrainingEvidence | None) -> LedgerRow:
    proposal = proposal_of(state)
    raw = state.get("comparison")
    comparison = Comparison.model_validate(raw) if raw else None
    verdict: Verdict = state["verdict"]  # type: ignore[assignment]
    jobs = store.jobs(state["run"], state["iteration"])
    last = training.curve[-1].metrics if training and training.curve else {}
    return LedgerRow(
        iteration=state["iteration"],
        base=state["base"],
        component=proposal.component if proposal and proposal.component else "all",
        move=proposal.move if proposal else "first pipeline",
        verdict=verdict,
        validation=_validation(training, comparison),
        against=comparison.incumbent if comparison else None,
        delta=comparison.delta if comparison else None,
        gained=comparison.gained if comparison else None,
        lost=comparison.lost if comparison else None,
        standard_error=comparison.standard_error if comparison else None,
        expected=comparison.expected if comparison else None,
        low=comparison.low if comparison else None,
        high=comparison.high if comparison else None,
        attempts=state["attempt"],
        epochs=training.curve[-1].epoch if training and training.curve else None,
        planned=training.planned if training else None,
        cut=training.cut if training else False,
        images_per_second=training.plan.images_per_second if training and training.plan else None,
        train_loss=last.get("train_loss"),
        train_accuracy=last.get("train_accuracy"),
        seconds=round(state["clock"] - state["iteration_clock"], 2),
        training_seconds=round(
            sum(step.seconds for job in jobs for step in job.result.steps if step.step == "train"), 2
        ),
    )


def _validation(training: TrainingEvidence | None, comparison: Comparison | None) -> float | None:
    if comparison and comparison.candidate is not None:
        return comparison.candidate
    return training.score.value if training else None


def _defaults(state: State, store: Store, training: TrainingEvidence | None) -> dict[str, Any]:
    """What the pipeline was trained with, so that a bare `python pipeline.py train` at home does the same again."""
    profile, settings = profile_of(state, store), settings_of(state)
    known = {"seed": settings.seed, "channels": profile.channels, "size": [profile.height, profile.width]}
    if profile.value_range:
        known["value_range"] = profile.value_range
    if training is None or training.plan is None:
        return known
    return known | training.plan.model_dump(include={"epochs", "precision", "channels_last"}) | {"seconds": DAY}


def _write_files(state: State, pipeline: Pipeline, row: LedgerRow, defaults: dict[str, Any]) -> None:
    """The iteration's folder: readable on its own, without the database."""
    folder = iteration_dir(state["run"], state["iteration"])
    folder.parent.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    (folder / "pipeline.py").write_text(script_of(pipeline, state, defaults), encoding="utf-8")
    for component in COMPONENTS:
        (folder / f"{component}.py").write_text(pipeline.code(component), encoding="utf-8")
    directory = job_dir(state["run"], state["iteration"], state["attempt"], 0)
    for name, target in artifacts.KEPT.items():
        artifacts.safe_copy(directory, name, folder / target)
    (folder / "result.json").write_text(json.dumps(row.model_dump(mode="json"), indent=2), encoding="utf-8")


def best_score(state: State, store: Store) -> Score | None:
    best = state.get("best")
    return None if best is None else store.score(state["run"], best, 0, "validation")


def tried(state: State, store: Store) -> int:
    """Changes that were settled in this branch of the run. One whose training was cut was not."""
    return sum(row.verdict not in {"first", "cut"} for row in store.ledger(state["run"], state["iteration"]))


def is_too_busy(state: State, store: Store) -> bool:
    """Whether the last trainings were all cut before their work was done."""
    verdicts = [row.verdict for row in store.ledger(state["run"], state["iteration"])]
    return verdicts[-MOST_CUT_IN_A_ROW:] == ["cut"] * MOST_CUT_IN_A_ROW


def reason_to_end(state: State, store: Store, best: Score | None) -> str | None:
    settings = settings_of(state)
    if best is None:
        return f"no pipeline ran: {state.get('reason', '')}"
    if settings.strategy == "zero-shot":
        return "zero-shot: one training, no refinement"
    if tried(state, store) >= settings.iterations:
        return "the one iteration is done" if settings.iterations == 1 else f"all {settings.iterations} iterations done"
    if settings.target is not None and _reached(best.value, settings.target, settings.metric):
        return f"the target of {settings.target} is reached"
    if is_too_busy(state, store):
        return (
            f"{MOST_CUT_IN_A_ROW} trainings in a row were cut before their work was done: the machine is too busy, or --train-limit too short. "
            f"Go on when it is quieter: improve resume {state['run']}"
        )
    return reason_to_stop(settings, store, state["run"], state["clock"])


def _reached(value: float, target: float, metric: Metric) -> bool:
    return value >= target if higher_is_better(metric) else value <= target
