"""Images that belong together: the groups that the user gave, and series of file names that look as if they
were some."""

import re
from collections.abc import Sequence

import numpy as np

from dataset.duplicates import Thumbnails, join
from dataset.listing import Sample

# How a series may be named, tried in this order: the first group is what its images have in common.
PATTERNS = (
    *(r"^(.*)_\d+$", r"^(.*)-\d+$", r"^(.*)\.\d+$", r"^(.*) \(?\d+\)?$", r"^(.*[A-Za-z])\d+$"),
    *(r"^(.*)_[^_/]+$", r"^(.*)-[^-/]+$", r"^(.*/.*)/[^/]+$"),
)
SMALLEST_SERIES = 3  # images
COVERED = 0.8  # of the images must lie in series
ALIKE = 0.75  # mean distance within series, of that between series of a class; random series have 1
COMPARED = 2000  # images, at most, that are each compared with one of their series and one of another
FEWEST_COMPARED = 24
SURE = 4.0  # standard errors that the difference must have


def number_groups(samples: Sequence[Sample]) -> np.ndarray:
    """int64 [N]: equal for images of one group of the user, -1 for images that have none."""
    numbers: dict[str, int] = {}
    found = [-1 if s.group is None else numbers.setdefault(s.group, len(numbers)) for s in samples]
    return np.array(found, dtype=np.int64)


def join_groups(leaders: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Join groups of duplicates, given by the index of their first image, with the user's, given by
    number."""
    grouped = np.nonzero(numbers >= 0)[0]
    _, first, inverse = np.unique(numbers[grouped], return_index=True, return_inverse=True)
    return join(leaders, grouped, grouped[first[inverse]])


def suggest_groups(paths: Sequence[str], labels: np.ndarray, leaders: np.ndarray, thumbnails: Thumbnails) -> str | None:
    """Say which option would keep series of images together, if file names form series whose images look
    alike.

    Args:
        paths: Of the images relative to the root, without suffix.
        labels: int64 [N]. Series are compared within a class: images of one class look alike anyway.
        leaders: Equal for duplicates, which are kept together anyway and prove nothing.
    """
    for pattern in PATTERNS:
        series, names = _series(pattern, paths)
        if _looks_grouped(series, labels, leaders, thumbnails):
            sizes = np.bincount(series[series >= 0])
            largest = int(sizes.argmax())
            return (
                f"file names form {int((sizes >= SMALLEST_SERIES).sum())} series (e.g. {names[largest]}...,"
                f" {sizes[largest]} images) whose images look alike: if they are frames of one video or"
                " photos of one subject, scores will be too high unless you keep them together with"
                f" --group-pattern '{pattern}'"
            )
    return None


def _series(pattern: str, paths: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """int64 [N]: the series of each image, -1 if its name does not fit; and the names of the series."""
    find = re.compile(pattern).search
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(match[1], len(numbers)) if (match := find(path)) else -1 for path in paths]
    return np.array(found, dtype=np.int64), list(numbers)


def _looks_grouped(series: np.ndarray, labels: np.ndarray, leaders: np.ndarray, thumbnails: Thumbnails) -> bool:
    if not (series >= 0).any():
        return False
    sizes = np.bincount(series[series >= 0])
    usable = (series >= 0) & (sizes[series] >= SMALLEST_SERIES)
    if usable.mean() < COVERED:
        return False
    usable &= _classes_of_several(series, labels, usable)[labels]
    if usable.mean() < COVERED / 2:  # elsewhere a series is its class
        return False
    within, between = _distances(np.nonzero(usable)[0], series, labels, leaders, thumbnails)
    if len(within) < FEWEST_COMPARED or within.mean() >= ALIKE * between.mean():
        return False
    gaps = between - within
    return bool(gaps.mean() > SURE * gaps.std() / np.sqrt(len(gaps)))


def _classes_of_several(series: np.ndarray, labels: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """bool [classes]: the class has more than one series."""
    pairs = np.unique(labels[usable] * (int(series.max()) + 1) + series[usable])
    return np.bincount(pairs // (int(series.max()) + 1), minlength=int(labels.max()) + 1) > 1


def _distances(
    usable: np.ndarray, series: np.ndarray, labels: np.ndarray, leaders: np.ndarray, thumbnails: Thumbnails
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of some images to another one of their series, and to one of another series of their
    class."""
    random = np.random.default_rng(0)
    order = usable[np.lexsort((series[usable], labels[usable]))]  # so classes and, in them, series lie together
    places = np.sort(random.permutation(len(order))[:COMPARED])
    in_series = _other_place(random, labels[order] * (int(series.max()) + 1) + series[order], places)
    in_class = _other_place(random, labels[order], places)
    a, b, c = order[places], order[in_series], order[in_class]
    sound = (leaders[a] != leaders[b]) & (leaders[a] != leaders[c]) & (series[a] != series[c])
    cells = thumbnails.cells(a[sound])
    within = np.abs(cells - thumbnails.cells(b[sound])).mean(1)
    return within, np.abs(cells - thumbnails.cells(c[sound])).mean(1)


def _other_place(random: np.random.Generator, keys: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A random place with the key of each of `places`.

    Equal keys lie together.
    """
    first = np.searchsorted(keys, keys[places], side="left")
    after = np.searchsorted(keys, keys[places], side="right")
    return np.asarray(first + random.integers(0, after - first))
