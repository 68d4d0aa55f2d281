# ruff: noqa: TID251, T201 - runs inside a job
"""What a training needs to go on after it was interrupted: written now and then, and read by the next start of the very same job."""

import math
import os
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sandbox.script.allowance import Allowance
from sandbox.script.info import ContractError

CHECKPOINT_SECONDS = 30.0  # at least, between two
CHECKPOINT_SHARE = 0.01  # of the training's time at most goes into writing them


class BeginAnew(BaseException):
    """What was kept does not fit this training. Not an Exception, so `except Exception` lets it through."""


class RandomNumbers:
    """The generators that everything draws from which has none of its own."""

    def state_dict(self) -> dict[str, Any]:
        numpy = np.random.get_state(legacy=False)
        key = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
        cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        numpy |= {"state": {"key": key, "pos": numpy["state"]["pos"]}}
        return {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        key, pos = state["numpy"]["state"]["key"], state["numpy"]["state"]["pos"]
        random.setstate(state["python"])
        np.random.set_state(state["numpy"] | {"state": {"key": key.numpy().astype(np.uint32), "pos": pos}})
        torch.set_rng_state(state["torch"])
        for one in state["cuda"]:
            torch.cuda.set_rng_state(one)


class Checkpoint:
    """The loops of a training over its epochs: those that are over, and where the present one is. More than `largest` bytes are not written."""

    def __init__(self, file: Path, allowance: Allowance, largest: int) -> None:
        self.precision: str | None = None  # that the training runs in, or ran in when it was interrupted
        self._file, self._allowance, self._largest = file, allowance, largest
        self._found: list[dict[str, Any]] = []  # of the earlier start, and not yet taken up
        self._over: list[dict[str, Any]] = []
        self._present: Callable[[], dict[str, Any]] | None = None
        self._due = time.monotonic() + CHECKPOINT_SECONDS if largest else math.inf
        if largest and file.exists():
            self._read()

    def _read(self) -> None:
        try:
            with zipfile.ZipFile(self._file) as whole:
                if damaged := whole.testzip():  # torch.load does not look
                    raise ValueError(f"{damaged} is damaged")
            kept = torch.load(self._file, map_location="cpu", weights_only=True)
            self.precision, self._found = kept["precision"], list(kept["loops"])
        except Exception as error:
            print(
                f"what the interrupted training kept cannot be read: it begins anew ({type(error).__name__})",
                flush=True,
            )
            self.forget()

    def forget(self) -> None:
        self._found, self._over, self._present, self.precision = [], [], None, None
        self._file.unlink(missing_ok=True)

    def begin(self, epochs: int, parts: list[Any]) -> int:
        """A loop begins, and the one before it is over. Where this one was interrupted, `parts` are put back; returns the epochs that it has had.

        Raises BeginAnew.
        """
        if not self._largest:
            return 0
        if self._present:
            self._over.append(self._present())
        self._present = lambda: _map_tensors({"epoch": epochs, "states": self._states(parts)}, _copied)
        if not self._found:
            return 0
        loop = self._found.pop(0)
        try:
            for part, state in zip([*parts, self._allowance, RandomNumbers()], loop["states"], strict=True):
                _put_back(part, state)
            done = int(loop["epoch"])
        except Exception as error:
            raise BeginAnew(f"{type(error).__name__}: {error}"[:300]) from error
        print(f"the training was interrupted: it goes on after epoch {done}", flush=True)
        return done

    def _states(self, parts: list[Any]) -> list[Any]:
        return [_state_of(part) for part in [*parts, self._allowance, RandomNumbers()]]

    def write(self, epoch: int, parts: list[Any]) -> None:
        """The file, if it is time: whole or not at all. A training is worth more than its checkpoint, so it goes on without one."""
        began = time.monotonic()
        if began < self._due:
            return
        partial = self._file.with_suffix(".partial")
        try:
            loops = [*self._over, {"epoch": epoch, "states": self._states(parts)}]
            sizes: list[int] = []
            _map_tensors(loops, lambda tensor: sizes.append(tensor.nbytes))
            if sum(sizes) > self._largest:
                raise ValueError(f"it would have {sum(sizes) / 2**30:.1f} GiB")
            with partial.open("wb") as file:
                torch.save({"precision": self.precision, "loops": loops}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._file)
        except Exception as error:
            print(f"no checkpoint is kept, so that an interruption means a new beginning: {error}"[:300], flush=True)
            partial.unlink(missing_ok=True)
            self._due = math.inf
            return
        now = time.monotonic()
        self._due = now + max(CHECKPOINT_SECONDS, (now - began) / CHECKPOINT_SHARE)


def with_state(parts: dict[str, Any]) -> list[Any]:
    """Those that are there. Raises ContractError for one that cannot be kept."""
    for name, part in parts.items():
        able = part is None or isinstance(part, dict) or hasattr(part, "load_state_dict")
        if not able:
            kinds = "what has state_dict and load_state_dict, or a dict of plain values"
            raise ContractError(
                "training", f"log.epochs({name}=...) is of type {type(part).__name__}, expected {kinds}"
            )
    return [part for part in parts.values() if part is not None]


def _state_of(part: Any) -> Any:
    return dict(part) if isinstance(part, dict) else part.state_dict()


def _put_back(part: Any, state: Any) -> None:
    if isinstance(part, dict):
        part.clear()
        part.update(state)
    else:
        part.load_state_dict(state)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True)


def _map_tensors(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_tensors(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_map_tensors(one, change) for one in value])
    return value
