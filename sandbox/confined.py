"""Programs of our own that read what strangers made, started in a tier of isolation as jobs are."""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from sandbox.environment import ROOT, environment
from sandbox.isolation.launch import Place, launch
from sandbox.isolation.users import own_user
from sandbox.room import remove
from schema.job import Access, Limits
from schema.settings import Tier

PREFIX = "reader-"
FILE_BYTES = 2**20  # that it can write into one file: its last words
SHARE = 0.4  # of the machine's memory for each process: two of them may need as much at the same time
SECONDS = 0.0  # nobody counts them here


@contextmanager
def confined(tier: Tier, home: Path, program: Path) -> Iterator[Callable[[int, IO[bytes]], subprocess.Popen[bytes]]]:
    """Give a function that starts `program`, which imports from its own package: with a channel as its descriptor 3, and standard error.

    It can read the system, the Python environment and its own package; write nothing; and start nothing (the last
    two not in tier `none`). Its first argument is how many bytes of memory it may take, a limit that it sets itself.
    """
    _sweep(home)
    with ExitStack() as held:
        made = Path(
            held.enter_context(tempfile.TemporaryDirectory(dir=home, prefix=PREFIX, ignore_cleanup_errors=True))
        )
        lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        user = held.enter_context(own_user(made)) if tier != "none" else None
        place = _furnished(made, program.parent, user)
        access = Access(tier=tier, read=(str(program.parent),), limits=_limits())
        memory = str(access.limits.memory_bytes)
        # Not the script of that name itself: beside it lie modules that would be taken for others.
        argv = [sys.executable, "-P", "-m", "sandbox.isolation.alone", str(program), memory]
        env = environment(place.work, 1, str(place.tmp) if tier != "bwrap" else "/tmp")  # noqa: S108 - bubblewrap's own

        def start(channel: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
            return launch(access, place, argv, env, channel=channel, log=log)

        yield start


def _furnished(made: Path, package: Path, user: int | None) -> Place:
    room = made / "room"
    (room / "python").mkdir(parents=True)
    (room / "work").mkdir(mode=0o700)
    for name, code in (("sandbox", ROOT / "sandbox"), (package.name, package)):
        (room / "python" / name).symlink_to(code)
    canary = made / "canary"
    canary.write_text("what lies here is not for a reader", encoding="utf-8")
    if user is not None:
        for folder in (made, room, room / "python"):
            folder.chmod(0o755)
        os.chown(room / "work", user, user)
    return Place(room, room / "work", room / "work", canary, user, shared_memory=False)


def _limits() -> Limits:
    memory = int(psutil.virtual_memory().total * SHARE)
    return Limits(train_seconds=SECONDS, memory_bytes=memory, disk_bytes=FILE_BYTES, processes=8)


def _sweep(home: Path) -> None:
    """Remove the directories of those that were killed: a living one has its directory locked."""
    for left in home.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(left)
            finally:
                os.close(lock)
