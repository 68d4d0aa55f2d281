"""Start and resume runs: one run, one thread, one driver at a time, every finished step in the checkpoint."""

import errno
import math
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from agents.team import settled
from checkpoints.checkpointer import Checkpointer
from checkpoints.home import fresh_name, home, prepare_home, valid_run_name
from checkpoints.lock import run_lock
from checkpoints.saver import open_checkpointer
from checkpoints.store import open_store
from checkpoints.trouble import Trouble, trouble
from graph.build import build_graph
from graph.rebuild import rebuilt
from graph.step import WAITS
from nodes.context import profile_of
from nodes.profile import data_is_there
from nodes.services import Services
from nodes.summarize import settled as at_rest
from nodes.summarize import tried
from sandbox.isolation.tiers import choose
from schema.errors import (
    BudgetSpent,
    DatabaseAway,
    DatabaseRefused,
    HomeError,
    ImproveError,
    InputError,
    JobsUnavailable,
    ModelsUnavailable,
    NothingToResume,
    ReviewWaits,
    RunNameTaken,
    RunStopped,
    SettingsError,
    UnknownRun,
)
from schema.events import EVENTS, Event, Notice, RunStarted
from schema.run import RunRow, Status
from schema.settings import Settings, make_settings
from schema.state import SCHEMA_VERSION, State
from schema.team import Review, ReviewAsked

SQLITE_REFUSED = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_READONLY"}
OnEvent = Callable[[Event], None]
OnReview = Callable[[ReviewAsked], Review | None]  # None: nobody is there to answer


def run(
    settings: Settings,
    *,
    name: str | None = None,
    on_event: OnEvent | None = None,
    on_review: OnReview | None = None,
    services: Services | None = None,
) -> str:
    """Run to the end; returns the run's name.

    Raises InputError (nothing was written), RunStopped (resumable), ImproveError.
    """
    settings = settled(settings.model_copy(update={"tier": choose(settings.tier, prepare_home())}))
    name = name or settings.name
    name = valid_run_name(name) if name else fresh_name(settings.dataset, [row.name for row in open_store().runs()])
    settings = settings.model_copy(update={"name": name})
    with run_lock(name) as hold:
        if _exists(name):
            raise RunNameTaken(
                f"A run named {name!r} exists. Choose another --name, or go on with it: improve resume {name}"
            )
        driven = Drive(name, str(uuid4()), settings, on_event, on_review, services or Services(), hold)
        return _drive(driven, settings.model_dump(mode="json"))


def resume(
    name: str,
    *,
    iterations: int | None = None,
    budget_seconds: float | None = None,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    sandbox: str | None = None,
    review: bool | None = None,
    on_event: OnEvent | None = None,
    on_review: OnReview | None = None,
    services: Services | None = None,
) -> str:
    """Go on from the last checkpoint; a finished run goes on when it is given more iterations, time, tokens or money.

    It goes on in the isolation tier that it began in, unless `sandbox` names another. Raises SettingsError where that does not work here.
    """
    prepare_home()
    row = open_store().run(name)
    given: dict[str, Any] = {
        "iterations": iterations,
        "budget_seconds": budget_seconds,
        "tier": sandbox,
        "review": review,
    }
    given |= {"max_tokens": max_tokens, "max_cost": max_cost}
    changes = {key: value for key, value in given.items() if value is not None}
    settings = _in_tier(make_settings({**row.settings.model_dump(), **changes}), row)
    with run_lock(name) as hold:
        thread = row.thread or name
        return _drive(Drive(name, thread, settings, on_event, on_review, services or Services(), hold), None)


def _in_tier(settings: Settings, row: RunRow) -> Settings:
    try:
        return settings.model_copy(update={"tier": choose(settings.tier, home())})
    except SettingsError as error:
        raise SettingsError(
            f"Run {row.name!r} began in the sandbox {row.sandbox}, and goes on in no weaker one by itself. {error} "
            f"Or choose what there is: improve resume {row.name} --sandbox auto"
        ) from None


@dataclass(frozen=True, slots=True)
class Drive:
    """One run and who listens to it."""

    name: str
    thread: str
    settings: Settings
    on_event: OnEvent | None
    on_review: OnReview | None
    services: Services
    hold: Callable[[], None]  # raises where another machine drives the run by now

    def tell(self, event: Event) -> None:
        if self.on_event:
            self.on_event(event)


def _drive(drive: Drive, inputs: dict[str, Any] | None) -> str:
    name = drive.name
    with open_checkpointer() as saver, _stop_between_steps() as control:
        compiled: Any = build_graph(drive.services).compile(checkpointer=saver, name="improve")
        thread = {"configurable": {"thread_id": drive.thread}, "recursion_limit": _step_limit(drive.settings)}
        config: dict[str, Any] = thread
        resumed = inputs is None
        try:
            if resumed:
                inputs, config = _prepare_resume(compiled, config, drive)
            _announce(drive, resumed=resumed)
            _stream(compiled, inputs, config, control, drive)
            while asked := compiled.get_state(thread).interrupts:
                _stream(compiled, _answer(asked[0].value, drive), thread, control, drive)
        except GraphDrained:
            raise _stopped(name) from None
        except (JobsUnavailable, ModelsUnavailable, BudgetSpent) as error:
            open_store().set_status(name, "stopped", str(error))
            raise RunStopped(f"{error} {_way_on(error, name)}", run=name) from None
        except ReviewWaits:
            raise
        except RunStopped:
            raise _stopped(name) from None
        except BaseException as error:
            if isinstance(error, BrokenProcessPool) and control.drain_requested:  # Ctrl-C reached the decoders, too
                raise _stopped(name) from None
            if found := trouble(error):
                raise _stopped_by(found, drive, saver, error) from error
            refused = _refused_by_disk(error)
            with suppress(OperationalError) if refused else nullcontext():  # the disk may refuse this, too
                _settle_failure(drive, saver, error)
            if refused:
                raise HomeError(f"{refused}. Nothing is lost: make room, then: improve resume {name}") from error
            raise
    return name


