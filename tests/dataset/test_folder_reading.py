"""Folders: which of them are classes, which are splits, and what is said of the rest."""

from pathlib import Path

import pytest

from schema.errors import DatasetError
from tests.dataset.trees import counts, plant, read, several, table


@pytest.mark.parametrize(
    ("train", "held_out", "split"),
    [
        ("Train_Set", "eval", "validation"),
        ("seg_train", "seg_test", "test"),
        ("training", "testing", "test"),
        ("train2017", "val2017", "validation"),
        ("train_images", "dev", "validation"),
        ("TrainImages", "TestImages", "test"),
    ],
)
def test_splits_are_known_by_their_names_and_by_equal_class_names(
    train: str, held_out: str, split: str, tmp_path: Path
) -> None:
    files = [f for part in (train, held_out) for label in ("cat", "dog") for f in several(f"{part}/{label}")]
    listing = read(plant(tmp_path / "set", *files))
    assert listing.layout == "split-folders"
    assert counts(listing) == {"train/cat": 6, "train/dog": 6, f"{split}/cat": 6, f"{split}/dog": 6}


def test_splits_may_lie_in_folders_of_the_same_name(tmp_path: Path) -> None:
    files = [
        f
        for part in ("seg_train/seg_train", "seg_test/seg_test")
        for c in ("sea", "ice")
        for f in several(f"{part}/{c}")
    ]
    listing = read(plant(tmp_path / "set", *files, *several("seg_pred/seg_pred", 3)))
    assert counts(listing) == {"test/ice": 6, "test/sea": 6, "train/ice": 6, "train/sea": 6}
    assert sum(listing.unused.values()) == 3


def test_splits_inside_class_folders(tmp_path: Path) -> None:
    files = [f for label in ("cat", "dog") for part in ("train", "test") for f in several(f"{label}/{part}")]
    assert counts(read(plant(tmp_path / "set", *files))) == {
        "test/cat": 6,
        "test/dog": 6,
        "train/cat": 6,
        "train/dog": 6,
    }


@pytest.mark.parametrize(
    "names", [("bus", "car", "train"), ("license", "passport"), ("test", "control"), ("readme", "spam")]
)
def test_a_class_may_have_the_name_of_a_split_or_of_a_note(names: tuple[str, ...], tmp_path: Path) -> None:
    listing = read(plant(tmp_path / "set", *(f for name in names for f in several(name))))
    assert set(listing.classes) == set(names)


def test_two_folders_named_after_splits_without_classes_are_no_classes(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("train"), *several("test"))
    with pytest.raises(DatasetError, match=r"not names of classes.*--layout class-folders"):
        read(root)
    assert set(read(root, layout="class-folders").classes) == {"train", "test"}


def test_class_folders_one_level_down_beside_notes(tmp_path: Path) -> None:
    listing = read(
        plant(tmp_path / "set", *several("images/cat"), *several("images/dog"), "meta/classes.txt", "README.md")
    )
    assert counts(listing) == {"cat": 6, "dog": 6}
    assert listing.unused == {"files that are no images (.txt)": 1, "files that are no images (.md)": 1}


def test_parts_of_a_data_set_are_joined(tmp_path: Path) -> None:
    files = [f for part in ("part1", "part2") for c in ("cat", "dog") for f in several(f"{part}/{c}")]
    assert counts(read(plant(tmp_path / "set", *files))) == {"cat": 12, "dog": 12}


def test_folders_that_may_be_classes_or_sources_are_asked_about(tmp_path: Path) -> None:
    files = [f for outer in ("museum", "web") for c in ("cat", "dog") for f in several(f"{outer}/{c}")]
    root = plant(tmp_path / "set", *files)
    with pytest.raises(DatasetError, match=r"2 ways.*--layout class-folders.*--layout inner-folders"):
        read(root)
    assert set(read(root, layout="inner-folders").classes) == {"cat", "dog"}
    assert set(read(root, layout="class-folders").classes) == {"museum", "web"}


def test_a_taxonomy_is_merged_and_that_is_said(tmp_path: Path) -> None:
    listing = read(
        plant(tmp_path / "set", *(f for n in ("animals/cat", "animals/dog", "plants/oak") for f in several(n)))
    )
    assert counts(listing) == {"animals": 12, "plants": 6}
    assert any("animals = cat, dog" in note and "--layout inner-folders" in note for note in listing.warnings)


