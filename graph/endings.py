"""What a run that does not come to its end is left as, and what the person is told: nothing finished is lost, and there is a way on."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from langgraph.errors import GraphDrained
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from checkpoints.checkpointer import Checkpointer
from checkpoints.home import check_not_lost, home
from checkpoints.store import open_store
from checkpoints.trouble import Trouble, refusal, trouble
from graph.step import WAITS
from schema.errors import (
    BudgetSpent,
    DatabaseAway,
    DatabaseRefused,
    HomeError,
    HomeLost,
    ImproveError,
    InputError,
    JobsUnavailable,
    ModelsUnavailable,
    ReviewWaits,
    RunStopped,
    UnknownRun,
)
from schema.run import Status

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


@contextmanager
def told(name: str, thread: str, saver: Checkpointer) -> Iterator[None]:
    """Whatever ends the run early is noted in the experiment store, and raised as what the person can do about it."""
    try:
        with _or_lost(name):
            yield
    except HomeLost as lost:
        if home().is_dir() and exists(name):
            open_store().set_status(name, "failed", str(lost))
        raise
    except (JobsUnavailable, ModelsUnavailable, BudgetSpent) as error:
        open_store().set_status(name, "stopped", str(error))
        raise RunStopped(f"{error} {_way_on(error, name)}", run=name) from None
    except ReviewWaits:
        open_store().set_status(name, "stopped", WAITS)
        raise
    except GeneratorExit:  # nobody listens any more
        if exists(name):
            open_store().set_status(name, "stopped", "stopped by you")
        raise
    except (GraphDrained, RunStopped):
        raise _stopped(name) from None
    except BaseException as error:
        if found := trouble(error):
            raise _stopped_by(found, name, thread, saver, error) from error
        refused = _refused_by_disk(error)
        with suppress(OperationalError) if refused else nullcontext():  # the disk may refuse this, too
            _settle(name, thread, saver, error)
        if refused:
            raise HomeError(f"{refused}, then: improve resume {name}") from error
        raise


def exists(name: str) -> bool:
    try:
        open_store().run(name)
    except UnknownRun:
        return False
    return True


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


def _way_on(error: RunStopped, name: str) -> str:
    if isinstance(error, BudgetSpent):
        return f"Nothing is lost. Give it more: improve resume {name} --max-tokens N or --max-cost DOLLARS"
    look = "Look: improve doctor. Then" if isinstance(error, JobsUnavailable) else "Nothing is lost. Go on with it"
    return f"{look}: improve resume {name}"


def _stopped(name: str) -> RunStopped:
    if not exists(name):
        return RunStopped("Stopped before the run began; nothing was kept.")
    open_store().set_status(name, "stopped", "stopped by you")
    return RunStopped(f"Run {name!r} is stopped. Go on with it: improve resume {name}", run=name)


def _settle(name: str, thread: str, saver: Checkpointer, error: BaseException) -> None:
    """A run that never began leaves nothing behind; one that did is marked, and can be resumed."""
    if not exists(name):
        saver.delete_thread(thread)
    elif not isinstance(error, InputError):
        status: Status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        open_store().set_status(name, status, f"{type(error).__name__}: {error}")


def _stopped_by(found: Trouble, name: str, thread: str, saver: Checkpointer, error: BaseException) -> ImproveError:
    """A data base that is locked or away stops the run, and one that is damaged leaves it as it is known. Either may refuse to be told so."""
    began = True
    with suppress(SQLAlchemyError, DatabaseRefused):
        began = exists(name)
    with suppress(SQLAlchemyError, sqlite3.Error, DatabaseRefused):
        if not began:
            _settle(name, thread, saver, error)
        elif found.passes and open_store().run(name).status == "running":
            open_store().set_status(name, "stopped", found.text)
    if not found.passes:
        return refusal(found)
    if not began:
        return DatabaseAway(f"{found.text} The run had not begun; nothing was kept.")
    return DatabaseAway(f"{found.text} Nothing is lost. Then: improve resume {name}", run=name)


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
