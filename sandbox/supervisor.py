"""One detached process per run: holds a job's lock, runs its steps in children of the warm process, enforces every limit, writes the outcome.

It outlives the orchestrator (a training that takes hours goes on), and nothing of a job outlives it.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil

from sandbox import artifacts, device, durable, gpu, interrupted, line, room
from sandbox.attribution import fault_from
from sandbox.interrupted import Spent, Training
from sandbox.isolation import cgroup
from sandbox.isolation.kernel import PR_SET_CHILD_SUBREAPER, prctl
from sandbox.isolation.removal import clear
from sandbox.isolation.users import end_survivors, own_user
from sandbox.job import disk_is_full, times_cut, undone
from sandbox.out_of_memory import Use, explained, shape_of
from sandbox.output import Log
from sandbox.turns import IDLE, Wait, cards_of
from sandbox.watch import Watch
from sandbox.zygote import Child, SandboxFailed, Zygote, sweep
from schema.job import Access, Card, JobResult, JobSpec, Limit, Step, StepOutcome
from schema.pipeline import Fault

POLL = 0.02
WATCH = 0.1  # between two looks at a running job: each look goes over all processes of the machine
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
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a job orphans comes to us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with own_user(folder) as user, contextlib.closing(Zygote(folder, user)) as zygote:
        sweep(user)
        end_survivors(zygote.room)
        with contextlib.suppress(OSError):  # what will not end is told to the first job
            cgroup.sweep(folder)
        _serve(folder, zygote)


def _serve(folder: Path, zygote: Zygote) -> None:
    with contextlib.ExitStack() as held:
        may_idle = line.one_of(IDLE, held)
        if may_idle:
            _warm_up(folder, zygote)
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < IDLE_SECONDS and folder.exists():
            request = _next_request(folder / "queue")
            if request is None:
                time.sleep(POLL if time.monotonic() - quiet_since < 30 else 10 * POLL)
                continue
            _run_job(request, zygote)
            may_idle = may_idle or line.one_of(IDLE, held)
            if not may_idle:
                zygote.close()
            quiet_since = time.monotonic()


def _warm_up(folder: Path, zygote: Zygote) -> None:
    """Begin with the sandbox of the job that is likely to come. If that fails, the job itself will tell."""
    with contextlib.suppress(OSError, ValueError, SandboxFailed):
        access = Access.model_validate_json((folder / "access.json").read_bytes())
        room.build(zygote.room, None if access.tier == "none" else zygote.user)
        cards = cards_of(access, zygote.card)
        with line.turn(list(cards), access.together, lambda: False) as place:
            if place or not cards:
                zygote.open(access.model_copy(update={"card": cards.get(place or "")}))


def _next_request(queue: Path) -> Path | None:
    for ticket in sorted(queue.glob("*.job")) if queue.exists() else []:
        job_dir = Path(ticket.read_text(encoding="utf-8"))
        ticket.unlink()
        return job_dir
    return None


def _run_job(job_dir: Path, zygote: Zygote) -> None:
    lock = os.open(job_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (job_dir / "result.json").exists():
            return
        spec = _with_its_time(job_dir, JobSpec.model_validate_json((job_dir / "job.json").read_bytes()))
        training = interrupted.training(job_dir, spec)
        with (job_dir / "starts").open("a", encoding="utf-8") as file:
            file.write(f"{time.time()}\n")
        try:
            result = _run_in_turn(job_dir, spec, zygote, training)
        except (SandboxFailed, OSError) as error:
            zygote.close()
            with contextlib.suppress(OSError):
                room.renew(zygote.room, None if spec.tier == "none" else zygote.user)
            result = _filled_the_disk(job_dir, spec, error) or _not_run(spec, f"{error}")
        if result.fault and disk_is_full(job_dir):
            zygote.close()  # what it has written to /tmp goes with it
        _hand_in(job_dir, result)
        if not undone(result) and not result.cut:  # it may be given more time
            training.forget()
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _with_its_time(job_dir: Path, spec: JobSpec) -> JobSpec:
    """A training that was cut gets its whole time once more each time that it goes on."""
    return spec.model_copy(update={"patience": spec.patience * (1 + times_cut(job_dir))})


def _hand_in(job_dir: Path, result: JobResult) -> None:
    """Where the result cannot be kept we end: the job begins anew with another supervisor, or its run is gone."""
    if not job_dir.exists():
        sys.exit(f"{job_dir} was deleted")
    if result.fault and disk_is_full(job_dir):
        sys.exit(f"{job_dir}: the disk is full; the job begins anew when there is room")
    try:
        durable.write(job_dir / "result.json", result.model_dump_json())
    except OSError as error:
        sys.exit(f"{job_dir}: the result cannot be written, and the job begins anew when it can: {error.strerror}")


def _filled_the_disk(job_dir: Path, spec: JobSpec, error: Exception) -> JobResult | None:
    """What a job is told that left us no room to write, if there is room again now that it has ended: it was the job, and nobody else."""
    if not isinstance(error, OSError) or error.errno not in {errno.ENOSPC, errno.EDQUOT} or disk_is_full(job_dir):
        return None
    status = artifacts.read_json(job_dir, "status.json")
    stage: Step = next(
        (step for step in spec.steps if isinstance(status, dict) and status.get("step") == step), "smoke"
    )
    message = "the job filled the disk of this machine and was ended; keep only what the contract asks for, and write little to $TMPDIR"
    fault = Fault(stage=stage, kind="disk", cause="disk", message=message)
    return JobResult(ok=False, fault=fault, steps=[], seconds=0.0, tier=spec.tier)


def _not_run(spec: JobSpec, reason: str) -> JobResult:
    """Nobody's mistake: it is tried again when the person has mended the sandbox."""
    fault = Fault(stage="smoke", kind="sandbox", cause="sandbox", message=artifacts.cleaned(reason)[:1000])
    return JobResult(ok=False, fault=fault, steps=[], seconds=0.0, tier=spec.tier)


