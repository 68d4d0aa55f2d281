"""The arrays of a data set, as jobs read them: each split is decoded straight into its own file."""

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from dataset.decoders import Decoders, Shape, Unreadable
from dataset.image_reader import pixels
from dataset.listing import Sample
from dataset.plan import Plan
from dataset.survey import Survey
from schema.dataset import Split
from schema.errors import DatasetError

IMAGES: dict[Split, str] = {
    "train": "train/images.npy",
    "validation": "heldout/validation.npy",
    "test": "heldout/test.npy",
}
INNER = "heldout/inner.npy"  # the inner validation images once more: what a pipeline errs on among them is shown to the team
FOLDS = "private/folds.npz"  # which training images are held out in which further fold, and in which order
BLOCK = 256  # images that are written at a time, at most
BLOCK_BYTES = 64 * 2**20


def labels_file(split: Split) -> str:
    """Of a held-out part, where no job can read it."""
    return f"private/{split}_labels.npy"


def write_arrays(
    folder: Path,
    survey: Survey,
    plan: Plan,
    shape: tuple[int, int, int],
    decoders: Decoders,
    *,
    on_progress: Callable[[int], None],
) -> dict[str, object]:
    """Write images and labels of all splits, and return the facts that a job is told.

    Held-out images carry no hint: they lie in the order of the plan, without labels, names and times.
    `on_progress` is told the number of images written so far. Raises DatasetError if an image cannot be read any more.
    """
    for name in ("train", "heldout", "private"):
        (folder / name).mkdir()
    (folder / "private").chmod(0o700)
    done = 0
    statistics = Statistics(shape[0])
    for split, part in plan.parts.items():
        samples = [survey.samples[i] for i in part.tolist()]
        with (folder / IMAGES[split]).open("wb") as file:
            # A plain file, not a memory map: where the disk is full, that ends the process instead of raising OSError.
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (len(samples), *shape)}
            )
            for block in _decoded(samples, Shape(*shape, survey.value_range), decoders):
                file.write(block.tobytes())
                if split == "train":
                    statistics.add(block)
                done += len(block)
                on_progress(done)
            file.flush()
            os.fsync(file.fileno())
        if split == "train":
            np.save(folder / "train/labels.npy", plan.labels[part])
            np.save(folder / "train/inner.npy", plan.inner)
            np.save(folder / INNER, np.load(folder / IMAGES["train"], mmap_mode="r")[plan.inner])
            os.utime(folder / INNER, (0, 0))
            if len(plan.folds):
                place = np.argsort(np.argsort(plan.order[part], kind="stable"))
                inner = {f"inner_{fold}": mask for fold, mask in enumerate(plan.fold_inner, start=1)}
                np.savez(folder / FOLDS, allow_pickle=False, fold=plan.folds, place=place, **inner)
        else:
            os.utime(folder / IMAGES[split], (0, 0))
            np.save(folder / labels_file(split), plan.labels[part])
    learned = plan.labels[plan.parts["train"][~plan.inner]]
    facts: dict[str, object] = {
        "classes": list(plan.classes),
        "channels": shape[0],
        "height": shape[1],
        "width": shape[2],
        "mean": statistics.mean(),
        "std": statistics.std(),
        "counts": np.bincount(learned, minlength=len(plan.classes)).tolist(),
    }
    (folder / "train/dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts


def _decoded(samples: list[Sample], shape: Shape, decoders: Decoders) -> Iterator[np.ndarray]:
    """uint8 [at most BLOCK, channels, height, width], in order."""
    found = zip(samples, pixels(samples, shape, decoders), strict=True)
    most = max(1, min(BLOCK, BLOCK_BYTES // shape.bytes))
    while block := list(islice(found, most)):
        for sample, image in block:
            if isinstance(image, Unreadable):
                raise DatasetError(
                    f"{sample.name} was readable a moment ago and is not any more: it {image.reason}. If"
                    " something is writing to the folder, wait until it has ended; otherwise move the file"
                    " away. Then start again."
                )
        yield np.stack([image for _, image in block if isinstance(image, np.ndarray)])


class Statistics:
    """Mean and standard deviation per channel of pixels scaled to 0..1, from exact sums: the same however the
    images come in blocks."""

    def __init__(self, channels: int) -> None:
        self._sums, self._squares, self._count = (
            np.zeros(channels, np.uint64),
            np.zeros(channels, np.uint64),
            0,
        )

    def add(self, images: np.ndarray) -> None:
        self._sums += images.sum((0, 2, 3), dtype=np.uint64)
        self._squares += np.square(images, dtype=np.uint16).sum((0, 2, 3), dtype=np.uint64)
        self._count += images[:, 0].size

    def mean(self) -> list[float]:
        return list((self._sums / self._count / 255).round(6).tolist())

    def std(self) -> list[float]:
        mean = self._sums / self._count / 255
        variance = np.maximum(self._squares / self._count / 255**2 - mean**2, 1e-6)
        return list(np.sqrt(variance).round(6).tolist())
