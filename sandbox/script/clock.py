"""Time as it would have been without neighbours: a busy machine must not decide which pipeline is better."""

import os
import time
from pathlib import Path


class Clock:
    """Measures from its making. What other processes took is left out, but at most half of the time (Linux; elsewhere nothing is).

    `patience` times a limit have to pass before it has: a training that is repeated ends after its epochs, and not by the clock.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self._patience = patience
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
        """Wall clock without the time that our threads stood in line for cores that other processes held."""
        wall = time.monotonic() - self._began
        left_over = (os.cpu_count() or 1) * wall - (
            time.process_time() - self._cpu
        )  # too many threads of our own are no theft
        others = max(0.0, min(queued_seconds() - self._queued, left_over, wall / 2))
        return self._before["seconds"] + wall - others

    def passed(self, limit: float) -> bool:
        allowed = self._patience * limit
        return self.wall() > allowed and self.seconds() > allowed


def queued_seconds(process: int | str = "self") -> float:
    """How long the threads of a process stood in line for a core, all together."""
    total = 0
    for file in Path(f"/proc/{process}/task").glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[1])  # nanoseconds, after the time on a core
        except OSError:
            continue  # a thread that has just ended
    return total / 1e9
