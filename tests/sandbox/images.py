# ruff: noqa: TID251 - what the tests of the script's parts run on
"""A batch of pictures, and the info that goes with it."""

import torch

from sandbox.script.info import Info


def pictures(count: int = 16, channels: int = 3, side: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)


def info(**more: object) -> Info:
    values = {
        "classes": ["a", "b"], "channels": 3, "height": 12, "width": 12, "mean": [0.5] * 3, "std": [0.25] * 3, "counts": [30, 10], "seed": 0,
        "device": torch.device("cpu"), "threads": 1, "seconds": 10.0, "epochs": 1,
    }  # fmt: skip
    return Info(**{**values, **more})  # type: ignore[arg-type]
