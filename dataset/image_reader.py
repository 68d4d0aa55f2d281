"""Every image is opened once for its size and once for its pixels; what cannot be read is set aside with a reason."""

import hashlib
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from dataset.decode import LARGEST_PIXELS, decode, flattened
from dataset.listing import Sample

T = TypeVar("T")
POOL_FROM = 1500  # images; for fewer, starting processes costs more than it saves
CHUNK = 256


@dataclass(frozen=True, slots=True)
class Header:
    width: int
    height: int
    kind: str  # JPEG/RGB
    grey: bool  # in content, as far as a thumbnail shows
    digest: str  # SHA-256 of the file


@dataclass(frozen=True, slots=True)
class Unreadable:
    reason: str


def headers(samples: Sequence[Sample]) -> Iterator[Header | Unreadable]:
    return _mapped(_header, samples)


def pixels(samples: Sequence[Sample], channels: int, height: int, width: int) -> Iterator[np.ndarray | Unreadable]:
    """uint8 [channels, height, width] of each sample, in order."""
    return _mapped(_Decoder(channels, height, width), samples)


def _mapped(function: Callable[[Sample], T], samples: Sequence[Sample]) -> Iterator[T]:
    if len(samples) < POOL_FROM or samples[0].path is None:
        yield from map(function, samples)
        return
    with ProcessPoolExecutor(mp_context=get_context("forkserver"), initializer=_end_on_interrupt) as pool:
        with _interrupts_held():
            found = pool.map(function, samples, chunksize=CHUNK)
        yield from found


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started inside gets no Ctrl-C before it is ready for one. It reaches every process of a terminal."""
    resource_tracker.ensure_running()  # it would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_on_interrupt() -> None:
    """A worker ends at once and without a word; the parent finds its pool broken."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@dataclass(frozen=True, slots=True)
class _Decoder:
    channels: int
    height: int
    width: int

    def __call__(self, sample: Sample) -> np.ndarray | Unreadable:
        if sample.pixels is not None:
            return _from_pixels(sample.pixels, self.channels, self.height, self.width)
        try:
            return decode(_path(sample), self.channels, self.height, self.width)
        except Exception as error:
            return Unreadable(_reason(error))


def _from_pixels(array: np.ndarray, channels: int, height: int, width: int) -> np.ndarray:
    image = flattened(Image.fromarray(array.squeeze())).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    out = np.asarray(image)
    return out[None] if channels == 1 else np.ascontiguousarray(out.transpose(2, 0, 1))


def _path(sample: Sample) -> Path:
    if sample.path is None:
        raise ValueError("has neither file nor pixels")
    return sample.path


def _header(sample: Sample) -> Header | Unreadable:
    if sample.pixels is not None:
        array = np.ascontiguousarray(sample.pixels)
        grey = array.ndim == 2 or array.shape[-1] == 1 or bool((array == array[..., :1]).all())
        return Header(
            array.shape[1],
            array.shape[0],
            f"array/{'L' if grey else 'RGB'}",
            grey,
            hashlib.sha256(array.tobytes()).hexdigest(),
        )
    try:
        path = _path(sample)
        raw = path.read_bytes()
        if not raw:
            return Unreadable("is empty (zero bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    return Unreadable(
                        f"has {image.width} x {image.height} pixels: a decompression bomb, or too large to decode"
                    )
                width, height = image.size
                if image.getexif().get(0x0112, 1) in {5, 6, 7, 8}:
                    width, height = height, width
                kind = f"{image.format}/{image.mode}"
                image.draft(None, (64, 64))
                grey = image.mode in {"1", "L", "LA", "I", "F", "I;16"} or _is_grey(flattened(image))
        return Header(width, height, kind, grey, hashlib.sha256(raw).hexdigest())
    except Exception as error:
        return Unreadable(_reason(error))


def _is_grey(image: Image.Image) -> bool:
    """Colour channels that differ by no more than JPEG's rounding."""
    if image.mode == "L":
        return True
    small = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX)).astype(np.int16)
    return int((small.max(2) - small.min(2)).max()) <= 4


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is not an image that can be read"
    if isinstance(error, FileNotFoundError):
        return "does not exist (a broken link?)"
    text = str(error).split("\n")[0].replace("image file is truncated", "is truncated")
    return f"cannot be decoded: {text[:120]}" if "truncated" not in text else text[:120]
