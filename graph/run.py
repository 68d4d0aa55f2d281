"""Start and resume runs: one run, one thread, one driver at a time, every finished step in the checkpoint."""

import errno
import math
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from sqlalchemy.exc import OperationalError

from agents.team import settled
from checkpoints.home import (
    check_not_lost,
    checkpoints_path,
    fresh_name,
    home,
    prepare_home,
    run_dir,
    valid_run_name,
)
from checkpoints.lock import run_lock
from checkpoints.saver import SqliteCheckpointer
from checkpoints.store import open_store
from graph.build import build_graph
from nodes.context import profile_of
from nodes.profile import data_is_there
from nodes.services import Services
from sandbox.gpu import uuids
from sandbox.isolation.tiers import choose
from schema.errors import (
    BudgetSpent,
    HomeError,
    HomeLost,
    ImproveError,
    InputError,
    JobsUnavailable,
    ModelsUnavailable,
    NothingToResume,
    RunNameTaken,
    RunStopped,
    SettingsError,
    UnknownRun,
)
from schema.events import EVENTS, Event, RunStarted
from schema.run import RunRow, Status
from schema.settings import Settings, make_settings
from schema.state import SCHEMA_VERSION, State

FULL, READ_ONLY = "make room", "make it writable again (mount and dmesg say why it is not)"
SQLITE_REFUSED = {
    "SQLITE_FULL": FULL,
    "SQLITE_IOERR_WRITE": FULL,
    "SQLITE_READONLY": READ_ONLY,
    "SQLITE_READONLY_DIRECTORY": READ_ONLY,
    "SQLITE_CANTOPEN": READ_ONLY,
    "SQLITE_READONLY_DBMOVED": "put back the file that was moved or deleted",
}
REFUSED = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EROFS: READ_ONLY}
OnEvent = Callable[[Event], None]


def run(
    settings: Settings, *, name: str | None = None, on_event: OnEvent | None = None, services: Services | None = None
) -> str:
    """Run to the end; returns the run's name.

    Raises InputError (nothing was written), RunStopped (resumable), ImproveError.
    """
    settings = settled(settings.model_copy(update={"tier": choose(settings.tier, prepare_home())}))
    name = valid_run_name(name) if name else fresh_name(settings.dataset, [row.name for row in open_store().runs()])
    with run_lock(name):
        if _exists(name):
            raise RunNameTaken(
                f"A run named {name!r} exists. Choose another --name, or go on with it: improve resume {name}"
            )
        return _drive(name, settings.model_dump(mode="json"), settings, on_event, services)


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
    on_event: OnEvent | None = None,
    services: Services | None = None,
) -> str:
    """Go on from the last checkpoint; a finished run goes on when it is given more iterations, time, tokens or money.

    It goes on in the isolation tier that it began in, unless `sandbox` names another. Raises SettingsError where that does not work here.
    """
    prepare_home()
    row = open_store().run(name)
    if not run_dir(name).is_dir():
        raise NothingToResume(
            f"The folder of run {name!r}, {run_dir(name)}, is gone, its trainings and weights with it. "
            "Restore it from a copy, or begin a new run under another --name."
        )
    given: dict[str, Any] = {"iterations": iterations, "budget_seconds": budget_seconds, "tier": sandbox}
    given |= {"max_tokens": max_tokens, "max_cost": max_cost}
    given |= {"gpus": gpus, "jobs_per_gpu": jobs_per_gpu, "jobs_per_cpu": jobs_per_cpu}
    changes = {key: value for key, value in given.items() if value is not None}
    settings = _in_tier(make_settings({**row.settings.model_dump(), **changes}), row)
    settings = settings.model_copy(update={"gpus": uuids(settings.gpus)})
    with run_lock(name):
        return _drive(name, None, settings, on_event, services)


