"""Going on with a run: what it was given, what it has spent, and the data that it stands on. The jobs are instant; the graph, the stores and the data are real."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.overhead.__main__ import InstantJobs
from checkpoints.home import datasets_dir, run_dir
from checkpoints.store import open_store
from graph.run import resume, run
from nodes.services import Services
from sandbox import device
from sandbox.isolation import tiers
from schema.errors import DatasetError, NothingToResume, RunStopped, SettingsError
from schema.events import Event, JobProgress, Settled
from schema.job import JobResult, JobSpec
from schema.pipeline import Fault
from schema.settings import Settings
from tests.scripted import TRAINING, ScriptedTeam, image_folder


class Jobs(InstantJobs):
    """Instant jobs that claim to have taken `seconds`, of which the first `stopped` come back as stopped by the person."""

    def __init__(self, seconds: float = 0.0, stopped: int = 0) -> None:
        super().__init__()
        self.seconds, self.stopped = seconds, stopped

    def wait(
        self,
        directory: Path,
        /,
        on_progress: Callable[[JobProgress], None] | None,
        stop: Callable[[], bool] | None,
    ) -> JobResult:
        found = super().wait(directory, on_progress, stop).model_copy(update={"seconds": self.seconds})
        if self.stopped:
            self.stopped -= 1
            fault = Fault(stage="train", kind="stopped", cause="stopped", message="the job was stopped by you")
            return found.model_copy(update={"ok": False, "fault": fault})
        return found


def services(jobs: InstantJobs | None = None, changes: int = 6) -> Services:
    team = ScriptedTeam([("training", [f"{TRAINING}\n# change {i}\n"]) for i in range(changes)])
    kept = jobs or Jobs()
    return Services(team=lambda *_: team, jobs=kept)


def settings(photos: Path, **more: object) -> Settings:
    told = {"dataset": str(photos), "iterations": 1, "max_seeds": 1, "device": "cpu", "folds": 1, "until_budget": True}
    return Settings.model_validate(told | more)


@pytest.fixture
def photos(home: Path, tmp_path: Path) -> Path:
    return image_folder(tmp_path / "photos")


def test_prepared_images_that_were_deleted_are_made_again_in_the_same_order(photos: Path) -> None:
    run(settings(photos), name="r", services=services())
    profile = open_store().run("r").profile
    assert profile
    folder = Path(profile.directory)
    before = {file: np.load(file) for file in [*folder.glob("heldout/*.npy"), *folder.glob("private/*.npy")]}
    shutil.rmtree(datasets_dir())
    resume("r", iterations=2, services=services())
    for file, array in before.items():
        assert np.array_equal(np.load(file), array), file.name


def test_a_run_on_images_that_an_earlier_version_prepared_goes_on_with_them(photos: Path) -> None:
    """They have no array of the inner validation images, and no folds."""
    run(settings(photos), name="r", services=services())
    profile = open_store().run("r").profile
    assert profile
    folder = Path(profile.directory)
    (folder / "heldout/inner.npy").unlink()
    (folder / "private/folds.npz").unlink()
    told = folder / "profile.json"
    told.write_text(profile.model_copy(update={"inner": 0}).model_dump_json())
    before = (folder / "train/images.npy").stat().st_ino
    resume("r", iterations=2, services=services())
    assert (folder / "train/images.npy").stat().st_ino == before
    assert not (folder / "heldout/inner.npy").exists()
    assert len(open_store().ledger("r")) == 3


def test_images_that_changed_since_are_not_taken_for_the_old_ones(photos: Path) -> None:
    run(settings(photos), name="r", services=services())
    shutil.rmtree(datasets_dir())
    next(photos.rglob("*.png")).unlink()
    with pytest.raises(DatasetError, match="has changed since"):
        resume("r", iterations=2, services=services())


def test_a_job_that_the_person_stopped_is_no_fault_of_the_candidate(photos: Path) -> None:
    with pytest.raises(RunStopped):
        run(settings(photos), name="r", services=services(Jobs(stopped=1)))
    assert open_store().run("r").status == "stopped"
    resume("r", services=services())
    first = open_store().ledger("r")[0]
    assert (first.verdict, first.attempts) == ("first", 1)


def test_time_that_a_training_went_on_alone_counts(photos: Path) -> None:
    run(settings(photos, iterations=0), name="r", services=services(Jobs(seconds=500.0)))
    assert 500 <= open_store().run("r").seconds < 560


def test_a_training_gets_at_most_a_quarter_of_the_budget(photos: Path) -> None:
    run(settings(photos, budget_seconds=60.0, train_seconds=1200.0), name="r", services=services())
    spec = JobSpec.model_validate_json((run_dir("r") / "iterations/0000/jobs/1-s0/job.json").read_bytes())
    assert spec.limits.train_seconds == 15.0


ENDED = {
    "nothing more was given": ({}, {}, "Give it more: improve resume r --iterations 12"),
    "neither was more time": ({"budget_seconds": 600.0}, {}, "--iterations 12 --budget 20m"),
    "fewer iterations than it had": ({}, {"iterations": 1}, "Give it more: improve resume r --iterations 12"),
    "one training, as asked for": ({"strategy": "zero-shot"}, {"iterations": 9}, "another --strategy"),
}


@pytest.mark.parametrize(("asked", "more", "message"), ENDED.values(), ids=ENDED)
def test_an_ended_run_goes_on_only_with_more(
    photos: Path, asked: dict[str, object], more: dict[str, int], message: str
) -> None:
    run(settings(photos, **{"iterations": 2} | asked), name="r", services=services())
    rows = open_store().ledger("r")
    with pytest.raises(NothingToResume, match=message):
        resume("r", services=services(), **more)  # type: ignore[arg-type]
    assert open_store().ledger("r") == rows
    assert open_store().run("r").status == "finished"


def test_a_run_in_which_nothing_ran_says_so_and_keeps_its_reason(photos: Path) -> None:
    team = ScriptedTeam([], first=ScriptedTeam([]).first.with_code("model", "x = undefined_name\n"))
    broken = Services(team=lambda *_: team, jobs=Jobs())
    run(settings(photos, max_attempts=1), name="r", services=broken)
    reason = open_store().run("r").reason
    with pytest.raises(NothingToResume, match="No pipeline ran"):
        resume("r", services=broken)
    assert open_store().run("r").reason == reason


def test_more_iterations_for_a_run_that_was_stopped_before_its_report(photos: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Settled) and event.row.iteration == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings(photos), name="r", services=services(), on_event=interrupt)
    resume("r", iterations=3, services=services())
    assert [row.iteration for row in open_store().ledger("r")] == [0, 1, 2, 3]


def test_impossible_iterations_are_named(photos: Path) -> None:
    run(settings(photos), name="r", services=services())
    with pytest.raises(SettingsError, match=r"iterations=-1: expected a whole number"):
        resume("r", iterations=-1, services=services())


@pytest.fixture
def without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """It worked when the run began."""
    real = tiers.probe
    gone = tiers.Finding("bwrap", False, "bubblewrap is not installed", "Install it: apt-get install bubblewrap")
    monkeypatch.setattr(tiers, "probe", lambda tier, *place: gone if tier == "bwrap" else real(tier, *place))


def begun_in_bwrap(photos: Path) -> None:
    run(settings(photos, tier="none"), name="r", services=services())
    store = open_store()
    store._change("r", settings=store.run("r").settings.model_copy(update={"tier": "bwrap"}).model_dump(mode="json"), sandbox="bwrap")  # fmt: skip


@pytest.mark.usefixtures("without_bubblewrap")
def test_a_run_goes_on_in_no_weaker_sandbox_without_a_word(photos: Path) -> None:
    begun_in_bwrap(photos)
    with pytest.raises(SettingsError, match="began in the sandbox bwrap.*apt-get install bubblewrap.*--sandbox auto"):
        resume("r", iterations=2, services=services())
    assert open_store().run("r").sandbox == "bwrap"


@pytest.mark.usefixtures("without_bubblewrap")
def test_with_a_word_it_does_and_its_weakest_sandbox_is_told_from_then_on(photos: Path) -> None:
    begun_in_bwrap(photos)
    resume("r", iterations=2, sandbox="none", services=services())
    assert open_store().run("r").sandbox == "none"
    assert open_store().run("r").settings.tier == "none"


def test_a_sandbox_that_fails_stops_the_run_which_can_be_resumed(photos: Path) -> None:
    class Broken(Jobs):
        def wait(self, directory: Path, /, on_progress: object, stop: object) -> JobResult:
            fault = Fault(
                stage="smoke", kind="sandbox", cause="sandbox", message="bwrap: setting up uid map: Permission denied"
            )
            return JobResult(ok=False, fault=fault, steps=[], seconds=0.0, tier="bwrap")

    with pytest.raises(RunStopped, match="The sandbox bwrap does not work: bwrap: setting up uid map.*improve doctor"):
        run(settings(photos), name="r", services=services(Broken()))
    assert open_store().run("r").status == "stopped"
    assert not open_store().ledger("r")
    resume("r", services=services())
    assert open_store().run("r").status == "finished"


def test_a_gpu_that_fails_stops_the_run_and_is_tried_again_on_resume(photos: Path, home: Path) -> None:
    class Broken(Jobs):
        def wait(self, directory: Path, /, on_progress: object, stop: object) -> JobResult:
            fault = Fault(
                stage="train", kind="device", cause="device", message="GPU Played cannot be used: it is gone."
            )
            return JobResult(ok=False, fault=fault, steps=[], seconds=0.0, tier="none")

    (home / device.KEPT).write_text("{}")
    with pytest.raises(
        RunStopped, match="^GPU Played cannot be used: it is gone. Look: improve doctor. Then: improve resume r"
    ):
        run(settings(photos), name="r", services=services(Broken()))
    assert not (home / device.KEPT).exists()
    assert not open_store().ledger("r")
    resume("r", services=services())
    assert open_store().run("r").status == "finished"
