"""A scripted run with real jobs is hit at every node and at random moments, and resumed until it is done; then it is compared with one that nobody disturbed.

python -m benchmarks.durability [KILLS]      default: 200; writes benchmarks/durability.md
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.durability.places import Blow, Life, blows
from checkpoints.store import open_store
from tests.scripted import image_folder

OUT = Path(__file__).resolve().parents[1] / "durability.md"
COMPARED = ("iteration", "base", "component", "move", "verdict", "validation", "delta", "standard_error", "expected", "low", "high", "attempts", "epochs", "summary")  # fmt: skip
ELSEWHERE = """
A life of the driver ends at a node when it enters it, the event being told first (in `profile`, `repair` and `summarize` while they work; `review` says nothing where nobody asked for one); "while ... is written" is a kill from outside at the moment at which the kernel tells of a change of the file's journal. Each life begins with
`import langgraph` and the checks of a resume, which is most of the seconds to progress.

Measured elsewhere: checkpoints, stores and time per step as a run gets longer, on SQLite and on PostgreSQL: [overhead](overhead/RESULTS.md). Twenty runs at once: [queue](queue/RESULTS.md).
What an interrupted training loses: [resume](resume/RESULTS.md).
"""
PROGRESS = {"node_entered", "job_progress", "settled", "finished"}


@dataclass
class Account:
    """What the blows at one place came to."""

    hits: int = 0
    missed: int = 0  # the run was over first
    seconds: list[float] = field(default_factory=list)  # from the start of the next driver to its first progress


@dataclass
class Round:
    """One run, begun anew as often as it was hit."""

    home: Path
    photos: Path
    random: random.Random
    accounts: dict[str, Account]
    kills: int = 0
    deaths_in_jobs: int = 0  # blows after which a job has to begin anew
    wrong: list[str] = field(default_factory=list)


def _node_of(line: str) -> str:
    """What the driver's line says of where it is; empty for an event of no node."""
    return line.partition(" ")[2].strip()


def play(round_: Round, planned: list[Blow]) -> None:
    """Until the run is finished; the last lives are undisturbed."""
    last: str | None = None
    while True:
        blow = planned.pop() if planned else None
        arguments = [blow.node] if blow and blow.node else []
        began = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.durability.driver", str(round_.photos), "r", *arguments]
        environment = {**os.environ, "IMPROVE_HOME": str(round_.home)}
        errors = (round_.home.parent / f"{round_.home.name}.errors").open("ab")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        errors.close()
        assert process.stdout
        life = Life(process, round_.home, "r", round_.random)
        node = ""
        for line in process.stdout:
            node = _node_of(line) or node
            if line.split()[0] in PROGRESS:
                if last:
                    round_.accounts[last].seconds.append(time.monotonic() - began)
                break
        last = None
        hit = blow.strike(life) if blow and blow.strike and life.alive else False
        if blow and blow.place == "the supervisor, in a job" and hit:
            round_.deaths_in_jobs += 1
        for line in process.stdout:
            node = _node_of(line) or node
        code = process.wait()
        process.stdout.close()
        if blow and blow.node:
            hit = code == -signal.SIGKILL
            blow = Blow(f"entering {node}", node=node) if hit else blow
        if blow:
            account = round_.accounts[blow.place]
            account.hits += hit
            account.missed += not hit
            round_.kills += hit
            if (hit and "supervisor" in blow.place and blow.strike and code != 0) or (hit and "reboot" in blow.place):
                round_.deaths_in_jobs += 1
            last = blow.place if hit and code != 0 else None
        if code == 0:
            return
        if not hit and code != 3:
            round_.wrong.append(f"after {blow.place if blow else 'nothing'} the driver ended with {code}")
            return


def told(home: Path) -> dict[str, Any]:
    """What must be the same however often the run was hit."""
    store = open_store(f"sqlite:///{home / 'experiments.sqlite'}")
    row = store.run("r")
    return {
        "status": row.status,
        "ledger": [one.model_dump(include=set(COMPARED)) for one in store.ledger("r")],
        "best": row.best.model_dump() if row.best else None,
        "first": row.first.model_dump() if row.first else None,
    }