def _in_tier(settings: Settings, row: RunRow) -> Settings:
    try:
        return settings.model_copy(update={"tier": choose(settings.tier, home())})
    except SettingsError as error:
        raise SettingsError(
            f"Run {row.name!r} began in the sandbox {row.sandbox}, and goes on in no weaker one by itself. {error} "
            f"Or choose what there is: improve resume {row.name} --sandbox auto"
        ) from None


def _drive(
    name: str, inputs: dict[str, Any] | None, settings: Settings, on_event: OnEvent | None, services: Services | None
) -> str:
    services = services or Services()
    with SqliteCheckpointer.open(checkpoints_path()) as saver, _stop_between_steps() as control:
        compiled: Any = build_graph(services).compile(checkpointer=saver, name="improve")
        config: dict[str, Any] = {"configurable": {"thread_id": name}, "recursion_limit": _step_limit(settings)}
        resumed = inputs is None
        try:
            if resumed:
                inputs, config = _prepare_resume(compiled, config, name, settings)
            _announce(name, settings, on_event, resumed=resumed)
            with _or_lost(name):
                stream = compiled.stream(inputs, config, stream_mode="custom", durability="sync", control=control)
                for raw in stream:
                    if on_event:
                        on_event(EVENTS.validate_python(raw))
        except HomeLost as lost:
            if home().is_dir() and _exists(name):
                open_store().set_status(name, "failed", str(lost))
            raise
        except GraphDrained:
            raise _stopped(name) from None
        except (JobsUnavailable, ModelsUnavailable, BudgetSpent) as error:
            open_store().set_status(name, "stopped", str(error))
            raise RunStopped(f"{error} {_way_on(error, name)}", run=name) from None
        except RunStopped:
            raise _stopped(name) from None
        except BaseException as error:
            if isinstance(error, BrokenProcessPool) and control.drain_requested:  # Ctrl-C reached the decoders, too
                raise _stopped(name) from None
            refused = _refused_by_disk(error)
            with suppress(OperationalError) if refused else nullcontext():  # the disk may refuse this, too
                _settle_failure(name, saver, error)
            if refused:
                raise HomeError(f"{refused}, then: improve resume {name}") from error
            raise
    return name


@contextmanager
def _or_lost(name: str) -> Iterator[None]:
    """Whatever breaks because the home or the run's folder has been deleted is told as that. Raises HomeLost."""
    try:
        yield
    except BaseException as error:
        try:
            check_not_lost(name)
        except HomeLost as lost:
            raise lost from error
        raise
    check_not_lost(name)  # what was kept last may lie in files that have no name any more


