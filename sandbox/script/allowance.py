# ruff: noqa: TID251 - runs inside a job
"""What a training may use: images, so that all candidates do equal work, and seconds, as a guard against one that does not end."""

import math
from typing import Any, ClassVar

import torch

from sandbox.script.clock import Clock
from sandbox.script.info import OutOfTime

# A schedule that keeps to its plan is never moved by the clock: only in the last three quarters of the time does it count.
UNHURRIED = 0.25
ENDLESS = 1e9  # seconds: a number, so that code may reckon with it


class Allowance:
    """Counts the images that the training loaders give out, and ends the training after `images` of them or after `seconds`.

    `seconds` are those of the training itself, without what other programs took. Without arguments there is no end.
    """

    present: ClassVar["Allowance | None"] = None  # of the training that runs: `progress` asks it

    def __init__(
        self, seconds: float = ENDLESS, images: float = math.inf, clock: Clock | None = None, calls: int | None = None
    ) -> None:
        self.seconds, self.images, self.clock = seconds, images, clock or Clock()
        self.calls = calls  # of log: the smoke step ends after this many
        self.seen = 0
        self.cut = False  # by the time, before its work was done

    def take(self, images: int, *, first: bool = False) -> None:  # noqa: ARG002 - `first` of its pass: what measures asks for it
        """Count images that are about to be given out. Raises OutOfTime where they are not allowed any more.

        Only those that something is learned from count: not a pass without gradients.
        """
        self.check()
        if not torch.is_grad_enabled():
            return
        if self.seen + images > self.images:
            raise OutOfTime
        self.seen += images

    def check(self) -> None:
        """Raises OutOfTime where the time is over."""
        if self.clock.wall() > self.seconds and self.clock.seconds() > self.seconds:  # the first is quick to ask
            self.cut = True
            raise OutOfTime

    def called(self) -> None:
        """Count a call of log. Raises OutOfTime."""
        if self.calls is not None:
            self.calls -= 1
            if self.calls <= 0:
                raise OutOfTime
        self.check()

    def left(self) -> float:
        """Return the seconds until the training is ended."""
        return max(0.0, self.seconds - self.clock.seconds())

    def progress(self, done: float) -> float:
        """Return `done`, the share 0..1 of its steps that a training has behind it, or more if it has to be further to end in its time."""
        if _share(self.clock.wall(), self.seconds) <= done:  # quick to ask, and never less than what follows
            return done
        return max(done, _share(self.clock.seconds(), self.seconds))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "clock": self.clock.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]
        self.clock.load_state_dict(state["clock"])


def _share(used: float, seconds: float) -> float:
    """Return how far a training has to be when it has used so many seconds: 0 as long as there is no hurry, 1 at the end."""
    return min(1.0, max(0.0, (used / seconds - UNHURRIED) / (1 - UNHURRIED)))
