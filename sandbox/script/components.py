# ruff: noqa: TID251 - a stand-in for type checking
"""What the three components and dataset/decode.py define; here only so that the parts can be type-checked. Never inlined."""

from collections.abc import Iterable
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


def decode(
    file: Path,
    channels: int,
    height: int | None,
    width: int | None,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    raise NotImplementedError


def file_extent(file: Path) -> tuple[float, float, float] | None:
    raise NotImplementedError


def shared_range(extents: Iterable[tuple[float, float, float]]) -> tuple[float, float] | None:
    raise NotImplementedError
