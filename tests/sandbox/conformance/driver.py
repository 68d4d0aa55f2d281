"""Runs the suite in one tier, as whoever it is started as: python -m tests.sandbox.conformance.driver TIER FOLDER [GROUP[:CASE,...] ...]

Prints a JSON row for each case: what the attack got, whether it ran at all, and what was seen from outside.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil

from dataset.decode import SOURCE
from improve.view import plain_line
from sandbox import artifacts, job, room
from sandbox.assemble import assemble
from sandbox.confined import confined
from sandbox.isolation import cgroup
from sandbox.isolation.removal import remove
from sandbox.isolation.users import owner
from schema.events import FaultFound
from schema.job import JobResult, JobSpec, Limits
from schema.pipeline import Fault, Pipeline
from schema.settings import Tier, make_settings
from tests.sandbox.conformance import bait
from tests.sandbox.conformance.bombs import BOMBS, FORGERIES, GB, HONEST
from tests.sandbox.conformance.cheats import CHEATS, FAULT, PLANTED, PLANTED_SPEED, TEXTS, WEIGHTS, Cheat
from tests.sandbox.jobs import ENDLESS, training
from tests.scripted import PIPELINE


class Suite:
    """One home with one run, and the jobs that attack from inside it."""

    def __init__(self, tier: Tier, folder: Path) -> None:
        self.tier = tier
        self.device: Literal["auto", "cpu"] = "cpu"
        self.folder = folder
        self.bait = bait.lay_out(folder)
        self.run = folder / "home/runs/run"
        self.run.mkdir(parents=True, exist_ok=True)
        self.room = self.run / "supervisor/room"
        self.bait |= {
            "room": str(self.room),
            "jobs": str(self.run / "iterations"),
            "earlier_job": str(self.directory("earlier") / "result.json"),
        }

    def directory(self, name: str) -> Path:
        return self.run / "iterations/0001/jobs" / name

    def spec(self, name: str, pipeline: Pipeline, steps: tuple[Any, ...], limits: dict[str, float]) -> JobSpec:
        home = self.folder / "home/datasets/0123"
        allowed = {
            "train_seconds": 30,
            "smoke_seconds": 60,
            "grace_seconds": 2,
            "memory_bytes": 4 * GB,
            "disk_bytes": GB,
        } | limits
        return JobSpec(
            name=name,
            pipeline=assemble(pipeline, SOURCE, "conformance"),
            data=str(home / "train"),
            heldout={split: str(home / "heldout" / f"{split}.npy") for split in ("validation", "test")},
            steps=steps,
            device=self.device,
            threads=1,
            epochs=1,
            precision="float32",
            channels_last=False,
            tier=self.tier,
            limits=Limits.model_validate(allowed),
            cached={bait.GIVEN: self.bait["given"]},
        )

    def job(
        self, name: str, pipeline: Pipeline, steps: tuple[Any, ...] = ("smoke",), **limits: float
    ) -> tuple[Path, JobResult]:
        directory = self.directory(name)
        job.start(directory, self.spec(name, pipeline, steps, limits))
        return directory, job.wait(directory, on_progress=lambda progress: progress.model_dump_json() and None)

    def supervisor(self) -> psutil.Process:
        return psutil.Process(int((self.run / "supervisor/supervisor.lock").read_text()))

    def members(self) -> list[psutil.Process]:
        """Every living process of this suite's sandbox: below the supervisor, in its environment, or of its user."""
        found = {}
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            found = {p.pid: p for p in self.supervisor().children(recursive=True)}
        user = os.getuid()
        with contextlib.suppress(FileNotFoundError):  # the run was removed, or its supervisor killed in between
            user = (self.room / "work").stat().st_uid
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.room) in "".join(process.environ().values()) or owner(process.pid) == user != os.getuid():
                    found[process.pid] = process
        return [p for p in found.values() if p.is_running() and not _ended(p)]


def _ended(process: psutil.Process) -> bool:
    """Its first thread has, and no other goes on."""
    return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1


Row = dict[str, Any]
SETTINGS = make_settings({"dataset": "mnist"})
NOT_WITHOUT = {
    "fork_bomb",
    "thread_bomb",
    "memory_in_dev_shm",
    "memory_in_segments",
    "memory_that_nobody_else_maps",
}  # isolation: they would take the machine with them


