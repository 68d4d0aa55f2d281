"""Programs of our own that read what strangers made, started in a tier of isolation as jobs are."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

import psutil

from sandbox.environment import ROOT, environment
from sandbox.isolation.launch import Place, launch
from sandbox.isolation.own_folder import own_folder
from sandbox.isolation.users import own_user
from schema.job import Access, Limits
from schema.settings import Tier

FILE_BYTES = 2**20  # that it can write into one file: its last words
SHARE = 0.4  # of the machine's memory for each process: two of them may need as much at the same time
PROCESSES = 2  # whose threads it may have: some decoders start one for each core
TMP = "/tmp"  # noqa: S108 - bubblewrap's own


@contextmanager
def confined(tier: Tier, home: Path, program: Path) -> Iterator[Callable[[int, IO[bytes]], subprocess.Popen[bytes]]]:
    """Give a function that starts `program`, with a channel as its descriptor 3, and standard error.

    It imports from its own package, can read that, the system and the Python environment, write nothing, and
    start nothing (the last two not in tier `none`). Its first argument is how many bytes of memory it may take,
    a limit that it sets itself. Raises OSError.
    """
    with own_folder(home, "reader-") as made, own_user(home / "readers") if tier != "none" else nullcontext() as user:
        place = _furnished(made, program.parent, user)
        memory = int(psutil.virtual_memory().total * SHARE)
        limits = Limits(train_seconds=0.0, memory_bytes=memory, disk_bytes=FILE_BYTES, processes=PROCESSES)
        access = Access(tier=tier, read=(str(program.parent),), limits=limits)
        # As a module: beside the script of that name lie others that would be taken for modules of Python.
        argv = [sys.executable, "-P", "-m", "sandbox.isolation.alone", str(program), str(memory)]
        env = environment(place.work, 1, TMP if tier == "bwrap" else str(place.tmp))

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
    return Place(room, room / "work", room / "work", canary, user, scratch=False)
