"""Jobs as the nodes see them: start, attach, read, stop. A directory is the identity, so every call may come twice."""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from pydantic import ValidationError

from sandbox import artifacts
from sandbox.environment import KEPT, ROOT
from sandbox.room import work_of
from schema.errors import JobsUnavailable, RunStopped
from schema.events import JobProgress
from schema.job import Access, JobResult, JobSpec, JobStatus, Place, Step

POLL = 0.03
MAX_POLL = 0.25  # a long training is looked at less often: every look costs it something
NEEDED = (
    "PATH",
    "HOME",
    "IMPROVE_HOME",
    "IMPROVE_SUPERVISOR_IDLE",
    "IMPROVE_LINE",
    "IMPROVE_LANDLOCK_ABI",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
)
MOST_DEATHS = 5  # of supervisors, while one job is waited for
LEAST_FREE = 32 * 2**20  # bytes
STOP_SECONDS = 30.0  # that a job has to end in, when it was told to


def start(directory: Path, spec: JobSpec, /) -> None:
    """Ask the run's supervisor for this job, unless it is done or running. Raises OSError where the disk refuses, or the run's folder is gone."""
    if _is_of_another_pipeline(directory, spec):
        _set_aside(directory)
    if (directory / "stop").exists():
        _await_end(directory)
    run_dir = _folder(directory).parent
    for folder in reversed([directory, *directory.parents[: len(directory.relative_to(run_dir).parts) - 1]]):
        folder.mkdir(exist_ok=True)
    found = result(directory)
    anew = found is not None and (undone(found) or _is_given_what_it_lacked(found, directory, spec))
    if anew or not (directory / "job.json").exists():
        partial = directory / f"job.{os.getpid()}.partial"
        partial.write_text(spec.model_dump_json(), encoding="utf-8")
        partial.replace(directory / "job.json")
    if anew or not _held(directory / "lock"):
        (directory / "stop").unlink(missing_ok=True)
    if anew:
        (directory / "result.json").unlink()
        found = None
    if found is None and not _held(directory / "lock"):
        _request(directory)


def go_on(directory: Path, /) -> None:
    """Give a training that was cut its whole time once more, from its next start on.

    It then goes on from the last epoch that it has kept, or begins anew.
    """
    (directory / "result.json").rename(directory / f"cut-{times_cut(directory) + 1}.json")


def times_cut(directory: Path, /) -> int:
    """Count how often this training went on after it had been cut."""
    return len(list(directory.glob("cut-*.json")))