def attacks(suite: Suite) -> Iterator[Row]:
    """All of them in one job, and those that look for what a job left once more in a second one.

    Never without isolation: most of them work there, and as root they change the machine (its clock, its name, its Python).
    """
    with _baited(suite) as held:
        file = _bait_file(suite)
        body = f"import sys\nsys.path.insert(0, {suite.bait['data']!r})\nimport attacks\nattacks.run_all({str(file)!r})"
        directory, _ = suite.job("attacks", training(body))
        told = (directory / "train.log").read_text(errors="replace")
        again, _ = suite.job(
            "attacks-again", training(body.replace("bait.json')", "bait.json', ['find_what_the_job_before_left'])"))
        )
        second = (again / "train.log").read_text(errors="replace")
    if "ALL DONE" not in told:
        yield {"case": "the suite", "ran": False, "got": told[-3000:]}
    for name in _attack_names():
        yield _row(name, second if name == "find_what_the_job_before_left" else told)
    yield from held


def attacks_of_a_reader(suite: Suite) -> Iterator[Row]:
    """All of them once more, each in a process that decodes images, which a file of a data set has taken over."""
    with _baited(suite) as held:
        package = suite.folder / "package"
        package.mkdir(mode=0o755)
        shutil.copy(Path(__file__).with_name("attacks.py"), package / "attacks.py")
        shutil.copy(_bait_file(suite), package / "bait.json")
        (package / "program.py").write_text(READER.replace("PACKAGE", repr(str(package))))
        for file in package.iterdir():
            file.chmod(0o644)
        logs = {}
        with confined(suite.tier, suite.folder / "home", package / "program.py") as start:
            for name in _attack_names():
                ours, theirs = socket.socketpair()
                with ours, tempfile.TemporaryFile() as log:
                    with theirs:
                        process = start(theirs.fileno(), log)
                    ours.sendall(name.encode())
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(40)
                    process.terminate()
                    process.wait()
                    log.seek(0)
                    logs[name] = log.read().decode(errors="replace")
    for name, log in logs.items():
        yield _row(name, log)
    yield from held


READER = """
import socket, sys
sys.path.insert(0, PACKAGE)
sys.stdout = sys.stderr
import attacks, json
name = socket.socket(fileno=3).recv(100).decode()
attacks._one(name, attacks.ATTACKS[name], json.load(open(PACKAGE + "/bait.json")))
"""


@contextlib.contextmanager
def _baited(suite: Suite) -> Iterator[list[Row]]:
    """All that an attack could be after; at the end the list says whether anything of it is not as it was."""
    if suite.tier == "none":
        raise SystemExit("attacks are not run with --sandbox none: they would succeed, and harm this machine")
    held: list[Row] = []
    with (
        bait.servers(suite.folder) as served,
        bait.victim() as victim,
        (suite.folder / "person/.ssh/id_rsa").open() as inherited,
    ):
        os.set_inheritable(inherited.fileno(), True)
        os.environ |= {"OPENAI_API_KEY": bait.SECRET, "PYTHONSTARTUP": "/nowhere", "BASH_ENV": "/nowhere"}
        suite.job("earlier", PIPELINE)
        supervisor, here = suite.supervisor(), os.getpid()
        others = [victim.pid, here, supervisor.pid]
        suite.bait |= served | {
            "job": str(suite.directory("attacks")),
            "caches": [*suite.bait["caches"], served["compiled"]],
            "victim": victim.pid,
            "others": others,
            "supervisors": others[2:],
            "began": {str(pid): bait.began(pid) for pid in others},
        }
        _bait_file(suite).write_text(json.dumps(suite.bait))
        before = _fingerprints(suite)
        yield held
        changed = [path for path, print_ in _fingerprints(suite).items() if print_ != before.get(path)]
        alive = victim.is_running() and victim.status() != psutil.STATUS_STOPPED and victim.nice() == 0
    for left in [
        Path(place, name) for place in ("/tmp", "/dev/shm", "/var/tmp") for name in ("left-behind", "from-before")
    ]:
        left.unlink(missing_ok=True)
    harmed = "" if alive else "the victim is gone, stopped or slowed down"
    held.append({"case": "nothing_outside_has_changed", "ran": True, "got": ", ".join(changed)})
    held.append({"case": "other_programs_are_as_they_were", "ran": True, "got": harmed})


