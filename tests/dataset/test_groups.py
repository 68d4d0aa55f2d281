"""Groups of images that the user gave, and series of file names that look as if they were some."""

import re

import numpy as np
import pytest

from dataset.duplicates import Thumbnails
from dataset.groups import PATTERNS, join_groups, number_groups, suggest_groups
from dataset.listing import Sample


def pictures(looks: list[int], spread: float, seed: int = 0) -> Thumbnails:
    """Thumbnails that differ by `spread` from the look that they are given."""
    random = np.random.default_rng(seed)
    shown = random.uniform(0, 255, (max(looks) + 1, 256))
    thumbnails = Thumbnails.empty(len(looks))
    for i, look in enumerate(looks):
        thumbnails.put(i, (shown[look] + random.normal(0, spread, 256)).clip(0, 255).astype(np.float32))
    return thumbnails


def suggested(paths: list[str], looks: list[int], spread: float = 20) -> str | None:
    """Labels are the first letters of the paths."""
    labels = np.unique([path[0] for path in paths], return_inverse=True)[1]
    return suggest_groups(paths, labels, np.arange(len(paths)), pictures(looks, spread))


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("{label}/clip{series:02}_{i:04}", r"^(.*)_\d+$"),
        ("{label}/patient{series}-{i}", r"^(.*)-\d+$"),
        ("{label}/patient{series}-slice{i}", r"^(.*[A-Za-z])\d+$"),
        ("{label}/walk {series} ({i})", r"^(.*) \(?\d+\)?$"),
        ("{label}/session{series}/x{i}y", r"^(.*/.*)/[^/]+$"),
    ],
)
def test_series_whose_images_look_alike_are_told_with_the_option_to_type(form: str, pattern: str) -> None:
    keys = [(label, series, i) for label in "ab" for series in range(6) for i in range(10)]
    paths = [form.format(label=label, series=series, i=i) for label, series, i in keys]
    told = suggested(paths, ["ab".index(label) * 6 + series for label, series, _ in keys])
    assert told
    assert f"--group-pattern '{pattern}'" in told
    assert "12 series" in told
    assert len({m[1] for path in paths if (m := re.search(pattern, path))}) == 12


def test_series_of_random_pictures_are_no_groups() -> None:
    paths = [f"{label}/clip{series}_{i}" for label in "ab" for series in range(6) for i in range(10)]
    assert suggested(paths, list(range(120))) is None


def test_a_series_that_is_the_whole_class_is_no_group() -> None:
    paths = [f"{label}at.{i}" for label in "ab" for i in range(40)]
    assert suggested(paths, [0] * 40 + [1] * 40) is None


def test_copies_prove_nothing() -> None:
    paths = [f"{label}/clip{series}_{i}" for label in "ab" for series in range(6) for i in range(10)]
    looks = [i // 10 for i in range(120)]
    leaders = np.array([10 * look for look in looks])
    labels = np.repeat([0, 1], 60)
    assert suggest_groups(paths, labels, leaders, pictures(looks, 1)) is None


def test_names_of_no_form_are_no_series() -> None:
    random = np.random.default_rng(0)
    paths = [f"a/{random.bytes(8).hex()}" for _ in range(60)]
    assert suggested(paths, [i // 10 for i in range(60)]) is None


def test_all_patterns_have_one_group() -> None:
    assert all(re.compile(pattern).groups == 1 for pattern in PATTERNS)


def test_groups_of_the_user_join_with_copies() -> None:
    """Image 3 is a copy of image 0, which is of patient A: all images of A and B stay together."""
    groups = ["A", "A", "B", "B", None, "C"]
    numbers = number_groups([Sample(str(i), "x", None, group=group) for i, group in enumerate(groups)])
    assert numbers.tolist() == [0, 0, 1, 1, -1, 2]
    leaders = np.array([0, 1, 2, 0, 4, 5])
    assert join_groups(leaders, numbers).tolist() == [0, 0, 0, 0, 4, 5]


def test_without_groups_only_copies_are_joined() -> None:
    leaders = np.array([0, 1, 0])
    assert join_groups(leaders, np.array([-1, -1, -1])).tolist() == [0, 1, 0]
