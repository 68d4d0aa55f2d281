"""The Python face: run, resume, load; works in a script and in a notebook."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoints.home import run_dir
from checkpoints.store import open_store
from schema.events import Event
from schema.score import Score
from schema.settings import make_settings
from schema.team import LedgerRow, Spent


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has come to. `test` is None until the run is finished."""

    name: str
    status: str
    script: Path  # the winner's pipeline.py
    weights: Path
    report: Path
    validation: Score | None
    test: Score | None
    history: list[LedgerRow]
    spent: Spent  # on language models


def run(
    data: str | Path, *, name: str | None = None, on_event: Callable[[Event], None] | None = None, **settings: Any
) -> Result:
    """Run to the end. `settings` are the fields of schema.settings.Settings, e.g. iterations=5, train_seconds=60, describe="...".

    Raises InputError for what you can mend, RunStopped after Ctrl-C (resume(name) goes on), ImproveError for the rest.
    """
    from graph.run import run as run_graph  # noqa: PLC0415 - LangGraph takes a second to import

    return load(run_graph(make_settings({"dataset": str(data), **settings}), name=name, on_event=on_event))


def resume(
    name: str,
    *,
    iterations: int | None = None,
    budget_seconds: float | None = None,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    sandbox: str | None = None,
    gpus: tuple[str, ...] | None = None,
    jobs_per_gpu: int | None = None,
    jobs_per_cpu: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Result:
    """Go on with a stopped run, or give a finished one more iterations, time, tokens or dollars; `sandbox`: in another isolation tier than it began in; the rest: where its trainings stand in line."""
    from graph.run import resume as resume_graph  # noqa: PLC0415 - as above

    made = resume_graph(
        name,
        iterations=iterations,
        budget_seconds=budget_seconds,
        max_tokens=max_tokens,
        max_cost=max_cost,
        sandbox=sandbox,
        gpus=gpus,
        jobs_per_gpu=jobs_per_gpu,
        jobs_per_cpu=jobs_per_cpu,
        on_event=on_event,
    )
    return load(made)


def load(name: str) -> Result:
    """A run as the experiment store knows it. Raises UnknownRun."""
    store = open_store()
    row, history = store.run(name), store.ledger(name)
    kept = max((r.iteration for r in history if r.verdict in {"first", "accepted"}), default=None)
    best = row.best.iteration if row.best else kept
    # Where nothing has run yet, no folder of that name exists: a pipeline that failed is nobody's winner.
    folder = run_dir(name) / "iterations" / ("none" if best is None else f"{best:04d}")
    return Result(
        name=name,
        status=row.status,
        script=folder / "pipeline.py",
        weights=folder / "weights.safetensors",
        report=run_dir(name) / "report.md",
        validation=None if best is None else store.score(name, best, 0, "validation"),
        test=row.best.test if row.best else None,
        history=history,
        spent=store.spent(name),
    )
