"""What is taken home is enough for a stranger: to use it, to check its score with the original images, to have the same split and versions."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from checkpoints.store import open_store
from dataset.manifest import FILES
from graph.run import run
from improve.api import load
from improve.export import export
from improve.export_readme import readme
from nodes.services import Services
from schema.settings import Settings
from tests.graph.test_resume import Jobs
from tests.scripted import MODEL, PIPELINE, ScriptedTeam, image_folder

SCIPY = f"import scipy.stats\n{MODEL}\n\nUNUSED = scipy.stats.norm\n"


@pytest.fixture
def home_taken(home: Path, tmp_path: Path) -> Path:
    """Where nothing is yet."""
    return tmp_path / "taken"


def finished(source: Path, **more: object) -> None:
    """A run with instant jobs, and weights that are none."""
    team = ScriptedTeam([], first=PIPELINE.with_code("model", SCIPY))
    given = {"dataset": str(source), "iterations": 0, "device": "cpu", "base_url": "http://host.lan:8000/v1"} | more
    run(Settings.model_validate(given), name="r", services=Services(team=lambda *_: team, jobs=Jobs()))
    load("r").weights.write_bytes(b"weights")


def test_all_that_a_stranger_needs_is_there(home_taken: Path, tmp_path: Path) -> None:
    finished(image_folder(tmp_path / "photos"), seed=7)
    files = {path.name for path in export("r", home_taken, open_store())}
    assert files == {path.name for path in home_taken.iterdir()}
    assert files == {"pipeline.py", "weights.safetensors", "report.md", "split.csv", "requirements.txt", "environment.json", "settings.json", "README.md", "improve-export.json"}  # fmt: skip
    assert json.loads((home_taken / "settings.json").read_text())["seed"] == 7


def test_requirements_are_those_of_the_run_and_of_what_its_script_imports(home_taken: Path, tmp_path: Path) -> None:
    finished(image_folder(tmp_path / "photos"))
    store = open_store()
    environment = store.run("r").environment
    assert environment
    then = environment.packages | {"torch": "1.13", "scipy": "1.0"}
    store.set_environment("r", environment.model_copy(update={"packages": then}))
    export("r", home_taken, store)
    lines = (home_taken / "requirements.txt").read_text().splitlines()
    assert "torch==1.13" in lines
    assert "scipy==1.0" in lines
    assert not any(line.startswith("scikit-learn") for line in lines)


def test_settings_tell_nothing_of_the_persons_machine(home_taken: Path, tmp_path: Path) -> None:
    finished(image_folder(tmp_path / "photos"))
    export("r", home_taken, open_store())
    text = (home_taken / "settings.json").read_text()
    assert json.loads(text)["dataset"] == "photos"
    assert str(tmp_path) not in text
    assert "host.lan" not in text


def test_the_split_names_every_image_of_the_source(home_taken: Path, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    (photos / "left" / "empty.png").write_bytes(b"")
    finished(photos)
    export("r", home_taken, open_store())
    rows = list(csv.DictReader((home_taken / "split.csv").read_text().splitlines()))
    assert {row["file"] for row in rows} == {path.relative_to(photos).as_posix() for path in photos.rglob("*.png")}
    assert {row["split"] for row in rows} == {"train", "validation", "test", ""}
    assert [row["reason"] for row in rows if not row["split"]] == ["is empty (zero bytes)"]


def test_where_the_list_was_not_kept_the_readme_says_so(home_taken: Path, tmp_path: Path) -> None:
    finished(image_folder(tmp_path / "photos"))
    store = open_store()
    profile = store.run("r").profile
    assert profile
    (Path(profile.directory) / FILES).unlink()
    store._change("r", environment=None)
    export("r", home_taken, store)
    text = (home_taken / "README.md").read_text()
    assert "There is no `split.csv` here" in text
    assert "the versions of the day of this export" in text
    assert not (home_taken / "environment.json").exists()


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_the_script_for_a_set_of_torchvision_is_python(name: str, home_taken: Path, tmp_path: Path) -> None:
    finished(image_folder(tmp_path / "photos"))
    row = open_store().run("r")
    assert row.profile
    settings = row.settings.model_copy(update={"dataset": name})
    profile = row.profile.model_copy(update={"layout": "torchvision"})
    row = row.model_copy(update={"settings": settings, "profile": profile})
    text = readme(row, row.environment, has_split=True)
    assert "arrays = {" in script_of(text)
    compile(script_of(text), "check.py", "exec")


def script_of(text: str) -> str:
    """Of the README."""
    block = re.search(r"    import csv.*\n(?:    .*\n|\n)*", text)
    assert block
    return "\n".join(line[4:] for line in block[0].split("\n"))


def check(folder: Path, *arguments: str) -> str:
    """As a stranger does it: the README's script, saved beside the files, in a Python that knows nothing of IMPROVE."""
    (folder / "check.py").write_text(script_of((folder / "README.md").read_text()))
    command = [sys.executable, "check.py", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def array_file(place: Path) -> Path:
    random = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = random.integers(0, 120, (80, 12, 12), dtype=np.uint8)
    images[labels == 1, :, 6:] += 20
    np.savez(place, images=images, labels=labels)
    return place


def deep_folder(place: Path) -> Path:
    """Twelve bits in sixteen, as an X-ray has them."""
    random = np.random.default_rng(0)
    for label, columns in (("left", slice(0, 6)), ("right", slice(6, 12))):
        (place / label).mkdir(parents=True)
        for i in range(40):
            values = random.integers(0, 2000, (12, 12), dtype=np.uint16)
            values[:, columns] += 2000
            Image.fromarray(values).save(place / label / f"{i}.png")
    return place


def float_array_file(place: Path) -> Path:
    """Channels first, and values from 0 to 1."""
    with np.load(array_file(place)) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    np.savez(place, images=np.repeat(images[:, None], 3, 1).astype(np.float32) / 140, labels=labels)
    return place


SOURCES = {
    "a folder of deep images": lambda place: deep_folder(place / "scans"),
    "an array of floats": lambda place: float_array_file(place / "floats.npz"),
    "a folder": lambda place: image_folder(place / "photos"),
    "an array": lambda place: array_file(place / "photos.npz"),
    "a known name": lambda place: Path("digits"),
}


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_stranger_with_the_same_images_finds_the_reported_score(
    source: object, home_taken: Path, tmp_path: Path
) -> None:
    given: Path = source(tmp_path)  # type: ignore[operator]
    settings = Settings.model_validate({"dataset": str(given), "iterations": 0, "train_seconds": 10, "device": "cpu"})
    run(settings, name="r", services=Services(team=lambda *_: ScriptedTeam([])))
    test = load("r").test
    assert test
    export("r", home_taken, open_store())
    assert (
        check(home_taken, *([str(given)] if given.exists() else []))
        == f"test accuracy {test.accuracy:.4f} (n={test.n})"
    )
