"""Jobs whose supervisor is killed in the middle of a training: the very same job goes on, and no other is given what it had kept."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from sandbox import artifacts, interrupted, job, room, supervisor
from sandbox.interrupted import ACCOUNT, FILE, Spent, Training
from sandbox.isolation import tiers
from schema.job import JobSpec, Plan
from schema.settings import Tier
from tests.sandbox import test_job
from tests.sandbox.test_checkpoint import FIT, OWN_LOOP, TIMES
from tests.scripted import PIPELINE

# A quarter of a second for an epoch, and every one is kept.
OFTEN = {"CHECKPOINT_SECONDS = 30.0": "CHECKPOINT_SECONDS = 0.0", "SHARE = 0.01": "SHARE = 1e9"}
DATA = """
import random
import time

import numpy as np


def build_transforms(info):
    print("in the work directory:", sorted(path.name for path in Path().iterdir()), flush=True)

    def train(images):
        time.sleep(0.03)
        shift = torch.rand(len(images), 1, 1, 1) + np.random.rand() + random.random()
        return normalize(images, info) + shift
    return Transforms(train=train, eval=lambda images: normalize(images, info))
"""
EPOCHS = 6


@pytest.fixture(scope="module")
def run_dir() -> Iterator[Path]:
    """One run, so that the jobs share a room. Not below /tmp, of which bubblewrap has its own."""
    with tempfile.TemporaryDirectory(prefix="improve-interrupted-", dir="/var/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir()
        labels = np.arange(80) % 2
        images = np.random.default_rng(0).integers(0, 120, (80, 1, 8, 8)) + 20 * labels[:, None, None, None]
        np.save(data / "images.npy", images.astype(np.uint8))
        np.save(data / "labels.npy", labels)
        np.save(data / "inner.npy", np.arange(80) % 10 == 9)
        np.save(data / "heldout.npy", images[:20].astype(np.uint8))
        facts = {"classes": ["dark", "light"], "channels": 1, "height": 8, "width": 8, "mean": [0.4], "std": [0.2]}
        (data / "dataset.json").write_text(json.dumps(facts | {"counts": [40, 32]}))
        yield folder
        job.shutdown(folder)


def spec(run_dir: Path, training: str = FIT, tier: Tier = "none", **limits: float) -> JobSpec:
    pipeline = PIPELINE.with_code("data", DATA).with_code("training", training.replace("5", f"{EPOCHS}"))
    made = test_job.spec(run_dir, pipeline, **limits)
    text = made.pipeline
    for before, after in OFTEN.items():
        text = text.replace(before, after)
    settled = {"epochs": EPOCHS, "precision": "float32", "channels_last": False, "settled": True, "tier": tier}
    return made.model_copy(update={"pipeline": text, **settled})


def directory(run_dir: Path, name: str) -> Path:
    return run_dir / "iterations" / "0001" / "jobs" / name


def kill_supervisor(run_dir: Path) -> None:
    process = psutil.Process(int((run_dir / "supervisor" / "supervisor.lock").read_text()))
    below = process.children(recursive=True)
    process.kill()
    psutil.wait_procs([process, *below], timeout=10)


def killed_in_the_middle(run_dir: Path, name: str, asked: JobSpec, epoch: int = 3) -> Path:
    """The job, once its supervisor was killed in or after this epoch of its training."""
    place = directory(run_dir, name)
    job.start(place, asked)
    while not ((row := artifacts.last_epoch(room.work_of(run_dir / "supervisor" / "room"))) and row.epoch >= epoch):
        assert not job.result(place)
        time.sleep(0.02)
    kill_supervisor(run_dir)
    return place


def curve(place: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (place / "work" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def seen_in_the_work_directory(place: Path) -> str:
    return "".join(line for line in (place / "train.log").read_text().splitlines() if "in the work directory" in line)


def went_on(place: Path) -> bool:
    return "the training was interrupted: it goes on after epoch" in (place / "train.log").read_text()


@pytest.mark.parametrize("tier", ["none", *(pytest.param(tier, marks=pytest.mark.slow) for tier in tiers.ISOLATED)])
def test_a_killed_training_goes_on_to_the_weights_that_it_would_have_had(run_dir: Path, tier: Tier) -> None:
    found = tiers.probe(tier, run_dir) if tier != "none" else None
    if found and not found.works:
        pytest.skip(f"{tier}: {found.text}")
    asked = spec(run_dir, tier=tier)
    whole = directory(run_dir, f"whole-{tier}")
    job.start(whole, asked)
    assert job.wait(whole).ok
    halves = killed_in_the_middle(run_dir, f"halves-{tier}", asked)
    assert job.status(halves).state == "interrupted"
    epochs: list[int] = []
    job.start(halves, asked)
    result = job.wait(halves, on_progress=lambda told: epochs.append(told.epoch) if told.step == "train" else None)
    assert result.ok, result.fault
    assert went_on(halves)
    assert curve(halves) == curve(whole)
    assert [row["epoch"] for row in curve(halves)] == list(range(1, EPOCHS + 1))
    assert (halves / "work/weights.safetensors").read_bytes() == (whole / "work/weights.safetensors").read_bytes()
    assert len((halves / "starts").read_text().splitlines()) == 2
    assert [outcome.step for outcome in result.steps] == ["smoke", "train", "predict"]
    assert not {epoch for epoch in epochs if 0 < epoch < 2}
    assert not list(halves.glob("checkpoint*"))
    assert "checkpoint" not in str([path.name for path in (halves / "work").iterdir()])


@pytest.mark.slow
def test_a_loop_of_its_own_goes_on_where_it_names_what_it_changes(run_dir: Path) -> None:
    place = killed_in_the_middle(run_dir, "own", spec(run_dir, OWN_LOOP))
    assert job.wait(place).ok
    assert went_on(place)
    assert [row["batches"] for row in curve(place)] == [9 * epoch for epoch in range(1, EPOCHS + 1)]


@pytest.mark.slow
def test_a_loop_of_its_own_that_names_nothing_begins_anew(run_dir: Path) -> None:
    plain = OWN_LOOP.replace("log.epochs(5, model=model, optimizer=optimizer, order=loaders.train, seen=seen)", "range(1, 5 + 1)")  # fmt: skip
    place = killed_in_the_middle(run_dir, "plain", spec(run_dir, plain))
    assert job.wait(place).ok
    assert not went_on(place)
    assert [row["epoch"] for row in curve(place)] == list(range(1, EPOCHS + 1))


@pytest.mark.slow
def test_another_job_finds_nothing_and_leaves_the_interrupted_one_what_it_has(run_dir: Path) -> None:
    """The same script, in the same room, between the two starts of the other."""
    asked = spec(run_dir)
    first = killed_in_the_middle(run_dir, "first", asked)
    assert (first / FILE).is_file()
    other = directory(run_dir, "other")
    job.start(other, asked.model_copy(update={"seed": 1}))
    assert job.wait(other).ok
    assert not went_on(other)
    assert "checkpoint" not in seen_in_the_work_directory(other)
    job.start(first, asked)
    assert job.wait(first).ok
    assert went_on(first)


@pytest.mark.slow
def test_a_job_that_is_no_longer_the_same_begins_anew(run_dir: Path) -> None:
    place = killed_in_the_middle(run_dir, "changed", spec(run_dir))
    (place / "job.json").write_text(spec(run_dir).model_copy(update={"seed": 1}).model_dump_json())
    job.start(place, spec(run_dir))
    assert job.wait(place).ok
    assert not went_on(place)
    assert "checkpoint" not in seen_in_the_work_directory(place)


@pytest.mark.slow
@pytest.mark.parametrize("file", [FILE, ACCOUNT])
def test_garbage_is_a_new_beginning(run_dir: Path, file: str) -> None:
    place = killed_in_the_middle(run_dir, f"garbage-{file}", spec(run_dir))
    (place / file).write_bytes(b"\x00garbage" * 1000)
    job.start(place, spec(run_dir))
    result = job.wait(place)
    assert result.ok, result.fault
    assert not went_on(place)
    assert [row["epoch"] for row in curve(place)] == list(range(1, EPOCHS + 1))
    told = "what the interrupted training kept cannot be read: it begins anew" in (place / "train.log").read_text()
    assert told == (file == FILE)  # without our own account the job is not even given the file


@pytest.mark.slow
def test_a_training_that_was_stopped_by_the_person_goes_on_when_it_is_asked_for_again(run_dir: Path) -> None:
    place, asked = directory(run_dir, "stopped"), spec(run_dir)
    job.start(place, asked)
    while not (place / ACCOUNT).exists():
        time.sleep(0.02)
    job.stop(place)
    result = job.wait(place)
    assert result.fault
    assert result.fault.kind == "stopped"
    job.start(place, asked)
    assert job.wait(place).ok
    assert went_on(place)


def test_what_is_kept_counts_as_disk_and_is_gone_when_the_job_is_over(run_dir: Path) -> None:
    large = "    open('checkpoint.pt', 'wb').write(b'x' * 15_000_000)\n    open('more', 'wb').write(b'x' * 15_000_000)\n    time.sleep(3)\n"
    place = directory(run_dir, "large")
    job.start(place, spec(run_dir, FIT.replace("info, log):\n", f"info, log):\n{large}"), disk_bytes=20_000_000))
    result = job.wait(place)
    assert result.fault
    assert result.fault.kind == "disk"
    assert not list(place.glob("checkpoint*"))


PLAN = Plan(epochs=3, threads=1, images_per_second=1.0)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """Of a job with a plan, whose work directory is tmp_path/room/work."""
    room.build(tmp_path / "room", None)
    (tmp_path / "job" / "work").mkdir(parents=True)
    (tmp_path / "job" / "work" / "smoke.json").write_text(PLAN.model_dump_json())
    return Training(tmp_path / "job", job="digest", largest=1000)


def look(training: Training, seconds: float = 10.0) -> bool:
    """Whether something is held then."""
    training.look(training.job_dir.parent / "room", seconds, lambda: seconds / 2)
    return (training.job_dir / FILE).exists()


def test_its_time_counts_up_to_what_it_has_kept_last(training: Training) -> None:
    kept = training.job_dir.parent / "room" / "work" / FILE
    for seconds in (10.0, 20.0):
        kept.with_suffix(".new").write_bytes(b"%d" % seconds)
        kept.with_suffix(".new").replace(kept)
        assert look(training, seconds)
    assert look(training, 30.0)
    assert training.account
    assert training.account.spent == Spent(seconds=20.0, alone=10.0)
    assert (training.job_dir / FILE).read_bytes() == b"20"


def test_what_a_job_removes_is_no_longer_held_and_its_time_counts_anew(training: Training) -> None:
    training.earlier = Spent(seconds=5.0, alone=5.0)
    kept = training.job_dir.parent / "room" / "work" / FILE
    kept.write_bytes(b"x")
    assert look(training)
    kept.unlink()
    assert not look(training)
    assert training.earlier == Spent()


@pytest.mark.parametrize("what", ["link", "pipe", "directory", "too large"])
def test_only_a_plain_file_of_a_bounded_size_is_held(training: Training, what: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    kept = tmp_path / "room" / "work" / FILE
    make = {
        "link": lambda: kept.symlink_to(tmp_path / "secret"),
        "pipe": lambda: os.mkfifo(kept),
        "directory": kept.mkdir,
        "too large": lambda: kept.write_bytes(bytes(1001)),
    }
    make[what]()
    assert not look(training)


def test_a_second_name_of_a_file_is_not_given_back(training: Training, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    kept = tmp_path / "room" / "work" / FILE
    kept.hardlink_to(tmp_path / "secret")
    assert not look(training)
    training.give(tmp_path / "room", None)
    assert kept.stat().st_nlink == 2
    assert not (training.job_dir / FILE).exists()


def test_what_is_held_is_a_copy_that_the_job_cannot_reach(training: Training, tmp_path: Path) -> None:
    """It once was the job's own file under a second name: written over in place, with its old date, it was progress without its time."""
    kept = tmp_path / "room" / "work" / FILE
    kept.write_bytes(b"after 10 seconds")
    assert look(training)
    date = kept.stat().st_mtime_ns
    assert (training.job_dir / FILE).stat().st_ino != kept.stat().st_ino
    kept.write_bytes(b"after 99 seconds")
    os.utime(kept, ns=(date, date))
    assert look(training, 99.0)
    assert training.account
    assert (training.job_dir / FILE).read_bytes() == b"after 10 seconds"
    assert training.account.spent.seconds == 10.0
    room.renew(tmp_path / "room", None)
    training.give(tmp_path / "room", None)
    given = tmp_path / "room" / "work" / FILE
    assert (given.read_bytes(), given.stat().st_mode & 0o777) == (b"after 10 seconds", 0o400)
    assert given.stat().st_ino != (training.job_dir / FILE).stat().st_ino


