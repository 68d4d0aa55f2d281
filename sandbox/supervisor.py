"""One detached process per run: holds a job's lock, runs its steps in children of the warm process, enforces every limit, writes the outcome.

It outlives the orchestrator (a training that takes hours goes on), and nothing of a job outlives it.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from sandbox import artifacts
from sandbox.attribution import fault_from
from sandbox.environment import environment
from sandbox.job import disk_is_full
from sandbox.script.clock import queued_seconds
from sandbox.warm import die_with_parent
from schema.job import JobResult, JobSpec, Step, StepOutcome
from schema.pipeline import Fault

POLL = 0.02
WATCH = 0.1  # between two looks at a running job: each look goes over all processes of the machine
LOG_HEAD = 2 * 2**20  # of a job's output, the first part and the last are kept
LOG_TAIL = 64 * 1024
IDLE_SECONDS = float(os.environ.get("IMPROVE_SUPERVISOR_IDLE", "180"))


def main(folder: Path) -> None:
    """Serve the run's queue until there has been no work for a while. A second supervisor of one run ends at once."""
    lock = os.open(folder / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what a job orphans comes to us
    warm = Warm(folder)
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < IDLE_SECONDS and folder.exists():
        request = _next_request(folder / "queue")
        if request is None:
            time.sleep(POLL if time.monotonic() - quiet_since < 30 else 10 * POLL)
            continue
        _run_job(request, warm)
        quiet_since = time.monotonic()
    warm.close()


def _next_request(queue: Path) -> Path | None:
    for ticket in sorted(queue.glob("*.job")) if queue.exists() else []:
        job_dir = Path(ticket.read_text(encoding="utf-8"))
        ticket.unlink()
        return job_dir
    return None


def _run_job(job_dir: Path, warm: "Warm") -> None:
    lock = os.open(job_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (job_dir / "result.json").exists():
            return
        spec = JobSpec.model_validate_json((job_dir / "job.json").read_bytes())
        result = _run_steps(job_dir, spec, warm)
        if result.fault and disk_is_full(job_dir):
            sys.exit(f"{job_dir}: the disk is full; the job begins anew when there is room")
        _write(job_dir / "result.json", result.model_dump_json())
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _run_steps(job_dir: Path, spec: JobSpec, warm: "Warm") -> JobResult:
    _lay_out(job_dir, spec)
    began, outcomes, fault, cut, peak = time.monotonic(), [], None, False, 0
    log = Log(job_dir / "train.log", spec.limits.output_bytes)
    for step in spec.steps:
        if step == "predict":
            cut = cut or _was_cut(job_dir)
        _write(job_dir / "status.json", json.dumps({"step": step, "since": time.time()}))
        run = _run_step(job_dir, spec, step, warm, log)
        outcomes.append(StepOutcome(step=step, seconds=round(run.seconds, 3), exit=run.exit))
        peak = max(peak, run.peak)
        if step == "train" and run.limit == "time" and (job_dir / "work" / "weights.safetensors").is_file():
            cut = True  # it did not stop when asked; its best weights so far are scored
            continue
        fault = _fault(job_dir, spec, step, run)
        if fault:
            break
    log.close()
    return JobResult(
        ok=fault is None,
        fault=fault,
        steps=outcomes,
        seconds=round(time.monotonic() - began, 3),
        cut=cut,
        peak_memory_bytes=peak,
        tier=spec.tier,
    )


def _lay_out(job_dir: Path, spec: JobSpec) -> None:
    """A clean work directory: an interrupted start leaves nothing that the next one could mistake for its own."""
    work = job_dir / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    with (job_dir / "starts").open("a", encoding="utf-8") as file:
        file.write(f"{time.time()}\n")
    (job_dir / "pipeline.py").write_text(spec.pipeline, encoding="utf-8")
    config = spec.model_dump(
        include={
            "data",
            "heldout",
            "weights",
            "seed",
            "device",
            "threads",
            "epochs",
            "precision",
            "channels_last",
            "settled",
            "weights_file",
        }
    )
    _write(work / "config.json", json.dumps(config | {"seconds": spec.limits.train_seconds}))


@dataclass
class StepRun:
    seconds: float = 0.0
    exit: int | None = None
    limit: str | None = None  # the limit that ended it
    peak: int = 0


def _run_step(job_dir: Path, spec: JobSpec, step: Step, warm: "Warm", log: "Log") -> StepRun:
    """The smoke step is two processes: one trains and saves, a fresh one reloads and predicts."""
    run = _run_child(job_dir, spec, step, warm, log)
    if step == "smoke" and run.exit == 0 and run.limit is None:
        again = _run_child(job_dir, spec, "reload", warm, log)
        return StepRun(run.seconds + again.seconds, again.exit, again.limit, max(run.peak, again.peak))
    return run


def _seconds(spec: JobSpec, step: str) -> float:
    limits = spec.limits
    smoke = limits.smoke_seconds
    allowed = {"smoke": smoke, "reload": smoke, "train": limits.train_seconds, "predict": limits.predict_seconds}
    return allowed[step] + (limits.grace_seconds if step == "train" else 0.0)


def _run_child(job_dir: Path, spec: JobSpec, step: str, warm: "Warm", log: "Log") -> StepRun:
    (job_dir / "work" / "fault.json").unlink(missing_ok=True)
    run = StepRun()
    with warm.child(job_dir, step, spec, log) as child:
        watch = Watch(
            job_dir, spec, _seconds(spec, step)
        )  # a warm process that is still importing costs the job nothing
        while (status := child.status(min(WATCH, POLL + watch.seconds / 10))) is None and not run.limit:
            run.limit = watch.exceeded(warm.descendants(), log)
        if status is None:
            _end(child.pid, warm, log)
            status = child.status(5.0)
    _sweep(warm)
    run.exit, run.seconds, run.peak = status, watch.seconds, watch.peak
    return run


def _end(pid: int, warm: "Warm", log: "Log") -> None:
    """Ask where it is (a traceback in the log), then end it and all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.1)
        log.drain()
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)
    for process in warm.descendants():
        with contextlib.suppress(psutil.Error):
            process.kill()


def _sweep(warm: "Warm") -> None:
    """No process of a step is left when the next begins."""
    for _ in range(200):
        left = warm.descendants()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while warm.reap():
                pass
        if not left:
            return
        time.sleep(0.01)
    warm.restart()  # the last resort ends whatever will not go


@dataclass
class Watch:
    """Measures a running step against its limits."""

    job_dir: Path
    spec: JobSpec
    allowed: float
    began: float = field(default_factory=time.monotonic)
    peak: int = 0
    walked: float = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def _alone(self, processes: list[psutil.Process]) -> float:
        """Without the time that they stood in line for a core; at least half of the wall clock (sandbox/script/clock.py)."""
        return self.seconds - min(sum(queued_seconds(process.pid) for process in processes), self.seconds / 2)

    def exceeded(self, processes: list[psutil.Process], log: "Log") -> str | None:
        """The first limit that is passed. The disk is looked at twice a second."""
        limits = self.spec.limits
        passed = {
            "time": self.seconds > self.allowed and self._alone(processes) > self.allowed,
            "output": log.received > limits.output_bytes,
            "stopped": (self.job_dir / "stop").exists(),
            "processes": len(processes) > limits.processes,
        }
        used = _memory(processes, limits.memory_bytes)
        self.peak = max(self.peak, used)
        passed["memory"] = used > limits.memory_bytes
        if time.monotonic() - self.walked > 0.5:
            self.walked = time.monotonic()
            passed["disk"] = _disk(self.job_dir / "work") > limits.disk_bytes
        return next((name for name, yes in passed.items() if yes), None)


def _memory(processes: list[psutil.Process], limit: int) -> int:
    """Bytes in use by the tree. Pages shared with the warm process are counted fairly only where the quick sum is too high."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    if total <= limit:
        return total
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += getattr(process.memory_full_info(), "pss", process.memory_info().rss)
    return total


def _disk(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += (Path(root) / name).lstat().st_blocks * 512
    return total


class Log:
    """The job's output: its first part and its last, never more."""

    def __init__(self, path: Path, cap: int) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.write_end, True)
        self.received = 0
        self._file = path.open("wb")
        self._tail = b""
        self._cap = cap

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self.read_end, 2**16):
                self._take(block)
                if self.received > self._cap:
                    return

    def _take(self, block: bytes) -> None:
        room = max(0, LOG_HEAD - self.received)
        self.received += len(block)
        self._file.write(block[:room])
        self._file.flush()
        self._tail = (self._tail + block[room:])[-LOG_TAIL:]

    def close(self) -> None:
        self.drain()
        if self._tail:
            self._file.write(b"\n... %d bytes in all, the last follow ...\n" % self.received + self._tail)
        self._file.close()
        os.close(self.read_end)
        os.close(self.write_end)


class Child:
    """A step's process. `status` is its exit status, negative for a signal, None while it runs."""

    def __init__(self, channel: socket.socket, pid: int, log: Log, ended: bytes) -> None:
        self.pid = pid
        self._ended = ended  # its exit status, where it came together with the pid
        self._channel = channel
        self._log = log

    def status(self, wait: float) -> int | None:
        if self._ended:
            self._log.drain()
            return int(self._ended)
        until = time.monotonic() + wait
        while True:
            left = max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self._channel.fileno(), self._log.read_end], [], [], left)
            self._log.drain()
            if self._channel.fileno() in ready:
                answer = self._channel.recv(64)
                return int(answer) if answer else -9  # the warm process went down, and its child with it
            if time.monotonic() >= until:
                return None


