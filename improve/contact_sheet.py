"""A page of small pictures: what each class holds as a training sees it, the copies, and the files that were
set aside."""

import base64
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from dataset.arrays import IMAGES
from dataset.decoders import Decoders
from dataset.manifest import FileRow, read_files
from improve.data_summary import SPLITS, summary_lines
from improve.predict import shape_of
from schema.dataset import DatasetProfile, Split
from schema.text import one_line

SIDE = 112  # pixels of a thumbnail's longer side
PER_CLASS = 10
IN_ALL = 1500  # thumbnails of classes; with many classes each shows fewer, but LEAST
LEAST = 3
MOST_COPIES = 60
MOST_SET_ASIDE = 200
LONGEST = 200  # characters of a file name


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail as a data URI; none if the file cannot be decoded."""

    source: str | None
    file: str
    text: str = ""  # under the thumbnail
    pixelated: bool = False


@dataclass(frozen=True, slots=True)
class ClassStrip:
    name: str
    counts: list[int]  # train, validation, test
    pictures: list[Picture]


@dataclass(frozen=True, slots=True)
class Copy:
    first: Picture
    again: Picture
    kind: str
    contradicts: bool


def contact_sheet(profile: DatasetProfile, root: Path | None, decoders: Decoders) -> str:
    """Draw the page as HTML that needs no network and no script.

    `root`: the folder that the file names are relative to.
    """
    rows = read_files(profile) or []
    copies = [row for row in rows if row.copy_of]
    aside = [row for row in rows if row.reason]
    stored = _Stored(profile, rows, _set_aside(profile, aside[:MOST_SET_ASIDE], root, decoders))
    environment = Environment(
        loader=PackageLoader("improve"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("contact_sheet.html").render(
        name=one_line(profile.name, LONGEST),
        summary=summary_lines(profile),
        splits=SPLITS,
        given=profile.given_splits,
        strips=_strips(profile, rows, stored),
        copies=_copies(copies, {row.file: row for row in rows}, stored),
        copies_left=max(0, len(copies) - MOST_COPIES),
        set_aside=[
            Picture(stored.thumbnail(row.file), one_line(row.file, LONGEST), one_line(row.reason, 300))
            for row in aside[:MOST_SET_ASIDE]
        ],
        set_aside_left=max(0, len(aside) - MOST_SET_ASIDE),
        unused={one_line(what, 300): count for what, count in profile.unused.items()},
        side=SIDE,
    )


class _Stored:
    """Thumbnails of images by their names: from the prepared arrays, or of those that are not among them from
    `aside`."""

    def __init__(self, profile: DatasetProfile, rows: Sequence[FileRow], aside: dict[str, np.ndarray]) -> None:
        self._profile, self._aside = profile, aside
        self._arrays = {
            split: np.load(Path(profile.directory) / IMAGES[split], mmap_mode="r", allow_pickle=False)
            for split in SPLITS
        }
        self._places: dict[str, tuple[Split, int]] = {}
        for split in SPLITS:
            files = (row.file for row in rows if row.split == split)
            self._places.update((file, (split, i)) for i, file in enumerate(files))

    def thumbnail(self, file: str) -> str | None:
        if place := self._places.get(file):
            return _encoded(self._arrays[place[0]][place[1]])
        found = self._aside.get(file)
        return None if found is None else _encoded(found)

    def split_of(self, file: str) -> str:
        return self._places[file][0] if file in self._places else "set aside"

    @property
    def pixelated(self) -> bool:
        return max(self._profile.height, self._profile.width) < SIDE


def _set_aside(
    profile: DatasetProfile, rows: Sequence[FileRow], root: Path | None, decoders: Decoders
) -> dict[str, np.ndarray]:
    """Decode the images that were set aside and can be decoded: copies, say, and those of rare classes."""
    if root is None:
        return {}
    # A table names what it likes; drawn is only what lies in the folder.
    whole = os.path.normpath(root)
    inside = [row for row in rows if Path(os.path.normpath(root / row.file)).is_relative_to(whole)]
    found = zip(inside, decoders.pixels((root / row.file for row in inside), shape_of(profile)), strict=True)
    return {row.file: image for row, image in found if isinstance(image, np.ndarray)}


def _encoded(image: np.ndarray) -> str:
    """A data URI of uint8 [channels, height, width]."""
    picture = Image.fromarray(image[0] if image.shape[0] == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((SIDE * 2, SIDE * 2))  # sharp on screens with two dots to a pixel
    kind = "PNG" if max(picture.size) < SIDE else "JPEG"
    buffer = BytesIO()
    picture.save(buffer, kind, quality=80)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _strips(profile: DatasetProfile, rows: Iterable[FileRow], stored: _Stored) -> list[ClassStrip]:
    """Show of each class some images, spread evenly over all that it has."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.split:
            files[row.label].append(row.file)
    most = max(LEAST, min(PER_CLASS, IN_ALL // len(profile.classes)))
    return [
        ClassStrip(
            one_line(name, LONGEST),
            [profile.counts[split][i] for split in SPLITS],
            [
                Picture(stored.thumbnail(file), one_line(file, LONGEST), stored.split_of(file), stored.pixelated)
                for file in _spread(files[name], most)
            ],
        )
        for i, name in enumerate(profile.classes)
    ]


def _spread(files: list[str], most: int) -> list[str]:
    if len(files) <= most:
        return files
    return [files[i] for i in np.linspace(0, len(files) - 1, most).round().astype(int).tolist()]


def _copies(copies: Iterable[FileRow], by_file: dict[str, FileRow], stored: _Stored) -> list[Copy]:
    """Show pairs of equal or alike images, those whose labels contradict first."""

    def contradicts(row: FileRow) -> bool:
        return row.copy_of in by_file and by_file[row.copy_of].label != row.label

    def picture(file: str) -> Picture:
        label = by_file[file].label if file in by_file else ""
        text = f"{one_line(label, 60)} · {stored.split_of(file)}"
        return Picture(stored.thumbnail(file), one_line(file, LONGEST), text, stored.pixelated)

    chosen = sorted(copies, key=lambda row: not contradicts(row))[:MOST_COPIES]
    return [Copy(picture(row.copy_of), picture(row.file), row.copy, contradicts(row)) for row in chosen]
