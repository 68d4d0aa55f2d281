"""Further folds of a small data set: every image is held out once, and what is held out is not learned from."""

from pathlib import Path

import numpy as np
import pytest

from dataset.folds import fold_directory, has_folds
from dataset.prepare import load_labels
from dataset.splits import FOLDS, folds
from schema.dataset import DatasetProfile
from tests.dataset.test_prepare import prepared
from tests.scripted import image_folder


@pytest.fixture
def profile(tmp_path: Path) -> DatasetProfile:
    return prepared(image_folder(tmp_path / "photos", per_class=40), tmp_path)


def pictures(array: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in array}


def test_every_image_that_is_not_test_is_held_out_in_one_fold_and_learned_from_in_all_others(
    profile: DatasetProfile,
) -> None:
    every, held = set(), []
    for fold in range(FOLDS):
        folder = fold_directory(profile, fold)
        learned, out = (np.load(folder / name) for name in ("train/images.npy", "heldout/validation.npy"))
        assert len(learned) + len(out) == profile.size("train") + profile.size("validation")
        assert not pictures(learned) & pictures(out)
        every |= pictures(learned) | pictures(out)
        held += list(pictures(out))
    assert len(held) == len(set(held)) == len(every)
    assert not every & pictures(np.load(Path(profile.directory) / "heldout/test.npy"))


def test_labels_and_statistics_are_those_of_the_images_of_the_fold(profile: DatasetProfile) -> None:
    whole = {}
    for fold in range(2):
        folder = fold_directory(profile, fold)
        images, labels = np.load(folder / "train/images.npy"), np.load(folder / "train/labels.npy")
        found = dict(zip(pictures_in_order(images), labels.tolist(), strict=True))
        out = np.load(folder / "heldout/validation.npy")
        found |= dict(zip(pictures_in_order(out), load_labels(profile, "validation", fold).tolist(), strict=True))
        whole[fold] = found
    assert whole[0] == whole[1]


def test_each_fold_has_inner_validation_images_of_every_class(profile: DatasetProfile) -> None:
    for fold in range(1, FOLDS):
        folder = fold_directory(profile, fold)
        images, labels, inner = (np.load(folder / f"train/{name}.npy") for name in ("images", "labels", "inner"))
        assert set(labels[inner].tolist()) == {0, 1}
        assert np.array_equal(np.load(folder / "heldout/inner.npy"), images[inner])


def pictures_in_order(array: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in array]


def test_the_order_of_the_held_out_images_says_nothing_of_their_class(tmp_path: Path) -> None:
    profile = prepared(image_folder(tmp_path / "photos", per_class=250), tmp_path)
    for fold in range(1, FOLDS):
        labels = load_labels(profile, "validation", fold)
        assert abs(np.corrcoef(np.arange(len(labels)), labels)[0, 1]) < 0.3


def test_no_job_reads_a_held_out_label(profile: DatasetProfile) -> None:
    folder = fold_directory(profile, 2)
    assert (folder / "private").stat().st_mode & 0o077 == 0
    assert {file.stat().st_mtime for file in (folder / "heldout").iterdir()} == {0.0}
    assert sorted(file.name for file in (folder / "train").iterdir()) == [
        "dataset.json", "images.npy", "inner.npy", "labels.npy",
    ]  # fmt: skip


def test_a_fold_is_made_once(profile: DatasetProfile) -> None:
    first = fold_directory(profile, 1)
    before = (first / "heldout/validation.npy").stat().st_ino
    assert fold_directory(profile, 1) == first
    assert (first / "heldout/validation.npy").stat().st_ino == before


def test_one_that_was_not_finished_is_made_anew(profile: DatasetProfile) -> None:
    folder = fold_directory(profile, 1)
    (folder / "whole").unlink()
    (folder / "train/images.npy").write_bytes(b"")
    assert len(np.load(fold_directory(profile, 1) / "train/images.npy")) > 0


def test_groups_stay_whole_and_a_class_of_one_group_is_never_held_out() -> None:
    labels, groups = np.repeat([0, 1, 2], [40, 40, 4]), np.concatenate([np.arange(80) // 4, np.full(4, 99)])
    found = folds(labels, groups, np.random.default_rng(0).integers(0, 2**60, 84).astype(np.uint64))
    assert all(len(set(found[groups == group].tolist())) == 1 for group in set(groups.tolist()))
    assert set(found[labels == 2].tolist()) == {0}
    assert {int(f) for f in found[labels < 2]} == {1, 2, 3, 4}


def test_a_validation_part_of_the_person_is_not_folded(tmp_path: Path) -> None:
    everything = image_folder(tmp_path / "everything", per_class=60)
    for file in sorted(everything.rglob("*.png")):
        part = ("train", "val", "test")[int(file.stem) // 20]
        target = tmp_path / "photos" / part / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    assert not has_folds(prepared(tmp_path / "photos", tmp_path))
