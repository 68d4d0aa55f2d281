"""Several readings of one source: the clear one is taken, of two plausible ones the user is asked."""

from pathlib import Path

import pytest

from schema.errors import DatasetError, SettingsError
from tests.dataset.trees import counts, plant, read, several, table


def rows(*files: str, header: tuple[str, str] = ("file", "label")) -> list[list[str]]:
    return [list(header), *([file, "ab"[i % 2]] for i, file in enumerate(files))]


def test_a_competition_with_two_image_folders_and_three_tables(tmp_path: Path) -> None:
    train, test = several("train_images"), several("test_images", start=50)
    root = plant(tmp_path / "set", *train, *test)
    table(root / "train.csv", rows(*(f"{i:03d}" for i in range(6)), header=("id_code", "diagnosis")))
    table(root / "test.csv", [["id_code"], *([f"{i:03d}"] for i in range(50, 56))])
    table(root / "sample_submission.csv", [["id_code", "diagnosis"], *([f"{i:03d}", "0"] for i in range(50, 56))])
    listing = read(root)
    assert counts(listing) == {"a": 3, "b": 3}
    assert listing.reading == "train.csv gives the labels (id_code -> diagnosis) of 6 images in train_images/"
    assert listing.unused["images in test_images/ that no table names"] == 6
    assert any("test.csv is not used" in note for note in listing.warnings)


