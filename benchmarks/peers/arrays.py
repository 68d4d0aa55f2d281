# ruff: noqa: TID251 - a peer is a process of its own
"""What every peer is given.

The prepared images, training and validation part together, and the test images without labels.
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sandbox.script.augment import resize_batch, standardize

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Images(NamedTuple):
    """uint8 [N, C, H, W] and int64 [N] to learn from, uint8 [M, C, H, W] to answer, and how many classes."""

    train: torch.Tensor
    labels: torch.Tensor
    test: torch.Tensor
    classes: int


def given() -> argparse.Namespace:
    """The command line of a peer; it has begun the clock already."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path, help="of the prepared data set")
    parser.add_argument("out", type=Path, help=".npy for float32 [M, classes]")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--network", required=True, help="timm name")
    parser.add_argument("--weights", required=True, help="safetensors file")
    parser.add_argument("--padding", default="", help="timm's pad_type")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def images_in(directory: Path) -> Images:
    labels_of_validation = np.load(directory / "private/validation_labels.npy")
    parts = [np.load(directory / name) for name in ("train/images.npy", "heldout/validation.npy")]
    train = np.concatenate(parts)
    labels = np.concatenate([np.load(directory / "train/labels.npy"), labels_of_validation])
    classes = json.loads((directory / "train/dataset.json").read_text())["classes"]
    test = np.load(directory / "heldout/test.npy")
    return Images(torch.from_numpy(train), torch.from_numpy(labels), torch.from_numpy(test), len(classes))


def size_for(images: torch.Tensor, longest: int) -> tuple[int, int]:
    """Height and width with this longer side, multiples of 32."""
    height, width = images.shape[-2:]
    scale = longest / max(height, width)
    return max(32, round(height * scale / 32) * 32), max(32, round(width * scale / 32) * 32)


def prepared(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    scaled = standardize(resize_batch(images, *size), MEAN, STD)
    return scaled.contiguous(memory_format=torch.channels_last)


class Timer:
    """Seconds since the process began its work."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self) -> float:
        return time.perf_counter() - self._began