def _bait_file(suite: Suite) -> Path:
    """Where a job can read it."""
    return Path(suite.bait["data"]) / "bait.json"


def _attack_names() -> list[str]:
    text = Path(__file__).with_name("attacks.py").read_text()
    return re.findall(r"^def (\w+)\(bait: Bait\)", text, re.MULTILINE)


def _row(name: str, log: str) -> Row:
    got = re.findall(rf"^GOT {name} (.*)$", log, re.MULTILINE)
    return {"case": name, "ran": f"RAN {name}\n" in log, "got": got[0] if got else ""}


def attacks_with_a_gpu(suite: Suite) -> Iterator[Row]:
    """From a job that may use a card, there or not: more of the machine is shown to it."""
    suite.device = "auto"
    yield from attacks(suite)


def _fingerprints(suite: Suite) -> dict[str, tuple[int, ...]]:
    home = suite.folder / "home"
    files = [
        p
        for p in (*(home / "datasets").rglob("*"), *(home / "runs/other").rglob("*"), home / "experiments.sqlite")
        if p.is_file()
    ]
    told = {str(p): p.stat() for p in (*files, *(suite.folder / "person").rglob("*"))}
    return {path: (s.st_size, s.st_mode, s.st_nlink, s.st_mtime_ns) for path, s in told.items()}


def bombs(suite: Suite, names: list[str] | None = None) -> Iterator[Row]:
    started = False
    _tidy_shared_memory()
    for bomb in BOMBS:
        if (names and bomb.name not in names) or (suite.tier == "none" and bomb.name in NOT_WITHOUT):
            continue
        began = time.monotonic()
        before = suite.supervisor().pid if started else None
        directory, result = suite.job(bomb.name, training("print('RAN', flush=True)\n" + bomb.body), **bomb.limits)
        started = True
        seconds = time.monotonic() - began
        left = _left(suite)
        kind = result.fault.kind if result.fault else ""
        log = _read(directory / "train.log").decode(errors="replace")
        _tidy_shared_memory()
        wrong = [] if kind in bomb.kinds else [f"ended as {kind!r}: {result.fault}"]
        wrong += [f"{len(left)} processes left: {left[0]}"] if left else []
        wrong += ["the supervisor died"] if before not in {None, suite.supervisor().pid} else []
        wrong += (
            ["something was written after the end"]
            if _newest(directory / "work") > _newest(directory, "result.json")
            else []
        )
        yield {
            "case": bomb.name,
            "ran": "RAN" in log,
            "got": "; ".join(wrong),
            "kind": kind,
            "seconds": round(seconds, 2),
            "peak": result.peak_memory_bytes,
            "disk": result.peak_disk_bytes,
            "output": len(log.encode()),
            "limited": (home := cgroup.home()) is not None and cgroup.limits(home),
        }


def _tidy_shared_memory() -> None:
    """Where it is the machine's, bombs of an ordinary user stay in it."""
    for left in Path("/dev/shm").glob("improve-bomb*"):
        remove(left)


def _left(suite: Suite) -> list[psutil.Process]:
    """Processes of the job that is over: all but the warm process and what it stands in."""
    time.sleep(0.1)
    kept = set()
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        process = suite.supervisor()
        for _ in range(
            4 if suite.tier == "bwrap" else 3
        ):  # the supervisor, bubblewrap's two or the guard, the warm process
            kept.add(process.pid)
            process = min(process.children(), key=psutil.Process.create_time, default=process)
    return [p for p in suite.members() if p.pid not in kept]


