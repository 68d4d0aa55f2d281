"""The size at which the images of a data set are stored: one for all."""

import shutil
from pathlib import Path

import numpy as np
import psutil

from dataset.survey import Survey
from schema.errors import HomeError

USUAL = 256  # pixels of the longer side: 224-pixel crops with a margin
LEAST = 8  # pixels of the shorter side: smaller images break the arithmetic of most networks
SMALLEST_WHEN_SHORT_OF_DISK = 32
SHARE_OF_DISK = 1 / 4  # of what is free
EASY_SHARE_OF_DISK, EASY_SHARE_OF_MEMORY = 1 / 8, 1 / 4  # more than USUAL only within these
UNLIKE = 3  # times as wide, or as tall, as the median shape: stretching to one shape changes what is seen


def choose_size(
    survey: Survey, datasets_dir: Path, image_size: int | None, largest: int
) -> tuple[tuple[int, int, int], list[str]]:
    """Choose channels, height and width, with warnings about them.

    The shape is the median one. Its longer side is `image_size`, but no more than the largest image has; if that is None, that of the
    median image, at most `largest` if it fits easily and USUAL otherwise, and less if the disk is nearly full. The same longer
    side gives the same shape: arrays that are made again are asked for by it. Raises HomeError if `image_size` does not fit.
    """
    longer = np.maximum(survey.widths, survey.heights)
    aspect = float(np.exp(np.median(np.log(survey.widths / survey.heights))))

    def shape_of(side: int) -> tuple[int, int, int]:
        height, width = (side / aspect, side) if aspect >= 1 else (side, side * aspect)
        return survey.channels, max(LEAST, round(height)), max(LEAST, round(width))

    def bytes_at(side: int) -> int:
        return len(survey.samples) * int(np.prod(shape_of(side)))

    free = shutil.disk_usage(next(folder for folder in [datasets_dir, *datasets_dir.parents] if folder.exists())).free
    warnings = []
    if image_size:
        side = min(image_size, int(longer.max()))
        if bytes_at(side) > free:
            raise HomeError(
                f"{len(survey.samples)} images at --image-size {image_size} take {bytes_at(side) / 1e9:.1f}"
                f" GB, and {free / 1e9:.1f} GB are free beneath {datasets_dir}. Give a smaller size, make"
                " room, or set IMPROVE_HOME elsewhere."
            )
    else:
        side = int(min(largest, np.median(longer)))
        easy = min(free * EASY_SHARE_OF_DISK, psutil.virtual_memory().total * EASY_SHARE_OF_MEMORY)
        if side > USUAL and bytes_at(side) > easy:
            side = USUAL
        wished = side
        while bytes_at(side) > free * SHARE_OF_DISK and side > SMALLEST_WHEN_SHORT_OF_DISK:
            side = int(side * 0.8)
        if side < wished:
            warnings.append(f"stored at {side} pixels only, since a quarter of the free disk holds no more")
    shape = shape_of(side)
    return shape, warnings + _shape_warnings(survey, shape, aspect)


def _shape_warnings(survey: Survey, shape: tuple[int, int, int], aspect: float) -> list[str]:
    _, height, width = shape
    warnings = []
    if min(height, width) == LEAST and max(height / width * aspect, width / height / aspect) > 1.5:
        warnings.append(
            f"images are about {np.median(survey.widths):.0f} x {np.median(survey.heights):.0f} pixels, and"
            f" stored at {width} x {height}: the shorter side is enlarged, since networks need {LEAST} pixels"
        )
    ratio = survey.widths / survey.heights / aspect
    unlike = np.maximum(ratio, 1 / ratio)
    count = int((unlike > UNLIKE).sum())
    if count:
        worst = int(unlike.argmax())
        warnings.append(
            f"shapes differ much: {count} images are more than {UNLIKE} times as wide or as tall as the usual"
            f" shape, e.g. {survey.samples[worst].name} ({survey.widths[worst]} x {survey.heights[worst]});"
            f" all are stretched to {width} x {height}"
        )
    return warnings
