"""Time that neighbours take from a training does not count against it, within bounds."""

import os
import subprocess
import sys
import time

import pytest

from sandbox.script.clock import Clock, queued_seconds


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
