"""A folder for as long as a process lives: what killed ones have left is removed by the next."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.isolation.removal import remove

LOCK = "lock"


@contextmanager
def own_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `parent` that is locked while it is ours, and sweep those of its kind that nobody holds.

    Raises OSError.
    """
    with _locked(parent / f".{prefix}lock"):  # nobody sweeps a folder that is not locked yet
        for left in parent.glob(f"{prefix}*"):
            with suppress(OSError), _locked(left / LOCK, wait=False):
                remove(left)
        made = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        lock = _opened(made / LOCK)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield made
    finally:
        with suppress(OSError):
            remove(made)
        os.close(lock)


@contextmanager
def _locked(file: Path, *, wait: bool = True) -> Iterator[None]:
    """Raises BlockingIOError if it is held and we do not wait."""
    lock = _opened(file)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(lock)


def _opened(file: Path) -> int:
    """Open a lock for writing: NFS locks nothing that is opened to be read, as a directory has to be."""
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
