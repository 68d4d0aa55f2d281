"""A folder for as long as a process lives: what killed ones have left is removed by the next."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.isolation.removal import remove


@contextmanager
def own_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `parent` that is locked while it is ours, and sweep those of its kind that nobody holds.

    Raises OSError.
    """
    with _locked(parent):  # nobody sweeps a folder that is not locked yet
        for left in parent.glob(f"{prefix}*"):
            with suppress(OSError), _locked(left, wait=False):
                remove(left)
        made = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield made
    finally:
        with suppress(OSError):
            remove(made)
        os.close(lock)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Raises BlockingIOError if it is held and we do not wait."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(lock)
