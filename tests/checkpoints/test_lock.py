"""One driver per run, and a killed driver holds nothing."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoints.home import run_dir
from checkpoints.lock import _is_driven_elsewhere as elsewhere
from checkpoints.lock import is_driven, run_lock
from schema.errors import RunBusy
from tests.checkpoints.server import Server

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


@pytest.fixture
def holder_elsewhere(postgres: Server, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of another machine: it has the same server, and a home of its own."""
    there = os.environ | {"IMPROVE_HOME": str(tmp_path / "there")}
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=there) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


def test_a_driver_on_another_machine_holds_the_run_and_is_named(holder_elsewhere: subprocess.Popen[str]) -> None:
    assert is_driven("demo")
    assert not is_driven("other")
    who = rf"driven by process {holder_elsewhere.pid} on {socket.gethostname()[:30]}.* since 20\d\d-.*Z"
    with pytest.raises(RunBusy, match=who), run_lock("demo"):
        pass
    assert not run_dir("demo").exists()
    with run_lock("other"):
        assert is_driven("other")


def test_kill_9_of_a_driver_on_another_machine_releases_the_lock(holder_elsewhere: subprocess.Popen[str]) -> None:
    holder_elsewhere.kill()
    deadline = time.monotonic() + 10
    while is_driven("demo") and time.monotonic() < deadline:
        time.sleep(0.01)
    with run_lock("demo"):
        pass


def test_a_lock_is_taken_again_when_the_server_was_restarted(postgres: Server) -> None:
    with run_lock("demo") as hold:
        postgres.stop()
        postgres.start()
        assert not elsewhere("demo")
        hold()
        assert elsewhere("demo")
    assert not elsewhere("demo")


def test_a_lock_that_another_machine_was_faster_to_take_ends_the_first_driver(postgres: Server, tmp_path: Path) -> None:
    there = os.environ | {"IMPROVE_HOME": str(tmp_path / "there")}
    with run_lock("demo") as hold:
        postgres.stop()
        postgres.start()
        with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env=there) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(RunBusy, match=f"driven by process {holder.pid} on"):
                hold()
            holder.kill()
