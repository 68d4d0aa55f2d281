"""Lines of the whole machine, one for each place where jobs train (the CPU, a card): first come, first served, whatever their IMPROVE_HOME.

A turn, and a number in the line, are names that at most one process has and that the kernel takes back when it dies: abstract sockets
on Linux, locked files elsewhere.
"""

import contextlib
import errno
import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ABSTRACT = sys.platform == "linux"
LINES = os.environ.get("IMPROVE_LINE", "improve")  # what all names begin with; our own tests stand in no person's line
POLL = 0.1  # seconds between two looks of whoever waits
SOCKETS = Path("/proc/net/unix")
LOCKS = Path(f"/tmp/{LINES}-line")  # noqa: S108 - the one place that all users of a machine share; nothing is read from its files
NUMBER = r"\d{20}-\d+"


@contextlib.contextmanager
def turn(places: list[str], together: int, goes_on: Callable[[], bool]) -> Iterator[str | None]:
    """The first of the places that is free, once all who came before have had their turn there; each has room for `together` jobs.

    `goes_on` is asked at every look that finds none. None where it says no, or where there is no place to wait for.
    """
    mine: str | None
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as numbers:
            number = (
                f"{time.monotonic_ns():020d}-{os.getpid()}"  # one clock for the whole machine, whatever its time of day
            )
            for place in places:
                while not take(_waiting(place, number), numbers):
                    time.sleep(POLL)  # somebody looks whether it is alive
            while (mine := _free(places, number, together, held)) is None and places and goes_on():
                time.sleep(POLL)
        yield mine


def take(name: str, held: contextlib.ExitStack) -> bool:
    """Have this name until `held` is closed, or we die; false where another process has it."""
    return _bind(name, held) if ABSTRACT else _lock(name, held)


def one_of(names: list[str], held: contextlib.ExitStack) -> str | None:
    return next((name for name in names if take(name, held)), None)


def _free(places: list[str], number: str, together: int, held: contextlib.ExitStack) -> str | None:
    for place in places:
        if min(_numbers(place), default=number) >= number and one_of([f"{place}-{n}" for n in range(together)], held):
            return place
    return None


def _waiting(place: str, number: str) -> str:
    return f"{place}-waits-{number}"


def _numbers(place: str) -> list[str]:
    """Those that wait for it now."""
    found = (re.fullmatch(_waiting(re.escape(place), f"({NUMBER})"), name) for name in _names(f"{place}-waits-"))
    return [match[1] for match in found if match]


def _names(beginning: str) -> list[str]:
    """Those that a living process has."""
    if not ABSTRACT:
        return _locked(beginning)
    try:
        text = SOCKETS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []  # no order, but still one at a time
    return re.findall(rf"@{re.escape(LINES)}-({re.escape(beginning)}\S+)$", text, re.MULTILINE)


def _bind(name: str, held: contextlib.ExitStack) -> bool:
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0{LINES}-{name}")
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    held.enter_context(lock)
    return True


def _lock(name: str, held: contextlib.ExitStack) -> bool:
    """A file that is locked and still has its name: whoever had it before removes it first, or leaves it unlocked."""
    with contextlib.suppress(FileExistsError):
        LOCKS.mkdir()
        LOCKS.chmod(0o1777)  # as /tmp: a file is its maker's to remove, and everybody's to lock
    descriptor = os.open(LOCKS / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    with contextlib.suppress(PermissionError):
        os.fchmod(descriptor, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (LOCKS / name).stat().st_ino != os.fstat(descriptor).st_ino:
            raise FileNotFoundError
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    held.callback(_remove, LOCKS / name)
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _locked(beginning: str) -> list[str]:
    found = []
    for path in LOCKS.glob(f"{beginning}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)  # its process has died
            except BlockingIOError:
                found.append(path.name)
            finally:
                os.close(descriptor)
    return found