class Warm:
    """The warm process, started when first needed and again when it is gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._ready = False
        self.start()

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        scratch = self._folder / "scratch"
        scratch.mkdir(exist_ok=True)
        self._process = launch(theirs, scratch)
        theirs.close()
        self._channel = ours

    @contextlib.contextmanager
    def child(self, job_dir: Path, step: str, spec: JobSpec, log: Log) -> Iterator["Child"]:
        """Fork one step's process."""
        if self._process is None or self._process.poll() is not None or self._channel is None:
            self.restart()
        channel = self._channel
        assert channel is not None
        if not self._ready:
            self._ready = channel.recv(64) == b"ready\n"
        request = {"step": step, "job_dir": str(job_dir), "file_bytes": spec.limits.disk_bytes}
        socket.send_fds(channel, [json.dumps(request).encode()], [log.write_end])
        pid, _, rest = channel.recv(64).partition(b"\n")
        yield Child(channel, int(pid or -1), log, rest)

    def descendants(self) -> list[psutil.Process]:
        """Every process of the current step: below the warm process, or orphaned to us."""
        own = self._process.pid if self._process else -1
        try:
            return [
                p
                for p in psutil.Process().children(recursive=True)
                if p.pid != own and p.status() != psutil.STATUS_ZOMBIE
            ]
        except psutil.Error:
            return []

    def reap(self) -> bool:
        """Collect one orphan that came to us."""
        for process in psutil.Process().children():
            if self._process and process.pid == self._process.pid:
                continue
            pid, _ = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                return True
        return False

    def restart(self) -> None:
        self.close()
        self._ready = False
        self.start()

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        if self._channel:
            self._channel.close()


