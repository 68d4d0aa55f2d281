"""The one place of a run that its jobs can write, `room/work`, beside what each of them is given to read: its script and its configuration.

`work` is a link to a directory of `steps`, made anew for every step: a directory that is only emptied still has its attributes, dates and
size, and with them what a step could tell the next. The sandbox is opened for `steps`, and a step may write in its own directory alone. When
a step is over, the files that the contract names are taken out, and all else is removed.
"""

import contextlib
import json
import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.environment import ROOT
from sandbox.isolation.removal import clear, remove
from schema.job import JobSpec, Limits, Plan, Step

CONFIG = {
    "data",
    "heldout",
    "weights",
    "seed",
    "device",
    "threads",
    "epochs",
    "least_seconds",
    "precision",
    "channels_last",
    "settled",
    "repeats",
    "patience",
    "runners",
    "race_seconds",
    "weights_file",
}  # fmt: skip
LEFT = (
    "fault.json",
    "stack.txt",
    "race.json",
    "smoke.json",
    "metrics.jsonl",
    "weights.safetensors",
)  # and the predictions
# Before a step: what the one before it had to leave, which from then on no job can change.
LEFT_BEFORE: dict[str, tuple[str, ...]] = {"train": ("smoke.json",), "predict": ("metrics.jsonl",)}
WEIGHTS = "weights.safetensors"
STEPS = "steps"
CHECKPOINT_SHARE = 0.25  # of what a job may have on disk: the one before is there while the next is written
DEEPEST = 400  # directories within one another, each with an open descriptor while it is counted


def build(room: Path, user: int | None) -> None:
    """A new work directory that belongs to `user`. Raises OSError."""
    room.mkdir(exist_ok=True)
    room.chmod(0o755)
    remove(room / WEIGHTS)
    renew(room, user)
    # Of our packages a job imports this one, and the directory that it lies in is not a job's to list.
    (room / "python").mkdir(exist_ok=True)
    if not (room / "python" / "sandbox").is_symlink():
        (room / "python" / "sandbox").symlink_to(ROOT / "sandbox")


def renew(room: Path, user: int | None) -> None:
    """Put a new work directory in the place of the one that there is. Raises OSError."""
    if (room / STEPS).is_symlink() or not (room / STEPS).is_dir():  # without isolation a job can do that
        remove(room / STEPS)
        (room / STEPS).mkdir()
    (room / STEPS).chmod(0o755)
    new_directory(room / STEPS, room / "work", user)


def new_directory(parent: Path, link: Path, user: int | None) -> None:
    """Remove all that lies in `parent`, and let `link` lead to a new directory there that is for `user` alone. Raises OSError."""
    clear(parent)
    made = parent / secrets.token_hex(4)
    made.mkdir(mode=0o700)
    if user is not None:
        os.chown(made, user, user)
    if not link.is_symlink():
        remove(link)
    aside = link.with_name(f".{link.name}")
    remove(aside)
    aside.symlink_to(made)
    aside.replace(link)
    os.utime(parent, (0, 0))


def work_of(room: Path) -> Path:
    """The directory that `work` leads to, whatever a job without isolation has made of the link."""
    try:
        return room / STEPS / (room / "work").readlink().name
    except OSError:
        return room / STEPS / "none"


def furnish(room: Path, spec: JobSpec, plan: Plan | None = None) -> None:
    """The script and the configuration of the job that comes, or of its training, as it was planned. Raises OSError."""
    config = spec.model_dump(include=CONFIG) | {"seconds": spec.limits.train_seconds}
    if plan:  # and only then can it be interrupted: the next start repeats the plan
        config |= plan.model_dump() | {"checkpoint_bytes": checkpoint_bytes(spec.limits)}
    for name, text in (("pipeline.py", spec.pipeline), ("config.json", json.dumps(config))):
        _write(room / name, text)
    _lay_out_cache(room / "cache", spec.cached)


def checkpoint_bytes(limits: Limits) -> int:
    """A training that keeps more than this to go on from is not kept."""
    return int(CHECKPOINT_SHARE * limits.disk_bytes)