def _newest(directory: Path, pattern: str = "*") -> int:
    return max((path.lstat().st_mtime_ns for path in directory.glob(pattern)), default=0)


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def forgeries(suite: Suite) -> Iterator[Row]:
    """Predictions that are not: the script leaves them while it predicts, and goes with exit status 0."""
    for name, body in FORGERIES.items():
        lines = ["import os, numpy as np", "if info.restoring and not os.path.exists('smoke'):"]
        lines += [
            f"    {line}"
            for line in (
                *body.replace("LABELS", repr(suite.bait["labels"])).splitlines(),
                "print('RAN', flush=True)",
                "os._exit(0)",
            )
        ]
        code = PIPELINE.data.replace(
            "def build_transforms(info):\n",
            "def build_transforms(info):\n" + "".join(f"    {line}\n" for line in lines),
        )
        early = training("import numpy as np\nnp.save('validation.npy', np.full((20, 2), 0.5, np.float32))")
        directory, result = suite.job(f"forged-{name}", early.with_code("data", code), ("smoke", "train", "predict"))
        began = time.monotonic()
        rows = artifacts.probabilities(directory, "validation", 20, 2)
        taken = isinstance(rows, np.ndarray) or time.monotonic() - began > 5
        log = (directory / "train.log").read_text(errors="replace")
        said = rows.message if isinstance(rows, Fault) else ""
        yield {"case": name, "ran": "RAN" in log and result.ok, "got": "it was taken" if taken else "", "said": said}


def cheats(suite: Suite, names: list[str] | None = None) -> Iterator[Row]:
    yield from (_cheated(suite, cheat) for cheat in CHEATS if names is None or cheat.name in names)
    Path("/dev/shm/improve-handed-on").unlink(missing_ok=True)  # where it is the machine's


def weights(suite: Suite, names: list[str] | None = None) -> Iterator[Row]:
    yield from (_cheated(suite, cheat) for cheat in WEIGHTS if names is None or cheat.name in names)


def _cheated(suite: Suite, cheat: Cheat) -> Row:
    """What counts in the end: no row, curve or plan that was planted, no file that the contract does not name, no fault without a name."""
    directory, result = suite.job(cheat.name, _cheating(suite, cheat), ("smoke", "train", "predict"))
    log = (directory / "train.log").read_text(errors="replace")
    time.sleep(0.05)
    kind = result.fault.kind if result.fault else ""
    rows, plan = artifacts.probabilities(directory, "validation", 20, 2), artifacts.plan(directory)
    curve = artifacts.curve(directory)
    said = rows.message if isinstance(rows, Fault) else str(result.fault or "")
    wrong = re.findall(r"^GOT .*", log, re.MULTILINE)[:3]
    wrong += [] if kind in cheat.ends or (cheat.ends == FAULT and kind) else [f"ended as {kind!r}: {result.fault}"]
    wrong += ["planted rows count"] if isinstance(rows, np.ndarray) and (abs(rows[:, 0] - PLANTED) < 1e-3).all() else []
    wrong += ["a planted plan counts"] if plan and plan.images_per_second == PLANTED_SPEED else []
    kept = _read(directory / "work/weights.safetensors")
    wrong += ["other weights are kept than were scored"] if isinstance(rows, np.ndarray) and len(kept) < 100 else []
    late = _newest(directory / "work") > _newest(directory, "result.json")
    wrong += ["something was written after the end"] if late else []
    wrong += ["the curve has no end"] if not all(1 <= len(row.model_dump_json()) < 5000 for row in curve) else []
    wrong += [f"left: {name}" for name in _unnamed(directory)] + _unclean(result.fault)
    wrong += ["it took long"] if result.seconds > 45 else []
    wrong += [f"{len(left)} processes left"] if (left := _left(suite)) else []
    return {"case": cheat.name, "ran": "RAN" in log, "got": "; ".join(wrong), "kind": kind, "said": said[:200]}


def _cheating(suite: Suite, cheat: Cheat) -> Pipeline:
    """Only the last of the three that does something says that it ran."""
    last = "predict" if cheat.predict else "train" if cheat.train else "smoke"
    told = {step: "print('RAN', flush=True)" if step == last else "pass" for step in ("smoke", "train", "predict")}
    names = f"DATA, LABELS, TIER = {suite.bait['data']!r}, {suite.bait['labels']!r}, {suite.tier!r}"
    head = f"import os, numpy as np\n{names}\n"
    trains = head + _branch("os.path.exists('smoke')", cheat.smoke, told["smoke"])
    # Not while its first steps are timed: what is done there is gone before the training begins.
    in_training = "not os.path.exists('smoke') and type(log).__name__ != 'Rehearsal'"
    trains += _branch(in_training, cheat.train, told["train"])
    predicts = head + _branch("info.restoring and not os.path.exists('smoke')", cheat.predict, told["predict"])
    code = _inside("build_transforms(info):\n", PIPELINE.data, predicts)
    return training(trains).with_code("data", code)


