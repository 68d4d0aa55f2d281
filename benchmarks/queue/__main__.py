"""Many runs on one machine: real processes with real jobs, written by a script, in one IMPROVE_HOME; who waits, and what it takes.

python -m benchmarks.queue [RUNS [JOBS_PER_CPU]]      default: 20 1; writes its row of benchmarks/queue/RESULTS.md
"""

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from sandbox.hardware import hardware
from tests.scripted import image_folder

BETWEEN_LOOKS = 1.0  # seconds
OUT = Path(__file__).with_name("RESULTS.md")
ERRORS = re.compile(r"OperationalError|database is locked|DatabaseError|disk I/O error")
HEAD = f"""# Many runs at once

`python -m benchmarks.queue RUNS JOBS_PER_CPU` writes a row of this table. All runs begin at the same moment, in one IMPROVE_HOME, each in a process of its own
with the first pipeline and one iteration; a training takes a second. Memory is that of all their processes, each shared page counted once, looked at about every
{BETWEEN_LOOKS:.0f} s. Trainings at the same time are counted from what each of them says of its beginning and end.

The rows of 4 and 20 runs were measured beside other programs that kept both cores busy (load average 12 to 15): their seconds are too long, by how much is not known.
Before the store made its tables one by one, 4 of 20 runs failed at their first look into the new home (`table runs already exists`).

| runs | per CPU | finished | trainings | most at the same time | wall clock s | s per training | peak memory GB | longest wait s | median wait s | data base errors | machine |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def measure(runs: int, together: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        data = image_folder(Path(folder) / "photos")
        env = {**os.environ, "IMPROVE_HOME": str(home), "HF_HUB_OFFLINE": "1", "IMPROVE_LINE": f"queue-{os.getpid()}"}
        began = time.monotonic()
        with contextlib.ExitStack() as files:
            logs = [files.enter_context((Path(folder) / f"{n}.log").open("wb")) for n in range(runs)]
            processes = [
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.queue.driver", str(data), f"run-{n}", str(together)],
                    env=env,
                    stdout=log,
                    stderr=log,
                )
                for n, log in enumerate(logs)
            ]
            peak = 0
            while any(process.poll() is None for process in processes):
                peak = max(peak, _memory(processes, home))
                time.sleep(BETWEEN_LOOKS)
        seconds = time.monotonic() - began
        told = [(Path(folder) / f"{n}.log").read_text(encoding="utf-8", errors="replace") for n in range(runs)]
        for process, text in zip(processes, told, strict=True):
            if process.returncode:
                print(text[-2000:], file=sys.stderr)
        results = [json.loads(path.read_bytes()) for path in home.glob("runs/*/iterations/*/jobs/*/result.json")]
        waits = sorted(result["waited"] for result in results)
        finished = sum(process.returncode == 0 for process in processes)
        errors = sum(len(ERRORS.findall(text)) for text in told)
        machine = hardware("cpu")
        return (
            f"| {runs} | {together} | {finished} | {sum(result['ok'] for result in results)} of {len(results)} | {_most_at_once(home)} | {seconds:.0f} "
            f"| {seconds / max(1, len(results)):.1f} | {peak / 2**30:.1f} | {waits[-1]:.0f} | {waits[len(waits) // 2]:.0f} | {errors} "
            f"| {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GB, {platform.system()} |"
        )


def _memory(drivers: list[subprocess.Popen[bytes]], home: Path) -> int:
    """Of the drivers, of their supervisors, which are nobody's children, and of all below them."""
    tops = [process.pid for process in drivers if process.poll() is None]
    with contextlib.suppress(OSError):
        for lock in home.glob("runs/*/supervisor/supervisor.lock"):
            tops += [int(pid)] if (pid := lock.read_text(encoding="ascii")) else []
    found: set[psutil.Process] = set()
    for pid in tops:
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(pid)
            found |= {top, *top.children(recursive=True)}
    total = 0
    for process in found:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def _most_at_once(home: Path) -> int:
    changes: list[tuple[float, int]] = []
    for log in home.glob("runs/*/iterations/*/jobs/*/train.log"):
        for kind, at in re.findall(r"training (begins|ends) ([\d.]+)", log.read_text(encoding="utf-8")):
            changes.append((float(at), 1 if kind == "begins" else -1))
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def main(arguments: list[int]) -> None:
    runs, together = (*arguments, *(20, 1)[len(arguments) :])
    row = measure(runs, together)
    print(row)
    text = OUT.read_text(encoding="utf-8") if OUT.exists() else ""
    rows = [line for line in text.split("\n") if re.match(r"\| \d", line)]
    kept = [line for line in rows if not line.startswith(f"| {runs} | {together} |")]
    OUT.write_text(HEAD + "\n".join([*kept, row]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:3]])