def test_sessions_inside_class_folders_are_no_classes(tmp_path: Path) -> None:
    files = [f for c in ("cat", "dog") for day in ("day1", "day2") for f in several(f"{c}/{day}")]
    assert counts(read(plant(tmp_path / "set", *files))) == {"cat": 12, "dog": 12}


@pytest.mark.parametrize("masks", ["masks", "annotations/trimaps", "ground_truth"])
def test_masks_beside_images_are_no_class(masks: str, tmp_path: Path) -> None:
    files = [f for label in ("cat", "dog") for part in ("images", masks) for f in several(f"{label}/{part}")]
    listing = read(plant(tmp_path / "set", *files))
    assert counts(listing) == {"cat": 6, "dog": 6}
    assert sum(listing.unused.values()) == 12


def test_masks_named_after_their_image_are_no_images(tmp_path: Path) -> None:
    files = [
        f"{c}/{c} ({i}){end}.png" for c in ("benign", "normal") for i in range(4) for end in ("", "_mask", "_mask_1")
    ]
    listing = read(plant(tmp_path / "set", *files))
    assert counts(listing) == {"benign": 4, "normal": 4}
    assert listing.unused == {"masks beside their images": 16}


def test_a_class_called_mask_is_a_class(tmp_path: Path) -> None:
    assert counts(read(plant(tmp_path / "set", *several("mask"), *several("no_mask")))) == {"mask": 6, "no_mask": 6}


def test_a_class_of_files_that_are_not_read_does_not_vanish(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("cat"), *several("dog"), *(f"bird/{i}.cr2" for i in range(3)))
    listing = read(root)
    assert listing.classes == ("bird", "cat", "dog")
    assert {aside.reason for aside in listing.set_aside} == {"is a camera raw file: export it as JPEG or PNG"}


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("cat"), *several("dog"), "bird/notes.txt")
    assert any("'bird' holds no images" in note for note in read(root).warnings)


def test_accents_of_another_system_are_the_same_class(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("train/caf\u00e9"), *several("train/th\u00e9"), *several("test/cafe\u0301"))
    assert counts(read(root)) == {"test/caf\u00e9": 6, "train/caf\u00e9": 6, "train/th\u00e9": 6}


def test_leftovers_of_other_systems_are_counted_and_not_read(tmp_path: Path) -> None:
    junk = [
        "__MACOSX/cat/._000.png",
        "cat/@eaDir/000.png",
        "$RECYCLE.BIN/x.png",
        "cat/Thumbs.db",
        ".ipynb_checkpoints/a.png",
    ]
    listing = read(plant(tmp_path / "set", *several("cat"), *several("dog"), *junk))
    assert counts(listing) == {"cat": 6, "dog": 6}
    assert listing.unused == {"hidden files and leftovers of file managers, archives and network drives": 5}


def test_every_file_is_an_image_in_use_or_set_aside_or_counted(tmp_path: Path) -> None:
    files = [
        *several("train/cat"),
        *several("train/dog"),
        *several("test", 4),
        *several("extra", 3),
        "a.png",
        "train/b.png",
        "notes.md",
    ]
    listing = read(plant(tmp_path / "set", *files))
    assert len(listing.samples) + len(listing.set_aside) + sum(listing.unused.values()) == len(files)


def test_a_detection_set_is_refused_as_one(tmp_path: Path) -> None:
    root = plant(tmp_path / "set", *several("images/train"), *several("images/val"))
    for part in ("train", "val"):
        (root / "labels" / part).mkdir(parents=True)
        for i in range(6):
            (root / "labels" / part / f"{i:03d}.txt").write_text("0 .5 .5 .2 .2\n")
    with pytest.raises(DatasetError, match="object detection"):
        read(root)


def refusal(root: Path, **options: str) -> str:
    with pytest.raises(DatasetError) as refused:
        read(root, **options)
    return str(refused.value)


@pytest.mark.parametrize("outer", [("fold_1", "fold_2"), ("224", "512"), ("berlin", "paris"), ("color", "grayscale")])
def test_folders_that_each_hold_split_folders_are_asked_about(outer: tuple[str, str], tmp_path: Path) -> None:
    plant(
        tmp_path,
        *(f for o in outer for s in ("train", "test") for c in ("cat", "dog") for f in several(f"{o}/{s}/{c}", 3)),
    )
    told = refusal(tmp_path)
    assert "hold split folders (test/, train/) of their own. Give one of them, e.g. " in told
    assert told.endswith(outer[0])