def _stream(compiled: Any, inputs: Any, config: dict[str, Any], control: RunControl, drive: Drive) -> None:
    """To the end, or to the next question."""
    for raw in compiled.stream(inputs, config, stream_mode="custom", durability="sync", control=control):
        drive.hold()
        drive.tell(EVENTS.validate_python(raw))


def _answer(asked: dict[str, Any], drive: Drive) -> "Command[Any]":
    """Raises ReviewWaits where nobody answers."""
    answer = drive.on_review(ReviewAsked.model_validate(asked)) if drive.on_review else None
    if answer is None:
        open_store().set_status(drive.name, "stopped", WAITS)
        raise ReviewWaits(
            f"Run {drive.name!r} waits for your review of iteration {asked['iteration']}. Answer it on a terminal: improve resume {drive.name}, "
            f"in Studio (docs/studio.md), or go on without: improve resume {drive.name} --no-review",
            run=drive.name,
        )
    return Command(resume=answer.model_dump(mode="json"))


def _prepare_resume(
    compiled: Any, config: dict[str, Any], drive: Drive
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The inputs and the config to go on from. A changed number of iterations or budget becomes part of the state."""
    name, settings = drive.name, drive.settings
    at = _whole_state(compiled, config, drive)
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
        again = {"settings": settings.model_dump(mode="json")} | at_rest(state["iteration"], None)
        at_end = compiled.update_state(config, again, as_node="summarize")
        return None, dict(at_end) | {"recursion_limit": config["recursion_limit"]}
    if changed:
        compiled.update_state(config, {"settings": settings.model_dump(mode="json")})
    return None, config


def _whole_state(compiled: Any, config: dict[str, Any], drive: Drive) -> Any:
    """The thread's snapshot. One that knows less than the experiment store was lost or damaged, and is made again from it."""
    store, at = open_store(), compiled.get_state(config)
    newest = store.next_iteration(drive.name) - 1
    known = at.values.get("iteration", -1)
    taken_back = at.values and at.metadata["source"] != "loop"  # by the person, in Studio
    if known >= newest or taken_back:
        return at
    state = rebuilt(store.run(drive.name), store)
    state["clock"] -= at.values.get("clock", 0.0)  # this channel adds up
    compiled.update_state(config, state, as_node="summarize")
    drive.tell(
        Notice(
            text=f"The checkpoints of run {drive.name} end before iteration {newest}, which is settled: they were lost or damaged. The run goes on "
            "from there, as the experiment store and the jobs' directories have it."
        )
    )
    return compiled.get_state(config)


def _check_more(name: str, row: RunRow, settings: Settings, state: State, *, changed: bool) -> None:
    """Raises NothingToResume where an ended run was not given more than it has had."""
    ended = f"Run {name!r} is {row.status}: {row.reason}."
    if state.get("best") is None:
        raise NothingToResume(f"{ended} No pipeline ran, so that there is nothing to go on from: begin a new run.")
    if settings.strategy == "zero-shot":
        raise NothingToResume(f"{ended} Begin a new run with another --strategy to improve on it.")
    if not changed or settings.iterations <= tried(state, open_store()):
        more = f"--iterations {max(settings.iterations, tried(state, open_store())) + 10}"
        if settings.budget_seconds is not None:
            more += f" --budget {math.ceil(2 * settings.budget_seconds / 60)}m"
        raise NothingToResume(f"{ended} Give it more: improve resume {name} {more}")


def _announce(drive: Drive, *, resumed: bool) -> None:
    name, settings = drive.name, drive.settings
    if drive.on_event:
        store = open_store()
        before = {"seconds": store.run(name).seconds, "spent": store.spent(name)} if resumed else {}
        at = f" at {settings.base_url}" if settings.base_url else ""
        model = f"{settings.model}{at}"
        drive.tell(
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


def _settle_failure(drive: Drive, saver: Checkpointer, error: BaseException) -> None:
    """A run that never began leaves nothing behind; one that did is marked, and can be resumed."""
    name = drive.name
    if not _exists(name):
        saver.delete_thread(drive.thread)
    elif not isinstance(error, InputError):
        status: Status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        open_store().set_status(name, status, f"{type(error).__name__}: {error}")


def _stopped_by(found: Trouble, drive: Drive, saver: Checkpointer, error: BaseException) -> ImproveError:
    """A data base that is locked or away stops the run, and one that is damaged leaves it as it is known. Either may refuse to be told so."""
    name, began = drive.name, True
    with suppress(SQLAlchemyError, DatabaseRefused):
        began = _exists(name)
    with suppress(SQLAlchemyError, sqlite3.Error, DatabaseRefused):
        if not began:
            _settle_failure(drive, saver, error)
        elif found.passes and open_store().run(name).status == "running":
            open_store().set_status(name, "stopped", found.text)
    if not found.passes:
        return DatabaseRefused(found.text)
    if not began:
        return DatabaseAway(f"{found.text} The run had not begun; nothing was kept.")
    return DatabaseAway(f"{found.text} Nothing is lost. Then: improve resume {name}", run=name)


def _refused_by_disk(error: BaseException) -> str:
    """What was refused, where a full or read-only disk is behind the error; empty otherwise."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
            return f"{cause.filename or home()} cannot be written: {cause.strerror}"
        if isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorname in SQLITE_REFUSED:
            return f"The data base in {home()} cannot be written: {cause}"
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
