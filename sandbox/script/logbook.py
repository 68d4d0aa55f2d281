# ruff: noqa: TID251 - runs inside a job
"""Progress and weights of a training: what `log` does."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sandbox.script.allowance import Allowance
from sandbox.script.checkpoint import Checkpoint, with_state
from sandbox.script.info import NonFiniteLoss


class Log:
    """`log(epoch, **metrics)` writes a line of metrics.jsonl, raises OutOfTime if the allowance is used up, and NonFiniteLoss when the loss is none; `log.keep(model)` saves the best so far."""

    def __init__(
        self, out: Path, metadata: dict[str, str], allowance: Allowance, checkpoint: Checkpoint | None = None
    ) -> None:
        self.weights = out / "weights.safetensors"
        self.kept = False
        self._metrics = out / "metrics.jsonl"
        self._metadata = metadata
        self._allowance = allowance
        self._planned = 0  # epochs
        self._checkpoint = checkpoint
        self._began = time.monotonic()

    def epochs(self, count: int, /, **parts: Any) -> Iterator[int]:
        """1 to `count`, for the loop of a training: `parts` are what it changes, and where it was interrupted they and it go on from there.

        A part has state_dict and load_state_dict, or is a dict of plain values. Raises ContractError for one that is neither.
        """
        changed, self._planned = [*with_state(parts), self], count
        done = self._checkpoint.begin(count, changed) if self._checkpoint else 0
        for epoch in range(done + 1, count + 1):
            yield epoch
            # Once the clock moves the schedule nothing is kept: a training that is given more time goes on from before.
            if self._checkpoint and epoch < count and self._allowance.progress(epoch / count) <= epoch / count:
                self._checkpoint.write(epoch, changed)

    def time_left(self) -> float:
        """Return the seconds until the training is ended, without those that other programs take."""
        return self._allowance.left()

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
        row: dict[str, float] = {"epoch": int(epoch), "seconds": round(time.monotonic() - self._began, 3)}
        row |= {"epochs": self._planned} if self._planned else {}
        row |= {"images": self._allowance.seen}
        row |= {"gpu_bytes": torch.cuda.max_memory_reserved()} if torch.cuda.is_available() else {}
        line = json.dumps(row | {k: round(v, 6) for k, v in numbers.items() if math.isfinite(v)})
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)  # noqa: T201 - the training log
        self._allowance.called()

    def keep(self, model: nn.Module) -> None:
        save_weights(model, self.weights, self._metadata)
        self.kept = True

    def load_kept(self, model: nn.Module) -> nn.Module:
        """Load the weights kept last into the model, and return it."""
        if self.kept:
            load_weights(model, self.weights)
        return model

    best = load_kept  # its name in pipelines that were written before

    def cut(self) -> None:
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write('{"cut": true}\n')


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Whole or not at all: written beside, then renamed."""
    tensors = {
        _plain(name): value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()
    }
    if any(not torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point()):
        raise FloatingPointError("the model's weights are not finite")
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata=metadata)
    partial.replace(path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load what `save_weights` has written; one or both of the two models may be compiled, or parts of them."""
    own = {_plain(name): name for name in model.state_dict()}
    model.load_state_dict({own.get(name, name): value for name, value in load_file(path).items()})


def _plain(name: str) -> str:
    """A parameter's name without what torch.compile puts into it."""
    return name.replace("_orig_mod.", "")


def metadata_of(fields: dict[str, Any]) -> dict[str, str]:
    return {"improve": json.dumps(fields)}
