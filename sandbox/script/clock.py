"""Time as it would have been without neighbours: a busy machine must not decide which pipeline is better."""

import os
import time
from pathlib import Path

SLOWEST = 8.0  # other programs may make a training take so many times as long by the clock on the wall, and no longer


class Clock:
    """Measures from its making, in seconds and in seconds without those that other programs took (Linux; elsewhere both are the same)."""

    def __init__(self) -> None:
        self._start({"wall": 0.0, "seconds": 0.0})

    def _start(self, before: dict[str, float]) -> None:
        self._before = before
        self._began, self._cpu, self._queued = time.monotonic(), time.process_time(), queued_seconds()

    def state_dict(self) -> dict[str, float]:
        return {"wall": self.wall(), "seconds": self.seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """From here on it is as late as it was then: an interrupted training has what was left of its time."""
        self._start(dict(state))

    def wall(self) -> float:
        return self._before["wall"] + time.monotonic() - self._began

    def seconds(self) -> float:
        """Return the seconds without those in which our threads stood in line for cores that other programs held."""
        wall = time.monotonic() - self._began
        return self._before["seconds"] + own_seconds(
            wall, queued_seconds() - self._queued, time.process_time() - self._cpu, cores()
        )


def own_seconds(wall: float, queued: float, used: float, cores: int) -> float:
    """Return what is left of `wall` seconds without the time that other programs took, at least a share of 1 / SLOWEST.

    `queued` are the seconds that all threads together stood in line for a core: if one of them does, the others wait for
    it. `used` are those that they were on one: cores that they had to themselves nobody took from them, and more threads
    than cores stand in each other's way.
    """
    taken = min(queued, cores * wall - used, wall * (1 - 1 / SLOWEST))
    return wall - max(0.0, taken)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def queued_seconds(process: int | str = "self") -> float:
    """How long the threads of a process stood in line for a core, all together."""
    total = 0
    for file in Path(f"/proc/{process}/task").glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[1])  # nanoseconds, after the time on a core
        except OSError:
            continue  # a thread that has just ended
    return total / 1e9
