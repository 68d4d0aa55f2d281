"""The assembled script is what the person takes home: it stands alone, and the same seed gives the same weights."""

import subprocess
import sys
from pathlib import Path

import pytest

from dataset.decode import SOURCE
from sandbox.assemble import assemble, sections
from schema.pipeline import COMPONENTS, Pipeline
from tests.scripted import PIPELINE, image_folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "pipeline.py", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_components_stand_in_their_marked_sections() -> None:
    script = assemble(PIPELINE, SOURCE, "title")
    lines = script.split("\n")
    for component in COMPONENTS:
        own = sections(script)[component]
        assert "\n".join(lines[own.start - 1 : own.stop - 1]).strip() == PIPELINE.code(component).strip()


def test_only_the_tools_that_are_used_are_there() -> None:
    script = assemble(PIPELINE, SOURCE, "title")
    assert "def fit(" in script
    assert "def cutmix(" not in script
    assert "def cutmix(" in assemble(PIPELINE.with_code("data", PIPELINE.data + "\nused = cutmix\n"), SOURCE, "title")


def test_a_broken_component_still_has_its_lines() -> None:
    broken = Pipeline(data="def (:", model=PIPELINE.model, training=PIPELINE.training)
    assert sections(assemble(broken, SOURCE, "title"))["data"]


@pytest.mark.slow
def test_it_trains_and_predicts_alone_and_the_same_twice(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    (tmp_path / "pipeline.py").write_text(assemble(PIPELINE, SOURCE, "title"))
    for out in ("one", "two"):
        done = run(
            tmp_path,
            "train",
            "--data",
            str(photos),
            "--out",
            out,
            "--epochs",
            "3",
            "--seed",
            "1",
            "--threads",
            "1",
            "--device",
            "cpu",
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one" / "weights.safetensors").read_bytes() == (
        tmp_path / "two" / "weights.safetensors"
    ).read_bytes()
    done = run(
        tmp_path, "predict", "--weights", "one/weights.safetensors", str(photos / "left" / "0.png"), "absent.png"
    )
    assert "0.png\tleft" in done.stdout
    assert "cannot be read" in done.stdout
