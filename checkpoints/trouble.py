"""What a person is told when a data base refuses: locked, away, or damaged. Three libraries raise for it, each errors of its own."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from checkpoints import database
from checkpoints.home import checkpoints_path, experiments_path
from schema.errors import CheckpointsDamaged, DatabaseRefused, ImproveError
from schema.text import one_line

LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


class Trouble(NamedTuple):
    text: str
    passes: bool  # waiting helps: locked or away, and not damaged
    of_checkpoints: bool = (
        False  # damaged are those: the experiment store knows what they knew, but for the step under way
    )


def refusal(found: Trouble) -> DatabaseRefused:
    return (CheckpointsDamaged if found.of_checkpoints else DatabaseRefused)(found.text)


def trouble(error: BaseException) -> Trouble | None:
    """What is wrong with the data base, where that is behind the error."""
    path = checkpoints_path()
    cause: BaseException | None = None if isinstance(error, ImproveError) else error  # that one is explained already
    while cause:
        if isinstance(cause, DBAPIError):
            path = experiments_path()  # LangGraph talks to SQLite directly, the experiment store by SQLAlchemy
        if isinstance(cause, sqlite3.Error):
            return _of_file(path, cause)
        if _from_server(cause):
            return _of_server(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def damaged(path: Path, why: str) -> Trouble:
    what = f"{path} is damaged ({one_line(why, 200)})."
    if path == checkpoints_path():
        return Trouble(
            f"{what} Nothing that is finished is lost: improve resume RUN sets it aside, and makes the run again from the experiment store.",
            passes=False,
            of_checkpoints=True,
        )
    way_out = "Put a copy of it back; or move it away, with its -wal and -shm"
    return Trouble(
        f"{what} {way_out}. Without it no run is known; what they made stays in the folders of $IMPROVE_HOME/runs.",
        passes=False,
    )


def _of_file(path: Path, error: sqlite3.Error) -> Trouble | None:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(LOCKED):
        return Trouble(
            f"{path} is locked: another process has been writing to it for more than {database.BUSY_SECONDS:g} s. "
            f"Find it (fuser {path}, or lsof {path}), and wait for it or end it.",
            passes=True,
        )
    return damaged(path, str(error)) if name.startswith(DAMAGED) else None


def _from_server(error: BaseException) -> bool:
    psycopg = sys.modules.get("psycopg")  # where it has not been imported nothing can come of it
    return psycopg is not None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _of_server(error: BaseException) -> Trouble:
    url = database.database_url()
    where = database.place(url) if url else "IMPROVE_DB_URL"
    return Trouble(
        f"The PostgreSQL server {where} cannot be used: {one_line(str(error), 300)}. Check that it runs and can be reached from here, "
        "that it has room, and the user, password and data base in IMPROVE_DB_URL.",
        passes=True,
    )


@contextmanager
def explained() -> Iterator[None]:
    """For opening a data base. Raises DatabaseRefused instead of what a library says."""
    try:
        yield
    except Exception as error:
        found = trouble(error)
        if found is None:
            raise
        raise refusal(found) from None
