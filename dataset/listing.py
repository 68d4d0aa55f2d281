"""What was found before any image is decoded: which files, which labels, which splits."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from schema.dataset import SetAside, Split
from schema.settings import Layout


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """What the user said about how the source is to be read.

    None leaves it to the evidence.
    """

    labels: str | None = None
    file_column: str | None = None
    label_column: str | None = None
    layout: Layout | None = None
    label_pattern: str | None = None
    group_column: str | None = None
    group_pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image: a file, or pixels uint8 [H, W] or [H, W, C] from an array."""

    name: str  # as shown to the person
    label: str
    split: Split | None  # as given, None where it is to be carved
    path: Path | None = None
    pixels: np.ndarray | None = None
    group: str | None = None  # images of one group stay on one side of every split


@dataclass(frozen=True, slots=True)
class Listing:
    name: str
    layout: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    set_aside: tuple[SetAside, ...] = ()
    warnings: tuple[str, ...] = ()
    root: Path | None = None  # the folder that the images lie in
    reading: str = ""  # a sentence: what was taken for what
    unused: dict[str, int] = field(default_factory=dict)  # reason -> files of the source that are in no other list
