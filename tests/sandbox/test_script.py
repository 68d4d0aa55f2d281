# ruff: noqa: TID251 - times steps of the real script
"""The assembled script is what the person takes home: it stands alone, and the same seed gives the same weights."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

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


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    path = tmp_path_factory.mktemp("script") / "pipeline.py"
    path.write_text(assemble(PIPELINE, SOURCE, "title"))
    spec = importlib.util.spec_from_file_location("pipeline_under_test", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def small_data(script: ModuleType) -> Any:
    facts = {
        "classes": ["a", "b"],
        "channels": 1,
        "height": 8,
        "width": 8,
        "mean": [0.5],
        "std": [0.5],
        "counts": [8, 8],
    }
    labels = torch.arange(16) % 2
    return script.Data(torch.zeros(16, 1, 8, 8, dtype=torch.uint8), labels, labels < 0, facts)


# Images a second by precision, memory layout and threads; what is not named manages 10.
SPEEDS = {
    "plain settings win a near tie": (
        {("bfloat16", True, 4): 105.0, ("float32", False, 4): 100.0},
        ("float32", False, 4),
    ),
    "the fastest setting": ({("bfloat16", True, 4): 200.0, ("float32", False, 4): 100.0}, ("bfloat16", True, 4)),
    "fewer threads where they are faster": (
        {("float32", False, 4): 100.0, ("float32", False, 2): 120.0, ("float32", False, 1): 90.0},
        ("float32", False, 2),
    ),
    "down to one thread": (
        {("float32", False, 4): 100.0, ("float32", False, 2): 120.0, ("float32", False, 1): 150.0},
        ("float32", False, 1),
    ),
}


@pytest.mark.parametrize(("speeds", "expected"), SPEEDS.values(), ids=SPEEDS)
def test_the_fastest_setting_is_found_by_timing(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    speeds: dict[tuple[str, bool, int], float],
    expected: tuple[str, bool, int],
) -> None:
    def timed(info: Any, *_: Any) -> Any:
        speed = speeds.get((info.precision, info.channels_last, info.threads), 10.0)
        return script.Speed(speed, speed)

    monkeypatch.setattr(script, "training_speed", timed)
    data = small_data(script)
    config = {"threads": 4, "device": "cpu", "seconds": 600.0}
    threads = torch.get_num_threads()
    try:
        found = script.measured(data, script.make_info(data.facts, config), config)
    finally:
        torch.set_num_threads(threads)
    assert (found.precision, found.channels_last, found.threads) == expected


def test_what_the_incumbent_runs_with_is_timed_first(script: ModuleType) -> None:
    data = small_data(script)
    config = {"threads": 4, "device": "cpu", "precision": "bfloat16", "channels_last": True}
    tried = script.precisions(script.make_info(data.facts, config))
    assert [(one.precision, one.channels_last) for one in tried] == [
        ("bfloat16", True),
        ("bfloat16", False),
        ("float32", True),
        ("float32", False),
    ]


def test_what_was_found_before_is_not_timed_again(script: ModuleType) -> None:
    data = small_data(script)
    config = {
        "threads": 1,
        "device": "cpu",
        "seconds": 600.0,
        "precision": "bfloat16",
        "channels_last": True,
        "settled": True,
    }
    found = script.measured(data, script.make_info(data.facts, config), config)
    assert (found.precision, found.channels_last, found.threads) == ("bfloat16", True, 1)


# 16 images at 10 a second in 16 seconds: 10 passes. What the incumbent ran with, images per second now, and the epochs planned.
PLANS = {
    "with a reserve": (None, 10.0, 8),
    "as the incumbent, if that just fits": (10, 10.0, 10),
    "fewer than the incumbent, if they do not fit": (11, 10.0, 8),
    "not more than the incumbent": (3, 10.0, 3),
    "no fewer because of a busy neighbour": (9, 5.0, 9),
}


@pytest.mark.parametrize(("inherited", "now", "expected"), PLANS.values(), ids=PLANS)
def test_the_epochs_are_planned_from_the_speed_without_neighbours(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, inherited: int | None, now: float, expected: int
) -> None:
    monkeypatch.setattr(script, "training_speed", lambda *_: script.Speed(now, 10.0))
    data = small_data(script)
    config = {"threads": 1, "device": "cpu", "seconds": 16.0, "epochs": inherited, "settled": True}
    assert script.measured(data, script.make_info(data.facts, config), config).epochs == expected


def test_a_further_seed_gets_the_epochs_of_the_first(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "training_speed", lambda *_: script.Speed(0.1, 0.1))
    data = small_data(script)
    config = {"threads": 1, "device": "cpu", "seconds": 16.0, "epochs": 9, "settled": True, "repeats": True}
    assert script.measured(data, script.make_info(data.facts, config), config).epochs == 9


def test_a_busy_moment_does_not_shorten_a_candidate(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow where a neighbour is in the way, and as fast as the incumbent a moment later."""
    speeds = iter([script.Speed(2.0, 2.0), script.Speed(10.0, 10.0)])
    monkeypatch.setattr(script, "training_speed", lambda *_: next(speeds))
    data = small_data(script)
    config = {"threads": 1, "device": "cpu", "seconds": 16.0, "epochs": 9, "settled": True}
    assert script.measured(data, script.make_info(data.facts, config), config).epochs == 9


