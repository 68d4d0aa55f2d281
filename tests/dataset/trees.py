"""Small folders of images and tables for the tests of reading."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from dataset.discover import discover
from dataset.listing import Listing, ReadingOptions

Rows = list[list[str]]


def plant(root: Path, *files: str) -> Path:
    """Make every file: images get a picture of their own, anything else a line of text."""
    for number, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".bmp"}:
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.write_text("text\n", encoding="utf-8")
    return root


def several(folder: str, number: int = 6, start: int = 0) -> list[str]:
    return [f"{folder}/{i:03d}.png" for i in range(start, start + number)]


def table(path: Path, rows: Rows, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def read(root: Path, **options: str) -> Listing:
    return discover(str(root), ReadingOptions(**options), workdir=root.parent / "unpacked")  # type: ignore[arg-type]


def counts(listing: Listing) -> dict[str, int]:
    """Images by `split/class`, or by class if no split was given."""
    found = Counter(f"{sample.split}/{sample.label}" if sample.split else sample.label for sample in listing.samples)
    return dict(sorted(found.items()))


def labels_by_file(listing: Listing) -> dict[str, str]:
    return {sample.name: sample.label for sample in listing.samples}
