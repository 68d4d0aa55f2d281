"""What one pass over an image tells: its size, kind and colour, its values, a thumbnail, and two digests."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

from dataset.decode import (
    SIDEWAYS,
    exif_orientation,
    opened_image,
    scaled_pixels,
    shared_range,
    upright_pixels,
    value_extent,
)

SIDE = 16  # of a thumbnail
MOST_FRAMES, MOST_PAGES = 10**6, 1000  # that are counted
GREY_TOLERANCE = 4  # colour channels of a grey picture differ by JPEG's rounding


@dataclass(frozen=True, slots=True)
class Header:
    """What one pass over a file tells.

    Of a JPEG the decode is reduced to about 64 pixels.
    """

    width: int  # upright
    height: int
    kind: str  # JPEG/RGB
    grey: bool  # in content, as far as a thumbnail shows
    digest: str  # SHA-256 of the file
    frames: int  # pages or frames; the first is the one that is used
    low: float | None  # 0.5 percentile of the values of an image of more than 8 bits, as that image has them
    high: float | None  # 99.5 percentile
    top: float | None  # the largest value
    thumbnail: np.ndarray  # float32 [256]: means of 16 x 16 blocks of the grey image, in source units
    content: str  # SHA-256 of the decoded pixels, equal for the same picture in two lossless files


def file_header(file: BinaryIO, digest: str = "") -> Header:
    """Measure an image in an open file. Raises as `decode`."""
    with opened_image(file) as image:
        kind, frames, stored = f"{image.format}/{image.mode}", _frames(image), image.size
        image.draft(None, (64, 64))
        reduced = image.size != stored
        values = upright_pixels(image)
        height, width = values.shape[:2]
        if reduced:
            width, height = stored[::-1] if exif_orientation(image) in SIDEWAYS else stored
    return _measured(values, (width, height), kind, digest, frames)


def array_header(array: np.ndarray) -> Header:
    """Measure an image that is given as pixels. Raises ValueError, with what the array is or has."""
    values = array_pixels(array)
    height, width = values.shape[:2]
    kind = f"array/{'L' if values.ndim == 2 else 'RGB'}"
    return _measured(values, (width, height), kind, hashlib.sha256(array.tobytes()).hexdigest(), 1)


def _measured(values: np.ndarray, size: tuple[int, int], kind: str, digest: str, frames: int) -> Header:
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    low, high, top = (None, None, None) if values.dtype == np.uint8 else value_extent(values)
    content = hashlib.sha256(f"{size} {values.shape} {values.dtype}".encode())
    content.update(np.ascontiguousarray(values).data)
    finite = values if low is None else np.clip(np.nan_to_num(values, nan=low), low, high)
    means = _block_means(finite)
    return Header(
        width=size[0],
        height=size[1],
        kind=kind,
        grey=values.ndim == 2 or _is_grey(means, 1.0 if low is None or high is None else (high - low) / 255),
        digest=digest,
        frames=frames,
        low=low,
        high=high,
        top=top,
        thumbnail=means.mean(2).reshape(-1),
        content=content.hexdigest(),
    )


def _block_means(values: np.ndarray) -> np.ndarray:
    """float32 [16, 16, channels]; of a side with fewer than 16 pixels some stand in several blocks."""
    values = values if values.ndim == 3 else values[..., None]
    kind = np.float64 if values.dtype != np.uint8 else np.int64
    edges = [np.linspace(0, side, SIDE + 1).astype(int) for side in values.shape[:2]]
    sums = np.add.reduceat(values, edges[0][:-1], axis=0, dtype=kind)
    sums = np.add.reduceat(sums, edges[1][:-1], axis=1, dtype=kind)
    rows, columns = (np.maximum(1, np.diff(edge)) for edge in edges)
    return np.asarray(sums / (rows[:, None, None] * columns[None, :, None]), dtype=np.float32)


def _is_grey(means: np.ndarray, unit: float) -> bool:
    return float((means.max(2) - means.min(2)).max()) <= GREY_TOLERANCE * unit


def _frames(image: Image.Image) -> int:
    if image.format == "PSD":  # its layers; what is decoded is all of them together
        return 1
    try:
        if image.format == "TIFF":  # Pillow goes through all of them to count them, and there may be no end
            return _pages(image)
        return min(MOST_FRAMES, max(1, int(getattr(image, "n_frames", 1))))
    except Exception:  # a later one is damaged
        image.seek(0)
        return 1


def _pages(image: Image.Image) -> int:
    found = 1
    with suppress(EOFError):
        while found < MOST_PAGES:
            image.seek(found)
            found += 1
    image.seek(0)
    return found


def array_pixels(array: np.ndarray, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """uint8 or float32, [H, W] or [H, W, 3]; what is transparent is laid over white, the high end of the
    range."""
    if array.ndim not in {2, 3} or not array.size:
        raise ValueError(f"is an array of shape {array.shape}; expected [height, width] or [height, width, channels]")
    if array.dtype.kind not in "buif":
        raise ValueError(f"holds values of type {array.dtype}; expected whole numbers or floats")
    values = array[..., None] if array.ndim == 2 else array
    if values.shape[2] > 4:
        raise ValueError(f"has {values.shape[2]} channels; expected 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA)")
    if array.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8:
        with np.errstate(over="ignore"):  # becomes infinite, which is no value
            values = values.astype(np.float32)
    if values.shape[2] in {1, 3}:
        return values[..., 0] if values.shape[2] == 1 else values
    if values.dtype == np.uint8:
        return upright_pixels(Image.fromarray(values))
    low, high = value_range or shared_range([value_extent(values[..., :-1])]) or (0.0, 255.0)
    flat = upright_pixels(Image.fromarray(scaled_pixels(values, (low, high)))).astype(np.float32)
    return np.asarray(low + flat * np.float32((high - low) / 255))