def examine(round_: Round, reference: dict[str, Any]) -> tuple[int, int]:
    """Jobs begun more than once, and how often beyond the first; what is wrong goes to `wrong`."""
    found = told(round_.home)
    for key, value in reference.items():
        if found[key] != value:
            round_.wrong.append(f"{key} differs:\n  {value}\n  {found[key]}")
    starts = {
        path: len(path.read_text().splitlines()) for path in round_.home.glob("runs/r/iterations/*/jobs/*/starts")
    }
    again = sum(count - 1 for count in starts.values())
    if again > round_.deaths_in_jobs:
        round_.wrong.append(f"{again} jobs began anew, after {round_.deaths_in_jobs} blows to jobs")
    for path in starts:
        result = json.loads((path.parent / "result.json").read_text())
        if not result["steps"] and result["ok"]:
            round_.wrong.append(f"{path.parent} says ok without a step")
    for file in ("checkpoints.sqlite", "experiments.sqlite"):
        with sqlite3.connect(round_.home / file) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                round_.wrong.append(f"{file} is damaged")
        connection.close()
    halves = [path for path in round_.home.rglob("*.partial*") if "job." not in path.name]
    if halves:
        round_.wrong.append(f"half-written files are left: {halves}")
    left = survivors(round_.home)
    if left:
        round_.wrong.append(f"processes are left: {left}")
    return sum(count > 1 for count in starts.values()), again


def survivors(home: Path) -> list[str]:
    """Ten seconds after the end nothing of the run is there any more."""
    left: list[str] = []
    for _ in range(100):
        processes = [(p.pid, p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
        left = [f"{pid} {command[:4]}" for pid, command in processes if str(home) in " ".join(command)]
        if not left:
            return []
        time.sleep(0.1)
    return left


def campaign(kills: int, folder: Path) -> tuple[dict[str, Account], list[str], dict[str, int]]:
    photos = image_folder(folder / "photos", per_class=60, light=6)
    rng = random.Random(0)
    accounts: dict[str, Account] = defaultdict(Account)
    undisturbed = Round(folder / "reference", photos, rng, accounts)
    play(undisturbed, [])
    reference = told(undisturbed.home)
    print(
        "undisturbed:",
        [(row["iteration"], row["verdict"], row["validation"]) for row in reference["ledger"]],
        flush=True,
    )
    if {row["verdict"] for row in reference["ledger"]} < {"first", "failed", "rejected"}:
        sys.exit(f"the undisturbed run is not what was planned: {reference}")
    wrong, sums = list(undisturbed.wrong), {"kills": 0, "runs": 0, "jobs": 0, "again": 0, "blows to jobs": 0}
    planned: list[Blow] = []
    while sums["kills"] < kills and not wrong:
        planned = planned or blows(rng)
        round_ = Round(folder / f"home-{sums['runs']}", photos, rng, accounts)
        mine, planned = planned[:12], planned[12:]
        play(round_, mine)
        _, again = examine(round_, reference)
        wrong += round_.wrong
        sums["kills"] += round_.kills
        sums["runs"] += 1
        sums["again"] += again
        sums["blows to jobs"] += round_.deaths_in_jobs
        sums["jobs"] += len(list(round_.home.glob("runs/r/iterations/*/jobs/*/result.json")))
        print(
            f"run {sums['runs']}: {round_.kills} kills, {sums['kills']} in all, {again} jobs again of {round_.deaths_in_jobs} blows to jobs; {round_.wrong or 'as undisturbed'}",
            flush=True,
        )
        if not round_.wrong:
            shutil.rmtree(round_.home)
    return accounts, wrong, sums


def main(kills: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="improve-durability-"))
    accounts, wrong, sums = campaign(kills, folder)
    lines = [
        f"`python -m benchmarks.durability {kills}`: {sums['runs']} runs of seven iterations with {sums['jobs']} real jobs, hit {sums['kills']} times. Runs that came out other than the undisturbed one",
        f"(ledger, verdicts, numbers, winner, test score): {len(wrong)}. Jobs whose driver alone was killed and that began anew: {max(0, sums['again'] - sums['blows to jobs'])}; "
        f"jobs that began anew after {sums['blows to jobs']} blows to their own processes: {sums['again']}.",
        "",
        "| killed | times | run was over first | seconds from resuming to progress: median | most |",
        "|---|---|---|---|---|",
    ]
    for place, account in sorted(accounts.items()):
        times = account.seconds
        seconds = f"{statistics.median(times):.1f} | {max(times):.1f}" if times else "- | -"  # the driver went on
        lines.append(f"| {place} | {account.hits} | {account.missed} | {seconds} |")
    text = "\n".join(lines)
    print(text)
    (folder / "table.md").write_text(text)
    if wrong:
        print("\n".join(wrong))
        sys.exit(f"{len(wrong)} things were wrong; the homes are kept in {folder}")
    OUT.write_text(f"# Runs that cannot be lost\n\n{text}\n{ELSEWHERE}", encoding="utf-8")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2] or ["200"]))
