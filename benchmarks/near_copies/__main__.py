"""Which share of changed copies is found among real images, and which pairs of the images themselves are taken for copies.

    python -m benchmarks.near_copies FOLDER... [--images 1000]

The images of each folder are taken as they are, and each is changed in one way after the other; the originals and the changed copies go
through `find_duplicates` together.
"""

import argparse
import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from dataset.duplicates import SIDE, Thumbnails, find_duplicates
from dataset.image_header import array_header
from dataset.inventory import images_below, take_inventory


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 50": _jpeg,
    "half the size": lambda i: i.resize((max(SIDE, i.width // 2), max(SIDE, i.height // 2)), Image.Resampling.BICUBIC),
    "5 grey values brighter": lambda i: i.point(lambda value: min(255, value + 5)),
    "brightness x 1.05": lambda i: ImageEnhance.Brightness(i).enhance(1.05),
    "contrast x 1.1": lambda i: ImageEnhance.Contrast(i).enhance(1.1),
    "gamma 0.9": lambda i: i.point(lambda value: round(255 * (value / 255) ** 0.9)),
    "2 % cut off two sides": lambda i: i.crop((round(i.width * 0.02), round(i.height * 0.02), i.width, i.height)),
}


def _groups(images: list[np.ndarray]) -> np.ndarray:
    thumbnails, contents, large = Thumbnails.empty(len(images)), [], []
    for i, header in enumerate(map(array_header, images)):
        thumbnails.put(i, header.thumbnail)
        contents.append(header.content)
        large.append(min(header.width, header.height) >= SIDE)
    return find_duplicates(np.array(contents, dtype="S64"), thumbnails, np.array(large))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=1000, help="of each folder, drawn at random")
    options = parser.parse_args()
    for folder in options.folders:
        paths = [folder / name for name in images_below(take_inventory(folder))]
        random.Random(0).shuffle(paths)
        images = [Image.open(path).convert("RGB") for path in paths[: options.images]]
        originals = [np.asarray(image) for image in images]
        leaders = _groups(originals)
        print(f"{folder.name}: {len(images)} images, {np.sum(leaders != np.arange(len(leaders)))} taken for copies")
        for name, change in CHANGES.items():
            both = _groups([*originals, *(np.asarray(change(image).convert("RGB")) for image in images)])
            print(f"  {name:<24} {np.mean(both[: len(images)] == both[len(images) :]):6.1%} found")


if __name__ == "__main__":
    main()
