"""Tables of labels: which column says what, and which image a row means. Nothing is guessed."""

import time
from collections import Counter
from pathlib import Path

import pytest

from dataset.label_table import Table
from dataset.listing import Listing
from dataset.table_columns import one_hot_columns
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


def read_labelled(root: Path, head: list[str], rows: list[list[str]]) -> Listing:
    plant(root, *several("images", 24))
    table(root / "labels.csv", [head, *rows])
    return read(root)


def a_label(i: int) -> str:
    return "cat" if i % 2 else "dog"


@pytest.mark.parametrize("head", [["id", "filename", "label"], ["", "photo", "label"], ["nr", "scan", "label"]])
def test_names_of_files_win_over_numbers_of_rows(head: list[str], tmp_path: Path) -> None:
    """Row 3 names 020.png: its number says nothing of 003.png."""
    rows = [[str(i), f"{(7 * i) % 24:03d}.png", a_label(i)] for i in range(24)]
    listing = read_labelled(tmp_path / "set", head, rows)
    assert labels_by_file(listing) == {f"images/{(7 * i) % 24:03d}.png": a_label(i) for i in range(24)}


@pytest.mark.parametrize(
    "name", ["https://example.org/a/{0:03d}.png?width=300", "images/%30{0:02d}.png", "http://[odd/{0:03d}.png"]
)
def test_addresses_name_the_images_at_their_ends(name: str, tmp_path: Path) -> None:
    listing = read_labelled(tmp_path / "set", ["url", "label"], [[name.format(i), a_label(i)] for i in range(24)])
    assert labels_by_file(listing)["images/003.png"] == "cat"


