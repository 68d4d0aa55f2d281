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
from schema.state import State


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
    incumbent, candidate = _paired(state, store)
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


def _short_of_time(state: State, services: Services) -> bool:
    """The rest of the budget does not hold one more training of each of the two."""
    budget = settings_of(state).budget_seconds
    return budget is not None and budget - state["clock"] < 2 * evidence_of(state, services).seconds


def _paired(state: State, store: Store) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Class probabilities [images, classes] of both pipelines for every seed that both have finished."""
    run, base = state["run"], state["base"]
    assert base is not None
    attempt = trained_attempt(run, base, store)
    incumbent, candidate = [], []
    for seed in range(state["seeds"]):
        theirs = _read(state, store, base, attempt, seed)
        ours = _read(state, store, state["iteration"], state["attempt"], seed)
        if theirs is not None and ours is not None:
            incumbent.append(theirs)
            candidate.append(ours)
    return incumbent, candidate


def _read(state: State, store: Store, iteration: int, attempt: int, seed: int) -> np.ndarray | None:
    if store.score(state["run"], iteration, seed, "validation") is None:
        return None
    profile, split = profile_of(state, store), settings_of(state).select_on
    directory = job_dir(state["run"], iteration, attempt, seed)
    found = artifacts.probabilities(directory, split, profile.size(split), profile.num_classes)
    return found if isinstance(found, np.ndarray) else None


def _compared(state: State, store: Store, incumbent: list[np.ndarray], candidate: list[np.ndarray]) -> Comparison:
    settings, profile = settings_of(state), profile_of(state, store)
    labels = load_labels(profile, settings.select_on)
    prior = acceptance.prior_from(ledger_of(state, store), settings.metric)
    return acceptance.compare(settings.metric, labels, incumbent, candidate, prior)
