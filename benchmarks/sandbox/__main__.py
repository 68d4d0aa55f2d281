"""What isolation costs, each tier beside a bare subprocess in one run, and what the conformance suite found: python -m benchmarks.sandbox [ROWS ...]

ROWS are files of rows that tests/sandbox/conformance/driver.py printed, one for each tier and user.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sandbox.decoding import decoding
from sandbox.environment import environment
from sandbox.isolation import cgroup, tiers
from sandbox.isolation.launch import Place, launch
from schema.job import Access, Limits
from tests.sandbox.conformance.bombs import BOMBS

OUT = Path(__file__).resolve().parent.parent / "sandbox.md"
LAUNCHES, TRAININGS, IMAGES = 25, 5, 10_000
HELLO = "import os; os.write(3, b'hello')"
TRAIN = """
import os, time, torch
torch.set_num_threads(1)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU(),
                          torch.nn.Flatten(), torch.nn.Linear(16 * 28 * 28, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
images, labels = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
steps = []
for _ in range(120):
    began = time.perf_counter()
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
    open("/proc/self/statm").read()
    steps.append(time.perf_counter() - began)
os.write(3, repr(sorted(steps[20:])[50] * 1000).encode())
"""


def once(tier: str, program: list[str], folder: Path) -> tuple[float, str]:
    """Seconds from asking for it to its answer, and the answer."""
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as log:
        began = time.monotonic()
        with theirs:
            process = started(tier, program, folder, theirs.fileno(), log)
        answer = ours.recv(100).decode()
        seconds = time.monotonic() - began
        process.wait()
        if not answer:
            log.seek(0)
            sys.exit(f"{tier}: {log.read().decode()}")
    return seconds, answer


def started(tier: str, program: list[str], folder: Path, channel: int, log: Any) -> subprocess.Popen[bytes]:
    env = environment(folder / "room/work", 1, str(folder / "room/work"))
    if tier == "bare":
        moved = ["/bin/sh", "-c", f'exec "$@" 3>&{channel}', "sh", *program]
        return subprocess.Popen(moved, pass_fds=[channel], env=env, stderr=log)
    user = tiers.PROBE_USER if os.getuid() == 0 and tier != "none" else None
    place = Place(
        folder / "room", folder / "room/work", folder / "room/work", folder / "canary", user, cgroup.make(folder)
    )
    access = Access(tier=tier, read=(), limits=Limits(train_seconds=60, memory_bytes=2**31))  # type: ignore[arg-type]
    return launch(access, place, program, env, channel=channel, log=log)


def costs(kinds: list[str], folder: Path) -> list[str]:
    hello = [os.path.realpath(sys.executable), "-I", "-S", "-c", HELLO]
    train = [sys.executable, "-c", TRAIN]
    launches: dict[str, list[float]] = defaultdict(list)
    steps: dict[str, list[float]] = defaultdict(list)
    for _ in range(LAUNCHES):
        for kind in kinds:
            launches[kind].append(once(kind, hello, folder)[0] * 1000)
    for _ in range(TRAININGS):
        for kind in kinds:
            steps[kind].append(float(once(kind, train, folder)[1]))
    bare_launch, bare_step = np.median(launches["bare"]), np.median(steps["bare"])
    lines = ["| | launch, ms | more than bare | step, ms | of bare |", "|---|---|---|---|---|"]
    for kind in kinds:
        launch_ms, step = np.median(launches[kind]), np.median(steps[kind])
        lines.append(
            f"| {kind} | {launch_ms:.0f} | {launch_ms - bare_launch:+.0f} | {step:.2f} | {step / bare_step:.2f} |"
        )
    return lines


def cases(rows: list[dict[str, Any]]) -> list[str]:
    """By tier and user: how many ran and were held, and which were not."""
    columns = sorted({(row["tier"], "root" if row["root"] else "user") for row in rows})
    lines = [
        "| group | " + " | ".join(" ".join(column) for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for group in (
        "attacks",
        "attacks_of_a_reader",
        "cheats",
        "forgeries",
        "weights",
        "texts",
        "honest",
        "lifecycle",
        "bombs",
    ):
        cells = []
        for tier, who in columns:
            own = [r for r in rows if r["group"] == group and (r["tier"], r["root"]) == (tier, who == "root")]
            opened = ", ".join(r["case"] for r in own if r["got"])
            held = f"{sum(r['ran'] and not r['got'] for r in own)} of {len(own)}{f'; open: {opened}' if opened else ''}"
            cells.append(held if own else "not run")
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return lines


MEASURED = (  # limit, key of the row, the kind that ends it, unit, bytes of one
    ("smoke_seconds", "seconds", "time", "s", 1.0),
    ("memory_bytes", "peak", "memory", "MB", 1e6),
    ("disk_bytes", "disk", "disk", "MB", 1e6),
    ("output_bytes", "output", "output", "MB", 1e6),
)


def overshoot(rows: list[dict[str, Any]]) -> list[str]:
    """The most and the least that was seen in any tier, where this limit ended the job."""
    lines = ["| case | limit | at its end, highest and lowest | jobs |", "|---|---|---|---|"]
    for bomb in BOMBS:
        for limit, key, kind, unit, one in MEASURED:
            seen = [row[key] / one for row in rows if row["case"] == bomb.name and row["kind"] == kind]
            if kind == "time":  # the first job of a suite waits for torch
                seen = [seconds for seconds in seen if seconds < bomb.limits.get(limit, 0) + 4]
            if seen and limit in bomb.limits:
                most = f"{max(seen):.2f}, {min(seen):.2f}" if kind == "time" else f"{max(seen):.0f}, {min(seen):.0f}"
                lines.append(f"| {bomb.name} | {bomb.limits[limit] / one:.0f} {unit} | {most} {unit} | {len(seen)} |")
    return lines


def main(files: list[str]) -> None:
    rows = [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "room/work").mkdir(parents=True)
        (folder / "room/work").chmod(0o777)
        (folder / "canary").write_text("secret")
        works = [finding.tier for finding in tiers.survey(folder) if finding.works]
        table = costs(["bare", "none", *reversed(works)], folder)
        cgroup.sweep(folder)
        decoded = decoding(IMAGES, folder)
    text = "\n".join([
        "# What isolation costs, and what it holds",
        "",
        f"`python -m benchmarks.sandbox ROWS` writes this file. Launch: a Python program, from asking for it to its first word, median of {LAUNCHES};",
        f"step: a small convolutional network on one thread, median of {TRAININGS} trainings of 100 steps. All kinds in turn, in one run. A run pays the launch once, not for each job:",
        "steps of jobs fork from a process that waits inside.",
        "",
        *table,
        "",
        "## Decoding images",
        "",
        "`python -m benchmarks.sandbox.decoding`: confined processes that get bytes, beside a pool of processes that open the files themselves,",
        "each image read for what is known of it and once more for its pixels; median of three, kinds in turn.",
        "",
        *decoded,
        "",
        "## Cases by tier and user",
        "",
        "From `python -m tests.sandbox.conformance.driver TIER FOLDER`; each attack showed that it ran. Open means that it got what it was after; docs/security.md names them.",
        "",
        *cases(rows),
        "",
        "## Limits, and by how much they are passed",
        "",
        "Of the cases in which a limit is measured from outside. The others end at a limit that the kernel keeps (a file's size, a file system's, threads), or without one.",
        "",
        *overshoot(rows),
    ])  # fmt: skip
    OUT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
