"""Every image is opened once for what is known of it and once for its pixels; what cannot be read is set
aside with a reason."""

import hashlib
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from multiprocessing import active_children, get_context, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from dataset.decode import (
    SIDEWAYS,
    decode,
    exif_orientation,
    fitted_pixels,
    open_regular,
    opened_image,
    scaled_pixels,
    shared_range,
    upright_pixels,
    value_extent,
)
from dataset.listing import Sample

T = TypeVar("T")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
POOL_FROM = 1500  # images; for fewer, starting processes costs more than it saves
CHUNK = 256  # images that a process is given at a time, at most
CHUNK_BYTES = 16 * 2**20  # of results; with two chunks to a process under way this bounds the memory
HEADER_BYTES = 2048
SIDE = 16  # of a thumbnail
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


@dataclass(frozen=True, slots=True)
class Unreadable:
    reason: str


def headers(samples: Sequence[Sample]) -> Iterator[Header | Unreadable]:
    """Read every sample to its end and say what it is, in order."""
    return _mapped(_header, samples, HEADER_BYTES)


def pixels(
    samples: Sequence[Sample],
    channels: int,
    height: int,
    width: int,
    value_range: tuple[float, float] | None = None,
) -> Iterator[np.ndarray | Unreadable]:
    """uint8 [channels, height, width] of each sample, in order; `value_range` as `find_value_range` gives
    it."""
    return _mapped(_Decoder(channels, height, width, value_range), samples, channels * height * width)


def find_value_range(headers: Iterable[Header]) -> tuple[float, float] | None:
    """Find the source values that become 0 and 255 for all images of a set; None if none has more than 8
    bits."""
    return shared_range(
        (header.low, header.high, header.top)
        for header in headers
        if header.low is not None and header.high is not None and header.top is not None
    )


def describe_range(value_range: tuple[float, float]) -> str:
    """Say what was done to the values of images of more than 8 bits."""
    low, high = value_range
    return f"images of more than 8 bits: values {low:.6g} to {high:.6g} became 0 to 255"


class _DecoderCrashed(Exception):
    """A worker process is gone, and not because of an interrupt."""


def _mapped(function: Callable[[Sample], T], samples: Sequence[Sample], result_bytes: int) -> Iterator[T | Unreadable]:
    if len(samples) < POOL_FROM or samples[0].path is None:
        yield from map(function, samples)
        return
    chunk = max(1, min(CHUNK, CHUNK_BYTES // result_bytes))
    done = careful_until = 0
    while done < len(samples):
        careful = done < careful_until
        try:
            some = samples[done : careful_until if careful else None]
            for found in _in_processes(function, some, 1 if careful else None, 1 if careful else chunk):
                done += 1
                yield found
        except _DecoderCrashed:
            if careful:
                yield Unreadable("cannot be decoded: its decoder crashed, or needed more memory than there is")
                done += 1
            else:
                careful_until = done + CHUNK


def _in_processes(
    function: Callable[[Sample], T], samples: Sequence[Sample], processes: int | None, chunk: int
) -> Iterator[T]:
    """Yield the results in order.

    With one process and chunks of one, the first image without a result is the one that crashed a decoder.
    Raises _DecoderCrashed, or BrokenProcessPool if the workers were interrupted.
    """
    workers: set[BaseProcess] = set()
    number = processes or CORES
    chunks = (samples[start : start + chunk] for start in range(0, len(samples), chunk))
    waiting: deque[Future[list[T]]] = deque()

    def submit(most: int) -> None:
        with _interrupts_held():
            waiting.extend(pool.submit(_each, function, some) for some in islice(chunks, most))
            workers.update(active_children())

    try:
        with ProcessPoolExecutor(number, get_context("forkserver"), _end_on_interrupt) as pool:
            submit(2 * number)
            try:
                while waiting:
                    results = waiting.popleft().result()
                    submit(1)
                    yield from results
            finally:
                for left in waiting:
                    left.cancel()
    except BrokenProcessPool:
        if any(worker.exitcode == -signal.SIGINT for worker in workers):
            raise
        raise _DecoderCrashed from None


def _each(function: Callable[[Sample], T], samples: Sequence[Sample]) -> list[T]:
    return [function(sample) for sample in samples]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """What is started inside gets no Ctrl-C before it is ready for one.

    It reaches every process of a terminal.
    """
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
    value_range: tuple[float, float] | None

    def __call__(self, sample: Sample) -> np.ndarray | Unreadable:
        try:
            if sample.pixels is None:
                return decode(_path(sample), self.channels, self.height, self.width, self.value_range)
            values = _array_pixels(sample.pixels, self.value_range)
            return fitted_pixels(values, self.channels, self.height, self.width, self.value_range)
        except Exception as error:
            return Unreadable(_reason(error))


def _header(sample: Sample) -> Header | Unreadable:
    try:
        if sample.pixels is not None:
            return _array_header(sample.pixels)
        with open_regular(_path(sample)) as file:
            return _file_header(file)
    except Exception as error:
        return Unreadable(_reason(error))


def _path(sample: Sample) -> Path:
    if sample.path is None:
        raise ValueError("has neither file nor pixels")
    return sample.path


def _file_header(file: BufferedReader) -> Header:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    with opened_image(file) as image:
        kind, frames, stored = f"{image.format}/{image.mode}", _frames(image), image.size
        image.draft(None, (64, 64))
        reduced = image.size != stored
        values = upright_pixels(image)
        height, width = values.shape[:2]
        if reduced:
            width, height = stored[::-1] if exif_orientation(image) in SIDEWAYS else stored
    return _measured(values, (width, height), kind, digest, frames)


def _array_header(array: np.ndarray) -> Header:
    values = _array_pixels(array)
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
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a later one is damaged
        image.seek(0)
        return 1


def _array_pixels(array: np.ndarray, value_range: tuple[float, float] | None = None) -> np.ndarray:
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


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist (a broken link?)"
    if isinstance(error, OSError):
        return f"cannot be opened: {error.strerror or error}"
    return str(error).split("\n")[0]
