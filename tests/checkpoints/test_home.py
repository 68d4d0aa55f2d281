"""Where things lie, and what a person is told when they cannot lie there."""

from pathlib import Path

import pytest

from checkpoints.home import fresh_name, prepare_home, valid_run_name
from schema.errors import HomeError, SettingsError


def test_the_home_is_created(home: Path) -> None:
    assert prepare_home() == home
    assert home.is_dir()


def test_a_file_in_its_place_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("IMPROVE_HOME", str(tmp_path / "taken" / "home"))
    with pytest.raises(HomeError, match=r"taken.*export IMPROVE_HOME="):
        prepare_home()


def test_a_home_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPROVE_HOME", "/proc/improve")
    with pytest.raises(HomeError, match="/proc/improve cannot be written"):
        prepare_home()


@pytest.mark.parametrize("name", ["demo", "a", "photos-2", "A.b_c", "x" * 64])
def test_good_run_names(name: str) -> None:
    assert valid_run_name(name) == name


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", "x" * 65, "ä", "a\n"])
def test_bad_run_names_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="1 to 64 letters"):
        valid_run_name(name)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("photos/", "photos"),
        ("my photos.zip", "my-photos"),
        ("x/data.tar.gz", "data"),
        ("...", "run"),
        ("digits", "digits"),
    ],
)
def test_a_run_is_named_after_its_data(source: str, expected: str) -> None:
    assert fresh_name(source, []) == expected


def test_a_taken_name_gets_a_number(home: Path) -> None:
    (home / "runs" / "photos").mkdir(parents=True)
    assert fresh_name("photos", []) == "photos-2"


def test_a_name_that_only_the_store_has_is_taken_too(home: Path) -> None:
    assert fresh_name("photos", ["photos"]) == "photos-2"
