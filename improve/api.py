"""The Python face: run, resume, load; works in a script and in a notebook."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoints.home import run_dir
from checkpoints.store import open_store
from schema.errors import SettingsError
from schema.events import Event
from schema.score import Score
from schema.settings import make_settings
from schema.team import LedgerRow, Review, ReviewAsked, Spent

if TYPE_CHECKING:
    from improve.model import Model

ANEW = {"iterations", "budget_seconds", "max_tokens", "max_cost", "review", "gpus", "jobs_per_gpu", "jobs_per_cpu"}


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

    def model(self, sandbox: str | None = None) -> "Model":
        """The winner, ready to predict: `improve.load("first").model().predict(images)`. `sandbox`: another isolation tier than the run's.

        Raises InputError where nothing has been trained yet."""
        from improve.model import open_model  # noqa: PLC0415 - it needs what reads images and runs jobs

        return open_model(self.name, sandbox)


def inspect(data: str | Path, **settings: Any) -> dict[str, Any]:
    """Say how the images are read, what is in them, and what is not used: the object of `improve inspect --json`. Nothing is trained.

    Raises InputError for what a run would refuse.
    """
    from improve.data_summary import as_json, look_at_data  # noqa: PLC0415 - it needs what reads images

    profile = look_at_data(make_settings({"dataset": str(data), **settings})).profile
    return as_json(profile)


def run(
    data: str | Path,
    *,
    name: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_review: Callable[[ReviewAsked], Review | None] | None = None,
    **settings: Any,
) -> Result:
    """Run to the end. `settings` are the fields of schema.settings.Settings, e.g. iterations=5, train_seconds=60, describe="...".

    Raises InputError for what you can mend, RunStopped after Ctrl-C (resume(name) goes on), ImproveError for the rest.
    """
    from graph.run import run as run_graph  # noqa: PLC0415 - LangGraph takes a second to import

    return load(
        run_graph(make_settings({"dataset": str(data), **settings}), name=name, on_event=on_event, on_review=on_review)
    )


def resume(
    name: str,
    *,
    on_event: Callable[[Event], None] | None = None,
    on_review: Callable[[ReviewAsked], Review | None] | None = None,
    sandbox: str | None = None,
    data: str | Path | None = None,
    force: bool = False,
    **anew: Any,
) -> Result:
    """Go on with a stopped run, or give a finished one more.

    `anew`: what it gets now: iterations, budget_seconds, max_tokens, max_cost, review, gpus, jobs_per_gpu, jobs_per_cpu. `sandbox`: another isolation tier than
    it began in. `data`: where the images are now. `force`: although code, packages, machine or images have changed since.
    """
    from graph.run import resume as resume_graph  # noqa: PLC0415 - as above

    place = None if data is None else str(data)
    made = resume_graph(
        name, on_event=on_event, on_review=on_review, sandbox=sandbox, data=place, force=force, **_known(anew)
    )
    return load(made)


def fork(
    name: str,
    iteration: int,
    *,
    new_name: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_review: Callable[[ReviewAsked], Review | None] | None = None,
    **anew: Any,
) -> Result:
    """A new run that goes its own way from where this iteration was settled; the old one stays as it is. `anew` as in `resume`."""
    from graph.fork import fork as fork_graph  # noqa: PLC0415 - as above

    known = _known(anew)
    return resume(fork_graph(name, iteration, new_name), on_event=on_event, on_review=on_review, **known)


def stream(
    data: str | Path,
    *,
    name: str | None = None,
    on_review: Callable[[ReviewAsked], Review | None] | None = None,
    **settings: Any,
) -> Iterator[Event]:
    """As `run`, one typed event after the other (`schema.events`). A loop that is left stops the run between two steps; `resume` goes on."""
    from graph.run import begun  # noqa: PLC0415 - as above

    return begun(make_settings({"dataset": str(data), **settings}), name=name, on_review=on_review)


def stream_resumed(
    name: str,
    *,
    on_review: Callable[[ReviewAsked], Review | None] | None = None,
    sandbox: str | None = None,
    data: str | Path | None = None,
    force: bool = False,
    **anew: Any,
) -> Iterator[Event]:
    """As `resume`, one typed event after the other."""
    from graph.run import resumed  # noqa: PLC0415 - as above

    place = None if data is None else str(data)
    return resumed(name, on_review=on_review, sandbox=sandbox, data=place, force=force, **_known(anew))


def _known(anew: dict[str, Any]) -> dict[str, Any]:
    """Raises SettingsError for what a run keeps as it began."""
    if unknown := set(anew) - ANEW:
        raise SettingsError(
            f"{', '.join(sorted(unknown))}: a run keeps that as it began. What can be given anew: {', '.join(sorted(ANEW))}."
        )
    return anew


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
