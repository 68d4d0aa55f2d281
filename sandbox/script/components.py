# ruff: noqa: TID251 - a stand-in for type checking
"""The faces that the three components fill in; here only so that the parts can be type-checked. Never inlined."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from sandbox.script.info import Info, Transforms


def build_transforms(info: Info) -> Transforms:
    raise NotImplementedError


def build_model(info: Info) -> nn.Module:
    raise NotImplementedError


def train(model: nn.Module, loaders: Any, info: Info, log: Any) -> nn.Module:
    raise NotImplementedError


def decode(file: Path, channels: int, height: int | None, width: int | None) -> np.ndarray:
    raise NotImplementedError
