"""Kill -9 of the driver at any step: the run goes on where it was, nothing is trained twice, nothing is lost."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoints.home import run_dir
from checkpoints.store import open_store
from graph.run import resume
from nodes.services import Services
from schema.score import Score
from tests.scripted import TRAINING, ScriptedTeam, image_folder

LONGER = TRAINING.replace("epochs=1", "epochs=4")
SERVICES = Services(team=lambda *_: ScriptedTeam([("training", [LONGER])]))

DRIVER = """
import os, signal, sys
from graph.run import run
from schema.settings import Settings
from tests.graph.test_kill import SERVICES

def kill(event):
    seen = [type(event).__name__, getattr(event, "node", ""), str(getattr(event, "iteration", ""))]
    if " ".join(part for part in seen if part) == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings(dataset=sys.argv[1], iterations=1, train_seconds=20, accept="better", device="cpu", folds=1, until_budget=True)
run(settings, name="photos", on_event=kill, services=SERVICES)
"""

MOMENTS = [
    pytest.param("DatasetReady", marks=pytest.mark.slow),
    pytest.param("Designed", marks=pytest.mark.slow),
    "NodeEntered sandbox 0",
    pytest.param("NodeEntered decide 0", marks=pytest.mark.slow),
    pytest.param("Settled", marks=pytest.mark.slow),
    pytest.param("Proposed 1", marks=pytest.mark.slow),
    pytest.param("NodeEntered sandbox 1", marks=pytest.mark.slow),
    pytest.param("NodeEntered report 1", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, moment: str) -> None:
    data = image_folder(tmp_path / "photos")
    killed = subprocess.run([sys.executable, "-c", DRIVER, str(data), moment], timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, f"{moment} never came"

    resume("photos", services=SERVICES)

    store = open_store()
    ledger = store.ledger("photos")
    assert [row.iteration for row in ledger] == [0, 1]
    assert {row.verdict for row in ledger} <= {"first", "accepted", "rejected"}
    final = store.run("photos").best
    assert final is not None
    assert isinstance(final.test, Score)
    starts = sorted(run_dir("photos").glob("iterations/*/jobs/*/starts"))
    assert [len(path.read_text().splitlines()) for path in starts] == [1, 1]
