"""Every image is opened once for what is known of it and once for its pixels; what cannot be read is set
aside with a reason."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from dataset.decode import fitted_pixels, shared_range
from dataset.decoders import Decoders, Shape, Unreadable, reason_of
from dataset.image_header import Header, array_header, array_pixels
from dataset.listing import Sample

T = TypeVar("T")


def headers(samples: Sequence[Sample], decoders: Decoders) -> Iterator[Header | Unreadable]:
    """Read every sample to its end and say what it is, in order."""
    if _are_arrays(samples):
        return (_of_array(sample, array_header) for sample in samples)
    return decoders.headers(_files(samples))


def pixels(samples: Sequence[Sample], shape: Shape, decoders: Decoders) -> Iterator[np.ndarray | Unreadable]:
    """uint8 [channels, height, width] of each sample, in order."""
    if _are_arrays(samples):
        return (_of_array(sample, lambda array: _fitted(array, shape)) for sample in samples)
    return decoders.pixels(_files(samples), shape)


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


def _are_arrays(samples: Sequence[Sample]) -> bool:
    """A source holds files or arrays, never both. Arrays are numbers already: nothing of them is decoded."""
    return bool(samples) and samples[0].pixels is not None


def _files(samples: Sequence[Sample]) -> Iterator[Path | BinaryIO]:
    for sample in samples:
        if sample.path is None:
            raise ValueError(f"{sample.name} has neither file nor pixels")
        yield sample.path


def _of_array(sample: Sample, function: Callable[[np.ndarray], T]) -> T | Unreadable:
    try:
        return function(np.asarray(sample.pixels))
    except Exception as error:
        return Unreadable(reason_of(error))


def _fitted(array: np.ndarray, shape: Shape) -> np.ndarray:
    values = array_pixels(array, shape.value_range)
    return fitted_pixels(values, shape.channels, shape.height, shape.width, shape.value_range)
