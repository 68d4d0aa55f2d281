"""What `inspect` tells of images, and the page that it draws; the same summary stands at the start of a run."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from checkpoints.home import datasets_dir, split_secret
from dataset.discover import discover
from dataset.listing import ReadingOptions
from dataset.prepare import prepare
from improve.contact_sheet import contact_sheet
from improve.data_commands import run_command
from improve.data_summary import as_json, class_table, look_at_data, summary_lines
from improve.output_file import output_file
from schema.dataset import DatasetProfile
from schema.errors import InputError
from schema.settings import Settings, make_settings
from tests.dataset.decoding import shared_decoders


def photo(seed: int, side: int = 32) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty cats, ten dogs, two copies of which one contradicts, a broken file, and what is no image."""
    root = tmp_path / "photos"
    for label, number in (("cat", 20), ("dog", 10)):
        (root / label).mkdir(parents=True)
        for i in range(number):
            photo(1000 * (label == "dog") + i).save(root / label / f"{i:02d}.png")
    photo(0).save(root / "cat/again.png")
    photo(1).save(root / "dog/<b>cat.png")
    (root / "dog/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (root / "notes.md").write_text("mine", encoding="utf-8")
    photo(99).save(root / "loose.png")
    return root


def prepared(root: Path, **options: str) -> DatasetProfile:
    listing = discover(str(root), ReadingOptions(**options), workdir=root.parent / "unpacked")  # type: ignore[arg-type]
    return prepare(listing, datasets_dir(), secret=split_secret(), decoders=shared_decoders())


def improve(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "improve.cli", *words], capture_output=True, text=True, check=False)


def test_the_summary_names_the_reading_the_counts_and_all_that_is_not_used(photos: Path) -> None:
    told = "\n".join(summary_lines(prepared(photos)))
    assert told.startswith("read as: each folder is a class: cat, dog (")
    assert "data photos: 2 classes · train " in told
    assert "all 32 x 32 (PNG/RGB 32); stored at 32 x 32 colour" in told
    assert "duplicates: 2 exact, 0 near, 0 across splits, 1 with contradicting labels" in told
    assert "set aside: 1 (dog/broken.png " in told
    assert "1 × images beside the folders in use" in told
    assert "1 × files that are no images (.md)" in told


def test_scripts_get_every_number_and_every_file(photos: Path) -> None:
    facts = as_json(prepared(photos))
    assert facts["layout"] == "class-folders"
    assert facts["classes"] == ["cat", "dog"]
    assert {split: sum(found.values()) for split, found in facts["counts"].items()}.keys() == {
        "train",
        "validation",
        "test",
    }
    assert sum(found["cat"] for found in facts["counts"].values()) == 21
    assert [one["file"] for one in facts["set_aside"]] == ["dog/broken.png"]
    assert facts["unused"] == {"images beside the folders in use": 1, "files that are no images (.md)": 1}
    assert facts["groups"] is None
    assert (facts["size"], facts["channels"]) == ([32, 32], 3)
    assert {(one["file"], one["copy_of"], one["kind"]) for one in facts["duplicates"]["copies"]} == {
        ("cat/again.png", "cat/00.png", "exact"),
        ("dog/<b>cat.png", "cat/01.png", "exact"),
    }
    assert len(facts["mean"]) == 3
    assert all(0 < value < 1 for value in facts["mean"])