def test_a_split_version_beside_the_originals_is_asked_about(tmp_path: Path) -> None:
    plant(tmp_path, *several("original/cat"), *several("original/dog"))
    plant(tmp_path, *(f for s in ("train", "test") for c in ("cat", "dog") for f in several(f"split/{s}/{c}", 3)))
    assert "'split' in" in refusal(tmp_path)
    assert "beside 'original'" in refusal(tmp_path)


def test_folders_of_subjects_between_split_and_class_are_no_classes(tmp_path: Path) -> None:
    plant(tmp_path, *(f for p in (8863, 8864) for c in "01" for f in several(f"train/{p}/{c}", 4)))
    plant(tmp_path, *(f for c in "01" for f in several(f"test/9001/{c}", 2)))
    listing = read(tmp_path)
    assert counts(listing) == {"test/0": 2, "test/1": 2, "train/0": 8, "train/1": 8}
    assert any("--group-pattern '^[^/]+/([^/]+)/'" in note for note in listing.warnings)


def test_parts_between_split_and_class_are_looked_through(tmp_path: Path) -> None:
    plant(tmp_path, *(f for p in (1, 2) for c in ("cat", "dog") for f in several(f"train/part{p}/{c}", 4)))
    plant(tmp_path, *(f for c in ("cat", "dog") for f in several(f"test/part1/{c}", 2)))
    assert counts(read(tmp_path)) == {"test/cat": 2, "test/dog": 2, "train/cat": 8, "train/dog": 8}


def test_splits_without_a_common_class_are_refused_with_both_sides(tmp_path: Path) -> None:
    plant(tmp_path, *several("train/cat"), *several("train/dog"), *several("test/Cats"), *several("test/Dogs"))
    assert "test/ holds 'Cats', 'Dogs'; train/ holds 'cat', 'dog'" in refusal(tmp_path)


def test_names_that_tell_split_and_class_are_taken_apart(tmp_path: Path) -> None:
    plant(tmp_path, *several("trainA"), *several("trainB"), *several("testA", 2), *several("testB", 2))
    assert counts(read(tmp_path)) == {"test/A": 2, "test/B": 2, "train/A": 6, "train/B": 6}


@pytest.mark.parametrize(
    ("outer", "inner"),
    [("grade{}", ("left", "right")), ("{}", ("original", "augmented")), ("type_{}", ("40X", "100X"))],
)
def test_numbered_folders_of_equal_folders_are_asked_about(outer: str, inner: tuple[str, str], tmp_path: Path) -> None:
    plant(tmp_path, *(f for i in range(3) for name in inner for f in several(f"{outer.format(i)}/{name}", 4)))
    told = refusal(tmp_path)
    assert "type --layout class-folders" in told
    assert "type --layout inner-folders" in told


@pytest.mark.parametrize("outer", ["day{}", "2021-03-0{}", "part_{}", "patient {}"])
def test_folders_that_count_or_date_are_no_classes(outer: str, tmp_path: Path) -> None:
    plant(tmp_path, *(f for i in (1, 2) for name in ("cat", "dog") for f in several(f"{outer.format(i)}/{name}", 4)))
    assert counts(read(tmp_path)) == {"cat": 8, "dog": 8}


@pytest.mark.parametrize(
    "names", [("rgb", "depth"), ("100CANON", "101CANON"), ("img", "lbl"), ("images", "1st_manual")]
)
def test_folders_of_pictures_of_one_thing_are_no_classes(names: tuple[str, str], tmp_path: Path) -> None:
    plant(tmp_path, *several(names[0]), *several(names[1]))
    assert "labels are unknown" in refusal(tmp_path)


def test_evaluation_is_the_test_part_beside_a_validation_part(tmp_path: Path) -> None:
    plant(
        tmp_path, *(f for s in ("training", "validation", "evaluation") for c in "ab" for f in several(f"{s}/{c}", 3))
    )
    assert counts(read(tmp_path)) == {f"{s}/{c}": 3 for s in ("test", "train", "validation") for c in "ab"}


def test_folders_merged_into_one_class_are_named(tmp_path: Path) -> None:
    plant(
        tmp_path, *several("train/Cat"), *several("train/cat", start=50), *several("train/dog"), "train/dog/old/1.png"
    )
    plant(tmp_path, *several("test/cat", 2), *several("test/dog", 2))
    notes = read(tmp_path).warnings
    assert "folders whose names differ only in how they are written are one class: 'Cat', 'cat'" in notes
    assert any("dog = its own 6 and old" in note for note in notes)


