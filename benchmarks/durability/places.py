"""Where a run is hit: at a node, at a random moment, in the middle of a write, between a job's end and its checkpoint; and who is hit."""

import ctypes
import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

TOLD = ("profile", "project_architect", "data_engineer", "model_engineer", "training_engineer", "assemble", "sandbox", "repair", "decide", "summarize", "performance_analyst", "report")  # fmt: skip
IN_MODIFY = 0x2
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Blow:
    """One place; `node` where the driver kills itself on entering it."""

    place: str
    strike: Callable[["Life"], bool] | None = None  # true where it hit
    node: str = ""


@dataclass
class Life:
    """A driver that is alive, and the run that it drives."""

    process: "subprocess.Popen[str]"
    home: Path
    name: str
    random: random.Random

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def run(self) -> Path:
        return self.home / "runs" / self.name

    def kill(self, number: int = signal.SIGKILL) -> bool:
        if not self.alive:
            return False
        self.process.send_signal(number)
        self.process.wait(120)
        return self.process.returncode != 0

    def supervisor(self) -> psutil.Process | None:
        try:
            found = psutil.Process(int((self.run / "supervisor" / "supervisor.lock").read_text()))
            return found if "sandbox.supervisor" in " ".join(found.cmdline()) else None
        except (OSError, ValueError, psutil.Error):
            return None

    def results(self) -> int:
        return len(list(self.run.glob("iterations/*/jobs/*/result.json")))

    def waits(self, happens: Callable[[], object], seconds: float = 60.0) -> bool:
        end = time.monotonic() + seconds
        while self.alive and time.monotonic() < end:
            if happens():
                return True
            time.sleep(0.002)
        return False


def at_random(life: Life) -> bool:
    time.sleep(life.random.uniform(0.0, 3.0))
    return life.kill()


def at_a_jobs_end(life: Life) -> bool:
    before = life.results()
    return life.waits(lambda: life.results() > before) and life.kill()


def in_a_write(file: str) -> Callable[[Life], bool]:
    def strike(life: Life) -> bool:
        """Killed from outside as soon as the kernel says that the file has changed, before its writer can have done much more."""
        log = life.home / f"{file}-wal"
        if not life.waits(log.exists):
            return False
        watch = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _LIBC.inotify_add_watch(watch, os.fsencode(log), IN_MODIFY)
            for _ in range(life.random.randint(1, 40)):
                if not select.select([watch], [], [], 20.0)[0]:
                    break
                os.read(watch, 4096)
            return life.kill()
        finally:
            os.close(watch)

    return strike


def terminated(life: Life) -> bool:
    time.sleep(life.random.uniform(0.0, 3.0))
    return life.kill(signal.SIGTERM)


def the_supervisor(life: Life) -> bool:
    if not life.waits(lambda: _training(life)):
        return False
    time.sleep(life.random.uniform(0.0, 1.0))
    return _end([life.supervisor()])


def both(life: Life) -> bool:
    if not life.waits(lambda: _training(life)):
        return False
    time.sleep(life.random.uniform(0.0, 1.0))
    hit = _end([life.supervisor()])
    return life.kill() and hit


def everything(life: Life) -> bool:
    """As when the power fails: driver, supervisor, warm process, and what they started, at one blow."""
    if not life.waits(lambda: _training(life)):
        return False
    time.sleep(life.random.uniform(0.0, 1.0))
    supervisor = life.supervisor()
    below = supervisor.children(recursive=True) if supervisor else []
    driver = psutil.Process(life.process.pid)
    _end([driver, *driver.children(recursive=True), supervisor, *below])
    life.process.wait(60)
    return True


def _training(life: Life) -> bool:
    return life.supervisor() is not None and any(
        not (path.parent / "result.json").exists() for path in life.run.glob("iterations/*/jobs/*/status.json")
    )


def _end(processes: list[psutil.Process | None]) -> bool:
    hit = False
    for process in processes:
        with suppress(psutil.Error):
            if process:
                process.kill()
                hit = True
    return hit


def blows(rng: random.Random) -> list[Blow]:
    """One round of all places, shuffled."""
    every = [Blow(f"entering {node}", node=node) for node in TOLD]
    every += [Blow("at a random moment", at_random)] * 4
    every += [Blow("between a job's end and the checkpoint", at_a_jobs_end)] * 3
    every += [Blow("while checkpoints.sqlite is written", in_a_write("checkpoints.sqlite"))] * 3
    every += [Blow("while experiments.sqlite is written", in_a_write("experiments.sqlite"))] * 2
    every += [Blow("SIGTERM to the driver", terminated)] * 2
    every += [Blow("the supervisor, in a job", the_supervisor)] * 2
    every += [Blow("driver and supervisor, in a job", both)] * 2
    every += [Blow("all processes (reboot), in a job", everything)] * 2
    rng.shuffle(every)
    return every