def _run_in_turn(job_dir: Path, spec: JobSpec, zygote: Zygote, training: Training) -> JobResult:
    """Jobs stand in line for a GPU, and trainings for the CPU; what only predicts there waits for nothing."""
    cards = cards_of(spec.access, zygote.card)
    places = list(cards) or (["cpu"] if {"race", "train"} & set(spec.steps) else [])
    wait = Wait(job_dir, "GPU" if cards else "CPU")
    with line.turn(places, spec.together, wait.goes_on) as place:
        if places and place is None:
            message = f"it was stopped while it waited for a free {wait.place}"
            fault = Fault(stage="smoke", kind="stopped", cause="stopped", message=message)
            return JobResult(ok=False, fault=fault, steps=[], seconds=0.0, waited=wait.seconds, tier=spec.tier)
        result = _run_steps(job_dir, spec, zygote, cards.get(place or ""), training)
    return result.model_copy(update={"waited": wait.seconds})


def _run_steps(job_dir: Path, spec: JobSpec, zygote: Zygote, card: Card | None, training: Training) -> JobResult:
    room.build(zygote.room, None if spec.tier == "none" else zygote.user)
    clear(job_dir / "work")  # of a start that was interrupted
    room.furnish(zygote.room, spec)
    zygote.open(spec.access.model_copy(update={"card": card}))
    zygote.ready()  # what is still importing costs the job nothing
    began, outcomes, fault, cut, peaks = time.monotonic(), _gone_before(training), None, False, Peaks()
    log = Log(job_dir / "train.log", spec.limits.output_bytes)
    for step in spec.steps[len(outcomes) :]:
        if step == "predict":
            cut = cut or (_has_had_its_time(outcomes, spec) and _was_cut(zygote.room))
        _between(job_dir, spec, step, zygote, training)
        since = time.time() - (training.earlier.seconds if step == "train" else 0.0)
        durable.write(job_dir / "status.json", json.dumps({"step": step, "since": since}))
        training.before = tuple(outcomes)
        run = _run_step(training, spec, step, zygote, log)
        alone = round(run.alone, 3) if step == "train" else 0.0
        outcomes.append(StepOutcome(step=step, seconds=round(run.seconds, 3), alone=alone, exit=run.exit))
        peaks = peaks.or_more(run.peaks)
        if step == "train" and run.limit == "time" and (room.work_of(zygote.room) / room.WEIGHTS).is_file():
            cut = True  # it did not stop when asked; its best weights so far are scored
            continue
        fault = _fault(zygote.room, job_dir, spec, step, run)
        if fault:
            fault = _of_the_card(fault, spec, card, zygote) or explained(fault, _use(zygote.room, spec, card, run))
            break
    log.close()
    room.take_out(zygote.room, spec, job_dir, None if spec.tier == "none" else zygote.user)
    return JobResult(
        ok=fault is None,
        fault=fault,
        steps=outcomes,
        seconds=round(time.monotonic() - began, 3),
        cut=cut,
        peak_memory_bytes=peaks.memory,
        peak_gpu_bytes=peaks.gpu,
        peak_disk_bytes=peaks.disk,
        tier=spec.tier,
    )


