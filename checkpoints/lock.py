"""One driver per run: an advisory lock that the kernel releases even on kill -9."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from checkpoints.home import run_dir
from schema.errors import RunBusy


@contextmanager
def run_lock(name: str) -> Iterator[None]:
    """Raises RunBusy, which says who drives the run."""
    folder = run_dir(name)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "driver.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            raise RunBusy(
                f"Run {name!r} is being driven by {holder}. Wait for it, or stop it there with Ctrl-C."
            ) from None
        os.ftruncate(descriptor, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
        if new and folder.is_dir() and {entry.name for entry in folder.iterdir()} == {"driver.lock"}:
            path.unlink()  # nothing of the run was written: leave no folder behind
            folder.rmdir()


def is_driven(name: str) -> bool:
    """Whether a process holds the run's lock now."""
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