def test_two_columns_of_images_are_asked_about(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", f"{23 - i:03d}.png", a_label(i)] for i in range(24)]
    with pytest.raises(DatasetError, match="names images in several columns: left, right. Say which: --file-column"):
        read_labelled(tmp_path / "set", ["left", "right", "label"], rows)
    assert len(read(tmp_path / "set", file_column="left").samples) == 24


@pytest.mark.parametrize("weak", ["type", "level", "y", "tag"])
def test_a_weak_name_beside_another_possible_column_is_asked_about(weak: str, tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", "abc"[i % 3], a_label(i)] for i in range(24)]
    with pytest.raises(DatasetError, match=f"It has: {weak}, kind. Say so: --label-column NAME"):
        read_labelled(tmp_path / "set", ["file", weak, "kind"], rows)


def test_the_only_column_that_recurs_is_not_taken_for_the_labels_beside_others(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", str(1000 + 7 * i), "AB"[i % 2]] for i in range(24)]
    with pytest.raises(DatasetError, match="It has: bytes, camera. Say so: --label-column NAME"):
        read_labelled(tmp_path / "set", ["file", "bytes", "camera"], rows)


def test_flags_of_all_three_splits_are_read_together(tmp_path: Path) -> None:
    splits = ["train"] * 12 + ["val"] * 6 + ["test"] * 6
    rows = [
        [f"{i:03d}.png", a_label(i), *(str(split == name).upper() for name in ("train", "val", "test"))]
        for i, split in enumerate(splits)
    ]
    listing = read_labelled(tmp_path / "set", ["file", "label", "is_train", "is_val", "is_test"], rows)
    assert Counter(sample.split for sample in listing.samples) == {"train": 12, "validation": 6, "test": 6}
    assert listing.reading.endswith("its columns is_train, is_val, is_test give the splits")


def test_a_row_in_a_split_of_another_name_is_set_aside(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", a_label(i), ("train", "test", "excluded")[i % 3]] for i in range(24)]
    listing = read_labelled(tmp_path / "set", ["file", "label", "split"], rows)
    assert Counter(sample.split for sample in listing.samples) == {"train": 8, "test": 8}
    assert {one.reason for one in listing.set_aside} == {"is in no split that is known ('excluded') of labels.csv"}


def test_a_split_column_of_numbers_is_named_as_not_used(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", a_label(i), str(i % 3)] for i in range(24)]
    listing = read_labelled(tmp_path / "set", ["file", "label", "fold"], rows)
    assert "labels.csv: column 'fold' is not used, its values are no splits: 0, 1, 2" in listing.warnings


@pytest.mark.parametrize("marks", [("TRUE", "FALSE"), ("1", "-1"), ("x", ""), ("yes", "no")])
def test_a_column_per_class_in_any_way_of_saying_yes(marks: tuple[str, str], tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", *(marks[i % 3 != k] for k in range(3))] for i in range(24)]
    listing = read_labelled(tmp_path / "set", ["file", "bus", "car", "train"], rows)
    assert listing.classes == ("bus", "car", "train")
    assert labels_by_file(listing)["images/004.png"] == "car"


def test_two_flags_of_other_things_are_no_classes(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", str(i % 2), str(int(i % 3 == 0))] for i in range(24)]
    with pytest.raises(DatasetError, match="which column of labels.csv holds the labels. It has: is_night, sick"):
        read_labelled(tmp_path / "set", ["file", "is_night", "sick"], rows)


def test_labels_that_differ_in_spelling_only_are_told(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", ("1", "1.0", " b")[i % 3]] for i in range(24)]
    listing = read_labelled(tmp_path / "set", ["file", "label"], rows)
    assert listing.classes == ("1", "1.0", "b")
    assert any("differ only in how they are written: '1' and '1.0'" in note for note in listing.warnings)


def test_a_name_of_each_image_of_its_own_is_no_label(tmp_path: Path) -> None:
    """As images.txt of a bird set: number and path."""
    plant(tmp_path / "set", *several("cat", 10), *several("dog", 10, start=50))
    rows = [[str(i + 1), f"{'cat' if i < 10 else 'dog'}/{i if i < 10 else 40 + i:03d}.png"] for i in range(20)]
    table(tmp_path / "set/images.csv", [["image_id", "path"], *rows])
    assert counts(read(tmp_path / "set")) == {"cat": 10, "dog": 10}


def test_a_split_column_chooses_among_files_of_one_name(tmp_path: Path) -> None:
    plant(tmp_path / "set", *several("train", 10), *several("test", 10))
    rows = [[f"{i:03d}.png", split, a_label(i + (split == "test"))] for split in ("train", "test") for i in range(10)]
    table(tmp_path / "set/labels.csv", [["file", "split", "label"], *rows])
    found = labels_by_file(read(tmp_path / "set"))
    assert (found["train/002.png"], found["test/002.png"]) == ("dog", "cat")


def test_thirty_tables_are_all_read(tmp_path: Path) -> None:
    plant(tmp_path / "set", *several("images", 120))
    for k in range(30):
        rows = [[f"{i:03d}.png", a_label(i)] for i in range(4 * k, 4 * k + 4)]
        table(tmp_path / f"set/batch_{k:02d}.csv", [["file", "label"], *rows])
    assert len(read(tmp_path / "set").samples) == 120


def test_a_table_is_not_passed_over_for_its_name(tmp_path: Path) -> None:
    plant(tmp_path / "set", *several("images", 12))
    table(tmp_path / "set/license_plates.csv", [["image", "state"], *([f"{i:03d}.png", a_label(i)] for i in range(12))])
    assert counts(read(tmp_path / "set")) == {"cat": 6, "dog": 6}


def test_two_columns_of_one_name_that_differ_are_asked_about(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", a_label(i), "xyz"[i % 3]] for i in range(12)]
    with pytest.raises(DatasetError, match=r"several columns that may hold the labels: label \(2\), label \(3\)"):
        read_labelled(tmp_path / "set", ["file", "label", "label"], rows)
    with pytest.raises(DatasetError, match=r"several columns 'label'.*one of label \(2\), label \(3\)"):
        read(tmp_path / "set", label_column="label")
    assert set(read(tmp_path / "set", label_column="label (3)").classes) == {"x", "y", "z"}


def test_a_column_that_counts_the_rows_is_not_taken_for_names_that_fit_nothing(tmp_path: Path) -> None:
    plant(tmp_path / "set", *several("images", 12))
    rows = [[str(i), f"scan-{90 + i}", a_label(i)] for i in range(12)]
    table(tmp_path / "set/labels.csv", [["Unnamed: 0", "id", "label"], *rows])
    with pytest.raises(DatasetError, match="'Unnamed: 0' counts the rows .0 to 11.*'id' names no image.*--file-column"):
        read(tmp_path / "set")
    assert len(read(tmp_path / "set", file_column="Unnamed: 0").samples) == 12


def test_rows_that_count_from_0_beside_images_that_count_from_1_are_asked_about(tmp_path: Path) -> None:
    plant(tmp_path / "set", *several("images", 12, start=1))
    table(tmp_path / "set/labels.csv", [["id", "label"], *([str(i), a_label(i)] for i in range(12))])
    with pytest.raises(DatasetError, match="numbered 1 to 12: labels may be one image off"):
        read(tmp_path / "set")
    assert len(read(tmp_path / "set", file_column="id").samples) == 11


def test_rows_that_count_as_the_images_do_are_read(tmp_path: Path) -> None:
    plant(tmp_path / "set", *several("images", 12, start=1))
    table(tmp_path / "set/labels.csv", [["id", "label"], *([str(i + 1), a_label(i)] for i in range(12))])
    assert counts(read(tmp_path / "set")) == {"cat": 6, "dog": 6}


def test_labels_that_differ_in_capitals_accents_and_blanks_are_one_and_that_is_told(tmp_path: Path) -> None:
    spellings = ("Café", "café", "cafe\u0301", " café", "café\u200b", "Tea\u00a0House", "tea house")
    listing = read_labelled(
        tmp_path / "set", ["file", "label"], [[f"{i:03d}.png", spellings[i % 7]] for i in range(21)]
    )
    assert counts(listing) == {"Tea House": 6, "café": 15}
    assert any("taken as one: 'café' (also 'Café')" in note for note in listing.warnings)


def test_single_letters_of_either_case_are_classes(tmp_path: Path) -> None:
    listing = read_labelled(tmp_path / "set", ["file", "label"], [[f"{i:03d}.png", "Aa"[i % 2]] for i in range(12)])
    assert listing.classes == ("A", "a")


@pytest.mark.parametrize("subject", ["patient_id", "Patient ID", "lesion_id", "subject", "track_id"])
def test_a_column_of_subjects_is_suggested_for_groups(subject: str, tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", a_label(i // 2), f"P{i // 4}"] for i in range(24)]
    listing = read_labelled(tmp_path / "set", ["file", "diagnosis", subject], rows)
    assert any(f"--group {subject!r}" in note for note in listing.warnings)
    assert not any("--group" in note for note in read(tmp_path / "set", group_column=subject).warnings)


def test_measured_numbers_are_no_labels_and_that_is_told(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", f"0.{i + 11}"] for i in range(24)]
    with pytest.raises(DatasetError, match="no column of labels: 'score' holds measured numbers.*--label-column NAME"):
        read_labelled(tmp_path / "set", ["file", "score"], rows)
    with pytest.raises(DatasetError, match="column 'score' has 24 different values for 24 images"):
        read(tmp_path / "set", label_column="score")


def test_a_decimal_comma_is_measured_too(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", a_label(i), f"{i},{i + 1}"] for i in range(24)]
    listing = read_labelled(tmp_path / "set", ["Datei", "Klasse", "Gewicht"], rows)
    assert set(listing.classes) == {"cat", "dog"}


def test_one_box_in_each_image_leaves_the_label_of_the_image(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", "1", "1", "5", "5", a_label(i)] for i in range(12)]
    listing = read_labelled(tmp_path / "set", ["file", "xmin", "ymin", "xmax", "ymax", "label"], rows)
    assert set(listing.classes) == {"cat", "dog"}
    assert any("the boxes are not used" in note for note in listing.warnings)


def test_several_boxes_in_an_image_are_object_detection(tmp_path: Path) -> None:
    rows = [[f"{i // 2:03d}.png", "1", "1", "5", "5", a_label(i)] for i in range(24)]
    with pytest.raises(DatasetError, match="object detection"):
        read_labelled(tmp_path / "set", ["file", "xmin", "ymin", "xmax", "ymax", "class"], rows)


def test_a_label_of_several_words_with_bars_is_told_even_if_no_word_stands_alone(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", ("Effusion|Mass", "Hernia")[i % 2]] for i in range(12)]
    listing = read_labelled(tmp_path / "set", ["file", "label"], rows)
    assert any("'Effusion|Mass' were taken as classes of their own" in note for note in listing.warnings)


def test_a_table_inside_the_source_may_be_named_from_there(tmp_path: Path) -> None:
    root = labelled(tmp_path / "set", alternating(), "deep/labels.csv")
    assert counts(read(root, labels="deep/labels.csv")) == {"a": 3, "b": 3}


def test_what_an_annotation_tool_writes_beside_the_choice_is_no_label(tmp_path: Path) -> None:
    rows = [[f"{i:03d}.png", str(i), a_label(i), str(i % 2 + 1), str(900 + i), "2024-01-01"] for i in range(12)]
    header = ["image", "id", "choice", "annotator", "annotation_id", "created_at"]
    assert set(read_labelled(tmp_path / "set", header, rows).classes) == {"cat", "dog"}


def test_a_cell_of_very_many_digits_costs_no_time(tmp_path: Path) -> None:
    rows = [["file", "label", "more"], *([f"{i:03d}.png", "ab"[i % 2], "1" * 400_000 + "x"] for i in range(6))]
    root = labelled(tmp_path / "set", rows)
    begin = time.monotonic()
    assert counts(read(root)) == {"a": 3, "b": 3}
    assert time.monotonic() - begin < 10


def test_thousands_of_columns_of_yes_and_no_are_counted_once(tmp_path: Path) -> None:
    head = ["file", *(f"c{i}" for i in range(8000))]
    found = Table(tmp_path / "labels.csv", head, [["x.png", *["1"] * 8000] for _ in range(6)])
    begin = time.monotonic()
    assert one_hot_columns(found, list(range(1, 8001))) == []
    assert time.monotonic() - begin < 5


def test_one_flag_of_something_else_stands_among_the_classes(tmp_path: Path) -> None:
    rows = [["0", "1", "0", "1"], ["1", "0", "0", "1"], ["0", "0", "1", "0"], ["0", "1", "0", "1"]] * 3
    found = Table(tmp_path / "labels.csv", ["cat", "dog", "cow", "blurred"], rows)
    assert one_hot_columns(found, [0, 1, 2, 3]) == [0, 1, 2]
