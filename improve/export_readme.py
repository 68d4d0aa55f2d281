"""The README of what is taken home: how to use it, how to check its score with the original images, how to train it again."""

from dataset.array_reading import PIXEL_TABLE
from dataset.torchvision_sets import TORCHVISION
from improve.show import final_line
from nodes.environment import described
from nodes.score_notes import weights_text
from schema.run import Environment, RunRow
from schema.text import markdown_text

USE = """    pip install -r requirements.txt
    python pipeline.py predict --weights weights.safetensors photo.jpg
    python pipeline.py train --data FOLDER --out OUT      # FOLDER has one folder of images per class

`pipeline.py` is the whole classifier: read its sections data, model and training. `report.md` tells how it was found, `improve-export.json` has the
numbers, `settings.json` what was asked for."""

CHECK = """import csv, io, sys
from pathlib import Path
import numpy as np
from PIL import Image
import pipeline

table = open("split.csv", encoding="utf-8", errors="surrogateescape", newline="")
rows = [row for row in csv.DictReader(table) if row["split"] == "test"]
model, transforms, info = pipeline.restored(Path("weights.safetensors"), dict())
{reading}
right = 0
for start in range(0, len(rows), 512):
    part = rows[start : start + 512]
    answers = pipeline.probabilities(model, transforms, np.stack([image(row["file"]) for row in part]), info).argmax(1)
    right += sum(info.classes[answer] == row["label"] for answer, row in zip(answers, part))
print(f"test accuracy {{right / len(rows):.4f}} (n={{len(rows)}})")"""

OF_FILES = """def image(file):
    return pipeline.decode(Path(sys.argv[1], file), info.channels, info.height, info.width, info.value_range)"""
OF_ARRAYS = """arrays = {arrays}
def image(file):
    array, row = file.rsplit("/", 1)
    values = arrays[array][int(row)].squeeze()
    if values.ndim == 3 and values.shape[0] in (1, 2, 3, 4) and values.shape[-1] > 4:
        values = np.moveaxis(values, 0, -1)
    if values.dtype != np.uint8:
        values = values.astype(np.float32)
        return pipeline.fitted_pixels(values, info.channels, info.height, info.width, info.value_range)
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(png, "png")
    return pipeline.decode(png, info.channels, info.height, info.width)"""
NPZ = "{name.lower(): array for name, array in np.load(sys.argv[1]).items()}"
DIGITS = (
    '{"digits": (__import__("sklearn.datasets").datasets.load_digits().images * (255 / 16)).round().astype(np.uint8)}'
)
TORCHVISION_TEST = (
    '{{"test": np.asarray(__import__("torchvision").datasets.{name}(sys.argv[1], {part}, download=True).data){turned}}}'
)


def readme(row: RunRow, environment: Environment | None, *, has_split: bool) -> str:
    return (
        "\n\n".join(
            [
                f"# {markdown_text(row.name, 80)}",
                markdown_text(final_line(row), 300),
                USE,
                *_licences(row),
                *_check(row, has_split=has_split),
                *_again(row, environment),
            ]
        )
        + "\n"
    )


def _licences(row: RunRow) -> list[str]:
    """Of the pretrained weights that the model was fine-tuned from: they go with it."""
    if row.best is None or not row.best.weights:
        return []
    told = markdown_text(weights_text(row.best), 1000)
    return [f"Fine-tuned from pretrained weights: {told}. Keep to their licence where you use or ship this model."]


def _check(row: RunRow, *, has_split: bool) -> list[str]:
    """A script that stands on the exported files and the original images alone."""
    if row.best is None or row.best.test is None:
        return []
    if not has_split:
        return [
            "## Check the score",
            "There is no `split.csv` here: the images were prepared by a version of IMPROVE that did not keep the list of them, or the prepared "
            "images are gone. So it cannot be told which of them the score is of.",
        ]
    if row.profile and row.profile.layout == PIXEL_TABLE:
        return [
            "## Check the score",
            "`split.csv` names every row of the table of pixels (`row/17` is its row 17, the first one being 0) with its label and its split.",
        ]
    reading, given, names = _reading(row)
    script = "\n".join(f"    {line}".rstrip() for line in CHECK.format(reading=reading).split("\n"))
    score, command = row.best.test, f"python check.py {given}".rstrip()
    return [
        "## Check the score",
        "`split.csv` names every image of the source with its label and its split (train, validation or test), in the order of the arrays that were trained on; `inner` marks the training "
        "images that were held back for early stopping. An image without a split was set aside, with the reason. "
        f"{names} `sha256` tells whether an image is the same one.",
        f"This gives the accuracy on the {score.n} test images, which was **{score.accuracy:.4f}**. Save it as `check.py` in this folder and run `{command}`:",
        script,
        "On another processor or a GPU a last digit of a probability may be another one, and with it, rarely, an answer.",
    ]


def _reading(row: RunRow) -> tuple[str, str, str]:
    """How an image is got, what the script is given for it, and what names in `split.csv` mean."""
    layout, source = row.profile.layout if row.profile else "", row.settings.dataset.lower()
    if layout in {"arrays", "npz"}:
        return OF_ARRAYS.format(arrays=NPZ), "IMAGES.npz", "`images/17` is row 17 of the array `images`."
    if layout == "scikit-learn":
        return (
            OF_ARRAYS.format(arrays=DIGITS),
            "",
            "`digits/0017` is row 17 of scikit-learn's `load_digits` (`pip install scikit-learn`).",
        )
    if layout == "torchvision":
        part = 'split="test"' if source == "svhn" else "train=False"
        turned = ".transpose(0, 2, 3, 1)" if source == "svhn" else ""
        arrays = TORCHVISION_TEST.format(name=TORCHVISION[source], part=part, turned=turned)
        return (
            OF_ARRAYS.format(arrays=arrays),
            "DOWNLOADS",
            f"`test/17` is row 17 of the test part of torchvision's {TORCHVISION[source]}.",
        )
    return (
        OF_FILES,
        "PHOTOS",
        "Names are relative to PHOTOS, the folder that holds all images (of an archive or of nested folders the innermost that does).",
    )


def _again(row: RunRow, environment: Environment | None) -> list[str]:
    told = [
        "## The same training again",
        f"Seed {row.settings.seed}. With the run at hand, `improve replay {row.name}` trains the winner as it was trained and compares the predictions: on the same "
        "machine and versions of packages they are the same to the last digit on a CPU.",
    ]
    if environment is None:
        return [
            *told,
            "The run is older than the record of environments: `requirements.txt` has the versions of the day of this export.",
        ]
    lines = "\n".join(f"- {markdown_text(line, 1000)}" for line in described(environment)[:2])
    return [*told, f"It was trained with (`environment.json`, `requirements.txt`):\n\n{lines}"]