def test_a_training_that_goes_on_has_what_was_left_of_its_time(run_dir: Path) -> None:
    asked = spec(run_dir, train_seconds=400, grace_seconds=20)  # and half as long again
    assert supervisor._seconds(asked, "train", 0.0) == 620
    assert supervisor._seconds(asked, "train", 400.0) == 240  # the grace twice: it loads its data anew


CHANGES = {
    "the same": {},
    "another seed": {"seed": 1},
    "another script": {"pipeline": "x"},
    "more time": {"epochs": 99},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_kept_is_there_for_the_very_same_job_and_removed_for_any_other(
    training: Training, run_dir: Path, change: dict[str, object]
) -> None:
    asked, place = spec(run_dir), training.job_dir
    (place / "job.json").write_text(asked.model_dump_json())
    first = interrupted.training(place, asked)
    (place.parent / "room" / "work" / FILE).write_bytes(b"kept")
    first.look(place.parent / "room", 10.0, lambda: 10.0)
    (place / "job.json").write_text(asked.model_copy(update=change).model_dump_json())
    again = interrupted.training(place, asked)
    assert (again.account is not None) == (place / FILE).exists() == (place / ACCOUNT).exists() == (change == {})
    assert again.earlier == (Spent() if change else Spent(seconds=10.0, alone=10.0))


def test_without_our_own_account_nothing_is_given_back(training: Training, run_dir: Path) -> None:
    (training.job_dir / "job.json").write_text(spec(run_dir).model_dump_json())
    (training.job_dir / FILE).write_text("kept")
    assert interrupted.training(training.job_dir, spec(run_dir)).account is None
    assert not (training.job_dir / FILE).exists()