def launch(channel: socket.socket, scratch: Path) -> subprocess.Popen[bytes]:
    """Start the warm process in its isolation tier. `none` is a plain process with a scrubbed environment."""
    number = channel.fileno()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox.warm", str(number)],
        pass_fds=[number],
        cwd=scratch,
        env=environment(scratch, cores),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(scratch.parent / "warm.log").open("ab"),
        preexec_fn=die_with_parent,  # noqa: PLW1509 - the supervisor has no threads
    )


def _was_cut(job_dir: Path) -> bool:
    try:
        return b'{"cut": true}' in artifacts.read_bytes(job_dir, "work/metrics.jsonl", 200, tail=True)
    except artifacts.Unreadable:
        return False


def _fault(job_dir: Path, spec: JobSpec, step: Step, run: StepRun) -> Fault | None:
    if run.exit == 0 and run.limit is None:
        return None
    account = artifacts.read_json(job_dir, "work/fault.json")
    limit = f"{run.limit}" if run.limit else None
    return fault_from(
        step,
        account,
        artifacts.log_tail(job_dir, 60) + _stack(job_dir, limit),
        spec.pipeline,
        exit_status=run.exit,
        limit=limit,
        limits=spec.limits,
    )


def _stack(job_dir: Path, limit: str | None) -> str:
    """Where a step was when its limit ended it."""
    if limit is None:
        return ""
    try:
        return "\n" + artifacts.read_bytes(job_dir, "work/stack.txt", 2**14).decode(errors="replace")
    except artifacts.Unreadable:
        return ""


def _write(path: Path, text: str) -> None:
    """Whole or not at all, even when the power fails."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
