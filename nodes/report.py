"""The end: the sealed test labels are opened once, for the winner beside the first pipeline, and the report is written."""

from typing import Any

import numpy as np

from agents.playbook.backbones import licence
from checkpoints.home import run_dir
from checkpoints.store import Store
from dataset.prepare import load_labels
from nodes.context import job_dir, ledger_of, pretrained_of, profile_of, settings_of, trained_attempt
from nodes.events import tell
from nodes.report_text import report_text
from nodes.services import Services
from sandbox import artifacts
from sandbox.acceptance import chosen, compare, prior_from, standings
from sandbox.contract import parsed
from sandbox.pretrained.names import asked_for
from sandbox.scoring import score
from schema.dataset import Split
from schema.events import Finished, NodeEntered
from schema.pipeline import COMPONENTS, Fault
from schema.run import Final
from schema.score import Comparison, Score
from schema.state import State
from schema.team import LedgerRow

LICENCE_UNKNOWN = "not known here: look where the file is from"


def report(state: State, services: Services) -> dict[str, Any]:
    tell(NodeEntered(node="report", iteration=state["iteration"]))
    services.jobs.shutdown(run_dir(state["run"]))  # nothing of ours stays in the person's memory
    store, run, reason = services.store(), state["run"], state["stop"] or ""
    path = run_dir(run) / "report.md"
    if state["best"] is not None:
        ledger = ledger_of(state, store)
        first = next(row.iteration for row in ledger if row.verdict == "first")
        winner = _winner(state, ledger)
        best = _final(state, store, winner)
        over_first = _over_first(state, store, first, winner)
        best = best.model_copy(update={"over_first": over_first} | _standing(state, ledger, winner))
        store.set_final(run, _final(state, store, first), best)
    store.set_seconds(run, state["clock"])
    store.set_status(run, "finished" if state["best"] is not None else "failed", reason)
    path.write_text(report_text(store.run(run), ledger_of(state, store), store.totals(run)), encoding="utf-8")
    tell(Finished(run=run, reason=reason, report=str(path), spent=store.spent(run)))
    return {}


def _winner(state: State, ledger: list[LedgerRow]) -> int:
    """Name the iteration that is taken home. The rules `better` and `paired` take the last incumbent."""
    settings, best = settings_of(state), state["best"]
    assert best is not None
    return chosen(ledger, settings.metric).iteration if settings.accept == "expected" else best


def _standing(state: State, ledger: list[LedgerRow], winner: int) -> dict[str, float | None]:
    """What it scored over all its trainings, and what it is believed to score: None if nothing was compared with it."""
    metric = settings_of(state).metric
    found = next((one for one in standings(ledger, metric) if one.iteration == winner), None)
    believed = found.believed(metric) if found and found.standard_error else None
    return {"shown": found.shown if found else None, "believed": believed}


def _over_first(state: State, store: Store, first: int, winner: int) -> Comparison | None:
    """The difference that the run has made, on images that decided nothing, over all trainings of the two. None if they are the same."""
    settings, profile = settings_of(state), profile_of(state, store)
    split: Split = "test" if profile.size("test") else settings.select_on
    before, after = (_probabilities(state, store, iteration, split) for iteration in (first, winner))
    if first == winner or not before or not after:
        return None
    return compare(settings.metric, load_labels(profile, split), before, after, prior_from([], settings.metric))


def _final(state: State, store: Store, iteration: int) -> Final:
    validation = store.score(state["run"], iteration, 0, "validation")
    if validation is None:
        raise RuntimeError(f"iteration {iteration} of run {state['run']} has no validation score")
    test = _test_score(state, store, iteration)
    if test:
        store.put_score(state["run"], iteration, 0, "test", test)
    return Final(iteration=iteration, validation=validation, test=test, weights=_weights(state, store, iteration))


def _weights(state: State, store: Store, iteration: int) -> dict[str, str]:
    """What the pipeline fine-tunes, by the names in its source: who ships the model has to know the licences."""
    pipeline, licences = store.pipeline(state["run"], iteration), pretrained_of(state).licences
    trees = [parsed(component, pipeline.code(component)) for component in COMPONENTS]
    asked = [one.what for tree in trees if not isinstance(tree, Fault) for one in asked_for(tree)]
    names = dict.fromkeys(what.partition(":")[2] for what in asked)
    return {name: licences.get(name) or licence(name) or LICENCE_UNKNOWN for name in names}


def _test_score(state: State, store: Store, iteration: int) -> Score | None:
    """The predictions were made when the pipeline was trained; only now are they compared with the labels."""
    settings, profile = settings_of(state), profile_of(state, store)
    found = _probabilities(state, store, iteration, "test")
    return score(settings.metric, found[0], load_labels(profile, "test"), profile.classes) if found else None


def _probabilities(state: State, store: Store, iteration: int, split: Split) -> list[np.ndarray]:
    """Class probabilities [images, classes] of all its trainings, the first of them first; none if that one has left none."""
    run, profile = state["run"], profile_of(state, store)
    attempt = trained_attempt(run, iteration, store)
    jobs = {row.seed: row.result for row in store.jobs(run, iteration) if row.attempt == attempt}
    found: list[np.ndarray] = []
    for seed in sorted(seed for seed, result in jobs.items() if result.ok and not (seed and result.cut)):
        directory = job_dir(run, iteration, attempt, seed)
        rows = artifacts.probabilities(directory, split, profile.size(split), profile.num_classes)
        if isinstance(rows, np.ndarray):
            found.append(rows)
        elif seed == 0:
            return []
    return found
