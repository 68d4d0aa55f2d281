"""Which images are the same picture."""

import io

import numpy as np
import pytest
from PIL import Image

from dataset import duplicates
from dataset.duplicates import SIDE, Thumbnails, find_duplicates, join
from dataset.image_header import Header
from dataset.image_reader import headers
from dataset.listing import Sample
from tests.dataset.decoding import shared_decoders


def picture(seed: int, side: int = 64) -> np.ndarray:
    """Smooth, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def found(pictures: list[np.ndarray]) -> tuple[list[int], list[bool]]:
    samples = [Sample(str(i), "a", None, None, pixels) for i, pixels in enumerate(pictures)]
    thumbnails, contents, large = Thumbnails.empty(len(samples)), [], []
    for i, header in enumerate(headers(samples, shared_decoders())):
        assert isinstance(header, Header)
        thumbnails.put(i, header.thumbnail)
        contents.append(header.content)
        large.append(min(header.width, header.height) >= SIDE)
    leaders, exact = find_duplicates(np.array(contents, dtype="S64"), thumbnails, np.array(large))
    return leaders.tolist(), exact.tolist()


def test_equal_pixels_are_exact_copies_of_the_first() -> None:
    assert found([picture(0), picture(1), picture(0), picture(0)]) == ([0, 1, 0, 0], [False, False, True, True])


@pytest.mark.parametrize(
    "changed",
    [
        as_jpeg(picture(1), 60),
        (picture(1).astype(int) + 1).clip(0, 255).astype(np.uint8),
        (picture(1) * 0.9).astype(np.uint8),
        (255 * (picture(1) / 255) ** 0.9).astype(np.uint8),
        np.asarray(Image.fromarray(picture(1)).resize((128, 128), Image.Resampling.BICUBIC)),
    ],
    ids=["stored anew", "brighter", "darker", "of another gamma", "enlarged"],
)
def test_a_changed_copy_is_near(changed: np.ndarray) -> None:
    assert found([picture(0), picture(1), changed]) == ([0, 1, 1], [False, False, False])


def test_a_faint_picture_that_is_a_little_brighter_is_near() -> None:
    faint = (picture(1) // 8 + 100).astype(np.uint8)
    assert found([picture(0), faint, faint + 1, faint + 2])[0] == [0, 1, 1, 1]


def test_flat_pictures_are_told_apart_by_their_pixels() -> None:
    assert found([np.full((64, 64), grey, np.uint8) for grey in (10, 11, 10)])[0] == [0, 1, 0]


def test_copies_of_copies_are_one_group() -> None:
    chain = [(picture(1) * 0.8 + i).astype(np.uint8) for i in range(6)]
    assert found([picture(0), *chain])[0] == [0, 1, 1, 1, 1, 1, 1]


def test_a_small_thing_that_turned_is_another_picture() -> None:
    """Few of its pixels change, but those from black to white."""
    bar, turned = np.zeros((2, 64, 64), np.uint8)
    bar[30:34, 20:44] = 255
    turned[20:44, 30:34] = 255
    moved = np.roll(bar, 3, axis=0)
    assert found([bar, turned, moved])[0] == [0, 1, 2]


def test_faint_drawings_are_not_all_alike() -> None:
    random = np.random.default_rng(0)
    drawings = [255 - (random.random((64, 64)) < 0.01).astype(np.uint8) * 60 for _ in range(20)]
    assert found(drawings)[0] == list(range(20))


def test_images_below_sixteen_pixels_are_compared_exactly_only() -> None:
    small = picture(0, 8)
    assert found([small, small + 1])[0] == [0, 1]


def test_copies_are_found_among_many_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a number of images the candidates share two bands instead of one."""
    monkeypatch.setattr(duplicates, "FEW", 10)
    pictures = [picture(i) for i in range(40)]
    assert found(pictures + [as_jpeg(one, 75) for one in pictures])[0] == list(range(40)) * 2


def test_joining_leads_to_the_first_of_all_that_hang_together() -> None:
    alone = np.arange(8)
    joined = join(alone, np.array([7, 5, 3, 1]), np.array([5, 3, 1, 6]))
    assert joined.tolist() == [0, 1, 2, 1, 4, 1, 1, 1]


def test_a_thumbnail_keeps_its_cells_to_a_step_of_its_range() -> None:
    cells = np.random.default_rng(0).uniform(1000, 60_000, 256).astype(np.float32)
    thumbnails = Thumbnails.empty(1)
    thumbnails.put(0, cells)
    assert np.abs(thumbnails.cells(np.array([0]))[0] - cells).max() <= 59_000 / 255 / 2 + 1
