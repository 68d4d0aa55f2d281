"""Bad days of $IMPROVE_HOME while a run goes on: deleted, deleted in part, read-only; and data that disappears once it is prepared."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from checkpoints.home import run_dir
from checkpoints.store import open_store
from graph.run import resume, run
from nodes.services import Services
from schema.errors import HomeError, HomeLost, NothingToResume
from schema.events import Event, JobProgress
from schema.settings import Settings
from tests.scripted import TRAINING, ScriptedTeam, image_folder

LONGER = TRAINING.replace("epochs=1", "epochs=4")
LONG = TRAINING.replace("epochs=1", "epochs=100000")
SERVICES = Services(team=lambda *_: ScriptedTeam([("training", [LONGER])]))
PAUSED = Services(
    team=lambda *_: ScriptedTeam(
        [("training", [LONGER.replace("log):\n", "log):\n    import time\n    time.sleep(3)\n")])]
    )
)
IN_TRAINING = Services(team=lambda *_: ScriptedTeam([("training", [LONG])]))
MOMENTS = [
    "NodeEntered sandbox 0",
    pytest.param("DatasetReady", marks=pytest.mark.slow),
    pytest.param("Settled", marks=pytest.mark.slow),
    pytest.param("JobProgress train 1", marks=pytest.mark.slow),
    pytest.param("NodeEntered report 1", marks=pytest.mark.slow),
]


def at(moment: str, act: Callable[[], object]) -> Callable[[Event], None]:
    """Acts once, when this is seen; `JobProgress train 1` is the training of iteration 1."""
    done: list[str] = []

    def look(event: Event) -> None:
        words = [type(event).__name__, getattr(event, "node", ""), str(getattr(event, "iteration", ""))]
        if isinstance(event, JobProgress):
            words = ["JobProgress", event.step or "", event.job.split("/")[1]]
        if " ".join(word for word in words if word) == moment and not done:
            done.append(moment)
            act()

    return look


def settings(tmp_path: Path) -> Settings:
    data = image_folder(tmp_path / "photos")
    return Settings(
        dataset=str(data), iterations=1, train_seconds=20, accept="better", device="cpu", folds=1, until_budget=True
    )


def processes_of(home: Path) -> list[psutil.Process]:
    """Supervisors of runs in this home, and all that they have started."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found += [process, *process.children(recursive=True)]
        except psutil.Error:
            continue
    return found


def nothing_is_left_of(home: Path) -> bool:
    for _ in range(200):
        if not processes_of(home):
            return True
        time.sleep(0.1)
    return False


def delete(folder: Path) -> None:
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_home_that_is_deleted_ends_the_run_with_a_sentence_and_stays_deleted(
    tmp_path: Path, home: Path, moment: str
) -> None:
    services = IN_TRAINING if moment.startswith("JobProgress") else SERVICES
    with pytest.raises(HomeLost, match=r"was deleted while run 'photos' was going on.*begin a new run"):
        run(settings(tmp_path), name="photos", on_event=at(moment, lambda: delete(home)), services=services)
    assert nothing_is_left_of(home)
    assert not home.exists()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_whose_folder_is_deleted_ends_and_cannot_be_resumed(tmp_path: Path, home: Path, moment: str) -> None:
    services = IN_TRAINING if moment.startswith("JobProgress") else SERVICES
    with pytest.raises(HomeLost, match=r"The folder of run 'photos', .*photos, was deleted while it was going on"):
        run(
            settings(tmp_path),
            name="photos",
            on_event=at(moment, lambda: delete(run_dir("photos"))),
            services=services,
        )
    assert nothing_is_left_of(home)
    assert not run_dir("photos").exists()
    assert open_store().run("photos").status == "failed"
    with pytest.raises(NothingToResume, match="is gone, its trainings and weights with it"):
        resume("photos", services=services)
    assert not run_dir("photos").exists()


def test_a_new_run_may_begin_in_this_process_where_the_home_was_deleted(tmp_path: Path, home: Path) -> None:
    open_store().create_run("old", settings(tmp_path), "none")
    delete(home)
    assert open_store().runs() == []
    open_store().create_run("new", Settings(dataset="digits"), "none")
    assert [row.name for row in open_store().runs()] == ["new"]


@pytest.fixture
def own_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """$IMPROVE_HOME on a file system of its own, which can be made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    monkeypatch.setenv("IMPROVE_HOME", str(folder / "home"))
    yield folder
    while subprocess.run(["umount", "--lazy", folder], capture_output=True, check=False).returncode == 0:
        pass


def read_only(folder: Path) -> None:
    """What is open for writing keeps a file system from being made read-only: all that is opened from now on is."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["NodeEntered sandbox 0", "Settled", "JobProgress train 1"])
def test_a_home_that_becomes_read_only_stops_the_run_and_it_goes_on_when_it_can(
    tmp_path: Path, own_disk: Path, moment: str
) -> None:
    way_out = r"Read-only file system\. Nothing is lost: make it writable again .*, then: improve resume photos"
    with pytest.raises(HomeError, match=way_out):
        run(settings(tmp_path), name="photos", on_event=at(moment, lambda: read_only(own_disk)), services=PAUSED)
    subprocess.run(["umount", "--lazy", own_disk], check=True)
    resume("photos", services=PAUSED)
    ledger = open_store().ledger("photos")
    assert [(row.iteration, row.attempts) for row in ledger] == [(0, 1), (1, 1)]
    assert not {row.verdict for row in ledger} & {"failed"}


def test_a_home_that_is_read_only_is_named_before_a_run(tmp_path: Path, own_disk: Path) -> None:
    (own_disk / "home").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", own_disk], check=True)
    with pytest.raises(HomeError, match=r"home cannot be written: Read-only file system\. .*export IMPROVE_HOME="):
        run(settings(tmp_path), services=SERVICES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["runs"], ["show", "photos"], ["resume", "photos"], ["predict", "photos", "a.png"]]
)
def test_a_home_that_is_read_only_is_named_by_every_command(own_disk: Path, command: list[str]) -> None:
    improve = [sys.executable, "-m", "improve.cli"]
    subprocess.run([*improve, "runs"], check=True, stdout=subprocess.DEVNULL)  # makes the data base
    subprocess.run(["mount", "-o", "remount,ro", own_disk], check=True)
    done = subprocess.run([*improve, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "home/experiments.sqlite cannot be opened" in done.stderr
    assert "export IMPROVE_HOME=" in done.stderr


@pytest.mark.slow
def test_data_that_disappears_once_it_is_prepared_does_not_matter(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    run(settings(tmp_path), name="photos", on_event=at("DatasetReady", lambda: delete(photos)), services=SERVICES)
    assert open_store().run("photos").status == "finished"
    assert not photos.exists()