def _gone_before(training: Training) -> list[StepOutcome]:
    """The steps that a training which goes on has behind it, with the plan that it was begun with."""
    account = training.account
    if account is None:
        return []
    (training.job_dir / "work").mkdir(exist_ok=True)
    durable.write(training.job_dir / "work" / "smoke.json", account.plan.model_dump_json())
    return list(account.before)


def _between(job_dir: Path, spec: JobSpec, step: Step, zygote: Zygote, training: Training) -> None:
    """Each step begins with what it is given, and with nothing else of the steps before it."""
    room.before_step(zygote.room, step, job_dir, None if spec.tier == "none" else zygote.user)
    zygote.forget_files()
    room.furnish(zygote.room, spec, (spec.plan or artifacts.plan(job_dir)) if step == "train" else None)
    if step == "train":
        training.give(zygote.room, None if spec.tier == "none" else zygote.user)


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most bytes that were seen in use."""

    memory: int = 0
    gpu: int = 0
    disk: int = 0

    def or_more(self, other: "Peaks") -> "Peaks":
        return Peaks(max(self.memory, other.memory), max(self.gpu, other.gpu), max(self.disk, other.disk))


@dataclass
class StepRun:
    seconds: float = 0.0
    exit: int | None = None
    alone: float = 0.0  # seconds without those that other programs took
    limit: Limit | None = None  # the limit that ended it
    peaks: Peaks = field(default_factory=Peaks)
    scarce: int | None = None  # bytes that the machine had left, where this ended it


def _run_step(training: Training, spec: JobSpec, step: Step, zygote: Zygote, log: Log) -> StepRun:
    """The smoke step is two processes: one trains and saves, a fresh one reloads and predicts."""
    run = _run_child(training, spec, step, zygote, log)
    if step == "smoke" and run.exit == 0 and run.limit is None:
        again = _run_child(training, spec, "reload", zygote, log)
        peaks = run.peaks.or_more(again.peaks)
        return replace(again, seconds=run.seconds + again.seconds, peaks=peaks)
    return run


def _seconds(spec: JobSpec, step: str, earlier: float) -> float:
    """A training that goes on has what was left of its time, and the grace once more: it loads its data and itself anew."""
    limits = spec.limits
    smoke = limits.smoke_seconds
    left = spec.longest_training + limits.grace_seconds * (2 if earlier else 1) - earlier
    race = spec.patience * spec.race_seconds + limits.smoke_seconds
    return {"race": race, "smoke": smoke, "reload": smoke, "train": left, "predict": limits.predict_seconds}[step]


def _run_child(training: Training, spec: JobSpec, step: str, zygote: Zygote, log: Log) -> StepRun:
    run, stop = StepRun(), training.job_dir / "stop"
    before = gpu.in_use(zygote.card) if zygote.card else 0
    without = spec.data if step == "predict" else None
    with zygote.child(step, spec.limits, log, without=without) as child:
        watch = Watch(spec.limits, _seconds(spec, step, training.earlier.alone), stop, zygote, zygote.card, before)
        while (status := child.status(min(WATCH, POLL + watch.seconds / 10))) is None and not run.limit:
            run.limit = watch.exceeded(processes := zygote.descendants(), log)
            if step == "train":
                training.look(zygote.room, watch.seconds, partial(watch.alone, processes))
                watch.allowed = _seconds(spec, step, training.earlier.alone)
        if status is None and run.limit == "processes":
            zygote.close()  # a fork bomb is faster than whoever kills one process after the other
        elif status is None:
            _end(child, zygote, log)
            status = child.status(5.0)
        elif status and not run.limit:
            run.limit = zygote.refused()
    _sweep(zygote)
    room.reopen(zygote.room)
    earlier = training.earlier if step == "train" else Spent()
    run.exit, run.seconds = status, watch.seconds + earlier.seconds
    run.alone = watch.seconds - watch.taken + earlier.alone
    run.scarce = watch.scarce
    run.peaks = Peaks(watch.peak, watch.gpu_peak, watch.disk_peak)
    return run


def _end(child: Child, zygote: Zygote, log: Log) -> None:
    """Ask where it is (a traceback in the log), then end it and all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGUSR1)
        time.sleep(0.1)
        log.drain()
        os.kill(child.pid, signal.SIGTERM)
        time.sleep(0.2)
    zygote.end_step()


