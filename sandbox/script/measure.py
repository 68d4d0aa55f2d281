# ruff: noqa: TID251 - runs inside a job
"""How fast this machine trains: a few timed steps decide precision, memory layout and threads, and how many epochs the time buys."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sandbox.script.clock import Clock
from sandbox.script.components import build_model, build_transforms
from sandbox.script.info import Info
from sandbox.script.loaders import Data, Loaders, make_loaders, on_device
from sandbox.script.toolbox import autocast, place, soft_cross_entropy

PLANNED_EPOCHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 60, 75, 90, 110, 135, 165, 200, 250, 300)

QUIET_SECONDS = 20.0


def measured(data: Data, info: Info, config: dict[str, Any]) -> Info:
    """Find the fastest precision, memory layout and number of threads by timing a few steps, and how many epochs the time buys."""
    loaders = make_loaders(on_device(data, info), data.labels, data.inner, build_transforms(info), info)
    batch = next(iter(loaders.train))
    clock, limit = Clock(), min(15.0, 0.05 * info.seconds)
    settled, best, speed = bool(config.get("settled")), info, Speed()
    broken: Exception | None = None
    for trial in precisions(info):
        if speed.now and (settled or clock.passed(limit)):
            break
        found = images_per_second(trial, *batch, speed.now)
        broken = broken or found.error
        if found.now > speed.now * 1.1:  # the first win a near tie
            best, speed = trial, found
    if broken and not speed.now:
        raise broken
    # Small nets waste many threads, and where a neighbour holds a core each step waits for its slowest thread.
    while not settled and info.device.type == "cpu" and best.threads > 1 and not clock.passed(limit):
        trial = replace(best, threads=best.threads // 2)
        found = images_per_second(trial, *batch, speed.now)
        if found.now < speed.now * 1.1:
            break
        best, speed = trial, found
    torch.set_num_threads(best.threads)
    images = max(1, info.train_size + int(data.inner.sum()) // 3)
    epochs = config.get("epochs")
    alone = 1 / (1 / speed.alone + data_cost(loaders))
    # A neighbour makes a machine slower and never faster: a quieter moment is waited for before a candidate gets fewer epochs than its rival.
    until = time.monotonic() + min(QUIET_SECONDS, 0.1 * info.seconds)
    while epochs and epochs > 0.95 * info.seconds * alone / images and time.monotonic() < until:
        time.sleep(0.5)
        again = images_per_second(best, *batch, 0.0).alone
        alone = max(alone, 1 / (1 / again + data_cost(loaders)) if again else 0.0)
    passes = info.seconds * alone / images
    if epochs is None or epochs > 0.95 * passes:
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
        for precision in ("float32", reduced)
        for channels_last in (False, True)
    ]
    return [info, *(other for other in others if other != info)]


@dataclass(frozen=True)
class Speed:
    """Images per second of training steps; none where the setting does not work."""

    now: float = 0.0  # whatever else the machine does
    alone: float = 0.0  # had it done nothing else: what epochs are planned with, so that a busy neighbour does not shorten a training
    error: Exception | None = None


def images_per_second(info: Info, images: torch.Tensor, targets: torch.Tensor, rival: float) -> Speed:
    """Forward, backward, update; the median of some steps after a warm-up.

    A setting that is much slower than its rival is given up after one step. One that makes weights that are not finite does not work:
    bfloat16 does that now and then where a convolution with stride meets a single pixel (seen with torch 2.15 on a CPU).
    """
    state = torch.get_rng_state()
    torch.set_num_threads(info.threads)
    try:
        model = place(build_model(info), info).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
        steps: list[tuple[float, float]] = []  # seconds, and seconds without neighbours; the first is the warm-up
        while len(steps) < 2 or (
            len(steps) < 20 and sum(wall for wall, _ in steps[1:]) < 0.7 and steps[-1][0] * rival < 1.5 * len(images)
        ):
            clock = Clock()
            with autocast(info):
                logits = model(place(images, info))
            soft_cross_entropy(logits, targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if info.device.type == "cuda":
                torch.cuda.synchronize()
            steps.append((clock.wall(), clock.seconds()))
        if not all(torch.isfinite(value).all() for value in model.parameters()):
            return Speed(
                error=FloatingPointError(f"training steps in {info.precision} make weights that are not finite")
            )
        wall, alone = np.median(steps[1:], axis=0)
        return Speed(len(images) / float(wall), len(images) / float(alone))
    except RuntimeError as error:
        return Speed(error=error)
    finally:
        torch.set_rng_state(state)


def data_cost(loaders: Loaders) -> float:
    """Seconds per image of gathering and augmenting."""
    loader = replace(loaders.train, limit=3)
    began = time.perf_counter()
    for _ in loader:
        pass
    if loader.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / max(1, len(loader) * loader.batch_size)