def test_groups_are_counted(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            photo(100 * (label == "dog") + i).save(tmp_path / "photos" / label / f"{label}{i % 4}_{i:02d}.png")
    profile = prepared(tmp_path / "photos", group_pattern=r"(\w+)_\d+")
    assert as_json(profile)["groups"] == 8
    assert "groups: 8, each kept on one side of every split" in summary_lines(profile)


def test_a_file_that_has_come_since_is_told_although_the_images_are_prepared(photos: Path) -> None:
    """The arrays of the same images are shared; what was not used is told anew each time."""
    prepared(photos)
    (photos / "cat/empty.jpg").write_bytes(b"")
    (photos / "more.txt").write_text("mine", encoding="utf-8")
    facts = as_json(prepared(photos))
    assert {one["file"] for one in facts["set_aside"]} == {"dog/broken.png", "cat/empty.jpg"}
    assert facts["unused"]["files that are no images (.txt)"] == 1


def test_of_many_classes_the_largest_and_the_smallest_are_shown(photos: Path) -> None:
    names = [f"class{i:03d}" for i in range(300)]
    counts = {split: list(range(10, 310)) for split in ("train", "validation", "test")}
    profile = prepared(photos).model_copy(update={"classes": names, "counts": counts})
    line = next(line for line in summary_lines(profile) if line.startswith("training images by class"))
    assert "class299 309" in line
    assert "class000 10" in line
    assert "290 more" in line
    assert class_table(profile).row_count == 25


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(root: Path) -> _Page:
    page = _Page()
    page.feed(contact_sheet(prepared(root), root, shared_decoders()))
    return page


def test_the_page_shows_each_class_the_copies_and_the_files_set_aside(photos: Path) -> None:
    page = page_of(photos)
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2 * 10 + 2 * 2  # of each class at most ten, and both of a pair; nothing of a broken file
    assert all(re.match(r"data:image/(png|jpeg);base64,", picture["src"] or "") for picture in pictures)
    assert "exact copy, but another label" in page.text
    assert "dog/broken.png" in page.text
    assert "files that are no images (.md)" in page.text


def test_the_page_runs_and_loads_nothing(photos: Path) -> None:
    """Names of files are text, whatever they contain."""
    page = page_of(photos)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "b0", "object"}
    assert "dog/<b>cat.png" in page.text
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_names_in_another_encoding_are_shown_with_their_bytes(photos: Path) -> None:
    folder = photos / os.fsdecode(b"k\xfche")
    folder.mkdir()
    for i in range(8):
        photo(200 + i).save(folder / os.fsdecode(b"%d\xff.png" % i))
    (folder / os.fsdecode(b"broken\xff.png")).touch()
    profile = prepared(photos)
    assert profile.classes == ["cat", "dog", "k\\xfche"]
    assert json.loads(json.dumps(as_json(profile)))["set_aside"][-1]["reason"]
    page = contact_sheet(profile, photos, shared_decoders())
    assert page.encode("utf-8").count(b"<h3>k\\xfche ") == 1


def test_inspect_tells_and_trains_nothing(photos: Path, tmp_path: Path) -> None:
    done = improve("inspect", str(photos), "--html", str(tmp_path / "sheet.html"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("read as: ")
    assert lines[-1] == f"Nothing was trained. Train on this: improve run {photos}"
    assert (tmp_path / "sheet.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_inspect_gives_json_alone_on_standard_output(photos: Path) -> None:
    done = improve("inspect", str(photos), "--json")
    facts = json.loads(done.stdout)
    assert {
        "layout",
        "reading",
        "classes",
        "counts",
        "set_aside",
        "unused",
        "notes",
        "groups",
        "size",
        "channels",
        "mean",
    } <= facts.keys()


def test_what_cannot_be_read_ends_inspect_as_it_ends_a_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = improve("inspect", str(tmp_path / "empty"), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("improve: ")


def test_a_page_is_never_written_over_something_else(photos: Path, tmp_path: Path) -> None:
    image = photos / "cat/00.png"
    before = image.read_bytes()
    done = improve("inspect", str(photos), "--html", str(image))
    assert done.returncode == 2
    assert f"--html {image}: it exists, and its name does not end in .html or .htm" in done.stderr
    assert image.read_bytes() == before


def test_a_file_that_could_not_be_finished_leaves_what_was_there(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("old", encoding="utf-8")
    with pytest.raises(ZeroDivisionError), output_file("--html", str(page), (".html",)) as out:
        out.write("half")
        _ = 1 / 0
    assert page.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [page]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    page = str(tmp_path / "nowhere/page.html")
    with pytest.raises(InputError, match="cannot be written: No such file"), output_file("--html", page, (".html",)):
        pass


def test_the_run_of_the_same_data_is_spelt_out() -> None:
    settings = Settings(dataset="my photos", group_column="patient", image_size=300, drop_rare_classes=True)
    assert run_command(settings) == "improve run 'my photos' --group patient --image-size 300 --drop-rare-classes"


def test_the_words_of_a_run_can_be_inspected_as_they_are(photos: Path) -> None:
    words = [
        "--iterations",
        "0",
        "--train-limit",
        "5s",
        "--metric",
        "macro_f1",
        "--describe",
        "pets",
        "--device",
        "cpu",
    ]
    assert improve("inspect", str(photos), *words, "--json").returncode == 0
    refused = improve("inspect", str(photos), "--metric", "f1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--metric 'f1'" in refused.stderr
    assert "--iterations" not in improve("inspect", "--help").stdout


def test_the_page_draws_nothing_that_lies_outside_the_folder(tmp_path: Path, home: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "private.png")
    rows, pictures = [], [f"{i:02}.png" for i in range(24)]
    for i, name in enumerate(pictures):
        Image.new("RGB", (8, 8), (10 * i, 0, 200)).save(root / name)
        rows.append(f"{name},{'ab'[i % 2]}")
    outside = [f"{tmp_path}/private.png,a", "../private.png,b", f"{root}/../private.png,b"]
    (root / "labels.csv").write_text("\n".join(["file,label", *rows, *outside]))
    look = look_at_data(make_settings({"dataset": str(root)}))
    page = contact_sheet(look.profile, look.root, shared_decoders())
    assert page.count("private.png") >= 3
    assert page.count("data:image") == 2 * 10  # ten of each class, and no other
