"""Jobs of several runs on one machine, each with a supervisor of its own: who trains, who waits, and what of it can be seen."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sandbox import job, line
from sandbox.isolation import tiers
from schema.events import JobProgress
from schema.settings import Tier
from tests.sandbox.jobs import ENDLESS, lay_out_data, spec, training, until
from tests.scripted import PIPELINE

TIMED = training(
    "import time\nprint('at', time.monotonic(), flush=True)\ntime.sleep(0.5)\nprint('at', time.monotonic())"
)
Start = Callable[..., Path]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begin a job in a run of its own; returns its directory."""
    runs: list[Path] = []

    def begin(pipeline: object = TIMED, **own: object) -> Path:
        run = tmp_path / f"home {len(runs)}" / "runs" / "run"
        run.mkdir(parents=True)
        lay_out_data(run)
        runs.append(run)
        directory = run / "iterations" / "0001" / "jobs" / "1-s0"
        wanted = spec(run, pipeline, train_seconds=60).model_copy(update=own)  # type: ignore[arg-type]
        job.start(directory, wanted)
        return directory

    yield begin
    for run in runs:
        job.shutdown(run)


def times(directory: Path) -> tuple[float, float]:
    """When its training components ran, first and last."""
    seen = [float(at) for at in re.findall(r"at ([\d.]+)", (directory / "train.log").read_text())]
    return min(seen), max(seen)


def overlap(one: Path, other: Path) -> bool:
    (began, ended), (other_began, other_ended) = times(one), times(other)
    return began < other_ended and other_began < ended


def supervisor_of(directory: Path) -> psutil.Process:
    lock = directory.parents[3] / "supervisor" / "supervisor.lock"
    return psutil.Process(int(lock.read_text()))


@pytest.mark.slow
def test_trainings_of_two_runs_take_turns_on_the_cpu(start: Start) -> None:
    directories = [start(), start()]
    results = [job.wait(directory) for directory in directories]
    assert all(result.ok for result in results), results
    assert not overlap(*directories)
    assert max(result.waited for result in results) > 0


@pytest.mark.slow
def test_trainings_run_together_where_that_was_asked_for(start: Start) -> None:
    slow = training(
        "import time\nprint('at', time.monotonic(), flush=True)\ntime.sleep(6)\nprint('at', time.monotonic())"
    )
    directories = [start(slow, together=4), start(slow, together=4)]
    results = [job.wait(directory) for directory in directories]
    assert all(result.ok for result in results), results
    assert overlap(*directories)


@pytest.mark.slow
def test_who_waits_is_seen_holds_nothing_against_its_limits_and_can_be_stopped(start: Start) -> None:
    first = start(ENDLESS)
    until(first, "running", "train")
    second = start(TIMED)
    until(second, "waiting")
    seen: list[JobProgress] = []
    with pytest.raises(Exception, match="goes on in the background"):
        job.wait(second, on_progress=seen.append, stop=lambda: any(progress.seconds > 1 for progress in seen))
    assert (seen[-1].waits_for, seen[-1].step, seen[-1].limit_seconds) == ("CPU", None, 0.0)
    told = job.status(second)
    assert (told.state, told.waits_for) == ("waiting", "CPU")
    assert told.seconds > 1
    job.stop(second)
    result = job.wait(second)
    assert result.fault is not None
    assert (result.fault.kind, result.fault.message) == ("stopped", "it was stopped while it waited for a free CPU")
    assert (result.seconds, result.steps) == (0.0, [])
    assert result.waited > 1
    assert job.status(first).state == "running"


@pytest.mark.slow
def test_a_killed_holder_frees_its_place_at_once(start: Start) -> None:
    first = start(ENDLESS)
    until(first, "running", "train")
    second = start(TIMED)
    until(second, "waiting")
    supervisor_of(first).kill()
    assert job.wait(second).ok
    assert job.status(first).state == "interrupted"


@pytest.mark.slow
def test_each_gets_its_turn_in_the_order_of_their_coming(start: Start) -> None:
    first = start(ENDLESS)
    until(first, "running", "train")
    came = []
    for _ in range(4):
        came.append(start(TIMED))
        until(came[-1], "waiting")
    job.stop(first)
    assert all(job.wait(directory).ok for directory in came)
    assert sorted(came, key=times) == came


@pytest.mark.slow
def test_predicting_waits_for_no_training(start: Start, tmp_path: Path) -> None:
    trained = start()
    assert job.wait(trained).ok
    until(start(ENDLESS), "running", "train")
    weights = str(trained / "work" / "weights.safetensors")
    directory = start(PIPELINE, steps=("predict",), weights_file=weights)
    result = job.wait(directory)
    assert result.ok, result.fault
    assert result.waited == 0


@pytest.mark.skipif(not line.ABSTRACT, reason="counts processes by /proc")
def test_only_a_few_of_many_runs_keep_half_a_gigabyte_for_what_may_come(
    tmp_path: Path,
) -> None:
    from sandbox.turns import IDLE

    runs = [tmp_path / f"idle {number}" for number in range(len(IDLE) + 2)]
    try:
        for run in runs:
            run.mkdir()
            job.warm(run, spec(run, PIPELINE).access)
        warm = sum(len(_warm(run)) for run in runs)
        assert warm <= len(IDLE)
    finally:
        for run in runs:
            job.shutdown(run)


def _warm(run: Path) -> list[psutil.Process]:
    lock = run / "supervisor" / "supervisor.lock"
    while not (lock.exists() and lock.read_text()):
        time.sleep(0.02)
    time.sleep(1.0)
    return psutil.Process(int(lock.read_text())).children()


# Takes every name of the line that it can, in a process that is meant to stay, and ends well.
GREEDY = training(
    """import os, re, socket, time
line = re.search(r'@(\\S+)-cpu-0', open('/proc/net/unix').read())[1]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        held = []
        for name in [*(f'cpu-{n}' for n in range(1, 9)), 'cpu-waits-' + '0' * 20 + '-1']:
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].bind(chr(0) + line + '-' + name)
        print('HELD', flush=True)
        time.sleep(1000)
    os._exit(0)
time.sleep(0.7)"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")
@pytest.mark.parametrize("tier", ["landlock", pytest.param("none", marks=pytest.mark.slow)])
def test_a_job_holds_no_place_after_its_end(tier: Tier, start: Start, tmp_path: Path) -> None:
    if tier != "none" and not (found := tiers.probe(tier, tmp_path)).works:
        pytest.skip(f"{tier}: {found.text}")
    first = start(GREEDY, tier=tier, steps=("smoke", "train"))
    assert job.wait(first).ok
    assert "HELD" in (first / "train.log").read_text()
    assert line._names("cpu-") == []
    assert job.wait(start(TIMED, steps=("smoke", "train"))).ok
