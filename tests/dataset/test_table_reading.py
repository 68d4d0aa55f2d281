"""Tables of labels: which column says what, and which image a row means. Nothing is guessed."""

from pathlib import Path

import pytest

from schema.errors import DatasetError
from tests.dataset.trees import Rows, counts, labels_by_file, plant, read, several, table


def labelled(root: Path, rows: Rows, name: str = "labels.csv", number: int = 6) -> Path:
    """A flat folder of images 000.png ... and a table beside it."""
    plant(root, *several("images", number))
    table(root / name, rows)
    return root


def alternating(number: int = 6, header: tuple[str, str] = ("who", "what")) -> Rows:
    return [list(header), *([f"{i:03d}.png", "ab"[i % 2]] for i in range(number))]


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv.csv", "latest.csv", "annotations/list.csv", "labels.txt"])
def test_the_only_table_with_two_columns_is_clear_without_any_option(name: str, tmp_path: Path) -> None:
    listing = read(labelled(tmp_path / "set", alternating(), name))
    assert (listing.layout, counts(listing)) == ("table", {"a": 3, "b": 3})
    assert f"{name} gives the labels (who -> what) of 6 images in images/" in listing.reading


def test_among_several_columns_the_user_is_asked(tmp_path: Path) -> None:
    rows = [["file", "site", "finding_a"], *([f"{i:03d}.png", "xy"[i % 2], "ab"[i % 2]] for i in range(6))]
    root = labelled(tmp_path / "set", rows)
    with pytest.raises(
        DatasetError, match=r"which column of labels.csv holds the labels\? It has: site, finding_a.*--label-column"
    ):
        read(root)
    assert counts(read(root, label_column="site")) == {"x": 3, "y": 3}


def test_numbers_and_names_of_the_same_classes_are_one_column(tmp_path: Path) -> None:
    rows = [
        ["file", "class_id", "class_name"],
        *([f"{i:03d}.png", str(i % 2), ("cat", "dog")[i % 2]] for i in range(6)),
    ]
    assert read(labelled(tmp_path / "set", rows)).classes == ("cat", "dog")


def test_a_table_without_a_header(tmp_path: Path) -> None:
    assert counts(read(labelled(tmp_path / "set", alternating()[1:]))) == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"./images/{name}",
        lambda name: f"C:\\old machine\\images\\{name}",
        lambda name: f"/home/somebody/photos/images/{name}",
        lambda name: name.upper(),
        lambda name: name.removesuffix(".png"),
        lambda name: name.replace(".png", ".jpg"),
        lambda name: str(int(name.removesuffix(".png"))),
        lambda name: f"{int(name.removesuffix('.png'))}.0",
    ],
    ids=["dots", "windows", "another-machine", "capitals", "no-suffix", "other-suffix", "lost-zeros", "decimals"],
)
def test_a_row_finds_its_image_however_it_is_written(change: object, tmp_path: Path) -> None:
    rows = [[change(row[0]) if i else row[0], row[1]] for i, row in enumerate(alternating())]  # type: ignore[operator]
    listing = read(labelled(tmp_path / "set", rows))
    assert labels_by_file(listing) == {f"images/{i:03d}.png": "ab"[i % 2] for i in range(6)}


def test_of_two_files_of_one_name_the_longest_common_end_decides(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("part1/x"), *several("part2/x"))
    table(root / "l.csv", [["f", "l"], *([f"/old/{p}/x/{i:03d}.png", p] for i in range(6) for p in ("part1", "part2"))])
    assert all(name.startswith(label) for name, label in labels_by_file(read(root, layout="table")).items())


def test_a_name_that_two_files_have_is_set_aside(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("part1", 3), *several("part2", 6))
    table(root / "labels.csv", [["file", "label"], *([f"{i:03d}.png", "ab"[i % 2]] for i in range(6))])
    listing = read(root)
    assert set(labels_by_file(listing)) == {f"part2/{i:03d}.png" for i in (3, 4, 5)}
    assert {aside.reason for aside in listing.set_aside} == {
        "named in labels.csv, but several images are called so: give more of their path"
    }


def test_two_names_of_one_file_are_set_aside(tmp_path: Path) -> None:
    root = labelled(tmp_path / "set", [*alternating(), ["cat/000.png", "b"]])
    listing = read(root)
    assert "images/000.png" not in labels_by_file(listing)
    assert sum("could be images/000.png" in aside.reason for aside in listing.set_aside) == 2


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "None", "NA", "<NA>", "null"])
def test_ways_to_leave_a_label_out_are_no_class(cell: str, tmp_path: Path) -> None:
    listing = read(labelled(tmp_path / "set", [*alternating()[:-1], ["005.png", cell]]))
    assert listing.classes == ("a", "b")
    assert [aside.file for aside in listing.set_aside] == ["images/005.png"]
    assert any("1 row has no label" in note for note in listing.warnings)


def test_one_hot_columns_are_classes_and_rows_of_several_are_set_aside(tmp_path: Path) -> None:
    hot = [["1", "0", "0"], ["0", "1", "0"], ["0", "0", "1"], ["1", "0", "0"], ["0", "1", "0"], ["1", "1", "0"]]
    rows = [["image", "healthy", "rust", "scab"], *([f"{i:03d}.png", *cells] for i, cells in enumerate(hot))]
    listing = read(labelled(tmp_path / "set", rows))
    assert counts(listing) == {"healthy": 2, "rust": 2, "scab": 1}
    assert [(a.file, a.reason) for a in listing.set_aside] == [
        ("images/005.png", "has several labels in labels.csv ('healthy, rust')")
    ]


@pytest.mark.parametrize(
    ("column", "cells"), [("split", ("train", "val", "test")), ("Usage", ("Training", "PublicTest", "PrivateTest"))]
)
def test_a_split_column(column: str, cells: tuple[str, str, str], tmp_path: Path) -> None:
    rows = [["file", "label", column], *([f"{i:03d}.png", "ab"[i % 2], cells[i // 4]] for i in range(12))]
    listing = read(labelled(tmp_path / "set", rows, number=12))
    assert counts(listing) == {f"{s}/{c}": 2 for s in ("test", "train", "validation") for c in "ab"}


def test_a_flag_may_tell_the_split(tmp_path: Path) -> None:
    rows = [["file", "label", "is_train"], *([f"{i:03d}.png", "ab"[i % 2], str(int(i < 4))] for i in range(6))]
    assert counts(read(labelled(tmp_path / "set", rows))) == {"test/a": 1, "test/b": 1, "train/a": 2, "train/b": 2}


def test_combined_labels_are_said_to_be_classes_of_their_own(tmp_path: Path) -> None:
    rows = [["file", "labels"], *([f"{i:03d}.png", ("rust", "scab", "rust scab")[i % 3]] for i in range(6))]
    assert any(
        "combined labels such as 'rust scab'" in note for note in read(labelled(tmp_path / "set", rows)).warnings
    )


def test_a_group_column_stays_with_the_images(tmp_path: Path) -> None:
    rows = [["file", "label", "patient"], *([f"{i:03d}.png", "ab"[i % 2], f"p{i // 2}"] for i in range(6))]
    listing = read(labelled(tmp_path / "set", rows), group_column="patient")
    assert [sample.group for sample in listing.samples] == ["p0", "p0", "p1", "p1", "p2", "p2"]


def test_an_absent_group_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError,
        match=r"no column 'subject' \(--group\); it has: who, what|no table that names the images has such a column",
    ):
        read(labelled(tmp_path / "set", alternating()), group_column="subject")
