"""Layouts are detected; what is wrong or unclear is said with the way out."""

import csv
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.discover import discover
from dataset.listing import Listing, ReadingOptions
from schema.errors import DatasetError
from tests.scripted import image_folder


def found(source: Path | str, tmp_path: Path, **options: str) -> Listing:
    return discover(str(source), ReadingOptions(**options), workdir=tmp_path / "unpacked")  # type: ignore[arg-type]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def table(path: Path, rows: list[list[str]], delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def test_class_folders(tmp_path: Path) -> None:
    listing = found(image_folder(tmp_path / "photos", per_class=3), tmp_path)
    assert (listing.layout, listing.classes, len(listing.samples)) == ("class-folders", ("left", "right"), 6)
    assert {sample.split for sample in listing.samples} == {None}


def test_split_folders_keep_their_splits(tmp_path: Path) -> None:
    for split in ("Train", "val", "test"):
        image_folder(tmp_path / "photos" / split, per_class=2)
    listing = found(tmp_path / "photos", tmp_path)
    assert listing.layout == "split-folders"
    assert {sample.split for sample in listing.samples} == {"train", "validation", "test"}


def test_numbers_in_class_names_sort_as_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "1"):
        picture(tmp_path / "photos" / name / "a.png")
    assert found(tmp_path / "photos", tmp_path).classes == ("1", "9", "10")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives_with_one_folder_around_everything(tmp_path: Path, kind: str) -> None:
    image_folder(tmp_path / "wrapped" / "photos", per_class=2)
    archive = tmp_path / f"photos.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted((tmp_path / "wrapped").rglob("*.png")):
                file.write(path, path.relative_to(tmp_path / "wrapped"))
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(tmp_path / "wrapped" / "photos", "photos")
    listing = found(archive, tmp_path)
    assert (listing.name, listing.classes) == ("photos", ("left", "right"))


def test_a_table_beside_a_folder_of_images(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "set" / "images" / f"{i}.jpg")
    table(tmp_path / "set" / "labels.csv", [["id", "label"], *([str(i), "ab"[i % 2]] for i in range(4))], ";")
    listing = found(tmp_path / "set", tmp_path)
    assert (listing.layout, listing.classes, len(listing.samples)) == ("table", ("a", "b"), 4)


def test_a_table_that_is_not_recognised_by_itself(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / "set" / f"{i}.jpg")
    odd = table(tmp_path / "odd.csv", [["who", "what"], *([f"C:\\old\\{i}.jpg", "ab"[i % 2]] for i in range(4))])
    listing = found(tmp_path / "set", tmp_path, labels=str(odd), file_column="who", label_column="what")
    assert len(listing.samples) == 4


def test_doubled_rows_are_one_image_and_contradicting_ones_none(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / "set" / f"{i}.jpg")
    rows = [
        ["0.jpg", "a"],
        ["0.jpg", "a"],
        ["1.jpg", "b"],
        ["2.jpg", "a"],
        ["2.jpg", "b"],
        ["3.jpg", "a"],
        ["gone.jpg", "b"],
        ["4.jpg", "b"],
    ]
    table(tmp_path / "set" / "labels.csv", [["file", "label"], *rows])
    listing = found(tmp_path / "set", tmp_path)
    assert sorted(sample.name for sample in listing.samples) == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]
    reasons = {aside.file: aside.reason for aside in listing.set_aside}
    assert "contradicting labels" in reasons["2.jpg"]
    assert "no such image" in reasons["gone.jpg"]
    assert any("more than once" in warning for warning in listing.warnings)


def test_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, 0, 1]))
    listing = found(tmp_path / "a.npz", tmp_path)
    assert (listing.layout, listing.classes, len(listing.samples)) == ("arrays", ("0", "1"), 4)


def test_digits_come_without_a_download(tmp_path: Path) -> None:
    assert len(found("digits", tmp_path).samples) == 1797


def test_other_files_in_class_folders_are_counted(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", per_class=2)
    (photos / "left" / "notes.txt").write_text("hello")
    (photos / "left" / ".DS_Store").write_text("")
    unused = found(photos, tmp_path).unused
    assert unused == {
        "files that are no images (.txt)": 1,
        "hidden files and leftovers of file managers, archives and network drives": 1,
    }


def test_odd_names_and_link_loops_are_no_trouble(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", per_class=1)
    picture(photos / "é ü 猫" / f"{'long ' * 40}name.png")
    (photos / "left" / "loop").symlink_to(photos)
    (photos / "left" / "self").symlink_to(photos / "left")
    assert "é ü 猫" in found(photos, tmp_path).classes


def empty(root: Path) -> Path:
    root.mkdir()
    return root


def one_class(root: Path) -> Path:
    picture(root / "cat" / "a.png")
    return root


def no_labels(root: Path) -> Path:
    picture(root / "cat1.png")
    return root


def ambiguous(root: Path) -> Path:
    image_folder(root / "train", per_class=1)
    image_folder(root, per_class=1)
    return root


def two_tables(root: Path) -> Path:
    picture(root / "a.jpg")
    picture(root / "b.jpg")
    table(root / "one.csv", [["file", "label"], ["a.jpg", "x"], ["b.jpg", "y"]])
    table(root / "two.csv", [["file", "label"], ["a.jpg", "y"], ["b.jpg", "y"]])
    return root


def wrong_folder(root: Path) -> Path:
    picture(root / "a.jpg")
    table(root / "labels.csv", [["file", "label"], *([f"{i}.png", "x"] for i in range(5))])
    return root


def broken_archive(root: Path) -> Path:
    path = root.with_suffix(".zip")
    path.write_bytes(b"PK\x03\x04 not really")
    return path


def escaping_archive(root: Path) -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../evil.png", b"x")
    return path


def object_array(root: Path) -> Path:
    path = root.with_suffix(".npz")
    np.savez(path, images=np.array([{}, {}], dtype=object), labels=np.array([0, 1]))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "There is no folder or file"),
        (empty, "is empty.*one folder of images per class"),
        (one_class, "one class only, 'cat'"),
        (no_labels, "no class folders.*--labels FILE.csv"),
        (ambiguous, "ambiguous.*'train'.*'left'"),
        (two_tables, "can be read in 2 ways.*--labels [^ ]*one.csv.*--labels [^ ]*two.csv"),
        (wrong_folder, "names no image that is there.*0.png, x.*a.jpg.*--file-column"),
        (broken_archive, "no whole zip archive"),
        (escaping_archive, "outside its folder"),
        (object_array, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_way_out(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=f"(?s){message}"):
        found(make(tmp_path / "given"), tmp_path)
    assert not (tmp_path.parent / "evil.png").exists()


def test_a_misspelt_folder_brings_the_close_one(tmp_path: Path) -> None:
    image_folder(tmp_path / "photos", per_class=1)
    with pytest.raises(DatasetError, match="Did you mean .*photos"):
        found(tmp_path / "fotos", tmp_path)


def test_an_absent_column_lists_those_that_are_there(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "a.jpg")
    labels = table(tmp_path / "set" / "labels.csv", [["file", "label"], ["a.jpg", "x"]])
    with pytest.raises(DatasetError, match=r"no column 'kind' \(--label-column\); it has: file, label"):
        found(tmp_path / "set", tmp_path, labels=str(labels), label_column="kind")
