"""Several images as one picture, numbered: what a language model that sees is shown of a pipeline's mistakes."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLUMNS = 6
SIDE = 128  # pixels of an image's longer side
LINE = 14  # pixels above each image, for its number


def mosaic(images: NDArray[np.uint8]) -> bytes:
    """Return a PNG of the images [N >= 1, 1 or 3 channels, height, width], row by row, each under its number from 1 on.

    Each is made as large as a tile; small ones keep their pixels.
    """
    tiles = [_tile(image) for image in images]
    width, height = tiles[0].width + 4, tiles[0].height + LINE + 4
    columns = min(COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        left, top = number % columns * width + 2, number // columns * height + 2
        pen.text((left, top), str(number + 1), fill="black")
        sheet.paste(tile, (left, top + LINE))
    written = BytesIO()
    sheet.save(written, "PNG", optimize=True)
    return written.getvalue()


def _tile(image: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
