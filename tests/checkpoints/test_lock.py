"""One driver per run, and a killed driver holds nothing."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkpoints.home import run_dir
from checkpoints.lock import is_driven, run_lock
from schema.errors import RunBusy

HOLD = "import time\nfrom checkpoints.lock import run_lock\nwith run_lock('demo'):\n    print('held', flush=True)\n    time.sleep(60)\n"


def test_a_second_driver_is_told_who_the_first_is() -> None:
    with run_lock("demo"), pytest.raises(RunBusy, match=r"driven by process \d+ on"), run_lock("demo"):
        pass


def test_a_run_that_wrote_nothing_leaves_no_folder() -> None:
    with run_lock("demo"):
        assert is_driven("demo")
    assert not run_dir("demo").exists()


def test_kill_9_releases_the_lock(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        assert is_driven("demo")
        holder.kill()
    deadline = time.monotonic() + 5
    while is_driven("demo") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_driven("demo")
