"""A run's winner as an object: images in, classes and probabilities out. Its generated code runs confined, as with `improve predict`."""

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from checkpoints.store import open_store
from dataset.decoders import Decoders, Unreadable
from improve.predict import Winner, probabilities, shape_of, winner_of
from nodes.decoding import decoders_in
from schema.errors import InputError
from schema.text import one_line

EXPECTED = "Expected a path, a PIL image, or an array uint8 [H, W] or [H, W, 3]."
# Modes that a file keeps as they are. All others have eight bits a channel, and become RGB.
AS_PNG, AS_TIFF = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}, {"I", "I;16B", "F"}


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What the model says of N images. Row i of `probabilities` [N, C] is image i, column j is `classes[j]`."""

    classes: tuple[str, ...]
    labels: tuple[str, ...]  # the most probable class of each image
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Model:
    """A trained classifier. `predict` may be called as often as you like; each call runs a job of its own."""

    run: str
    classes: tuple[str, ...]
    winner: Winner

    def predict(self, images: Iterable[Any]) -> Predictions:
        """Predict paths, PIL images and arrays uint8 [H, W] or [H, W, C], also mixed; they are decoded in batches.

        Raises InputError, which names the first image that cannot be used by its index.
        """
        if isinstance(images, str | Path | Image.Image):
            raise InputError(f"predict takes a list of images, not one alone: predict([image]). {EXPECTED}")
        with (
            decoders_in(self.winner.device.tier) as decoders,
            closing(probabilities(self.winner, self._decoded(images, decoders))) as found,
        ):
            rows = [row for row in found if isinstance(row, np.ndarray)]
        table = np.stack(rows) if rows else np.zeros((0, len(self.classes)))
        labels = tuple(self.classes[best] for best in table.argmax(axis=1)) if rows else ()
        return Predictions(self.classes, labels, table)

    def _decoded(self, images: Iterable[Any], decoders: Decoders) -> Iterator[np.ndarray | str]:
        waiting: deque[str] = deque()  # how an image that is being decoded is shown
        unusable: list[InputError] = []  # told after those before it

        def files() -> Iterator[Path | BinaryIO]:
            for index, image in enumerate(images):
                waiting.append(f" ({one_line(str(image), 200)})" if isinstance(image, str | Path) else "")
                try:
                    file = _as_file(image, index)
                except InputError as error:
                    unusable.append(error)
                    return
                yield file

        for index, pixels in enumerate(decoders.pixels(files(), shape_of(self.winner.profile))):
            shown = waiting.popleft()
            if isinstance(pixels, Unreadable):
                raise InputError(f"Image {index}{shown}: {pixels.reason}. {EXPECTED}")
            yield pixels
        if unusable:
            raise unusable[0]


def open_model(run: str, sandbox: str | None = None) -> Model:
    """Raises InputError where the run has no trained pipeline yet."""
    winner = winner_of(run, open_store(), sandbox)
    return Model(run, tuple(winner.profile.classes), winner)


def _as_file(image: Any, index: int) -> Path | BinaryIO:
    """Whatever is given as what a decoder opens, without loss, so that every image goes the one way that training images went."""
    if isinstance(image, str | Path):
        return Path(image)
    picture = image if isinstance(image, Image.Image) else _picture(image, index)
    file = io.BytesIO()
    if picture.mode in AS_TIFF:
        picture.save(file, "TIFF")
    else:
        kept = picture if picture.mode in AS_PNG else picture.convert("RGB")
        kept.save(file, "PNG", compress_level=1, exif=picture.getexif())
    file.seek(0)
    return file


def _picture(image: Any, index: int) -> Image.Image:
    pixels = np.asarray(image)
    channels: Sequence[int] = pixels.shape[2:]
    if pixels.dtype != np.uint8 or pixels.ndim not in {2, 3} or channels not in {(), (1,), (3,), (4,)}:
        kind = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"Image {index} is {kind}. {EXPECTED}{_way_out(pixels)}")
    if 0 in pixels.shape:
        raise InputError(f"Image {index} is empty: {list(pixels.shape)}. {EXPECTED}")
    return Image.fromarray(pixels[:, :, 0] if channels == (1,) else pixels)


def _way_out(pixels: np.ndarray) -> str:
    if pixels.ndim == 3 and pixels.shape[0] in {1, 3} and pixels.dtype == np.uint8:
        return " Its channels come first: pass image.transpose(1, 2, 0)."
    if pixels.dtype.kind == "f" and pixels.ndim in {2, 3}:
        return ' With values of 0 to 1: pass (image * 255).round().astype("uint8").'
    return ""
