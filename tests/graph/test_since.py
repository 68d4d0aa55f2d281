"""A run goes on with what it stands on: code, packages, machine and images as they were, or the person is told what is not. Instant jobs, real stores and data."""

import os
import shutil
from pathlib import Path

import pytest

from checkpoints.home import datasets_dir, run_dir
from checkpoints.store import open_store
from graph.run import resume, run
from nodes import environment
from sandbox.device import Device
from sandbox.hardware import hardware
from schema.errors import ChangedSince, DatasetError
from schema.events import Event, RunStarted, Settled
from schema.job import JobSpec
from schema.run import Environment
from tests.graph.test_resume import services, settings
from tests.scripted import image_folder


@pytest.fixture
def photos(home: Path, tmp_path: Path) -> Path:
    return image_folder(tmp_path / "photos")


@pytest.fixture
def begun(photos: Path) -> Path:
    """A run of one iteration; more is asked for later."""
    run(settings(photos), name="r", services=services())
    return photos


def kept() -> Environment:
    found = open_store().run("r").environment
    assert found
    return found


def go_on(iterations: int = 2, **more: object) -> list[str]:
    """The notes that the person is told."""
    told: list[str] = []

    def take(event: Event) -> None:
        if isinstance(event, RunStarted):
            told.extend(event.notes)

    resume("r", iterations=iterations, services=services(), on_event=take, **more)  # type: ignore[arg-type]
    return told


def pretend(**was: object) -> None:
    """The run began in another environment than this one."""
    open_store().set_environment("r", kept().model_copy(update=was))


def test_a_run_remembers_what_its_scores_depend_on(begun: Path) -> None:
    found = kept()
    profile = open_store().run("r").profile
    assert profile
    assert found.dataset == profile.key
    assert found.packages["torch"].split(".")[0].isdecimal()
    assert (found.threads > 0, found.device != "", found.driver) == (True, True, None)


def test_nothing_is_told_where_nothing_changed(begun: Path) -> None:
    assert go_on() == []
    assert not kept().changes


CHANGES = {
    "another machine": (
        {"threads": 64, "device": "an older processor"},
        ["threads: 64 -> ", "device: an older processor -> "],
    ),
    "other code": ({"improve": "0.0.9+abc"}, [r"improve: 0.0.9\+abc -> "]),
    "another Python": ({"python": "3.9.1"}, ["python: 3.9 -> 3."]),
    "another package": ({"packages": {"torch": "1.13"}}, ["torch: 1.13 -> "]),
}


@pytest.mark.parametrize(("was", "lines"), CHANGES.values(), ids=CHANGES)
def test_what_changed_is_told_and_the_run_stays_as_it_is(begun: Path, was: dict[str, object], lines: list[str]) -> None:
    pretend(**was)
    for line in lines:
        with pytest.raises(ChangedSince, match=rf"(?s)improve resume r --force.*\n  {line}"):
            go_on()
    assert [row.iteration for row in open_store().ledger("r")] == [0, 1]
    assert open_store().run("r").status == "finished"


HARMLESS = {
    "a bug fix of Python": {"python": ".".join([*environment.platform.python_version_tuple()[:2], "99"])},
    "a driver": {"driver": "1.2"},
}


@pytest.mark.parametrize("was", HARMLESS.values(), ids=HARMLESS)
def test_what_cannot_matter_stops_nobody(begun: Path, was: dict[str, object]) -> None:
    pretend(**was)
    go_on()
    assert not kept().changes


def test_with_force_it_goes_on_and_the_report_says_where_it_changed(begun: Path) -> None:
    pretend(packages={**kept().packages, "torch": "1.13"}, threads=64)
    assert any("torch: 1.13 -> " in note for note in go_on(force=True))
    found = kept()
    (change,) = found.changes
    assert (change.iteration, change.before.threads, found.packages["torch"]) == (2, 64, environment._version("torch"))
    assert found.at(1).packages["torch"] == "1.13"
    assert found.at(2).packages["torch"] != "1.13"
    report = (run_dir("r") / "report.md").read_text()
    assert "Iteration 2 and what follows ran after this had changed" in report
    assert "- torch: 1.13 -> " in report
    assert go_on(3) == []


