# ruff: noqa: TID251 - runs inside a job
"""Progress and weights of a training: what `log` does."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sandbox.script.checkpoint import Checkpoint, with_state
from sandbox.script.info import NonFiniteLoss, OutOfTime


class Log:
    """`log(epoch, **metrics)` writes a line of metrics.jsonl, raises OutOfTime where `out_of_time` says so, and NonFiniteLoss when the loss is none; `log.keep(model)` saves the best so far."""

    def __init__(
        self,
        out: Path,
        metadata: dict[str, str],
        out_of_time: Callable[[], bool],
        calls: int | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.weights = out / "weights.safetensors"
        self.kept = False
        self._metrics = out / "metrics.jsonl"
        self._metadata = metadata
        self._out_of_time = out_of_time
        self._calls = calls  # the smoke step ends after this many
        self._checkpoint = checkpoint
        self._began = time.monotonic()

    def epochs(self, count: int, /, **parts: Any) -> Iterator[int]:
        """1 to `count`, for the loop of a training: `parts` are what it changes, and where it was interrupted they and it go on from there.

        A part has state_dict and load_state_dict, or is a dict of plain values. Raises ContractError for one that is neither.
        """
        changed = [*with_state(parts), self]
        done = self._checkpoint.begin(count, changed) if self._checkpoint else 0
        for epoch in range(done + 1, count + 1):
            yield epoch
            if self._checkpoint and epoch < count:
                self._checkpoint.write(epoch, changed)

    def state_dict(self) -> dict[str, Any]:
        """The curve so far, and the weights kept last."""
        weights = torch.from_numpy(np.fromfile(self.weights, dtype=np.uint8)) if self.kept else None
        curve = self._metrics.read_text(encoding="utf-8") if self._metrics.exists() else ""
        return {"weights": weights, "curve": curve, "seconds": time.monotonic() - self._began}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._metrics.write_text(state["curve"], encoding="utf-8")
        self._began = time.monotonic() - state["seconds"]
        self.kept = state["weights"] is not None
        if self.kept:
            state["weights"].numpy().tofile(self.weights)

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
