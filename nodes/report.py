"""The end: the sealed test labels are opened once, for the winner beside the first pipeline, and the report is written."""

from typing import Any

import numpy as np

from checkpoints.home import run_dir
from checkpoints.store import Store
from dataset.prepare import load_labels
from nodes.context import job_dir, ledger_of, profile_of, settings_of, trained_attempt
from nodes.events import tell
from nodes.report_text import report_text
from nodes.services import Services
from sandbox import artifacts
from sandbox.scoring import score
from schema.events import Finished, NodeEntered
from schema.run import Final
from schema.score import Score
from schema.state import State


def report(state: State, services: Services) -> dict[str, Any]:
    tell(NodeEntered(node="report", iteration=state["iteration"]))
    services.jobs.shutdown(run_dir(state["run"]))  # nothing of ours stays in the person's memory
    store, run, reason = services.store(), state["run"], state["stop"] or ""
    path = run_dir(run) / "report.md"
    if state["best"] is not None:
        first = next(row.iteration for row in ledger_of(state, store) if row.verdict == "first")
        store.set_final(run, _final(state, store, first), _final(state, store, state["best"]))
    store.set_seconds(run, state["clock"])
    store.set_status(run, "finished" if state["best"] is not None else "failed", reason)
    path.write_text(report_text(store.run(run), ledger_of(state, store), store.totals(run)), encoding="utf-8")
    tell(Finished(run=run, reason=reason, report=str(path), spent=store.spent(run)))
    return {}


def _final(state: State, store: Store, iteration: int) -> Final:
    validation = store.score(state["run"], iteration, 0, "validation")
    if validation is None:
        raise RuntimeError(f"iteration {iteration} of run {state['run']} has no validation score")
    test = _test_score(state, store, iteration)
    if test:
        store.put_score(state["run"], iteration, 0, "test", test)
    return Final(iteration=iteration, validation=validation, test=test)


def _test_score(state: State, store: Store, iteration: int) -> Score | None:
    """The predictions were made when the pipeline was trained; only now are they compared with the labels."""
    settings, profile = settings_of(state), profile_of(state, store)
    directory = job_dir(state["run"], iteration, trained_attempt(state["run"], iteration, store), 0)
    probabilities = artifacts.probabilities(directory, "test", profile.size("test"), profile.num_classes)
    if not isinstance(probabilities, np.ndarray):
        return None
    return score(settings.metric, probabilities, load_labels(profile, "test"), profile.classes)