def test_a_forced_run_plans_with_the_machine_that_there_is(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = hardware("cpu").model_copy(update={"cores": 1, "memory_bytes": 10**9})
    monkeypatch.setattr("graph.since.find_device", lambda *_: Device(smaller, "none"))
    go_on(force=True)
    spec = JobSpec.model_validate_json((run_dir("r") / "iterations/0002/jobs/1-s0/job.json").read_bytes())
    assert (spec.threads, spec.limits.memory_bytes) == (1, 850_000_000)


def test_a_gpu_that_computes_no_more_is_a_change_and_the_reason_is_told(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(device="NVIDIA H200", driver="550.54")
    lost = Device(hardware("cpu"), "none", notes=["GPU NVIDIA H200 cannot be used: its driver is too old."])
    monkeypatch.setattr("graph.since.find_device", lambda *_: lost)
    with pytest.raises(ChangedSince, match=r"(?s)--force.*device: NVIDIA H200 -> .*GPU NVIDIA H200 cannot be used"):
        go_on()
    assert lost.notes[0] in go_on(force=True)


def test_images_that_changed_are_named(begun: Path) -> None:
    (begun / "left" / "0.png").unlink()
    (begun / "left" / "1.png").rename(begun / "left" / "new.png")
    with pytest.raises(
        ChangedSince, match=r"(?s)--force.*left/0.png: was there -> is gone.*left/new.png: was not there"
    ):
        go_on()


def test_with_force_it_goes_on_with_the_images_as_they_were_prepared(begun: Path) -> None:
    before = open_store().run("r").profile
    (begun / "left" / "0.png").unlink()
    assert any("left/0.png" in note for note in go_on(force=True))
    after = open_store().run("r").profile
    assert before
    assert after
    assert (after.key, after.directory) == (before.key, before.directory)
    assert go_on(3) == []  # told once


def test_images_that_were_only_touched_are_looked_at_once(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in begun.rglob("*.png"):
        os.utime(file)
    assert go_on() == []
    monkeypatch.setattr("nodes.data.content_changes", lambda *_: pytest.fail("every image was read again"))
    assert go_on(3) == []


def test_a_source_that_was_moved_is_a_note_while_the_arrays_are_there(begun: Path) -> None:
    begun.rename(begun.with_name("elsewhere"))
    (note,) = go_on()
    assert "photos is not there any more" in note
    assert "--data PLACE" in note


def test_images_elsewhere_are_taken_for_the_same_when_they_are(begun: Path) -> None:
    there = begun.with_name("elsewhere")
    begun.rename(there)
    assert go_on(data=str(there)) == []
    assert open_store().run("r").settings.dataset == str(there)
    assert go_on(3) == []


def test_other_images_are_not_taken_for_the_same(begun: Path) -> None:
    there = begun.with_name("elsewhere")
    begun.rename(there)
    (there / "left" / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"(?s)not the images of run 'r'.*left/0.png"):
        go_on(data=str(there), force=True)


def test_where_the_arrays_are_gone_too_the_way_out_is_named(begun: Path) -> None:
    there = begun.with_name("elsewhere")
    begun.rename(there)
    shutil.rmtree(datasets_dir())
    with pytest.raises(DatasetError, match=r"is not there any more. Say where the images are now: --data PLACE"):
        go_on()
    assert go_on(data=str(there)) == []


def test_a_run_is_resumed_from_any_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(settings(Path("photos")), name="r", services=services())
    monkeypatch.chdir("/")
    assert go_on() == []


def test_a_home_that_was_moved_is_found(begun: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.rename(home.with_name("new-home"))
    monkeypatch.setenv("IMPROVE_HOME", str(home.with_name("new-home")))
    assert go_on() == []
    profile = open_store().run("r").profile
    assert profile
    assert Path(profile.directory).parent == datasets_dir()


def test_a_run_that_was_stopped_before_its_end_is_held_to_it_too(photos: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Settled) and event.row.iteration == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings(photos), name="r", services=services(), on_event=interrupt)
    pretend(threads=64)
    with pytest.raises(ChangedSince):
        resume("r", services=services())
    resume("r", force=True, services=services())
    assert kept().changes[0].iteration == 1


def test_a_run_of_before_it_was_kept_goes_on(begun: Path) -> None:
    open_store()._change("r", environment=None)
    assert go_on() == []
    assert open_store().run("r").environment is None
