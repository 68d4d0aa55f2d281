"""Which data base the two stores are in: files of SQLite in $IMPROVE_HOME, or the PostgreSQL server of IMPROVE_DB_URL."""

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

from schema.errors import SettingsError

# Another process may hold a write transaction; the 5 s of both libraries were too short under load.
BUSY_SECONDS = 30.0
CONNECT_SECONDS = 10
FORM = (
    "Expected postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, with characters such as @ : / in the password written as %40 %3A %2F; "
    "or nothing, for files in IMPROVE_HOME."
)


def database_url() -> URL | None:
    """The PostgreSQL server's, None for SQLite. Raises SettingsError, which never repeats what was given: a password may be in it."""
    given = os.environ.get("IMPROVE_DB_URL", "").strip()
    if not given:
        return None
    try:
        url = make_url(given)
        if (
            "@" in f"{url.host}{url.database}"
        ):  # one in the password ends it too early, and the rest of it is taken for these
            raise ValueError
    except (ArgumentError, ValueError):
        raise SettingsError(f"IMPROVE_DB_URL is not the address of a data base. {FORM}") from None
    if url.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise SettingsError(f"IMPROVE_DB_URL begins with {url.drivername}://, which is not supported. {FORM}")
    try:
        for module in ("psycopg", "psycopg_pool", "langgraph.checkpoint.postgres"):
            import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"IMPROVE_DB_URL needs packages that are not installed ({error}). "
            ".venv/bin/uv pip install --python .venv/bin/python '.[postgres]'"
        ) from None
    return url.set(drivername="postgresql+psycopg")


def place(url: URL) -> str:
    """The server and its data base as a message may name them."""
    socket = url.query.get("host")
    return (
        f"{url.host or socket or 'localhost'}{f':{url.port}' if url.port else ''}/{url.database or url.username or ''}"
    )


@cache
def engine(url: URL, file: tuple[int, int] | None = None) -> Engine:  # noqa: ARG001 - part of what it is known by
    """One for each data base and process; `file` is the device and the inode of SQLite's. A connection that the server has closed since is replaced."""
    if url.get_backend_name() == "sqlite":
        made = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
        event.listen(made, "connect", _prepare_sqlite)
        return made
    made = create_engine(
        url, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "improve"}
    )
    from checkpoints.any_text import accept_any_text  # noqa: PLC0415 - with psycopg, which is an extra

    event.listen(made, "connect", lambda connection, _record: accept_any_text(connection))
    return made


def connect_sqlite(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    return sqlite3.connect(path, check_same_thread=False, timeout=BUSY_SECONDS)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def advisory_key(what: str) -> int:
    """PostgreSQL's advisory locks are known by numbers of 64 bits."""
    return int.from_bytes(hashlib.sha256(f"improve: {what}".encode()).digest()[:8], "big", signed=True)


def by_itself(url: URL) -> Connection:
    """A connection outside the pool: what is locked in its session is free when it is closed, or when this process ends."""
    connection = engine(url).connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.detach()
    return connection


@contextmanager
def one_at_a_time(url: URL, what: str) -> Iterator[None]:
    """Processes that make tables on a server at one time trip over each other. Tried, not waited for: an index that is
    made concurrently would wait for the statement that waits here."""
    if url.get_backend_name() == "sqlite":
        yield
        return
    connection = by_itself(url)
    try:
        while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": advisory_key(what)}):
            time.sleep(0.05)
        yield
    finally:
        connection.close()
