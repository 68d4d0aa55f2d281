"""What an interrupted training goes on from: the file that its job keeps for itself, held in the job's directory for the next start of the very same job.

Nobody reads it here, and no other job is given it: it goes back into the sandbox as the bytes that it is.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from sandbox import artifacts, durable, room
from sandbox.isolation.removal import remove
from schema.job import JobSpec, Plan, StepOutcome
from schema.record import Record

FILE, ACCOUNT = "checkpoint.pt", "checkpoint.json"


class Seen(NamedTuple):
    """Which file it was."""

    inode: int
    changed: int
    bytes: int


class Spent(Record):
    """How long a training went on: by the clock on the wall, and without the time that others took."""

    seconds: float = 0.0
    alone: float = 0.0


class Account(Record):
    """Ours, of the file that lies beside it."""

    job: str  # SHA-256 of its job.json
    plan: Plan
    before: tuple[StepOutcome, ...]  # the steps before the training
    spent: Spent


@dataclass
class Training:
    """One job's, in all its starts. Without an account there is nothing to go on from."""

    job_dir: Path
    job: str
    largest: int  # bytes
    account: Account | None = None
    earlier: Spent = field(default_factory=Spent)  # before this start
    before: tuple[StepOutcome, ...] = ()  # the steps before the training
    seen: Seen | None = None  # the file in the work directory

    def give(self, place: Path, user: int | None) -> None:
        """Into the work directory of the training that begins, which may put another in its place. Raises OSError."""
        if self.account is None:
            return
        copied = self.job_dir / (FILE + ".given")  # the room is for all jobs to read, if we were killed now
        if not artifacts.safe_copy(self.job_dir, FILE, copied):
            self.forget()
            return
        if user is not None:
            os.chown(copied, user, user)
        copied.chmod(0o400)
        copied.rename(room.work_of(place) / FILE)
        self.seen = _seen(room.work_of(place) / FILE)

    def look(self, place: Path, seconds: float, alone: Callable[[], float]) -> None:
        """What the job has kept since the last look is held here, too, as a copy that it cannot reach; what it has removed no longer is, and its
        time counts anew."""
        work = room.work_of(place)
        now = _seen(work / FILE)
        if now == self.seen:
            return
        self.seen, plan = now, artifacts.plan(self.job_dir)
        if now is None or now.bytes > self.largest or plan is None:
            self.forget()
            return
        spent = Spent(seconds=self.earlier.seconds + seconds, alone=self.earlier.alone + alone())
        held = self.job_dir / (FILE + ".held")
        with contextlib.suppress(OSError):  # a full disk: the training goes on from what was held before
            if artifacts.safe_copy(work, FILE, held, self.largest) and _seen(work / FILE) == now:
                held.replace(self.job_dir / FILE)
                self.account = Account(job=self.job, plan=plan, before=self.before, spent=spent)
                durable.write(self.job_dir / ACCOUNT, self.account.model_dump_json())
            else:
                self.seen = None  # it was written to meanwhile: look again

    def forget(self) -> None:
        self.account, self.earlier = None, Spent()
        for file in [self.job_dir / ACCOUNT, *self.job_dir.glob(FILE + "*")]:
            remove(file)


def training(job_dir: Path, spec: JobSpec) -> Training:
    """With what its last start has left, if it is still the same job."""
    job = hashlib.sha256((job_dir / "job.json").read_bytes()).hexdigest()
    largest = room.checkpoint_bytes(spec.limits)
    with contextlib.suppress(OSError, ValidationError):
        account = Account.model_validate_json((job_dir / ACCOUNT).read_bytes())
        if account.job == job and (job_dir / FILE).is_file():
            return Training(job_dir, job, largest, account, account.spent, account.before)
    anew = Training(job_dir, job, largest)
    anew.forget()
    return anew


def _seen(path: Path) -> Seen | None:
    """None where there is no plain file."""
    try:
        told = path.lstat()
    except OSError:
        return None
    return Seen(told.st_ino, told.st_mtime_ns, told.st_size) if stat.S_ISREG(told.st_mode) else None