def wait(
    directory: Path,
    /,
    on_progress: Callable[[JobProgress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> JobResult:
    """Attach until the job is over. A dead supervisor is replaced.

    Raises RunStopped where `stop` is true (the job goes on), JobsUnavailable where no supervisor stays alive or the result cannot be read.
    """
    told, asked, began, deaths = 0.0, time.monotonic(), time.monotonic(), 0
    while (found := result(directory)) is None:
        if stop and stop():
            raise RunStopped(f"the job {directory.name} goes on in the background")
        if time.monotonic() - asked > 1.0 and not _held(directory / "lock"):
            asked = time.monotonic()
            _refuse_foreign(directory)
            if not _held(_folder(directory) / "supervisor.lock"):
                deaths += 1
                if deaths > MOST_DEATHS:
                    raise JobsUnavailable(_no_supervisor(_folder(directory)))
                _request(directory)
        if time.monotonic() - told > 0.5:
            told = time.monotonic()
            _wake(_folder(directory) / "supervisor.lock")
            if on_progress:
                on_progress(_progress(directory))
        time.sleep(min(MAX_POLL, POLL + (time.monotonic() - began) / 50))
    if on_progress:
        on_progress(_progress(directory))
    return found


def _refuse_foreign(directory: Path) -> None:
    """Raises JobsUnavailable where a job that is over has left a result that cannot be read: nothing would ever come."""
    file = directory / "result.json"
    if file.exists() and result(directory) is None and not _held(directory / "lock"):
        raise JobsUnavailable(
            f"{file} cannot be read: another version of IMPROVE wrote it, or it is damaged. Go on with the version that the run was begun with, "
            "or remove that file, and the job runs again."
        )


def _no_supervisor(folder: Path) -> str:
    log = folder / "supervisor.log"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().split("\n") if log.exists() else [""]
    return (
        f"The process that runs the jobs has ended {MOST_DEATHS} times without a result. Its last words: {artifacts.cleaned(lines[-1])[:300] or '(none)'} "
        f"(all of them: {log}). When that is mended, `improve resume` goes on with this job."
    )


def _is_of_another_pipeline(directory: Path, now: JobSpec) -> bool:
    """A run that was taken back to an earlier step (a fork) asks for something else under the same name."""
    try:
        before = spec(directory)
    except (FileNotFoundError, ValidationError):
        return False
    return bool(before.fingerprint) and before.fingerprint != now.fingerprint


def _set_aside(directory: Path) -> None:
    """What was trained there is kept beside, under a name that nobody asks for."""
    stop(directory)
    _await_end(directory)
    directory.rename(directory.with_name(f"{directory.name}.replaced-{time.time_ns()}"))


def _await_end(directory: Path) -> None:
    """Of a job that has been told to stop."""
    deadline = time.monotonic() + STOP_SECONDS
    while _held(directory / "lock") and time.monotonic() < deadline:
        time.sleep(POLL)


def undone(result: JobResult) -> bool:
    """Ended by the person, or for want of a sandbox or a GPU that computes: it says nothing about the pipeline, and is begun anew when asked for again."""
    return result.fault is not None and result.fault.cause in {"stopped", "sandbox", "device"}


def _is_given_what_it_lacked(result: JobResult, directory: Path, now: JobSpec) -> bool:
    """It failed for want of pretrained weights, and has been found some since."""
    if result.fault is None or result.fault.wants is None:
        return False
    before = spec(directory)
    return (now.weights, now.cached) != (before.weights, before.cached)


def result(directory: Path, /) -> JobResult | None:
    try:
        return JobResult.model_validate_json((directory / "result.json").read_bytes())
    except (
        FileNotFoundError,
        ValidationError,
    ):  # without a sandbox a job can write here, too; ours comes when it is over
        return None


def spec(directory: Path, /) -> JobSpec:
    return JobSpec.model_validate_json((directory / "job.json").read_bytes())


def status(directory: Path, /) -> JobStatus:
    if result(directory):
        return JobStatus(state="finished")
    if not (directory / "job.json").exists():
        return JobStatus(state="absent")
    step, waits_for, seconds = _step(directory)
    if _held(directory / "lock"):
        return JobStatus(state="waiting" if waits_for else "running", step=step, waits_for=waits_for, seconds=seconds)
    waiting = _held(_folder(directory) / "supervisor.lock") and not (directory / "starts").exists()
    return JobStatus(state="waiting" if waiting else "interrupted", step=step)


def stop(directory: Path, /) -> None:
    """End the job; its result is a fault of kind `stopped`."""
    (directory / "stop").touch()


def warm(run_dir: Path, access: Access, /) -> None:
    """Start the run's supervisor early, so that a sandbox for jobs with this access is warm when the first one comes."""
    folder = run_dir / "supervisor"
    folder.mkdir(exist_ok=True)
    (folder / "access.json").write_text(access.model_dump_json(), encoding="utf-8")
    _supervise(folder)


def _supervise(folder: Path) -> None:
    """Have a supervisor. It is told nothing of the person's environment that it need not know: keys stay with us."""
    folder.mkdir(exist_ok=True)
    (folder / "queue").mkdir(exist_ok=True)
    if not _held(folder / "supervisor.lock"):
        with (folder / "supervisor.log").open("ab") as log:
            command = [sys.executable, "-c", _DETACH, str(folder)]
            known = {name: os.environ[name] for name in (*KEPT, *NEEDED) if name in os.environ}
            subprocess.run(
                command,
                check=True,
                cwd=ROOT,
                env=known,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )


# The caller's child forks and ends at once: the supervisor is nobody's child, in a session of its own.
_DETACH = "import os, sys\nif os.fork() == 0:\n    os.setsid()\n    os.execv(sys.executable, [sys.executable, '-m', 'sandbox.supervisor', sys.argv[1]])"


def shutdown(run_dir: Path, /) -> None:
    """End the run's supervisor and whatever it runs."""
    folder = run_dir / "supervisor"
    if _held(folder / "supervisor.lock"):
        os.kill(int((folder / "supervisor.lock").read_text(encoding="ascii")), 15)
        while _held(folder / "supervisor.lock"):
            time.sleep(POLL)


def _folder(directory: Path) -> Path:
    """runs/<run>/supervisor for runs/<run>/iterations/<n>/jobs/<job>."""
    return next(parent for parent in directory.parents if parent.name == "iterations").parent / "supervisor"


def disk_is_full(directory: Path) -> bool:
    """So full that a failed job says nothing about its pipeline."""
    return shutil.disk_usage(directory).free < LEAST_FREE


def _request(directory: Path) -> None:
    if disk_is_full(directory):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))
    folder = _folder(directory)
    _supervise(folder)
    ticket = folder / "queue" / f"{time.time_ns()}-{os.getpid()}"
    ticket.write_text(str(directory.absolute()), encoding="utf-8")
    ticket.rename(ticket.with_name(ticket.name + ".job"))


def _wake(lock: Path) -> None:
    """A supervisor that was stopped (SIGSTOP) keeps no limit; it is in a session of its own, so that no terminal did it."""
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        supervisor = psutil.Process(int(lock.read_text(encoding="ascii")))
        if supervisor.status() == psutil.STATUS_STOPPED and _held(lock):
            supervisor.resume()


def _held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _step(directory: Path) -> tuple[Step | None, Place | None, float]:
    """The step that it is in or what it stands in line for, and since how many seconds."""
    raw = artifacts.read_json(directory, "status.json")
    return (raw.get("step"), raw.get("waits_for"), max(0.0, time.time() - raw["since"])) if raw else (None, None, 0.0)


def _progress(directory: Path) -> JobProgress:
    step, waits_for, seconds = _step(directory)
    asked = spec(directory)
    limits = asked.limits
    allowed = {
        "race": asked.race_seconds,
        "smoke": limits.smoke_seconds,
        "train": limits.train_seconds,
        "predict": limits.predict_seconds,
    }
    over = step == "predict" or result(directory)
    work = directory / "work" if over else work_of(_folder(directory) / "room")
    row = artifacts.last_epoch(work) if step in {"train", "predict"} else None
    metrics = dict(row.metrics) if row else {}
    epochs = metrics.pop("epochs", 0)
    return JobProgress(
        job=asked.name,
        step=step,
        waits_for=waits_for,
        seconds=round(seconds, 1),
        limit_seconds=allowed[step] if step else 0.0,
        epoch=row.epoch if row else 0,
        epochs=int(epochs) if 1 <= epochs <= artifacts.MOST_EPOCHS else None,
        metrics=metrics,
    )