# 16 images at 10 a second: 10 passes in 16 seconds. The incumbent says that it planned one; how long it really trained, and what is planned.
@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, 1), (1.6, 1), (3.2, 1), (8.0, 2), (14.0, 4), (17.0, 5), (1e9, 8)]
)
def test_an_incumbent_that_trained_longer_than_it_says_wins_nothing_by_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int
) -> None:
    monkeypatch.setattr(script, "training_speed", lambda *_: script.Speed(10.0, 10.0))
    data = small_data(script)
    config = {"threads": 1, "seconds": 16.0, "epochs": 1, "settled": True, "least_seconds": seconds, "device": "cpu"}
    assert script.measured(data, script.make_info(data.facts, config), config).epochs == expected


class SpoiltByBfloat16(torch.nn.Module):
    """What some convolutions do on some processors: in bfloat16 a gradient is not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(64, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(images.flatten(1))
        if self.training and torch.is_autocast_enabled("cpu"):
            logits.register_hook(lambda gradient: gradient * float("nan"))
        return logits


BFLOAT16 = {"threads": 1, "device": "cpu", "seconds": 600.0, "precision": "bfloat16", "epochs": 2}


@pytest.mark.parametrize("settled", [False, True])
def test_a_precision_that_spoils_the_weights_is_not_chosen(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    monkeypatch.setattr(script, "build_model", lambda _: SpoiltByBfloat16())
    data = small_data(script)
    config = BFLOAT16 | {"settled": settled}
    assert script.measured(data, script.make_info(data.facts, config), config).precision == "float32"


def test_a_model_that_works_in_no_precision_is_told_as_it_is(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "build_model", lambda _: torch.nn.Linear(3, 2))
    data = small_data(script)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        script.measured(data, script.make_info(data.facts, BFLOAT16), BFLOAT16)


def test_a_training_that_bfloat16_spoils_is_done_again_in_float32(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "build_model", lambda _: SpoiltByBfloat16())
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 7}\n')
    weights = script.run_training(small_data(script), BFLOAT16, tmp_path)
    assert script.restored(weights, BFLOAT16)[2].precision == "float32"
    assert "once more from the beginning, in float32 instead of bfloat16" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1]


def test_a_training_that_float32_spoils_too_fails(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def spoilt() -> torch.nn.Module:
        net = SpoiltByBfloat16()
        torch.nn.init.constant_(net.head.weight, float("nan"))
        return net

    monkeypatch.setattr(script, "build_model", lambda _: spoilt())
    with pytest.raises(FloatingPointError):
        script.run_training(small_data(script), BFLOAT16, tmp_path)


def twelve_bits(folder: Path, script: ModuleType) -> Any:
    """Class folders of 12-bit images whose suffix says nothing, beside a file that is none."""
    for label, top in (("dark", 1000), ("bright", 4095)):
        (folder / label).mkdir(parents=True)
        for i in range(3):
            ramp = np.linspace(0, top - i, 64).reshape(8, 8).astype(np.uint16)
            Image.fromarray(ramp).save(folder / label / str(i), "PNG")
        (folder / label / "notes.txt").write_text("no image")
    return script.read_class_folders(folder)


def test_at_home_deep_images_are_scaled_by_one_range_for_all(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = twelve_bits(tmp_path / "photos", script)
    assert data.facts["value_range"] == (0, 4095)
    assert sorted(data.images.amax((1, 2, 3)).tolist()) == [62, 62, 62, 255, 255, 255]
    assert "skipped 2 of 8 files that cannot be read as images" in capsys.readouterr().out


def test_the_weights_know_the_range_that_new_images_are_decoded_with(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = twelve_bits(tmp_path / "photos", script)
    weights = script.run_training(data, {"epochs": 1, "precision": "float32", "device": "cpu"}, tmp_path)
    assert script.restored(weights, {"device": "cpu"})[2].value_range == (0, 4095)
    decoded = []
    monkeypatch.setattr(
        script, "probabilities", lambda _model, _transforms, images, _info: decoded.append(images) or np.ones((1, 2))
    )
    lines = list(
        script.predict_files(weights, [tmp_path / "photos" / "dark" / "0", tmp_path / "absent"], {"device": "cpu"})
    )
    assert decoded[0].max() == 62
    assert "cannot be read" in lines[1]


def test_weights_that_know_of_no_range_are_restored(script: ModuleType) -> None:
    assert script.make_info(small_data(script).facts, {"device": "cpu"}).value_range is None


@pytest.mark.slow
def test_it_trains_and_predicts_alone_and_the_same_twice(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    settled = {"precision": "float32", "channels_last": False}  # else it takes what is fastest at the moment
    (tmp_path / "pipeline.py").write_text(assemble(PIPELINE, SOURCE, "title", settled))
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


def test_names_of_files_are_shown_and_obeyed_by_nobody(script: ModuleType, tmp_path: Path) -> None:
    assert script.as_one_line("a\x1b[31m\nb\udce9 \u202ec") == "a[31m b c"


def test_each_rehearsal_has_a_directory_of_its_own_and_leaves_none(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A component that makes a folder would meet that of the rehearsal before; one that forks must not clear it for the others."""
    real = script.train

    def train(model: Any, loaders: Any, info: Any, log: Any) -> Any:
        Path("notes").mkdir()
        child = os.fork()
        if not child:
            raise KeyboardInterrupt
        os.waitpid(child, 0)
        assert Path("notes").is_dir()
        return real(model, loaders, info, log)

    monkeypatch.setattr(script, "train", train)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data, before, me = small_data(script), Path.cwd(), os.getpid()
    info = script.make_info(data.facts, {"threads": 1, "device": "cpu", "seconds": 60.0})
    info = replace(info, epochs=1, precision="float32")
    for _ in range(2):
        try:
            speed = script.training_speed(info, data.images, data, 0.0)
        finally:
            if os.getpid() != me:
                os._exit(0)
        assert speed.now > 0
    assert Path.cwd() == before
    assert not list(tmp_path.glob(f"{tempfile.gettempprefix()}*"))


@pytest.mark.parametrize("given", [True, False])
def test_a_rehearsal_works_where_it_is_told_and_else_where_things_are_temporary(
    script: ModuleType, given: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the exported script does so in a folder of their own, which may not be ours to write."""
    scratch, temporary = tmp_path / "scratch", tmp_path / "temporary"
    scratch.mkdir()
    temporary.mkdir()
    places: list[Path] = []
    real = script.train

    def train(*given: Any) -> Any:
        places.append(Path.cwd().parent)
        return real(*given)

    monkeypatch.setattr(script, "train", train)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    data = small_data(script)
    info = script.make_info(data.facts, {"threads": 1, "device": "cpu", "seconds": 60.0})
    script.training_speed(
        replace(info, epochs=1, precision="float32"), data.images, data, 0.0, scratch if given else None
    )
    assert places == [scratch if given else temporary]
