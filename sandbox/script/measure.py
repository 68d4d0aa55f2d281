# ruff: noqa: TID251 - runs inside a job
"""How fast this machine trains: a few timed steps decide precision, memory layout and threads, and how many epochs the time buys."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sandbox.script.allowance import Allowance
from sandbox.script.clock import Clock
from sandbox.script.components import build_model, build_transforms, train
from sandbox.script.info import ContractError, Info, OutOfTime
from sandbox.script.loaders import Data, make_loaders, on_device
from sandbox.script.logbook import Log
from sandbox.script.toolbox import place

PLANNED_EPOCHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 60, 75, 90, 110, 135, 165, 200, 250, 300)

QUIET_SECONDS = 20.0  # a quieter moment is waited for, at most
LEAST_SECONDS = 4.0  # the best setting is looked for, at least
BUSY = 0.8  # of the speed that it would have alone: below, other programs are in the way
MOST_STEPS, TIMED_SECONDS = 24, 0.7  # what one setting is timed by


def measured(data: Data, info: Info, config: dict[str, Any], scratch: Path | None = None) -> Info:
    """Find the fastest precision, memory layout and number of threads by timing the first steps of the training, and how many epochs the time buys.

    The components run in a directory of their own in `scratch`, or where the system keeps what is temporary.
    """
    images = on_device(data, info)
    clock, limit = Clock(), min(15.0, max(LEAST_SECONDS, 0.05 * info.seconds))
    settled, best, speed = bool(config.get("settled")), info, Speed()
    broken: Exception | None = None
    for trial in precisions(info):
        if speed.now and (settled or clock.seconds() > limit):
            break
        found = training_speed(trial, images, data, speed.now, scratch)
        broken = broken or found.error
        if found.now > speed.now * 1.1:  # the first win a near tie
            best, speed = trial, found
    if broken and not speed.now:
        raise broken
    # Small nets waste many threads, and where a neighbour holds a core each step waits for its slowest thread.
    asked = not settled or speed.now < BUSY * speed.alone
    while asked and info.device.type == "cpu" and best.threads > 1 and not clock.seconds() > limit:
        trial = replace(best, threads=best.threads // 2)
        found = training_speed(trial, images, data, speed.now, scratch)
        if found.now < speed.now * 1.1:
            break
        best, speed = trial, found
    torch.set_num_threads(best.threads)
    once = max(1, info.train_size + int(data.inner.sum()) // 3)  # a pass, and a look at the inner validation
    epochs, alone = config.get("epochs"), speed.alone
    if epochs and config.get("repeats"):
        return replace(best, epochs=epochs, images_per_second=alone)
    # A neighbour makes a machine slower and never faster: a quieter moment is waited for before a candidate gets fewer epochs than its rival.
    until = time.monotonic() + min(QUIET_SECONDS, 0.1 * info.seconds)
    while epochs and epochs > info.seconds * alone / once and time.monotonic() < until:
        time.sleep(0.5)
        alone = max(alone, training_speed(best, images, data, 0.0, scratch).alone)
    passes = info.seconds * alone / once
    if epochs is None or epochs > passes:
        epochs = max((count for count in PLANNED_EPOCHS if count <= min(0.85 * passes, epochs or 10**9)), default=1)
    # An incumbent that trains longer than it planned would win against all that keep to its plan.
    fair = 0.5 * passes * config.get("least_seconds", 0.0) / info.seconds
    epochs = max([epochs, *(count for count in PLANNED_EPOCHS if count <= min(fair, 0.85 * passes))])
    return replace(best, epochs=epochs, images_per_second=alone)


def precisions(info: Info) -> list[Info]:
    """What is set already (the incumbent's choice, or plain float32), then the others."""
    native = info.device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    reduced = "bfloat16" if native else "float16"
    others = [
        replace(info, precision=precision, channels_last=channels_last)
        for precision in (reduced, "float32")
        for channels_last in (True, False)
    ]
    return [info, *(other for other in others if other != info)]


@dataclass(frozen=True)
class Speed:
    """Images per second of training steps; none where the setting does not work."""

    now: float = 0.0  # whatever else the machine does
    alone: float = 0.0  # had it done nothing else: what epochs are planned with, so that a busy neighbour does not shorten a training
    error: Exception | None = None


class Stopwatch(Allowance):
    """Times what lies between two batches of a training, and ends it when that is known well enough, or is much slower than `rival`."""

    def __init__(self, info: Info, rival: float) -> None:
        super().__init__(calls=MOST_STEPS)
        self._info, self._rival = info, rival
        self._since, self._images, self.batches = Clock(), 0, 0
        self._steps: list[tuple[int, float, float]] = []  # images; seconds, and seconds without neighbours
        self._between: list[tuple[int, float, float]] = []  # the same where a pass ended meanwhile

    def take(self, images: int, *, first: bool = False) -> None:
        """Raises OutOfTime when enough is known."""
        if not torch.is_grad_enabled():
            return
        self.batches += 1
        if self.batches > 2:  # the first step warms up
            last = self._last_step()
            (self._between if first else self._steps).append(last)
            timed = [*self._steps, *self._between]
            hopeless = last[1] * self._rival > 1.5 * last[0]
            if hopeless or len(timed) >= MOST_STEPS or sum(wall for _, wall, _ in timed) > TIMED_SECONDS:
                raise OutOfTime
        self._images, self._since = images, Clock()

    def speed(self) -> Speed:
        """Of the steps within a pass; of a training that had hardly any, of the last one."""
        timed = self._steps or self._between or [self._last_step()]
        images, wall, alone = (sum(step[i] for step in timed) for i in range(3))
        return Speed(images / wall, images / alone)

    def _last_step(self) -> tuple[int, float, float]:
        if self._info.device.type == "cuda":
            torch.cuda.synchronize()
        return self._images, self._since.wall(), self._since.seconds()


class Rehearsal(Log):
    """What `log` is while the first steps are timed: nothing is written, and nothing kept."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__(Path(), {}, allowance)

    def __call__(self, epoch: int, **metrics: float) -> None:  # noqa: ARG002 - as its parent's
        self._allowance.called()

    def keep(self, model: nn.Module) -> None:
        pass  # so that load_kept finds nothing, too


def training_speed(info: Info, images: torch.Tensor, data: Data, rival: float, scratch: Path | None = None) -> Speed:
    """Run the first steps of the training as the components have written it: its batches, augmentation, optimiser and averaging.

    A setting that is much slower than its rival is given up after one step. One that makes weights that are not finite does not work:
    bfloat16 does that now and then where a convolution with stride meets a single pixel (seen with torch 2.15 on a CPU).
    """
    state = torch.get_rng_state()
    torch.set_num_threads(info.threads)
    watch = Stopwatch(info, rival)
    try:
        with _own_directory(scratch):
            loaders = make_loaders(
                images, data.labels, data.inner, build_transforms(info), info, allowance=watch, limit=MOST_STEPS
            )
            model = place(build_model(info), info)
            with suppress(OutOfTime):
                train(model, loaders, info, Rehearsal(watch))
        if not all(torch.isfinite(value).all() for value in model.parameters()):
            raise FloatingPointError(f"training steps in {info.precision} make weights that are not finite")
        if not watch.batches:
            raise ContractError(
                "training", "train has taken no batch from its loaders: iterate loaders.train or loaders.everything"
            )
        return watch.speed()
    except (RuntimeError, FloatingPointError) as error:
        return Speed(error=error)
    finally:
        torch.set_rng_state(state)


@contextmanager
def _own_directory(scratch: Path | None) -> Iterator[None]:
    """Make an empty directory the current one: a component that makes a file or folder of its own meets none from the rehearsal before."""
    directory, maker = tempfile.mkdtemp(dir=scratch), os.getpid()
    try:
        with chdir(directory):
            yield
    finally:
        if os.getpid() == maker:  # not in a process that the component has forked, and that fails in here
            with suppress(RecursionError):  # folders in folders without end: they go with the job's own directory
                shutil.rmtree(directory, ignore_errors=True)
