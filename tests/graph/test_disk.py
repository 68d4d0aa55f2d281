"""A disk that fills up: a sentence instead of a traceback, no component is blamed, and the run goes on when there is room."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoints.store import open_store
from graph.run import resume, run
from nodes.services import Services
from schema.errors import HomeError
from schema.events import Event
from schema.settings import Settings
from tests.scripted import TRAINING, ScriptedTeam, image_folder

SERVICES = Services(team=lambda *_: ScriptedTeam([("training", [TRAINING.replace("epochs=1", "epochs=4")])]))


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """$IMPROVE_HOME on a file system of 260 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=260m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    monkeypatch.setenv("IMPROVE_HOME", str(folder / "home"))
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment", ["NodeEntered decide 0", "Proposed 1", "NodeEntered sandbox 1", "NodeEntered report 1"]
)
def test_a_run_on_a_disk_that_fills_up_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path, moment: str
) -> None:
    fill = small_disk / "fill"

    def fill_up(event: Event) -> None:
        seen = [type(event).__name__, getattr(event, "node", ""), str(getattr(event, "iteration", ""))]
        if " ".join(part for part in seen if part) == moment and not fill.exists():
            subprocess.run(["dd", "if=/dev/zero", f"of={fill}", "bs=64k"], stderr=subprocess.DEVNULL, check=False)

    data = image_folder(tmp_path / "photos")
    settings = Settings(
        dataset=str(data), iterations=1, train_seconds=20, accept="better", device="cpu", folds=1, until_budget=True
    )
    with pytest.raises(HomeError, match="make room, then: improve resume photos"):
        run(settings, name="photos", on_event=fill_up, services=SERVICES)

    fill.unlink()
    resume("photos", services=SERVICES)
    ledger = open_store().ledger("photos")
    assert [(row.iteration, row.attempts) for row in ledger] == [(0, 1), (1, 1)]
    assert not {row.verdict for row in ledger} & {"failed"}
