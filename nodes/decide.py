"""Keep the change or not: a paired comparison on held-out images, one more seed where it is undecided (DESIGN.md section 6)."""

from typing import Any, NamedTuple

import numpy as np

from checkpoints.store import Store
from nodes.context import fault_of, ledger_of, profile_of, settings_of, trained_attempt
from nodes.events import tell
from nodes.folds import folds_of, labels_of
from nodes.sandbox import answers_of, evidence_of
from nodes.services import Services
from sandbox import acceptance
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
            "reason": "the first pipeline that runs" + (f", in {folds_of(state)} folds" if folds_of(state) > 1 else ""),
            "comparison": None,
            "best": state["iteration"],
        }
    settings, store = settings_of(state), services.store()
    evidence = evidence_of(state, services)
    if evidence.cut:
        return {"verdict": "cut", "reason": _cut(evidence, settings), "comparison": None}
    pair = _paired(state, services)
    comparison = _compared(state, store, pair)
    asked_enough = (
        folds_of(state) > 1
        or state["seeds"] >= settings.max_seeds
        or len(pair.candidate) < state["seeds"]
        or _short_of_time(state, services)
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


class _Pair(NamedTuple):
    """Class probabilities [images, classes] of both pipelines, one array for each training that counts as one, and the labels."""

    incumbent: list[np.ndarray]
    candidate: list[np.ndarray]
    labels: np.ndarray
    folds: int


def _paired(state: State, services: Services) -> _Pair:
    """What both have answered: with every seed that they have finished, or in every fold that both have."""
    run, base, store = state["run"], state["base"], services.store()
    assert base is not None
    settings, profile = settings_of(state), profile_of(state, store)
    folds = folds_of(state)
    most = folds if folds > 1 else settings.max_seeds
    theirs, ours = (
        {
            seed: answers
            for seed in range(most)
            if (answers := answers_of(state, services, (*pipeline, seed))) is not None
        }
        for pipeline in ((base, trained_attempt(run, base, store)), (state["iteration"], state["attempt"]))
    )
    if folds == 1:
        labels = labels_of(settings, profile, [0])
        return _Pair(list(theirs.values()), [ours[seed] for seed in ours if seed < state["seeds"]], labels, 1)
    both = sorted(theirs.keys() & ours.keys())
    incumbent, candidate = (np.concatenate([side[fold] for fold in both]) for side in (theirs, ours))
    return _Pair([incumbent], [candidate], labels_of(settings, profile, both), len(both))


def _compared(state: State, store: Store, pair: _Pair) -> Comparison:
    metric = settings_of(state).metric
    prior = acceptance.prior_from(ledger_of(state, store), metric)
    return acceptance.compare(metric, pair.labels, pair.incumbent, pair.candidate, prior, folds=pair.folds)
