"""Several images as one picture."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dataset.mosaic import LINE, SIDE, mosaic

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200), (200, 0, 200), (90, 90, 90)]


def read(png: bytes) -> Image.Image:
    picture = Image.open(BytesIO(png))
    assert picture.format == "PNG"
    return picture


@pytest.mark.parametrize("side", [8, 224])
def test_images_stand_row_by_row_in_their_order(side: int) -> None:
    images = np.stack([np.broadcast_to(np.uint8(colour)[:, None, None], (3, side, side)) for colour in COLOURS])
    picture = read(mosaic(images))
    step_x, step_y = SIDE + 4, SIDE + LINE + 4
    assert picture.size == (6 * step_x, 2 * step_y)
    middles = [(i % 6 * step_x + step_x // 2, i // 6 * step_y + LINE + SIDE // 2) for i in range(len(COLOURS))]
    assert [picture.getpixel(middle) for middle in middles] == COLOURS


def test_grey_images_of_any_shape_are_shown_as_they_are() -> None:
    images = np.full((2, 1, 16, 64), 77, dtype=np.uint8)
    picture = read(mosaic(images))
    assert picture.size == (2 * (SIDE + 4), SIDE // 4 + LINE + 4)
    assert picture.getpixel((SIDE // 2, LINE + 10)) == (77, 77, 77)


def test_each_image_has_its_number_above_it() -> None:
    picture = read(mosaic(np.full((3, 1, 32, 32), 255, dtype=np.uint8))).convert("L")
    strips = [np.asarray(picture)[:LINE, i * (SIDE + 4) : (i + 1) * (SIDE + 4)] for i in range(3)]
    assert all(strip.min() < 128 for strip in strips)
    assert len({strip.tobytes() for strip in strips}) == 3
