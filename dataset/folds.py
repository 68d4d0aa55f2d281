"""Further folds of a small data set: made from its arrays when first asked for, and laid out as the data set itself.

In fold 0 the validation part is held out: that is the data set as it was prepared. In each further one a part of the training images
takes its place, as large and as stratified, whole groups only, and the validation part is learned from.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from dataset.arrays import BLOCK, FOLDS, IMAGES, INNER, Statistics, labels_file
from dataset.file_lock import locked
from schema.dataset import DatasetProfile
from schema.errors import HomeError

WHOLE = "whole"  # written last


def has_folds(profile: DatasetProfile) -> bool:
    """Whether it has further ones: not if the validation part was given, if there are very many images, or in sets of before."""
    return (Path(profile.directory) / FOLDS).exists()


def fold_directory(profile: DatasetProfile, fold: int) -> Path:
    """Where the arrays of a fold lie; they are made if they are not there. Raises HomeError if the disk refuses."""
    whole = Path(profile.directory)
    folder = whole / "folds" / str(fold)
    if fold == 0 or (folder / WHOLE).exists():
        return folder if fold else whole
    try:
        folder.parent.mkdir(exist_ok=True)
        with locked(folder.parent / ".lock"):
            if not (folder / WHOLE).exists():
                _make(whole, folder, fold)
    except OSError as error:
        raise HomeError(
            f"{folder} cannot take the images of fold {fold}: {error.strerror}. Make room, or begin with --folds 1."
        ) from None
    return folder


def _make(whole: Path, folder: Path, fold: int) -> None:
    partial = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        _write(whole, partial, fold)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(whole: Path, folder: Path, fold: int) -> None:
    with np.load(whole / FOLDS) as found:
        held = np.nonzero(found["fold"] == fold)[0]
        # Not in the order of the source, which is that of the classes.
        held = held[np.argsort(found["place"][held], kind="stable")]
        kept, mask = np.nonzero(found["fold"] != fold)[0], found[f"inner_{fold}"]
    images, labels = np.load(whole / IMAGES["train"]), np.load(whole / "train/labels.npy")
    validation = np.load(whole / IMAGES["validation"])
    for name in ("train", "heldout", "private"):
        (folder / name).mkdir()
    (folder / "private").chmod(0o700)
    now = np.concatenate([labels[kept], np.load(whole / labels_file("validation"))])
    learned = np.concatenate([images[kept], validation])
    np.save(folder / IMAGES["train"], learned)
    np.save(folder / "train/labels.npy", now)
    np.save(folder / "train/inner.npy", mask)
    np.save(folder / IMAGES["validation"], images[held])
    np.save(folder / INNER, learned[mask])
    np.save(folder / labels_file("validation"), labels[held])
    facts = json.loads((whole / "train/dataset.json").read_bytes())
    statistics = Statistics(learned.shape[1])
    for start in range(0, len(learned), BLOCK):
        statistics.add(learned[start : start + BLOCK])
    facts |= {
        "counts": np.bincount(now[~mask], minlength=len(facts["classes"])).tolist(),
        "mean": statistics.mean(),
        "std": statistics.std(),
    }
    (folder / "train/dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    for name in (IMAGES["validation"], INNER):
        os.utime(folder / name, (0, 0))
    (folder / WHOLE).touch()
