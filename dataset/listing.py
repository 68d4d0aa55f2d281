"""What was found before any image is decoded: which files, which labels, which splits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schema.dataset import SetAside, Split


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image: a file, or pixels uint8 [H, W] or [H, W, C] from an array."""

    name: str  # as shown to the person
    label: str
    split: Split | None  # as given, None where it is to be carved
    path: Path | None = None
    pixels: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    name: str
    layout: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    set_aside: tuple[SetAside, ...] = ()
    warnings: tuple[str, ...] = ()
    root: Path | None = None  # the folder that the images lie in
