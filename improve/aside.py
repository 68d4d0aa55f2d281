"""A job beside a run's own: in a directory and with a supervisor of its own, since the run's may be busy for hours, and gone when it is over."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from checkpoints.home import run_dir
from sandbox import job


@contextmanager
def job_aside(run: str, what: str) -> Iterator[Path]:
    """The job's directory."""
    own = run_dir(run) / what / f"{time.time_ns()}"
    folder = own / "iterations" / "0" / "jobs" / "1-s0"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        job.shutdown(own)
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):  # another one is there
            own.parent.rmdir()
