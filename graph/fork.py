"""A new run out of an earlier iteration of another: its scores, its code and its trainings so far, and from there on its own way."""

import shutil
from uuid import uuid4

from checkpoints.home import fresh_name, prepare_home, valid_run_name
from checkpoints.lock import run_lock
from checkpoints.saver import open_checkpointer
from checkpoints.store import Store, open_store
from graph.build import build_graph
from graph.rebuild import rebuild
from nodes.context import iteration_dir
from nodes.services import Services
from schema.errors import InputError, RunNameTaken
from schema.team import LedgerRow

WEIGHTS = "weights.safetensors"


def fork(run: str, iteration: int, name: str | None = None) -> str:
    """Make the new run, stopped where `iteration` was settled; `graph.run.resume` goes on with it. Returns its name.

    Raises UnknownRun, and InputError where that iteration cannot be gone on from. The old run stays as it is.
    """
    prepare_home()
    store = open_store()
    row = store.run(run)
    rows = _branch(store, run, iteration)
    new = valid_run_name(name) if name else fresh_name(f"{run}-from-{iteration}", [one.name for one in store.runs()])
    with run_lock(new):
        if new in {one.name for one in store.runs()}:
            raise RunNameTaken(f"A run named {new!r} exists. Choose another --name.")
        _copy_files(run, new, rows)
        settings, thread = row.settings.model_copy(update={"name": new}), str(uuid4())
        store.copy_run(run, new, [one.iteration for one in rows], thread=thread, settings=settings)
        with open_checkpointer() as saver:
            compiled = build_graph(Services()).compile(checkpointer=saver)
            rebuild(compiled, {"configurable": {"thread_id": thread}}, store.run(new), store)
    return new


def _branch(store: Store, run: str, iteration: int) -> list[LedgerRow]:
    """The iterations up to this one."""
    rows = store.ledger(run, iteration)
    if not rows:
        settled = ", ".join(str(one.iteration) for one in store.ledger(run)) or "none yet"
        raise InputError(f"Run {run!r} has no settled iteration {iteration}. It has: {settled}.")
    if not any(one.verdict == "first" for one in rows):
        raise InputError(
            f"No pipeline of run {run!r} had run by iteration {iteration}, so that there is nothing to go on from: begin a new run."
        )
    return rows


def _copy_files(run: str, new: str, rows: list[LedgerRow]) -> None:
    """Of the trainings all but their weights, which only the incumbent's user needs. Copies, since a job's file with two names is taken by nobody."""
    best = [one.iteration for one in rows if one.verdict in {"first", "accepted"}][-1]
    for one in rows:
        source = iteration_dir(run, one.iteration)
        without = None if one.iteration == best else shutil.ignore_patterns(WEIGHTS, "*.replaced-*")
        if source.is_dir():
            shutil.copytree(source, iteration_dir(new, one.iteration), ignore=without, dirs_exist_ok=True)
