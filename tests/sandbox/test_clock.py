"""Time that neighbours take from a training does not count against it, within bounds."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest

from sandbox import watch
from sandbox.script.clock import Clock, queued_seconds
from sandbox.zygote import Zygote
from schema.job import Limits


def busy(clock: Clock, seconds: float) -> None:
    while clock.wall() < seconds:
        pass


@pytest.fixture
def crowd() -> object:
    """Three busy processes a core."""
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * len(os.sched_getaffinity(0)))
    ]
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
def test_in_a_crowd_only_a_part_of_the_time_counts_but_at_least_half() -> None:
    clock = Clock()
    busy(clock, 2.0)
    assert 0.5 * clock.wall() - 0.05 <= clock.seconds() < 0.8 * clock.wall()


@pytest.mark.usefixtures("crowd")
def test_a_limit_is_over_after_twice_the_time_at_the_latest() -> None:
    clock = Clock()
    assert not clock.passed(0.5)
    busy(clock, 1.1)
    assert clock.passed(0.5)


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
        (16, 5 * watch.CORES / 16, 5.0),  # others had half of what the cores can do
        (1, 8.0, 5.0 if watch.CORES > 1 else 8.0),
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


def test_a_training_that_is_repeated_is_not_held_to_its_limit() -> None:
    assert Clock().passed(0.0)
    assert not Clock(patience=1e12).passed(1e-9)
