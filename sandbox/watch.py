"""The limits of a running step: looked at ten times a second, from outside, in numbers that a job cannot hide."""

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sandbox import gpu
from sandbox.output import Log
from sandbox.room import usage
from sandbox.script.clock import cores, own_seconds, queued_seconds
from sandbox.zygote import Zygote
from schema.job import Card, Limit, Limits

CORES = cores()
PAGE = os.sysconf("SC_PAGE_SIZE")
BETWEEN_GPU_LOOKS = BETWEEN_SHARE_LOOKS = 1.0  # seconds
BETWEEN_WALKS = 0.5  # seconds between two looks at the disk, or 20 times as long as one takes
LEAST_FREE_SHARE = 0.02  # of the machine's memory: below it the largest job goes before the kernel chooses


@dataclass
class Watch:
    """Measures a step against its limits from its making on."""

    limits: Limits
    allowed: float  # seconds
    stop: Path  # a file that a person makes to end the job, in the job's directory: without that it ends, too
    zygote: Zygote
    card: Card | None = None
    card_before: int = 0  # bytes in use on it when the step began
    began: float = field(default_factory=time.monotonic)
    peak: int = 0
    gpu_peak: int = 0
    disk_peak: int = 0
    next_gpu_look: float = 0.0
    next_walk: float = 0.0
    next_sum: float = 0.0
    scratch: int = 0  # bytes of memory in /tmp and /dev/shm
    scarce: int | None = None  # bytes that the machine had left, where this is why the job has to go
    taken: float = 0.0  # seconds that other programs took from it, when last looked at
    next_share_look: float = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def exceeded(self, processes: list[psutil.Process], log: Log) -> Limit | None:
        """The name of the first limit that is passed; what is quick to look at comes first."""
        self._look_at_gpu(processes)
        if time.monotonic() >= self.next_share_look:
            self.alone(processes)
            self.next_share_look = time.monotonic() + BETWEEN_SHARE_LOOKS
        looks: dict[Limit, Callable[[], bool]] = {
            "processes": lambda: len(processes) > self.limits.processes,
            "output": lambda: log.received > self.limits.output_bytes,
            "stopped": lambda: self.stop.exists() or not self.stop.parent.exists(),
            "time": lambda: self.seconds > self.allowed and self.alone(processes) > self.allowed,
            "memory": lambda: self._memory_passed(processes),
            "disk": lambda: time.monotonic() >= self.next_walk and self._disk_passed(processes),
        }
        return next((name for name, passed in looks.items() if passed()), None)

    def _look_at_gpu(self, processes: list[psutil.Process]) -> None:
        if self.card and time.monotonic() >= self.next_gpu_look:
            taken = gpu.taken_by(self.card, {process.pid for process in processes}, self.card_before)
            self.gpu_peak = max(self.gpu_peak, taken)
            self.next_gpu_look = time.monotonic() + BETWEEN_GPU_LOOKS

    def alone(self, processes: list[psutil.Process]) -> float:
        """Return the seconds without those that other programs took from all of them together (sandbox/script/clock.py)."""
        queued = sum(queued_seconds(process.pid) for process in processes)
        used = sum(_on_a_core(process) for process in processes)
        wall = self.seconds
        alone = own_seconds(wall, queued, used, CORES)
        self.taken = wall - alone
        return alone

    def _memory_passed(self, processes: list[psutil.Process]) -> bool:
        used = self._quick_sum(processes)
        if used > self.limits.memory_bytes:
            if time.monotonic() < self.next_sum:
                return False
            began = time.monotonic()
            used = memory(processes, self.scratch) or used
            self.next_sum = time.monotonic() + 5 * (time.monotonic() - began)
        self.peak = max(self.peak, used)
        machine = psutil.virtual_memory()
        if machine.available < LEAST_FREE_SHARE * machine.total and used > self.limits.memory_bytes / 4:
            self.scarce = machine.available
        return used > self.limits.memory_bytes or self.scarce is not None

    def _quick_sum(self, processes: list[psutil.Process]) -> int:
        """Too high where processes share memory, as all do with the warm process that they come from."""
        total = self.scratch
        for process in processes:
            total += resident(process.pid)[1]
        return total

    def _disk_passed(self, processes: list[psutil.Process]) -> bool:
        began = time.monotonic()
        found = [usage(directory, self.limits.files) for directory in self.zygote.directories()]
        held = unlinked(processes, {directory.stat().st_dev for directory in self.zygote.directories()})
        scratch = self.zygote.scratch()
        self.scratch = held.in_memory + scratch.bytes
        on_disk = held.on_disk + sum(one.bytes for one in found)
        self.disk_peak = max(self.disk_peak, on_disk)
        self.next_walk = time.monotonic() + max(BETWEEN_WALKS, 20 * (time.monotonic() - began))
        return (
            held.hidden
            or any(one.hidden for one in (*found, scratch))
            or sum(one.files for one in (*found, scratch)) > self.limits.files
            or on_disk > self.limits.disk_bytes
        )