def _lay_out_cache(cache: Path, cached: dict[str, str]) -> None:
    """Folders as the hub's client and torch.hub know them, with links to what this job may read: of the person's own caches nothing else."""
    shutil.rmtree(cache, ignore_errors=True)
    for empty in (cache / "hub", cache / "torch" / "hub" / "checkpoints"):
        _folder(empty)
    for place, file in cached.items():
        link = cache / place
        _folder(link.parent)
        link.symlink_to(file)
        if "snapshots" in link.parts:
            commit = link.parent
            _folder(commit.parent.parent / "refs")
            _write(commit.parent.parent / "refs" / "main", commit.name)


def _folder(path: Path) -> None:
    for missing in reversed([part for part in (path, *path.parents) if not part.exists()]):
        missing.mkdir()
        missing.chmod(0o755)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def before_step(room: Path, step: Step, job_dir: Path, user: int | None) -> None:
    """What is trained comes from the data, and what is predicted from the weights, not from what else an earlier step left lying about.

    The weights lie beside the work directory while it predicts: they can be read there and not exchanged, so that those that are kept are those
    that were scored.
    """
    _move(work_of(room), job_dir / "work", LEFT_BEFORE.get(step, ()))
    for name in LEFT_BEFORE.get(step, ()):  # what is not there by now does not come later
        if not os.path.lexists(job_dir / "work" / name):
            (job_dir / "work" / name).touch()
    if step == "predict":
        left = work_of(room) / WEIGHTS
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(left.lstat().st_mode):  # a pipe would be waited for, a link leads elsewhere
                left.rename(room / WEIGHTS)
    renew(room, user)


def reopen(room: Path) -> None:
    """A job can close its work directory to us: it is its own."""
    with contextlib.suppress(FileNotFoundError):
        (room / STEPS).chmod(0o755)
        work_of(room).chmod(0o700)


def take_out(room: Path, spec: JobSpec, job_dir: Path, user: int | None) -> None:
    """Move what the contract names to job_dir/work, and remove the rest."""
    taken = {name for names in LEFT_BEFORE.values() for name in names if os.path.lexists(job_dir / "work" / name)}
    _move(work_of(room), job_dir / "work", (*(set(LEFT) - taken), *(f"{split}.npy" for split in spec.heldout)))
    _move(room, job_dir / "work", (WEIGHTS,))
    renew(room, user)


def _move(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Whatever it is (the reader is careful), but for a directory: one without rights cannot be moved."""
    target.mkdir(exist_ok=True)
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR((source / name).lstat().st_mode):
                (source / name).rename(target / name)


@dataclass
class Usage:
    """What lies below a directory; `hidden` where not all of it can be looked at."""

    bytes: int = 0
    files: int = 0
    hidden: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.bytes + other.bytes, self.files + other.files, self.hidden or other.hidden)


def usage(path: Path, most_files: int) -> Usage:
    """Counting ends past `most_files`. It goes from descriptor to descriptor, so that no path is too long for it."""
    try:
        told = path.lstat()
        if not stat.S_ISDIR(told.st_mode):
            return Usage(told.st_blocks * 512, 1)
        levels = [_scan(str(path), None)]
    except OSError:
        return Usage(hidden=True)
    found = Usage(told.st_blocks * 512)
    while levels and found.files <= most_files:
        here, entries = levels[-1]
        entry = next(entries, None)
        if entry is None:
            os.close(levels.pop()[0])
            continue
        found.files += 1
        try:
            told = os.stat(entry.name, dir_fd=here, follow_symlinks=False)
            found.bytes += told.st_blocks * 512
            if stat.S_ISDIR(told.st_mode) and len(levels) < DEEPEST:
                levels.append(_scan(entry.name, here))
            elif stat.S_ISDIR(told.st_mode):
                found.hidden = True
        except FileNotFoundError:
            continue  # a job goes on while we look
        except OSError:
            found.hidden = True
    for here, entries in levels:
        entries.close()
        os.close(here)
    return found


def _scan(name: str, at: int | None) -> tuple[int, Any]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        return descriptor, os.scandir(descriptor)
    except OSError:
        os.close(descriptor)
        raise