def _branch(condition: str, body: str, told: str) -> str:
    return f"if {condition}:\n" + "".join(f"    {line}\n" for line in (told, *body.splitlines()))


def _inside(head: str, code: str, body: str) -> str:
    return code.replace(head, head + "".join(f"    {line}\n" for line in body.splitlines()))


def _unnamed(directory: Path) -> list[str]:
    """In a job's directory: its own files, and in work/ what the contract names."""
    named = {*room.LEFT, "validation.npy", "test.npy"}
    return [path.name for path in (directory / "work").iterdir() if path.name not in named]


def texts(suite: Suite) -> Iterator[Row]:
    """What a job says comes to people and models as one short, plain text, whatever it was."""
    for name, body in TEXTS.items():
        said = (
            "import os\nprint('RAN', flush=True)\n"
            + body
            + "\nprint(said.encode(errors='replace').decode())\nraise ValueError(said)"
        )
        directory, result = suite.job("says-" + name, training(said))
        log = (directory / "train.log").read_bytes()
        fault = result.fault
        wrong = _unclean(fault) or ([] if fault and fault.component == "training" else [f"ended as {fault}"])
        if fault:
            line = plain_line(FaultFound(iteration=1, attempt=1, fault=fault), SETTINGS) or ""
            wrong += ["more than a line for the terminal"] if len(line) > 400 or _dirt(line) or "\n" in line else []
        tail = artifacts.log_tail(directory)
        wrong += ["the log's end"] if _dirt(tail) or len(tail) > 41 * 501 else []
        wrong += ["the log"] if len(log) > 3_000_000 else []
        yield {
            "case": name,
            "ran": b"RAN" in log,
            "got": "; ".join(wrong),
            "said": fault.message[:200] if fault else "",
        }


def _unclean(fault: Fault | None) -> list[str]:
    if fault is None:
        return []
    text = fault.kind + fault.message + fault.excerpt
    return [f"{found!r} in the fault"] if (found := _dirt(text)) or len(fault.kind) > 80 or len(text) > 4000 else []


def _dirt(text: str) -> set[str]:
    return {c for c in text if not (c.isprintable() or c in "\n\t")}


def honest(suite: Suite) -> Iterator[Row]:
    for name, body in HONEST.items():
        directory, result = suite.job(name, training(body.strip() + "\nprint('RAN', flush=True)"))
        ran = "RAN" in (directory / "train.log").read_text(errors="replace")
        yield {"case": name, "ran": True, "got": "" if ran and result.ok else str(result.fault)[:1500]}


def lifecycle(suite: Suite) -> Iterator[Row]:
    daemon = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(600)\n    os._exit(0)\ntime.sleep(600)"
    for case, do in {
        "supervisor_killed": lambda: os.kill(suite.supervisor().pid, signal.SIGKILL),
        "supervisor_and_guard_killed": lambda: _kill_with_guard(suite),
        "person_ends_it": lambda: job.shutdown(suite.run),
    }.items():
        suite.job("ready-" + case, PIPELINE)
        directory = suite.directory(case)
        job.start(directory, suite.spec(case, training("print('RAN', flush=True)\n" + daemon), ("smoke",), {}))
        _until(lambda directory=directory: b"RAN" in _read(directory / "train.log"))
        time.sleep(0.3)
        ran = len(suite.members()) > 2
        do()
        gone = _until(lambda: not suite.members(), 5)
        if not gone:  # then the next start has to sweep them
            job.warm(suite.run, suite.spec("x", PIPELINE, ("smoke",), {}).access)
            _until(lambda: job._held(suite.run / "supervisor/supervisor.lock"))
        swept = gone or _until(lambda: not _left(suite), 10)
        yield {"case": case, "ran": ran, "got": "" if swept else f"{len(_left(suite))} processes left", "at_once": gone}
    directory = suite.directory("stopped-supervisor")
    job.start(directory, suite.spec("stopped", training("while True:\n    pass"), ("smoke",), {"smoke_seconds": 3}))
    _until(lambda: job.status(directory).state == "running")
    os.kill(suite.supervisor().pid, signal.SIGSTOP)
    began = time.monotonic()
    result = job.wait(directory)
    late = time.monotonic() - began
    wrong = "" if result.fault and result.fault.kind == "time" and late < 30 else f"{result.fault} after {late:.0f} s"
    yield {"case": "supervisor_stopped", "ran": True, "got": wrong}
    directory = suite.directory("outlives")
    pid = os.fork()
    if pid == 0:
        job.start(directory, suite.spec("outlives", ENDLESS, ("smoke", "train", "predict"), {"train_seconds": 4}))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    result = job.wait(directory)
    starts = len((directory / "starts").read_text().splitlines())
    yield {
        "case": "orchestrator_killed",
        "ran": True,
        "got": "" if result.ok and result.cut and starts == 1 else f"{result} {starts}",
    }
    yield from _poisoned(suite)
    yield from _unmounted(suite)


