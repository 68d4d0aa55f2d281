"""One driver per run: an advisory lock that the kernel releases even on kill -9. Where runs are in a data base that other machines
use, too, the lock is held there as well."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import DBAPIError

from checkpoints.database import advisory_key, by_itself, database_url, engine
from checkpoints.home import run_dir
from checkpoints.trouble import explained
from schema.errors import RunBusy

# PostgreSQL shows a lock on a number as its two halves.
HOLDER = """SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND objsubid = 1 AND classid = ((CAST(:key AS bigint) >> 32) & 4294967295)::oid
AND objid = (CAST(:key AS bigint) & 4294967295)::oid
AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted"""
# The server forgets the session of a machine that has vanished, without a word, after a minute and a half.
KEEPALIVE = "SELECT set_config('tcp_keepalives_idle', '60', false), set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '3', false)"


@contextmanager
def run_lock(name: str) -> Iterator[Callable[[], None]]:
    """Raises RunBusy, which says who drives the run. What it yields is to be called now and then: it holds the lock of a
    server that was restarted again, or raises RunBusy where somebody else has been faster."""
    folder = run_dir(name)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "driver.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(name, os.pread(descriptor, 200, 0).decode(errors="replace")) from None
        os.ftruncate(descriptor, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
        with _server_lock(name) as hold:
            yield hold
    finally:
        os.close(descriptor)
        if new and folder.is_dir() and {entry.name for entry in folder.iterdir()} == {"driver.lock"}:
            path.unlink()  # nothing of the run was written: leave no folder behind
            folder.rmdir()


def _busy(name: str, holder: str) -> RunBusy:
    return RunBusy(
        f"Run {name!r} is being driven by {holder or 'another process'}. Wait for it, or stop it there with Ctrl-C."
    )


@contextmanager
def _server_lock(name: str) -> Iterator[Callable[[], None]]:
    url = database_url()
    if url is None:
        yield lambda: None
        return
    with explained():
        session = _locked(url, name)

    def hold() -> None:
        nonlocal session
        try:
            session.execute(text("SELECT 1"))
        except DBAPIError:
            session.close()
            session = _locked(url, name)

    try:
        yield hold
    finally:
        session.close()


def _locked(url: URL, name: str) -> Connection:
    """A session that holds the lock. Who it is goes into its name, of which PostgreSQL keeps 63 bytes."""
    session = by_itself(url)
    who = f"{os.getpid()} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {socket.gethostname()}"[:63]
    session.execute(text(KEEPALIVE))
    session.execute(text("SELECT set_config('application_name', :who, false)"), {"who": who})
    if session.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": advisory_key(name)}):
        return session
    holder = session.scalar(text(HOLDER), {"key": advisory_key(name)}) or ""
    session.close()
    pid, since, host = (*holder.split(" ", 2), "", "")[:3]
    raise _busy(name, f"process {pid} on {host} since {since}" if host else "a process on another machine")


def is_driven(name: str) -> bool:
    """Whether a process holds the run's lock now."""
    return _is_driven_here(name) or _is_driven_elsewhere(name)


def _is_driven_elsewhere(name: str) -> bool:
    url = database_url()
    if url is None:
        return False
    with engine(url).connect() as connection:
        return connection.scalar(text(HOLDER), {"key": advisory_key(name)}) is not None


def _is_driven_here(name: str) -> bool:
    try:
        descriptor = os.open(run_dir(name) / "driver.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
