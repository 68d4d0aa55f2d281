"""The list of images that is kept beside the arrays, and the question whether the source is still as it was."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.decode import decode
from dataset.discover import discover
from dataset.manifest import FILES, content_changes, read_files, stamp
from dataset.prepare import load_labels, prepare
from schema.dataset import DatasetProfile
from tests.dataset.decoding import shared_decoders
from tests.scripted import image_folder

SECRET = bytes(32)


def prepared(source: Path, tmp_path: Path) -> DatasetProfile:
    return prepare(
        discover(str(source), workdir=tmp_path / "unpacked"),
        tmp_path / "datasets",
        secret=SECRET,
        decoders=shared_decoders(),
    )


def changes(profile: DatasetProfile, source: Path, tmp_path: Path) -> list[str]:
    return content_changes(profile, discover(str(source), workdir=tmp_path / "unpacked"), shared_decoders())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "photos")


def test_the_rows_of_a_split_are_the_images_of_its_array_in_their_order(photos: Path, tmp_path: Path) -> None:
    profile = prepared(photos, tmp_path)
    rows = read_files(profile)
    assert rows
    folder = Path(profile.directory)
    arrays = {"train": "train/images.npy", "validation": "heldout/validation.npy", "test": "heldout/test.npy"}
    for split, array in arrays.items():
        files = [photos / row.file for row in rows if row.split == split]
        assert np.array_equal(np.stack([decode(file, 3, 12, 12) for file in files]), np.load(folder / array)), split
    labels = [profile.classes.index(row.label) for row in rows if row.split == "test"]
    assert labels == load_labels(profile, "test").tolist()
    inner = [row.inner == "yes" for row in rows if row.split == "train"]
    assert inner == np.load(folder / "train/inner.npy").tolist()


def test_an_image_that_was_set_aside_has_its_reason(photos: Path, tmp_path: Path) -> None:
    (photos / "left" / "empty.png").write_bytes(b"")
    whole = (photos / "right" / "0.png").read_bytes()
    (photos / "right" / "cut.png").write_bytes(whole[: len(whole) // 2])
    rows = {row.file: row for row in read_files(prepared(photos, tmp_path)) or []}
    assert len(rows) == 62
    assert "zero bytes" in rows["left/empty.png"].reason
    assert rows["right/cut.png"].label == "right"
    assert rows["right/cut.png"].reason
    assert not changes(prepared(photos, tmp_path), photos, tmp_path)


def test_images_of_an_array_are_named_by_their_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    profile = prepared(tmp_path / "a.npz", tmp_path)
    test = [int(row.file.removeprefix("images/")) for row in read_files(profile) or [] if row.split == "test"]
    assert np.array_equal(images[test].transpose(0, 3, 1, 2), np.load(Path(profile.directory) / "heldout/test.npy"))


def test_a_table_that_names_images_in_its_own_way_is_listed_by_files(photos: Path, tmp_path: Path) -> None:
    names = [f"{label}-{i}" for label in ("left", "right") for i in range(30)]
    (tmp_path / "flat" / "images").mkdir(parents=True)
    for name in names:
        shutil.copy(photos / f"{name.replace('-', '/')}.png", tmp_path / "flat" / "images" / f"{name}.png")
    table = "".join(f"{name},{name.split('-')[0]}\n" for name in names)
    (tmp_path / "flat" / "labels.csv").write_text(f"id,label\n{table}")
    rows = read_files(prepared(tmp_path / "flat", tmp_path)) or []
    assert {row.file for row in rows} == {f"images/{name}.png" for name in names}


def test_what_changed_is_told_image_by_image(photos: Path, tmp_path: Path) -> None:
    profile = prepared(photos, tmp_path)
    (photos / "left" / "0.png").unlink()
    (photos / "left" / "1.png").rename(photos / "right" / "new.png")
    Image.new("RGB", (12, 12), "blue").save(photos / "left" / "2.png")
    told = "\n".join(changes(profile, photos, tmp_path))
    assert "left/0.png: was there -> is gone" in told
    assert "left/1.png: was there -> is gone" in told
    assert "right/new.png: was not there -> is there" in told
    assert "left/2.png: content " in told
    assert len(told.splitlines()) == 4


def test_many_changes_are_told_in_few_lines(photos: Path, tmp_path: Path) -> None:
    profile = prepared(photos, tmp_path)
    for i in range(20):
        (photos / "left" / f"{i}.png").unlink()
    assert changes(profile, photos, tmp_path)[-1] == "and 10 more images"


def test_arrays_of_before_the_list_was_kept_are_compared_by_their_fingerprint(photos: Path, tmp_path: Path) -> None:
    profile = prepared(photos, tmp_path)
    (Path(profile.directory) / FILES).unlink()
    assert read_files(profile) is None
    assert changes(profile, photos, tmp_path) == []
    (photos / "left" / "0.png").unlink()
    assert changes(profile, photos, tmp_path)[0].startswith("images: ")


def test_the_stamp_stays_until_a_file_does_not(photos: Path, tmp_path: Path) -> None:
    before = stamp(str(photos), None)
    assert before == stamp(str(photos), None)
    shutil.copytree(photos, tmp_path / "copy")
    assert before == stamp(str(tmp_path / "copy"), None)  # with its times
    os.utime(photos / "left" / "0.png", (0, 0))
    assert before != stamp(str(photos), None)
    assert stamp("digits", None) is None


def test_the_stamp_of_a_table_sees_table_and_images(photos: Path) -> None:
    (photos / "labels.csv").write_text("file,label\n")
    before = stamp(str(photos / "labels.csv"), None)
    os.utime(photos / "left" / "0.png", (0, 0))
    assert before != stamp(str(photos / "labels.csv"), None)
