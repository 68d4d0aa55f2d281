"""The first pass over the images: what is known of each before anything of it is stored, in about half a
kilobyte per image."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dataset.decoders import Decoders, Unreadable
from dataset.duplicates import Thumbnails
from dataset.image_header import Header
from dataset.image_reader import describe_range, find_value_range, headers
from dataset.listing import Listing, Sample
from dataset.reading import count
from schema.dataset import SetAside
from schema.errors import DatasetError

Progress = Callable[[str, int, int], None]  # stage, done, of how many
NO_PIXELS = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Survey:
    """The images that can be read; all sequences are parallel to `samples`."""

    samples: list[Sample]
    digests: np.ndarray  # S64 [N], SHA-256 of the files
    contents: np.ndarray  # S64 [N], of the decoded pixels
    widths: np.ndarray  # int64 [N]
    heights: np.ndarray
    thumbnails: Thumbnails
    channels: int
    kinds: Counter[str]  # JPEG/RGB -> files
    value_range: tuple[float, float] | None  # source values that become 0 and 255
    set_aside: list[SetAside]
    warnings: list[str]


def survey(listing: Listing, decoders: Decoders, on_progress: Progress) -> Survey:
    """Read every file once.

    Raises DatasetError if none can be read.
    """
    count = len(listing.samples)
    digests, contents = np.zeros(count, "S64"), np.zeros(count, "S64")
    widths, heights = np.zeros(count, np.int64), np.zeros(count, np.int64)
    thumbnails = Thumbnails.empty(count)
    kinds: Counter[str] = Counter()
    samples: list[Sample] = []
    deep: list[tuple[int, Header]] = []
    several: list[str] = []
    aside = list(listing.set_aside)
    grey = True
    read = zip(listing.samples, headers(listing.samples, decoders), strict=True)
    for done, (sample, header) in enumerate(read, start=1):
        on_progress("reading images", done, count)
        if isinstance(header, Unreadable):
            aside.append(SetAside(file=sample.name, reason=header.reason))
            continue
        i = len(samples)
        samples.append(sample)
        digests[i], contents[i] = header.digest, header.content
        widths[i], heights[i] = header.width, header.height
        thumbnails.put(i, header.thumbnail)
        kinds[header.kind] += 1
        grey = grey and header.grey
        if header.low is not None:
            deep.append((i, replace(header, thumbnail=NO_PIXELS)))
        if header.frames > 1:
            several.append(f"{sample.name} has {header.frames}")
    if not samples:
        shown = "; ".join(f"{a.file} {a.reason}" for a in aside[:3])
        raise DatasetError(f"None of the images can be read: {shown}")
    value_range = find_value_range(header for _, header in deep)
    kept = slice(len(samples))
    return Survey(
        samples=samples,
        digests=digests[kept],
        contents=contents[kept],
        widths=widths[kept],
        heights=heights[kept],
        thumbnails=_to_eight_bits(
            thumbnails, np.array([i for i, _ in deep], dtype=np.int64), value_range, len(samples)
        ),
        channels=1 if grey else 3,
        kinds=kinds,
        value_range=value_range,
        set_aside=aside,
        warnings=[*listing.warnings, *_warnings(value_range, several)],
    )


def _to_eight_bits(
    thumbnails: Thumbnails, deep: np.ndarray, value_range: tuple[float, float] | None, count: int
) -> Thumbnails:
    """Bring those of deep images from source units to 0..255, so that one limit of nearness holds for all."""
    darkest, brightest = thumbnails.darkest[:count], thumbnails.brightest[:count]
    if value_range:
        low, high = value_range
        darkest[deep] = (darkest[deep] - low) * (255 / (high - low))
        brightest[deep] = (brightest[deep] - low) * (255 / (high - low))
    return Thumbnails(thumbnails.steps[:count], darkest, brightest)


def _warnings(value_range: tuple[float, float] | None, several: list[str]) -> list[str]:
    found = [describe_range(value_range)] if value_range else []
    if several:
        number = count(len(several), "file", "files")
        found.append(f"of files with several pictures the first one is used: {number}, e.g. {several[0]}")
    return found
