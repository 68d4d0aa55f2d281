"""As root, a run's jobs are an ordinary user that nobody else is: what it owns, and what it leaves running, can be told from all else."""

import contextlib
import fcntl
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil

FIRST, COUNT = 61184, 4000  # the range that systemd gives to dynamic users: no account has one of these
LOCKS = Path("/run/improve")


@contextlib.contextmanager
def own_user(folder: Path) -> Iterator[int | None]:
    """A user id that is this supervisor's alone while it lives; None where we are not root. Processes that it has left behind are ended."""
    if os.getuid() != 0:
        yield None
        return
    locks = LOCKS if _make(LOCKS) else folder.parent
    start = zlib.crc32(str(folder.absolute()).encode())
    for step in range(COUNT):
        user = FIRST + (start + step) % COUNT
        lock = os.open(locks / f"user-{user}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        try:
            end_all_of(user)
            yield user
        finally:
            end_all_of(user)
            os.close(lock)
        return
    raise OSError(f"all {COUNT} user ids for jobs are taken: see {locks}")


def end_survivors(room: Path) -> None:
    """Whatever an earlier supervisor of this room has left running, where it was killed together with the guard that would have seen to it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or owner(process.pid) != os.getuid():
                continue
            if str(room) in " ".join(process.environ().values()) or Path(process.cwd()).is_relative_to(room):
                process.kill()


def end_all_of(user: int) -> None:
    for process in psutil.process_iter():
        if owner(process.pid) == user:
            with contextlib.suppress(psutil.Error):
                process.kill()


def owner(pid: int) -> int | None:
    """Whose process it is. Not by the text of /proc/<pid>/status: a process chooses its name there, and psutil takes one that reads like a line of it."""
    try:
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - for every process of the machine
    except OSError:
        return None


def _make(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return False
    return directory.stat().st_uid == 0
