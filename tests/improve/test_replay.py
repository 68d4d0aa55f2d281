"""A stored training is run once more, in a real job: it gives the same predictions, or it is told what differs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from checkpoints.store import open_store
from graph.run import run
from improve.cli import app
from improve.replay import _known, _trained, replay
from improve.replayed import Replay, compared
from nodes.context import job_dir
from nodes.environment import differences
from nodes.services import Services
from schema.errors import InputError
from schema.run import RunRow
from schema.settings import Settings
from tests.scripted import PIPELINE, ScriptedTeam, image_folder

# Random in each way that a seed decides, and with a rate that hangs on what the smoke step has timed.
TRAINING = """
import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01 + 0.01 * ((info.images_per_second or 0.0) % 1))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.01 * torch.randn_like(value))
    return fit(model, loaders.train, loaders, info, log, epochs=2, optimizer=optimizer)
"""
# Each of its many passes takes a while and changes the weights, so that the clock ends it.
ENDLESS = """
import time

import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in log.epochs(10**6, model=model, optimizer=optimizer, order=loaders.train):
        for images, targets in loaders.train:
            optimizer.zero_grad()
            soft_cross_entropy(model(images), targets).backward()
            optimizer.step()
        log.keep(model)
        log(epoch, train_loss=0.5)
        time.sleep(0.2)
    return model
"""


def trained(photos: Path, training: str, **more: object) -> str:
    team = ScriptedTeam([("training", ["x = undefined_name\n"])], first=PIPELINE.with_code("training", training))
    settings = Settings.model_validate(
        {
            "dataset": str(photos),
            "iterations": 1,
            "max_attempts": 1,
            "device": "cpu",
            "train_seconds": 20.0,
            "folds": 1,
            "until_budget": True,
        }
        | more
    )
    return run(settings, name="r", services=Services(team=lambda *_: team))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: its home and its images. Iteration 0 was trained, 1 failed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPROVE_HOME", str(folder / "home"))
        trained(image_folder(folder / "photos"), TRAINING)
    return folder


@pytest.fixture
def begun(finished: Path, home: Path) -> Path:
    """A copy of it; the images' folder."""
    shutil.copytree(finished / "home", home, dirs_exist_ok=True)
    return finished / "photos"


def environment(row: RunRow, **was: object) -> None:
    assert row.environment
    open_store().set_environment("r", row.environment.model_copy(update=was))


def tamper(name: str, old: str, new: str) -> None:
    file = job_dir("r", 0, 1, 0) / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_training_is_repeated_to_the_last_digit(begun: Path, home: Path) -> None:
    done = CliRunner().invoke(app, ["replay", "r", "--json"])
    assert done.exit_code == 0, done.output
    *events, last = [json.loads(line) for line in done.output.splitlines()]
    assert {event["kind"] for event in events} == {"node_entered", "job_progress"}
    found = Replay.model_validate(last)
    assert (found.iteration, found.verdict, found.confirmed, found.changes) == (0, "identical", True, [])
    assert [(split.split, split.identical, split.largest) for split in found.splits] == [
        ("validation", True, 0.0),
        ("test", True, 0.0),
    ]
    assert all(split.then == split.now is not None for split in found.splits)
    assert not (home / "runs/r/replay").exists()


@pytest.mark.slow
def test_a_script_that_was_tampered_with_is_found(begun: Path) -> None:
    tamper("job.json", "lr=0.01 ", "lr=0.9 ")
    found = replay("r", 0, open_store())
    assert (found.verdict, found.confirmed) == ("differs", False)
    assert any("training component of job.json" in note for note in found.notes)
    assert any(split.largest > 0 for split in found.splits)


@pytest.mark.slow
def test_what_has_changed_since_is_told_where_the_result_is_another(begun: Path) -> None:
    row = open_store().run("r")
    assert row.environment
    environment(row, packages=row.environment.packages | {"torch": "1.13"}, threads=64)
    rows = np.load(job_dir("r", 0, 1, 0) / "work/validation.npy")
    np.save(job_dir("r", 0, 1, 0) / "work/validation.npy", np.nextafter(rows, 1))
    done = CliRunner().invoke(app, ["replay", "r"])
    assert done.exit_code == 1
    assert "within noise: " in done.output
    assert "  torch: 1.13 -> " in done.output
    assert "  threads: 64 -> " in done.output


def test_labels_that_the_run_has_not_opened_stay_sealed(begun: Path) -> None:
    """As of a run that goes on, or of a candidate that was rejected."""
    store = open_store()
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM scores WHERE split = 'test'")
    before = _trained(store.run("r"), 0, store)
    answers = np.full((before.profile.size("validation"), 2), 0.5)
    assert _known(before, before.profile, "validation", answers, store)
    assert _known(before, before.profile, "test", answers, store) is None
    rows = np.array([[0.2, 0.8], [0.6, 0.4]])
    found = compared("test", rows, rows[::-1], np.array([0, 1]), ["a", "b"], None)
    assert (found.decisions, found.then, found.now) == (2, None, None)


@pytest.mark.parametrize(
    ("iteration", "message"),
    [(7, "has no iteration 7. Trained were: 0"), (1, "Iteration 1 of run 'r' failed.*must define.*Trained were: 0")],
)
def test_what_was_not_trained_is_named(begun: Path, iteration: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replay("r", iteration, open_store())


def test_a_run_without_images_says_so(begun: Path) -> None:
    open_store()._change("r", profile=None)
    with pytest.raises(InputError, match="has no images yet.*improve resume r"):
        replay("r", None, open_store())


@pytest.mark.parametrize("lost", ["job.json", "work/smoke.json", "work/test.npy"])
def test_files_of_the_training_that_are_gone_are_named(begun: Path, lost: str) -> None:
    (job_dir("r", 0, 1, 0) / lost).unlink()
    with pytest.raises(InputError, match=lost):
        replay("r", None, open_store())


def test_a_training_on_a_gpu_is_not_repeated_on_a_cpu(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper("job.json", '"device":"cpu"', '"device":"cuda"')
    monkeypatch.setattr("sandbox.gpu.cards", list)
    with pytest.raises(InputError, match="trained on a GPU.*none can be used here"):
        replay("r", None, open_store())


@pytest.mark.slow
def test_images_that_are_elsewhere_now_are_prepared_again(begun: Path, home: Path, tmp_path: Path) -> None:
    shutil.copytree(begun, tmp_path / "elsewhere")
    store = open_store()
    row = store.run("r")
    assert row.profile
    store.set_profile("r", row.profile.model_copy(update={"directory": str(home / "gone" / "gone")}))
    store.set_settings("r", row.settings.model_copy(update={"dataset": str(tmp_path / "photos")}))
    with pytest.raises(InputError, match="--data PLACE"):
        replay("r", None, store)
    assert replay("r", None, store, data=str(tmp_path / "elsewhere")).verdict == "identical"


@pytest.mark.slow
def test_a_training_that_was_cut_cannot_be_repeated_exactly(tmp_path: Path) -> None:
    trained(image_folder(tmp_path / "photos"), ENDLESS, iterations=0, train_seconds=1.0)
    found = replay("r", None, open_store())
    assert any("cut by its limit of time" in note for note in found.notes)
    assert found.verdict != "identical"


def test_the_driver_of_a_card_is_told_though_no_resume_stops_for_it(begun: Path) -> None:
    row = open_store().run("r")
    assert row.environment
    assert differences(row.environment, row.environment.model_copy(update={"driver": "1.2"})) == ["driver: None -> 1.2"]
