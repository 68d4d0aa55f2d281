# ruff: noqa: TID251 - runs inside a job
"""Progress and weights of a training: what `log` does."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sandbox.script.info import NonFiniteLoss, OutOfTime


class Log:
    """`log(epoch, **metrics)` writes a line of metrics.jsonl, raises OutOfTime where `out_of_time` says so, and NonFiniteLoss when the loss is none; `log.keep(model)` saves the best so far."""

    def __init__(
        self, out: Path, metadata: dict[str, str], out_of_time: Callable[[], bool], calls: int | None = None
    ) -> None:
        self.weights = out / "weights.safetensors"
        self.kept = False
        self._metrics = out / "metrics.jsonl"
        self._metadata = metadata
        self._out_of_time = out_of_time
        self._calls = calls  # the smoke step ends after this many
        self._began = time.monotonic()

    def __call__(self, epoch: int, **metrics: float) -> None:
        numbers = {k: float(v) for k, v in metrics.items()}
        diverged = [k for k, v in numbers.items() if "loss" in k and "val" not in k and not math.isfinite(v)]
        if diverged:
            raise NonFiniteLoss(
                f"{diverged[0]} is {numbers[diverged[0]]} in epoch {epoch}: lower the learning rate, or check the loss"
            )
        row = {"epoch": int(epoch), "seconds": round(time.monotonic() - self._began, 3)}
        line = json.dumps(row | {k: round(v, 6) for k, v in numbers.items() if math.isfinite(v)})
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)  # noqa: T201 - the training log
        if self._calls is not None:
            self._calls -= 1
        if self._calls == 0 or self._out_of_time():
            raise OutOfTime

    def keep(self, model: nn.Module) -> None:
        save_weights(model, self.weights, self._metadata)
        self.kept = True

    def best(self, model: nn.Module) -> nn.Module:
        """The model with the weights kept last."""
        if self.kept:
            model.load_state_dict(load_file(self.weights))
        return model

    def cut(self) -> None:
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write('{"cut": true}\n')


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Whole or not at all: written beside, then renamed."""
    tensors = {
        name.removeprefix("_orig_mod."): value.detach().to("cpu", copy=True).contiguous()
        for name, value in model.state_dict().items()
    }
    if any(not torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point()):
        raise FloatingPointError("the model's weights are not finite")
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata=metadata)
    partial.replace(path)


def metadata_of(fields: dict[str, Any]) -> dict[str, str]:
    return {"improve": json.dumps(fields)}
