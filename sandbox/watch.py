"""The limits of a running step: looked at ten times a second, from outside, in numbers that a job cannot hide."""

import contextlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sandbox import gpu
from sandbox.output import Log
from sandbox.room import usage
from sandbox.script.clock import queued_seconds
from sandbox.zygote import Zygote
from schema.job import Card, Limits

BETWEEN_GPU_LOOKS = 1.0  # seconds
BETWEEN_WALKS = 0.5  # seconds between two looks at the disk, or 20 times as long as one takes
LEAST_FREE_SHARE = 0.02  # of the machine's memory: below it the largest job goes before the kernel chooses


@dataclass
class Watch:
    """Measures a step against its limits from its making on."""

    limits: Limits
    allowed: float  # seconds
    stop: Path  # a file that a person makes to end the job
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

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def exceeded(self, processes: list[psutil.Process], log: Log) -> str | None:
        """The name of the first limit that is passed; what is quick to look at comes first."""
        self._look_at_gpu(processes)
        looks: dict[str, Callable[[], bool]] = {
            "processes": lambda: len(processes) > self.limits.processes,
            "output": lambda: log.received > self.limits.output_bytes,
            "stopped": self.stop.exists,
            "time": lambda: self.seconds > self.allowed and self._alone(processes) > self.allowed,
            "memory": lambda: self._memory_passed(processes),
            "disk": lambda: time.monotonic() >= self.next_walk and self._disk_passed(processes),
        }
        return next((name for name, passed in looks.items() if passed()), None)

    def _look_at_gpu(self, processes: list[psutil.Process]) -> None:
        if self.card and time.monotonic() >= self.next_gpu_look:
            taken = gpu.taken_by(self.card, {process.pid for process in processes}, self.card_before)
            self.gpu_peak = max(self.gpu_peak, taken)
            self.next_gpu_look = time.monotonic() + BETWEEN_GPU_LOOKS

    def _alone(self, processes: list[psutil.Process]) -> float:
        """Without the time that they stood in line for a core; at least half of the wall clock (sandbox/script/clock.py)."""
        return self.seconds - min(sum(queued_seconds(process.pid) for process in processes), self.seconds / 2)

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
        scarce = machine.available < LEAST_FREE_SHARE * machine.total and used > self.limits.memory_bytes / 4
        return used > self.limits.memory_bytes or scarce

    def _quick_sum(self, processes: list[psutil.Process]) -> int:
        """Too high where processes share memory, as all do with the warm process that they come from."""
        total = self.scratch
        for process in processes:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def _disk_passed(self, processes: list[psutil.Process]) -> bool:
        began = time.monotonic()
        found = [usage(directory, self.limits.files) for directory in self.zygote.directories()]
        on_disk, in_memory = unlinked(processes, {directory.stat().st_dev for directory in self.zygote.directories()})
        self.scratch = in_memory + self.zygote.scratch_bytes()
        on_disk += sum(one.bytes for one in found)
        self.disk_peak = max(self.disk_peak, on_disk)
        self.next_walk = time.monotonic() + max(BETWEEN_WALKS, 20 * (time.monotonic() - began))
        return (
            any(one.hidden for one in found)
            or sum(one.files for one in found) > self.limits.files
            or on_disk > self.limits.disk_bytes
        )


def memory(processes: list[psutil.Process], scratch: int = 0) -> int:
    """Bytes in use by the tree and its `scratch` files, each page counted once; 0 where the kernel does not tell."""
    own = shared = 0
    for process in processes:
        with contextlib.suppress(OSError):
            parts = _proportional(process.pid)
            own += parts["Pss"] - parts.get("Pss_Shmem", 0)
            shared += parts.get("Pss_Shmem", 0)
    return own + max(shared, scratch) if own else 0


def _proportional(pid: int) -> dict[str, int]:
    """Bytes of each kind, a page that n processes share counted as an n-th of it in each (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").split("\n")[1:]
    rows = [line.split() for line in lines]
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3}


def unlinked(processes: list[psutil.Process], disks: set[int]) -> tuple[int, int]:
    """Bytes of files without a name that the tree holds open: on `disks`, and in memory."""
    sizes: dict[tuple[int, int], int] = {}
    for process in processes:
        folder = f"/proc/{process.pid}/fd"
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - thousands of them
                with contextlib.suppress(OSError):
                    told = os.stat(f"{folder}/{name}")  # noqa: PTH116
                    if stat.S_ISREG(told.st_mode) and told.st_nlink == 0:
                        sizes[told.st_dev, told.st_ino] = told.st_blocks * 512
    on_disk = sum(size for (device, _), size in sizes.items() if device in disks)
    return on_disk, sum(sizes.values()) - on_disk