def _poisoned(suite: Suite) -> Iterator[Row]:
    """A job that was killed has left links where the next one's files go."""
    job.shutdown(suite.run)
    outside = suite.folder / "person/target"
    outside.mkdir(exist_ok=True)
    (outside / "kept").write_text("kept")
    work = suite.room / "work"
    for name in ("smoke", "tmp", "cache", "metrics.jsonl", "weights.safetensors"):
        with contextlib.suppress(FileExistsError):
            (work / name).symlink_to(outside)
    _, result = suite.job("poisoned", PIPELINE, ("smoke", "train", "predict"))
    intact = sorted(p.name for p in outside.iterdir()) == ["kept"]
    yield {
        "case": "poisoned_work_directory",
        "ran": True,
        "got": "" if intact and result.ok else f"{result} {list(outside.iterdir())}",
    }


def _unmounted(suite: Suite) -> Iterator[Row]:
    """The tier stops working between two jobs: the second is not run in a weaker one."""
    job.shutdown(suite.run)
    programs = suite.folder / "programs"
    programs.mkdir()
    for name in ("find", "chmod"):
        (programs / name).symlink_to(shutil.which(name) or name)
    path, os.environ["PATH"] = os.environ["PATH"], str(programs)
    try:
        _, result = suite.job("without", PIPELINE)
    finally:
        os.environ["PATH"] = path
        job.shutdown(suite.run)  # the supervisor has this PATH for as long as it lives
    told = result.fault.kind if result.fault else "ran"
    yield {
        "case": "bubblewrap_removed",
        "ran": True,
        "got": "" if (told == "sandbox") == (suite.tier == "bwrap") else str(result),
    }


def _kill_with_guard(suite: Suite) -> None:
    supervisor = suite.supervisor()
    between = supervisor.children()
    for process in [*between, supervisor]:
        process.kill()


def _until(true: Callable[[], bool], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


GROUPS: dict[str, Callable[..., Iterator[Row]]] = {
    "attacks": attacks,
    "attacks_with_a_gpu": attacks_with_a_gpu,
    "attacks_of_a_reader": attacks_of_a_reader,
    "honest": honest,
    "forgeries": forgeries,
    "cheats": cheats,
    "weights": weights,
    "texts": texts,
    "lifecycle": lifecycle,
    "bombs": bombs,
}


def main() -> None:
    tier, folder, *groups = sys.argv[1:]
    suite = Suite(tier, Path(folder))  # type: ignore[arg-type]
    try:
        for group in groups or GROUPS:
            name, _, cases = group.partition(":")
            chosen = {"names": cases.split(",")} if cases else {}  # bombs, cheats, weights
            for row in GROUPS[name](suite, **chosen):
                print(json.dumps({"group": name, "tier": tier, "root": os.getuid() == 0} | row), flush=True)
    finally:
        job.shutdown(suite.run)
    left = suite.members()
    print(
        json.dumps(
            {
                "group": "end",
                "tier": tier,
                "root": os.getuid() == 0,
                "case": "no_survivors",
                "ran": True,
                "got": str(left) if left else "",
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
