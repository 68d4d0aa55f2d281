"""Time that neighbours take from a training does not count against it, within bounds."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import watch
from sandbox.script.clock import SLOWEST, Clock, cores, own_seconds, queued_seconds
from sandbox.zygote import Zygote
from schema.job import Limits


@pytest.fixture
def crowd() -> Iterator[None]:
    """Three busy processes a core."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * cores())]
    yield
    for process in processes:
        process.kill()
        process.wait()


def test_sleeping_is_nobody_elses_fault() -> None:
    clock = Clock()
    time.sleep(0.3)
    assert clock.seconds() == pytest.approx(clock.wall(), abs=0.05)


@pytest.mark.skipif(not queued_seconds(), reason="this system does not tell how long a thread stood in line")
@pytest.mark.usefixtures("crowd")
def test_in_a_crowd_not_all_of_the_time_counts() -> None:
    clock = Clock()
    while clock.wall() < 2.0 or clock.seconds() > 0.95 * clock.wall():
        assert clock.wall() < 60.0
    wall = clock.wall()
    assert clock.seconds() >= wall / SLOWEST


TAKEN = {
    "nobody else": (10.0, 0.0, 20.0, 2, 10.0),
    "one thread got half of a core": (10.0, 5.0, 5.0, 2, 5.0),
    "one of two threads, while the other turned round and round": (10.0, 5.0, 15.0, 2, 5.0),
    "now the one and now the other": (10.0, 7.0, 13.0, 2, 3.0),
    "sixteen threads in each other's way on two cores": (10.0, 140.0, 20.0, 2, 10.0),
    "the same, while others had a quarter of the cores": (10.0, 150.0, 15.0, 2, 5.0),
    "asleep": (10.0, 0.0, 0.1, 2, 10.0),
    "a machine without any time for us": (10.0, 100.0, 0.1, 2, 1.25),
}


@pytest.mark.parametrize(("wall", "queued", "used", "count", "expected"), TAKEN.values(), ids=TAKEN)
def test_time_in_line_for_a_core_does_not_count(
    wall: float, queued: float, used: float, count: int, expected: float
) -> None:
    assert own_seconds(wall, queued, used, count) == pytest.approx(expected)


@given(wall=st.floats(0, 1e6), queued=st.floats(0, 1e8), used=st.floats(0, 1e8), count=st.integers(1, 512))
def test_what_counts_lies_between_an_eighth_and_all_of_the_time(
    wall: float, queued: float, used: float, count: int
) -> None:
    assert wall / SLOWEST * (1 - 1e-9) <= own_seconds(wall, queued, used, count) <= wall


def test_a_process_that_has_ended_stood_in_no_line() -> None:
    assert queued_seconds(2**22) == 0.0


@dataclass
class Busy:
    """A process as the watch sees it."""

    pid: int
    seconds: float  # on a core

    def cpu_times(self) -> SimpleNamespace:
        return SimpleNamespace(user=self.seconds, system=0.0, children_user=0.0, children_system=0.0)


@pytest.mark.parametrize(
    ("count", "each", "counted"),
    [
        (16, 10 * watch.CORES / 16, 10.0),  # they had every core, and stood in each other's way
        (16, 7.5 * watch.CORES / 16, 10 - min(9.0, 2.5 * watch.CORES, 8.75)),  # others had a quarter of the cores
    ],
)
def test_a_job_that_stands_in_its_own_way_gets_no_more_time(
    count: int, each: float, counted: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "queued_seconds", lambda _: 9.0)
    limits = Limits(train_seconds=1, memory_bytes=1)
    looking = watch.Watch(limits, 1.0, tmp_path / "stop", zygote=cast("Zygote", None), began=time.monotonic() - 10)
    processes = cast("list[psutil.Process]", [Busy(pid, each) for pid in range(count)])
    assert looking.alone(processes) == pytest.approx(counted, abs=0.5)