def test_numbered_parts_are_no_classes_if_a_table_labels_them(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("SKIN_images_part_1", 4), *several("SKIN_images_part_2", 4, start=4))
    table(
        root / "metadata.csv",
        [["lesion", "image_id", "dx", "sex"], *([f"L{i}", f"{i:03d}", "ab"[i % 2], "fm"[i // 4]] for i in range(8))],
    )
    assert counts(read(root)) == {"a": 4, "b": 4}


def test_a_table_of_its_own_for_each_split(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("images", 12))
    for i, name in enumerate(("train", "val", "test")):
        table(root / f"{name}.csv", rows(*(f"{n:03d}.png" for n in range(4 * i, 4 * i + 4))))
    assert counts(read(root)) == {f"{s}/{c}": 2 for s in ("test", "train", "validation") for c in "ab"}


def test_a_table_in_each_split_folder_with_the_same_file_names(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("train"), *several("test"))
    table(root / "train/metadata.csv", rows(*(f"{i:03d}.png" for i in range(6))))
    table(root / "test/metadata.csv", rows(*(f"{i:03d}.png" for i in range(1, 6))))
    assert counts(read(root)) == {"test/a": 3, "test/b": 2, "train/a": 3, "train/b": 3}


def test_a_table_labels_the_split_folder_that_has_no_class_folders(tmp_path: Path) -> None:
    """As in Tiny ImageNet: val_annotations.txt."""
    root = plant(
        tmp_path / "set", *several("train/n01/images"), *several("train/n02/images"), *several("val/images", start=60)
    )
    lines = [f"{i:03d}.png\tn0{i % 2 + 1}\t0\t0\t62\t62" for i in range(60, 66)]
    (root / "val/val_annotations.txt").write_text("\n".join(lines), encoding="utf-8")
    assert counts(read(root)) == {"train/n01": 6, "train/n02": 6, "validation/n01": 3, "validation/n02": 3}


def test_a_table_that_says_the_same_as_the_folders_is_no_second_reading(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("cat"), *several("dog", start=20))
    table(
        root / "labels.csv",
        [
            ["file", "label"],
            *([f"{c}/{i:03d}.png", c.upper()] for c, s in (("cat", 0), ("dog", 20)) for i in range(s, s + 6)),
        ],
    )
    listing = read(root)
    assert counts(listing) == {"cat": 6, "dog": 6}
    assert any("says the same as the folders" in note for note in listing.warnings)


def test_a_table_that_contradicts_the_folders_is_asked_about(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("oak"), *several("elm", start=20))
    table(root / "health.csv", rows(*(f"{i:03d}.png" for i in [*range(6), *range(20, 26)])))
    with pytest.raises(DatasetError, match=r"2 ways.*--labels [^ ]*health.csv.*--layout class-folders"):
        read(root)
    assert set(read(root, layout="class-folders").classes) == {"elm", "oak"}
    assert set(read(root, labels=str(root / "health.csv")).classes) == {"a", "b"}


def test_a_table_without_a_clear_column_of_labels_does_not_disturb_class_folders(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("oak"), *several("elm", start=20))
    table(
        root / "photos.csv",
        [["file", "camera", "weather"], *([f"{i:03d}.png", "c1", "sun"] for i in [*range(6), *range(20, 26)])],
    )
    listing = read(root)
    assert set(listing.classes) == {"elm", "oak"}
    assert any("photos.csv names 12 images" in note for note in listing.warnings)


def test_a_label_column_that_was_named_wins_over_the_folders(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("oak"), *several("elm", start=20))
    table(
        root / "photos.csv",
        [["file", "camera", "weather"], *([f"{i:03d}.png", "c1", "ab"[i % 2]] for i in [*range(6), *range(20, 26)])],
    )
    assert set(read(root, label_column="weather").classes) == {"a", "b"}


def test_a_group_column_of_a_table_beside_class_folders(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("oak"), *several("elm", start=20))
    table(
        root / "photos.csv",
        [["file", "tree", "weather"], *([f"{i:03d}.png", f"t{i // 2}", "sun"] for i in [*range(6), *range(20, 26)])],
    )
    assert len({sample.group for sample in read(root, group_column="tree").samples}) == 6


def test_labels_in_file_names_are_suggested_and_read_when_asked_for(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *(f"{c}.{i}.png" for c in ("cat", "dog") for i in range(6)))
    with pytest.raises(DatasetError, match=r"cat \(6\), dog \(6\)\): --label-pattern '\^\(\.\+\?\)"):
        read(root)
    assert counts(read(root, label_pattern=r"^(.+?)[._ -]*\d+")) == {"cat": 6, "dog": 6}


def test_names_of_a_camera_suggest_no_labels(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *(f"{c}_{i}.png" for c in ("IMG", "DSC") for i in range(6)))
    with pytest.raises(DatasetError) as error:
        read(root)
    assert "--label-pattern" not in str(error.value)


def rows_of(*numbers: int) -> list[list[str]]:
    return [[f"{i:03d}.png", "cat" if i % 2 else "dog"] for i in numbers]


def test_tables_without_a_header_whose_first_image_is_missing_are_still_one_family(tmp_path: Path) -> None:
    """As in a set that was taken apart: the first row names a file that is not there any more."""
    plant(tmp_path, *several("images", 30))
    table(tmp_path / "my_training.csv", [["x/999.png", "dog"], *rows_of(*range(20))])
    table(tmp_path / "my_test.csv", [["x/998.png", "cat"], *rows_of(*range(20, 30))])
    listing = read(tmp_path)
    assert counts(listing) == {"test/cat": 5, "test/dog": 5, "train/cat": 10, "train/dog": 10}
    assert {one.file for one in listing.set_aside} == {"x/999.png", "x/998.png"}


def test_a_table_of_some_of_the_images_never_hides_one_of_all(tmp_path: Path) -> None:
    plant(tmp_path, *several("images", 30))
    head = [["file", "label"]]
    table(tmp_path / "all.csv", [*head, *rows_of(*range(30))])
    table(tmp_path / "some.csv", [*head, *rows_of(*range(5, 15))])
    listing = read(tmp_path)
    assert len(listing.samples) == 30
    assert listing.warnings == ("some.csv says the same of no more images",)


def test_tables_with_splits_win_over_one_table_of_the_same_images(tmp_path: Path) -> None:
    plant(tmp_path, *several("images", 30))
    head = [["file", "label"]]
    table(tmp_path / "labels.csv", [*head, *rows_of(*range(30))])
    table(tmp_path / "train.csv", [*head, *rows_of(*range(20))])
    table(tmp_path / "test.csv", [*head, *rows_of(*range(20, 30))])
    assert counts(read(tmp_path)) == {"test/cat": 5, "test/dog": 5, "train/cat": 10, "train/dog": 10}


def test_two_families_with_other_splits_are_asked_about(tmp_path: Path) -> None:
    plant(tmp_path, *several("images", 30))
    head = [["file", "label"]]
    for name, middle in (("", 20), ("ing", 15)):
        table(tmp_path / f"train{name}.csv", [*head, *rows_of(*range(middle))])
        table(tmp_path / f"test{name}.csv", [*head, *rows_of(*range(middle, 30))])
    with pytest.raises(DatasetError, match=r"in 2 ways.*\(2\).*move the tables of the other readings elsewhere"):
        read(tmp_path)


def test_groups_in_file_names(tmp_path: Path) -> None:
    root = plant(
        tmp_path / "set", *(f"{c}/clip{k}_{i}.png" for c in ("cat", "dog") for k in range(2) for i in range(3))
    )
    listing = read(root, group_pattern=r"^(.*)_\d+$")
    assert {sample.group for sample in listing.samples} == {f"{c}/clip{k}" for c in ("cat", "dog") for k in range(2)}
    with pytest.raises(DatasetError, match="fits none of the file names"):
        read(root, group_pattern="patient")


def folders_and_table(root: Path, relabelled: int) -> Path:
    plant(root, *several("cat", 10), *several("dog", 10, start=10))
    rows = [[f"{i:03d}.png", ("cat" if i < 10 else "dog") if i >= relabelled else "dog"] for i in range(20)]
    table(root / "corrected.csv", [["file", "label"], *rows])
    return root


def test_a_table_that_corrects_labels_of_the_folders_is_asked_about(tmp_path: Path) -> None:
    assert len(read(folders_and_table(tmp_path / "same", 0)).samples) == 20
    with pytest.raises(DatasetError, match="in 2 ways"):
        read(folders_and_table(tmp_path / "corrected", 2))


def test_two_versions_of_a_table_are_asked_about(tmp_path: Path) -> None:
    plant(tmp_path, *several("images", 30))
    table(tmp_path / "train.csv", [["file", "label"], *rows_of(*range(30))])
    rows = rows_of(*range(30))
    rows[3][1] = "dog" if rows[3][1] == "cat" else "cat"
    table(tmp_path / "train_v2.csv", [["file", "label"], *rows])
    with pytest.raises(DatasetError, match=r"train.csv.*train_v2.csv"):
        read(tmp_path)


def test_splits_of_a_table_beside_class_folders(tmp_path: Path) -> None:
    plant(tmp_path, *several("cat", 10), *several("dog", 10, start=10))
    rows = [[f"{i:03d}.png", "test" if i % 5 == 0 else "train"] for i in range(20)]
    table(tmp_path / "split.csv", [["file", "split"], *rows])
    assert counts(read(tmp_path)) == {"test/cat": 2, "test/dog": 2, "train/cat": 8, "train/dog": 8}


def test_other_splits_than_those_of_the_folders_are_told(tmp_path: Path) -> None:
    plant(tmp_path, *(f for s in ("train", "test") for c in ("cat", "dog") for f in several(f"{s}/{c}", 4)))
    rows = [
        [f"{s}/{c}/{i:03d}.png", c, "test" if s == "test" or i == 0 else "train"]
        for s in ("train", "test")
        for c in ("cat", "dog")
        for i in range(4)
    ]
    table(tmp_path / "labels.csv", [["file", "label", "split"], *rows])
    assert any("but for the splits: 2 images are in another one there" in note for note in read(tmp_path).warnings)


def test_one_folder_beside_a_table_is_no_reading(tmp_path: Path) -> None:
    plant(tmp_path, *several("leaves", 10))
    table(tmp_path / "labels.csv", [["file", "label"], *rows_of(*range(10))])
    assert counts(read(tmp_path)) == {"cat": 5, "dog": 5}


def test_a_table_that_is_there_for_the_groups_gives_no_labels(tmp_path: Path) -> None:
    plant(tmp_path, *several("cat", 10), *several("dog", 10, start=10))
    rows = [[f"{i:03d}.png", f"p{i % 5}" if i != 7 else ""] for i in range(20)]
    table(tmp_path / "patients.csv", [["file", "patient"], *rows])
    listing = read(tmp_path, group_column="patient")
    assert counts(listing) == {"cat": 10, "dog": 10}
    assert sum(sample.group is None for sample in listing.samples) == 1
    assert "1 image has no value in column 'patient' and is in no group" in listing.warnings


def test_groups_go_with_labels_in_file_names(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{name}.{i}.png" for name in ("cat", "dog") for i in range(6)))
    rows = [[f"{name}.{i}.png", f"p{i}"] for name in ("cat", "dog") for i in range(6)]
    table(tmp_path / "meta.csv", [["file", "patient"], *rows])
    listing = read(tmp_path, label_pattern="^(cat|dog)", group_column="patient")
    assert {sample.group for sample in listing.samples} == {f"p{i}" for i in range(6)}
    with pytest.raises(DatasetError, match="--group 'nonsense': no table"):
        read(tmp_path, label_pattern="^(cat|dog)", group_column="nonsense")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"labels": "a.csv", "label_pattern": "^(.)"}, "--labels and --label-pattern"),
        ({"label_column": "x", "layout": "class-folders"}, "--label-column and --layout class-folders"),
        ({"group_column": "x", "group_pattern": "^(.)"}, "--group and --group-pattern"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, str], told: str, tmp_path: Path) -> None:
    plant(tmp_path, *several("cat"), *several("dog"))
    with pytest.raises(SettingsError, match=told):
        read(tmp_path, **options)