def _on_a_core(process: psutil.Process) -> float:
    """Seconds, with those of the children that it has collected."""
    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(used.user + used.system + used.children_user + used.children_system)


def resident(pid: int) -> tuple[str, int]:
    """The place in /proc that shows what a process has, and its bytes in memory; 0 where it has ended.

    Where its first thread has ended and others go on, its own place shows nothing, and theirs do.
    """
    for place in _places(pid):
        with contextlib.suppress(OSError, IndexError, ValueError):
            pages = int(Path(place, "statm").read_text(encoding="ascii").split()[1])
            if pages:
                return place, pages * PAGE
    return f"/proc/{pid}", 0


def _places(pid: int) -> Iterator[str]:
    yield f"/proc/{pid}"
    with contextlib.suppress(OSError):
        yield from (f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208


def memory(processes: list[psutil.Process], scratch: int = 0) -> int:
    """Bytes in use by the tree and its `scratch` files, each page counted once, save those of a process that does not let itself be read:
    a program without the right to read it. 0 where the kernel does not tell.

    Pages of mapped files on disk are not counted: the kernel takes them back when it needs room, and whoever
    reads an array that is larger than the memory would be ended for it."""
    own = shared = 0
    for process in processes:
        place, bytes_ = resident(process.pid)
        try:
            parts = _proportional(place)
        except PermissionError:
            own += bytes_
        except OSError:
            continue
        else:
            own += parts.get("Pss_Anon", parts.get("Pss", 0))  # before Linux 5.3 there is only the sum of all kinds
            shared += parts.get("Pss_Shmem", 0)
    return own + max(shared, scratch) if own else 0


def _proportional(place: str) -> dict[str, int]:
    """Bytes of each kind, a page that n processes share counted as an n-th of it in each (Linux)."""
    lines = Path(place, "smaps_rollup").read_text(encoding="ascii").split("\n")[1:]
    rows = [line.split() for line in lines]
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3}


@dataclass
class Unlinked:
    """Bytes of files without a name that a tree holds open; `hidden` where a living process does not let them be looked at."""

    on_disk: int = 0
    in_memory: int = 0
    hidden: bool = False


def unlinked(processes: list[psutil.Process], disks: set[int]) -> Unlinked:
    sizes: dict[tuple[int, int], int] = {}
    found = Unlinked()
    for process in processes:
        folder = resident(process.pid)[0] + "/fd"
        try:
            names = os.listdir(folder)  # noqa: PTH208 - thousands of them
        except PermissionError:
            found.hidden = found.hidden or resident(process.pid)[1] > 0  # one that is ending refuses, too
            continue
        except OSError:
            continue
        for name in names:
            with contextlib.suppress(OSError):
                told = os.stat(f"{folder}/{name}")  # noqa: PTH116
                if stat.S_ISREG(told.st_mode) and told.st_nlink == 0:
                    sizes[told.st_dev, told.st_ino] = told.st_blocks * 512
        for file, size in _mapped_without_name(process, disks).items():
            sizes.setdefault(file, size)
    found.on_disk = sum(size for (device, _), size in sizes.items() if device in disks)
    found.in_memory = sum(sizes.values()) - found.on_disk
    return found


def _mapped_without_name(process: psutil.Process, disks: set[int]) -> dict[tuple[int, int], int]:
    """Return the bytes that a process maps of each deleted file on these disks, by device and inode."""
    found: dict[tuple[int, int], int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path(resident(process.pid)[0], "maps").read_bytes().split(b"\n"):
            if line.endswith(b" (deleted)"):
                span, _, _, device, inode, *_ = line.split(maxsplit=5)
                place = os.makedev(*(int(part, 16) for part in device.split(b":"))), int(inode)
                begin, end = (int(part, 16) for part in span.split(b"-"))
                if place[0] in disks:
                    found[place] = found.get(place, 0) + end - begin
    return found