def _sweep(zygote: Zygote) -> None:
    """No process of a step is left when the next begins."""
    for _ in range(200):
        if not zygote.end_step():
            return
        time.sleep(0.01)
    zygote.close()  # the last resort ends whatever will not go


def _use(place: Path, spec: JobSpec, card: Card | None, run: StepRun) -> Use:
    """Made when the step is over: what is in use of its card then is not its own."""
    return Use(
        limit=spec.limits.memory_bytes,
        peak=run.peaks.memory,
        machine=psutil.virtual_memory().total,
        scarce=run.scarce,
        card=card,
        card_peak=run.peaks.gpu,
        card_others=gpu.in_use(card) if card else 0,
        exit=run.exit,
        batch=shape_of(artifacts.read_json(room.work_of(place), "batch.json", 200)),
    )


def _has_had_its_time(outcomes: list[StepOutcome], spec: JobSpec) -> bool:
    """Whether a training may say that it was cut: by our clock, since who is compared with it gets as little as it got."""
    return sum(outcome.seconds for outcome in outcomes if outcome.step == "train") >= spec.longest_training


def _was_cut(place: Path) -> bool:
    try:
        return b'{"cut": true}' in artifacts.read_bytes(room.work_of(place), "metrics.jsonl", 200, tail=True)
    except artifacts.Unreadable:
        return False


def _fault(place: Path, job_dir: Path, spec: JobSpec, step: Step, run: StepRun) -> Fault | None:
    if run.exit == 0 and run.limit is None:
        return None
    account = artifacts.read_json(room.work_of(place), "fault.json")
    return fault_from(
        step,
        account,
        artifacts.log_tail(job_dir, 60) + _stack(place, run.limit),
        spec.pipeline,
        exit_status=run.exit,
        limit=run.limit,
        limits=spec.limits,
    )


def _of_the_card(fault: Fault, spec: JobSpec, card: Card | None, zygote: Zygote) -> Fault | None:
    """Nobody's mistake: a card that does not compute any more.

    A job cannot bring it about by its words, since the card is tried anew.
    """
    if (
        card is None
        or fault.cause not in {"code", "died"}
        or not device.is_suspected(f"{fault.message}\n{fault.excerpt}")
    ):
        return None
    found = device.trouble(card, spec.tier, zygote.room.parent)
    return Fault(stage=fault.stage, kind="device", cause="device", message=found) if found else None


def _stack(place: Path, limit: Limit | None) -> str:
    """Where a step was when its limit ended it."""
    if limit is None:
        return ""
    try:
        return "\n" + artifacts.read_bytes(room.work_of(place), "stack.txt", 2**14).decode(errors="replace")
    except artifacts.Unreadable:
        return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
