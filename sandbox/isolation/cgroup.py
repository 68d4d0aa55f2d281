"""A control group (cgroup v2) around a sandbox, where this machine lets us make one: the kernel limits what is in it, and kills all of it at one blow.

Docs: https://docs.kernel.org/admin-guide/cgroup-v2.html, https://systemd.io/CGROUP_DELEGATION.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from functools import cache
from pathlib import Path

from schema.job import Limit

LIMITS = {"memory", "pids"}  # the controllers
END_SECONDS = 10.0
SLACK = (
    9 / 8
)  # of the job's memory: the watch, which says more, comes first, and page tables and sockets count here too
# Where a group counts what it has refused: the file, the line, and the name of the limit.
REFUSALS: tuple[tuple[str, str, Limit], ...] = (
    ("memory.events", "oom_kill", "memory"),
    ("pids.events", "max", "processes"),
)


def own(mounts: str | None = None, groups: str | None = None) -> Path | None:
    """The directory of the group that this process is in; None where there is no cgroup v2. For tests: the texts of
    /proc/self/mountinfo and /proc/self/cgroup."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8") if mounts is None else mounts
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8") if groups is None else groups
    except OSError:
        return None
    path = next((line.removeprefix("0::") for line in groups.split("\n") if line.startswith("0::")), None)
    for line in mounts.split("\n"):
        before, _, after = line.partition(" - ")
        if path and after.startswith("cgroup2 "):
            root, mounted = before.split()[3:5]
            with contextlib.suppress(ValueError):
                below = Path(path).relative_to(root)
                return None if ".." in below.parts else Path(mounted) / below
    return None


@cache
def home() -> Path | None:
    """Where groups for sandboxes can be made, found by making one and moving a process into it; None where nowhere.

    Beside our own group or inside it, and best with the kernel's limits. What others have set is not touched; only a group that
    systemd says is delegated to us (the mark `user.delegate`) is arranged so that its children can have limits.
    """
    here = own()
    if here is None:
        return None
    found = _with_limits(here)
    if not found and _is_delegated(here) and _arrange(here):
        found = _with_limits(here)
    return found or next(filter(_works, _candidates(here)), None)


def limits(group: Path) -> bool:
    """Whether the kernel limits what is in the group's children."""
    with contextlib.suppress(OSError):
        return set((group / "cgroup.subtree_control").read_text(encoding="ascii").split()) >= LIMITS
    return False


def _candidates(here: Path) -> list[Path]:
    return [place for place in (here.parent, here) if (place / "cgroup.procs").exists()]


def _with_limits(here: Path) -> Path | None:
    return next((place for place in _candidates(here) if limits(place) and _works(place)), None)


def _works(place: Path) -> bool:
    trial = place / f"improve-trial-{os.getpid()}"
    try:
        trial.mkdir()
    except OSError:
        return False
    try:
        return subprocess.run([*entering(trial), "true"], capture_output=True, check=False).returncode == 0
    finally:
        with contextlib.suppress(OSError):
            trial.rmdir()


def _is_delegated(here: Path) -> bool:
    try:
        return os.getxattr(here, "user.delegate") == b"1"
    except OSError:
        return False


def _arrange(here: Path) -> bool:
    """A group with limits for its children holds no processes itself: those that are in it, ours among them, move to a child."""
    try:
        leaf = here / "improve"
        leaf.mkdir(exist_ok=True)
        for pid in members(here):
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(str(pid), encoding="ascii")
        (here / "cgroup.subtree_control").write_text("+memory +pids", encoding="ascii")
    except OSError:
        return False
    return True


def make(folder: Path) -> Path | None:
    """A group for the sandbox of this folder, empty; None where none can be had. Raises OSError where processes are in it that cannot be ended."""
    place = home()
    if place is None:
        return None
    sweep(folder)
    group = place / _name(folder)
    end(group)
    (folder / "cgroup").write_text(str(group), encoding="utf-8")
    try:
        group.mkdir()
    except OSError:  # systemd has tidied up above us, say
        return None
    return group


def sweep(folder: Path) -> None:
    """End what is left in the group that was last made for this folder. Raises OSError where something cannot be ended."""
    with contextlib.suppress(FileNotFoundError):
        recorded = Path((folder / "cgroup").read_text(encoding="utf-8"))
        if recorded.name == _name(folder) and (recorded / "cgroup.procs").exists():
            end(recorded)


def _name(folder: Path) -> str:
    return f"improve-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]}"


def entering(group: Path) -> list[str]:
    """What comes before a command, so that it is in the group from its first instruction."""
    return ["/bin/sh", "-c", 'echo 0 > "$0" && exec "$@"', str(group / "cgroup.procs")]


def limit(group: Path, *, memory_bytes: int, threads: int) -> None:
    """On top of what is in use now, before generated code runs: the group is killed as a whole where its memory is passed, and has no swap."""
    if not limits(group.parent):
        return
    with contextlib.suppress(OSError):
        used, running = (int((group / name).read_text(encoding="ascii")) for name in ("memory.current", "pids.current"))
        for name, value in {
            "memory.oom.group": 1,
            "memory.swap.max": 0,
            "memory.max": used + int(memory_bytes * SLACK),
            "pids.max": running + threads,
        }.items():
            with contextlib.suppress(FileNotFoundError):  # a kernel that does not account for swap
                (group / name).write_text(str(value), encoding="ascii")


def refusals(group: Path) -> dict[Limit, int]:
    """How often the kernel has refused what is in the group, by the name of the limit."""
    found: dict[Limit, int] = {}
    for file, name, told in REFUSALS:
        with contextlib.suppress(OSError):
            rows = dict(line.split() for line in (group / file).read_text(encoding="ascii").splitlines())
            found[told] = int(rows.get(name, 0))
    return found


def members(group: Path) -> list[int]:
    """Process ids; those that have ended and wait to be collected are not among them."""
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text(encoding="ascii").split()]
    except OSError:
        return []


def end(group: Path) -> None:
    """Kill all that is in it, and remove it. Raises OSError where something will not end."""
    until = time.monotonic() + END_SECONDS
    while group.exists():
        kill(group)
        try:
            group.rmdir()
        except OSError as error:
            if time.monotonic() > until:
                left = ", ".join(map(str, members(group))) or "none that we can see"
                raise OSError(f"{group} cannot be emptied; the processes in it that will not end: {left}") from error
            time.sleep(0.005)


def kill(group: Path) -> None:
    """At one blow, and one by one what is left: the kernel (6.18, for one) passes over a process whose first thread has ended, and Linux
    before 5.14 knows no blow."""
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1", encoding="ascii")
    for pid in members(group):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
