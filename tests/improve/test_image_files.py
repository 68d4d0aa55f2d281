"""What `improve predict` is given becomes a list of files: folders, patterns, lists, and what is told of the rest."""

import os
from pathlib import Path

import pytest

from improve.image_files import images_given
from schema.errors import InputError
from tests.scripted import image_folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "photos", per_class=2)


def listed(raw: bytes = b"") -> bytes:
    return raw


def test_a_folder_gives_its_images_whatever_their_suffix_and_counts_the_rest(photos: Path) -> None:
    (photos / "left" / "0.png").rename(photos / "left" / "without-suffix")
    (photos / "notes.txt").write_text("x")
    given = images_given([str(photos)], listed)
    names = ["left/1.png", "left/without-suffix", "right/0.png", "right/1.png"]
    assert sorted(file.relative_to(photos).as_posix() for file in given.files) == names
    assert len(given.notes) == 1
    assert "4 images, and not read: 1 × files that are no images (.txt)" in given.notes[0]


def test_a_pattern_in_quotes_is_spelt_out(photos: Path) -> None:
    assert images_given([f"{photos}/**/0.png"], listed).files == [photos / "left" / "0.png", photos / "right" / "0.png"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].png").write_text("")
    assert images_given([f"{tmp_path}/a[1].png"], listed).files == [tmp_path / "a[1].png"]


@pytest.mark.parametrize("raw", [b"a.png\nb c.png\n", b"a.png\r\nb c.png", b"a.png\0b c.png\0"])
def test_a_list_has_a_path_in_each_line_or_before_each_nul(raw: bytes) -> None:
    assert images_given(["-"], lambda: raw).files == [Path("a.png"), Path("b c.png")]


def test_a_path_in_a_list_may_hold_a_line_break_or_bytes_that_are_no_text() -> None:
    files = images_given(["-"], lambda: b"a\nb.png\0\xe9.png\0").files
    assert [os.fsencode(file) for file in files] == [b"a\nb.png", b"\xe9.png"]


@pytest.mark.parametrize(("argument", "message"), [("zz*.png", "no file matches"), ("-", "no image to predict")])
def test_where_nothing_is_found_the_message_says_so(argument: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        images_given([argument], listed)


def test_a_folder_without_an_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 images"):
        images_given([str(tmp_path)], listed)