def _prepare_resume(
    compiled: Any, config: dict[str, Any], name: str, settings: Settings
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The inputs and the config to go on from. A changed number of iterations or budget becomes part of the state."""
    at = compiled.get_state(config)
    state: State = at.values
    if "schema_version" not in state and not open_store().ledger(name):  # killed before the first step was over
        open_store().set_settings(name, settings)
        open_store().set_status(name, "running")
        return settings.model_dump(mode="json"), config
    if not at.values or state.get("schema_version") != SCHEMA_VERSION:
        raise UnknownRun(f"Run {name!r} has no checkpoint of this version of IMPROVE, so it cannot go on.")
    row = open_store().run(name)
    if not at.tasks and row.status not in {"finished", "failed"}:
        raise ImproveError(f"Run {name!r} waits at a step that this version of IMPROVE does not have.")
    data_is_there(settings, profile_of(state, open_store()))
    changed = settings.model_dump(mode="json") != state["settings"]
    if not at.tasks:
        _check_more(name, row, settings, state, changed=changed)
    open_store().set_settings(name, settings)
    open_store().set_status(name, "running")
    if changed and state.get("stop"):  # it was about to end, or has ended: there is another iteration now
        open_store().clear_final(name)
        at_end = compiled.update_state(
            config, {"settings": settings.model_dump(mode="json"), "stop": None}, as_node="summarize"
        )
        return None, dict(at_end) | {"recursion_limit": config["recursion_limit"]}
    if changed:
        compiled.update_state(config, {"settings": settings.model_dump(mode="json")})
    return None, config


def _check_more(name: str, row: RunRow, settings: Settings, state: State, *, changed: bool) -> None:
    """Raises NothingToResume where an ended run was not given more than it has had."""
    ended = f"Run {name!r} is {row.status}: {row.reason}."
    if state.get("best") is None:
        raise NothingToResume(f"{ended} No pipeline ran, so that there is nothing to go on from: begin a new run.")
    if settings.strategy == "zero-shot":
        raise NothingToResume(f"{ended} Begin a new run with another --strategy to improve on it.")
    if not changed or settings.iterations <= state["iteration"]:
        more = f"--iterations {max(settings.iterations, state['iteration']) + 10}"
        if settings.budget_seconds is not None:
            more += f" --budget {math.ceil(2 * settings.budget_seconds / 60)}m"
        raise NothingToResume(f"{ended} Give it more: improve resume {name} {more}")


def _announce(name: str, settings: Settings, on_event: OnEvent | None, *, resumed: bool) -> None:
    if on_event:
        store = open_store()
        before = {"seconds": store.run(name).seconds, "spent": store.spent(name)} if resumed else {}
        at = f" at {settings.base_url}" if settings.base_url else ""
        model = f"{settings.model}{at}"
        on_event(
            RunStarted.model_validate(
                {"run": name, "resumed": resumed, "sandbox": settings.tier, "model": model, **before}
            )
        )


def _way_on(error: RunStopped, name: str) -> str:
    if isinstance(error, BudgetSpent):
        return f"Nothing is lost. Give it more: improve resume {name} --max-tokens N or --max-cost DOLLARS"
    look = "Look: improve doctor. Then" if isinstance(error, JobsUnavailable) else "Nothing is lost. Go on with it"
    return f"{look}: improve resume {name}"


def _stopped(name: str) -> RunStopped:
    if not _exists(name):
        return RunStopped("Stopped before the run began; nothing was kept.")
    open_store().set_status(name, "stopped", "stopped by you")
    return RunStopped(f"Run {name!r} is stopped. Go on with it: improve resume {name}", run=name)


def _settle_failure(name: str, saver: SqliteCheckpointer, error: BaseException) -> None:
    """A run that never began leaves nothing behind; one that did is marked, and can be resumed."""
    if not _exists(name):
        saver.delete_thread(name)
    elif not isinstance(error, InputError):
        status: Status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        open_store().set_status(name, status, f"{type(error).__name__}: {error}")


def _refused_by_disk(error: BaseException) -> str:
    """What was refused and the way out, where a full or read-only disk is behind the error; empty otherwise."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.errno in REFUSED:
            what = f"{cause.filename or home()} cannot be written: {cause.strerror}"
            return f"{what}. Nothing is lost: {REFUSED[cause.errno]}"
        if isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorname in SQLITE_REFUSED:
            what = f"The data base in {home()} cannot be written: {cause}"
            return f"{what}. Nothing is lost: {SQLITE_REFUSED[cause.sqlite_errorname]}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _exists(name: str) -> bool:
    try:
        open_store().run(name)
    except UnknownRun:
        return False
    return True


def _step_limit(settings: Settings) -> int:
    """A guard against a wrong router: the most steps that a run of these settings can take."""
    per_iteration = 8 + 4 * settings.max_attempts + 2 * settings.max_seeds
    return (settings.iterations + 4) * per_iteration


@contextmanager
def _stop_between_steps() -> Iterator[RunControl]:
    """The first Ctrl-C or SIGTERM ends the run at the next step boundary; a running training goes on by itself and is attached to later."""
    control = RunControl()
    if threading.current_thread() is not threading.main_thread():
        yield control
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda received, _frame: control.request_drain(signal.Signals(received).name))
    try:
        yield control
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