def test_a_set_that_holds_itself_once_more_has_its_own_classes_alone(tmp_path: Path) -> None:
    """As Kaggle's malaria set: cell_images/cell_images/."""
    for top in ("cells", "cells/cells"):
        plant(tmp_path, *several(f"{top}/sick", 4), *several(f"{top}/well", 4))
    listing = read(tmp_path)
    assert counts(listing) == {"sick": 8, "well": 8}
    assert any("'cells' holds folders of the same names" in note for note in listing.warnings)


def test_a_test_part_with_one_folder_of_no_class_has_no_labels(tmp_path: Path) -> None:
    plant(tmp_path, *several("train/cat"), *several("train/dog"), *several("test/unknown", 5))
    listing = read(tmp_path)
    assert counts(listing) == {"train/cat": 6, "train/dog": 6}
    assert listing.unused == {"images in test/, which has no class folders": 5}


def test_lists_of_files_give_the_splits_of_class_folders(tmp_path: Path) -> None:
    plant(tmp_path, *several("images/cat"), *several("images/dog"))
    for split, rows in {"train": range(3), "val": (3,), "test": (4, 5)}.items():
        lines = [f"{name}/{i:03d}" for name in ("cat", "dog") for i in rows]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
    listing = read(tmp_path)
    assert counts(listing) == {
        **{f"test/{name}": 2 for name in ("cat", "dog")},
        **{f"train/{name}": 3 for name in ("cat", "dog")},
        **{f"validation/{name}": 1 for name in ("cat", "dog")},
    }
    assert listing.reading.endswith("test.txt, train.txt, val.txt give the splits")


def test_a_file_that_may_give_splits_and_is_not_understood_is_named(tmp_path: Path) -> None:
    plant(tmp_path, *several("images/cat"), *several("images/dog"))
    (tmp_path / "train_test_split.txt").write_text("".join(f"{901 + i} {i % 2}\n" for i in range(12)))
    assert any("train_test_split.txt may give the splits" in note for note in read(tmp_path).warnings)


def test_a_table_of_labels_that_fits_several_images_of_each_name_is_asked_about(tmp_path: Path) -> None:
    plant(tmp_path, *several("a"), *several("b"))
    table(tmp_path / "labels.csv", [["file", "label"], *([f"{i:03d}.png", ("cat", "dog")[i % 2]] for i in range(6))])
    assert "--layout class-folders" in refusal(tmp_path)
    assert counts(read(tmp_path, layout="class-folders")) == {"a": 6, "b": 6}


def test_classes_that_differ_in_capitals_are_all_named(tmp_path: Path) -> None:
    plant(tmp_path, *(f for name in ("Cat", "cat", "Dog", "dog") for f in several(name)))
    assert any("'Cat' and 'cat', 'Dog' and 'dog'" in note for note in read(tmp_path).warnings)


def test_pictures_in_hidden_folders_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, *several("cat"), *several("dog"), *several(".ipynb_checkpoints", 3))
    assert read(tmp_path).unused == {"hidden files and leftovers of file managers, archives and network drives": 3}


@pytest.mark.parametrize(
    ("name", "pattern"), [("{k}_{i:04d}.png", r"'^(\d+)[_-]'"), ("IMG{i:03d}_{word}.png", r"'[_-]([A-Za-z]+)\.[^.]+$'")]
)
def test_names_that_begin_or_end_with_their_class_are_suggested(name: str, pattern: str, tmp_path: Path) -> None:
    plant(tmp_path, *(name.format(i=i, k=i % 3, word=("cat", "dog")[i % 2]) for i in range(24)))
    assert f"--label-pattern {pattern}" in refusal(tmp_path)


def test_a_set_that_holds_itself_twice_more_is_counted_to_the_last_image(tmp_path: Path) -> None:
    plant(tmp_path, *several("sick", 4), *several("well", 4))
    for top in ("again", "oncemore", "oncemore/again"):
        plant(tmp_path, *several(f"{top}/sick", 4), *several(f"{top}/well", 4))
    listing = read(tmp_path)
    assert counts(listing) == {"sick": 12, "well": 12}
    assert sum(listing.unused.values()) == 8
