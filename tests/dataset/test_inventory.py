"""Every file of the source is found once: as an image, a table, a picture that is not read, or something else."""

import os
import subprocess
from pathlib import Path

import pytest

from dataset.discover import discover
from dataset.inventory import count_others, foreign_below, images_below, natural, take_inventory
from schema.errors import DatasetError
from tests.dataset.trees import plant


def test_images_are_known_by_suffix_or_by_content(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.PNG", "a/2.jpeg", "b/3.png")
    (tmp_path / "b/3.png").rename(tmp_path / "b/no-suffix")
    assert list(images_below(take_inventory(tmp_path))) == ["a/1.PNG", "a/2.jpeg", "b/no-suffix"]


@pytest.mark.parametrize("name", ["IMG_1.CR2", "scan.dcm", "drawing.svg", "slide.svs", "film.mp4"])
def test_a_picture_that_no_decoder_of_ours_reads_has_a_reason(name: str, tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png")
    (tmp_path / "a" / name).write_bytes(b"anything")
    ((path, reason),) = foreign_below(take_inventory(tmp_path))
    assert path == f"a/{name}"
    assert "export" in reason


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "@eaDir", "__MACOSX", "desktop.ini", "._photo.jpg", "$RECYCLE.BIN"]
)
def test_leftovers_of_systems_are_counted_and_not_entered(name: str, tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png")
    if "." in name[1:] and not name.endswith("BIN"):
        (tmp_path / "a" / name).write_bytes(b"x")
    else:
        plant(tmp_path / "a" / name, "x.png")
    tree = take_inventory(tmp_path)
    assert list(images_below(tree)) == ["a/1.png"]
    assert count_others(tree, set()) == {"hidden files and leftovers of file managers, archives and network drives": 1}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert list(images_below(take_inventory(tmp_path))) == ["a/1.png"]


def test_a_link_to_nothing_and_a_pipe_are_named(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    assert dict(foreign_below(take_inventory(tmp_path))) == {
        "a/gone.png": "is a link to nothing",
        "a/pipe.jpg": "is a pipe or a device, not a file",
    }


def test_archives_and_other_files_are_counted_by_kind(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "more.zip", "notes.md", "README", "labels.csv", "old.csv")
    assert count_others(take_inventory(tmp_path), {"labels.csv"}) == {
        "archives that were not unpacked (.zip)": 1,
        "files that are no images (.md)": 1,
        "files that are no images (no suffix)": 1,
        "files that are no images (.csv)": 1,
    }


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    plant(tmp_path, "a/1.png")
    (tmp_path / "a").chmod(0)
    with pytest.raises(DatasetError, match="a cannot be read: Permission denied. Check its permissions"):
        take_inventory(tmp_path)
    (tmp_path / "a").chmod(0o700)


def test_numbers_in_names_are_sorted_as_numbers(tmp_path: Path) -> None:
    plant(tmp_path, "10/a.png", "9/a.png", "9/b10.png", "9/b9.png")
    assert list(images_below(take_inventory(tmp_path))) == ["9/a.png", "9/b9.png", "9/b10.png", "10/a.png"]


def test_folders_in_one_another_without_end_are_walked(tmp_path: Path) -> None:
    """Deeper than Python calls itself; also below what file managers leave."""
    before = Path.cwd()
    try:
        for start in ("d", "__MACOSX"):
            os.chdir(tmp_path)
            for name in [start, *["d"] * 1200]:
                Path(name).mkdir()
                os.chdir(name)
            Path("a.png").write_bytes(b"x")
    finally:
        os.chdir(before)
    tree = take_inventory(tmp_path)
    assert (tree.total, tree.leftovers) == (1, 1)
    subprocess.run(
        ["rm", "-rf", str(tmp_path / "d"), str(tmp_path / "__MACOSX")], check=True
    )  # pytest's own removal is recursive


def test_a_table_behind_a_link_that_leads_out_is_never_opened(tmp_path: Path) -> None:
    """Messages quote tables: a link could make one of any file of the user's."""
    secret = tmp_path / "home" / ".env"
    secret.parent.mkdir()
    secret.write_text("OPENAI_API_KEY=sk-secret,x\na,b\n")
    source = tmp_path / "source"
    plant(source, "a/1.png", "a/2.png", "b/1.png", "b/2.png", "notes/own.csv")
    (source / "labels.csv").symlink_to(secret)
    (source / "linked").symlink_to(secret.parent)
    (secret.parent / "deeper").mkdir()
    (secret.parent / "deeper" / "labels.csv").write_text("file,label\nsk-secret.png,a\n")
    (source / "again.csv").symlink_to(source / "notes" / "own.csv")
    tree = take_inventory(source)
    assert tree.tables_outside == ["labels.csv"]
    assert tree.tables == ["again.csv"]
    told = discover(str(source), workdir=tmp_path / "unpacked")
    assert "sk-secret" not in repr(told)
    assert told.unused["tables behind a link out of the folder (give one with --labels)"] == 2


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux")
def test_files_of_the_kernel_are_no_files(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png")
    for name, place in {"labels.csv": "/proc/kmsg", "picture": "/proc/self/maps", "a/2.png": "/proc/self/mem"}.items():
        (tmp_path / name).symlink_to(place)
    (tmp_path / "c").symlink_to("/proc/self")
    (tmp_path / "d").symlink_to("/sys/kernel")
    tree = take_inventory(tmp_path)
    assert [folder.name for folder in tree.folders] == ["a", "b"]
    assert (tree.tables, tree.images) == ([], [])
    assert tree.folders[0].images == ["1.png"]


def test_numbers_of_any_length_are_in_their_order() -> None:
    names = [
        "a2",
        "a10",
        f"a{'9' * 18}",
        f"a1{'0' * 18}",
        f"a{'0' * 5000}1{'0' * 17}1",
        f"a{'1' * 5000}",
        f"a2{'1' * 4999}",
    ]
    names += [f"a1{'0' * 5000}"]
    shuffled = sorted(names)
    assert sorted(shuffled, key=natural) == sorted(
        names, key=lambda name: (len(name[1:].lstrip("0")), name[1:].lstrip("0"))
    )
