# ruff: noqa: TID251 - times the parts of the real script
"""What it costs that a training can go on after an interruption, and what an interruption costs: python -m benchmarks.resume NAME=JOB.json ...

JOB.json is the job of a real training (`$IMPROVE_HOME/runs/RUN/iterations/0000/jobs/1-s0/job.json` after `improve run`). It is trained without keeping anything,
as it is, and with its supervisor killed at random moments of its training.
"""

import json
import os
import platform
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import timm
import torch

from sandbox import artifacts, job
from sandbox.room import work_of
from sandbox.script.allowance import Allowance
from sandbox.script.checkpoint import CHECKPOINT_SECONDS, CHECKPOINT_SHARE, Checkpoint
from sandbox.script.toolbox import EMA
from schema.job import JobSpec

OUT = Path(__file__).with_name("RESULTS.md")
KILLS = 2
MODELS = ("resnet18", "resnet50", "vit_base_patch16_224")
KEPT = "            partial.replace(self._file)\n"
TOLD = KEPT + "            print('kept', epoch, time.monotonic() - began, self._file.stat().st_size, flush=True)\n"


def train(folder: Path, spec: JobSpec, kill_at: float | None = None) -> dict[str, Any]:
    """One job from its start to its end; its supervisor is killed when its training has had so many epochs."""
    place = folder / "iterations" / "0000" / "jobs" / f"{time.time_ns()}"
    job.start(place, spec)
    found: dict[str, Any] = {}
    if kill_at is not None:
        room = folder / "supervisor" / "room"
        while (
            job.status(place).step != "train"
            or not (last := artifacts.last_epoch(work_of(room)))
            or last.epoch < int(kill_at)
        ):
            time.sleep(0.02)
        time.sleep(kill_at % 1 * last.metrics["epoch_seconds"])
        found |= killed(folder, job.status(place).seconds)
        (room / "work" / "metrics.jsonl").unlink()  # it is there again when the training goes on
        job.start(place, spec)
        began = time.monotonic()
        while artifacts.last_epoch(work_of(folder / "supervisor" / "room")) is None:
            time.sleep(0.02)
        found["back"] = time.monotonic() - began
    result = job.wait(place)
    if not result.ok:
        sys.exit(f"{place}: {result.fault}")
    log = (place / "train.log").read_text()
    rows = [row for row in map(json.loads, (place / "work/metrics.jsonl").read_text().splitlines()) if "epoch" in row]
    after = re.findall(r"goes on after epoch (\d+)", log)
    return found | {
        "rows": rows,
        "seconds": next(step.seconds for step in result.steps if step.step == "train"),
        "kept": [(float(s), int(b)) for s, b in re.findall(r"^kept \d+ (\S+) (\d+)$", log, re.MULTILINE)],
        "weights": (place / "work/weights.safetensors").read_bytes(),
        "after": int(after[-1]) if after else 0,
    }


def killed(folder: Path, seconds: float) -> dict[str, Any]:
    last = artifacts.last_epoch(work_of(folder / "supervisor" / "room"))
    supervisor = psutil.Process(int((folder / "supervisor" / "supervisor.lock").read_text()))
    below = supervisor.children(recursive=True)
    supervisor.kill()
    psutil.wait_procs([supervisor, *below], timeout=10)
    return {"killed": seconds, "in": last.epoch + 1 if last else 1}


def epoch_seconds(rows: list[dict[str, float]]) -> float:
    return float(np.median(np.diff([row["seconds"] for row in rows])))


def trainings(name: str, spec: JobSpec, folder: Path) -> tuple[str, list[str]]:
    assert KEPT in spec.pipeline
    told = spec.model_copy(update={"pipeline": spec.pipeline.replace(KEPT, TOLD)})
    off = f"CHECKPOINT_SECONDS = {CHECKPOINT_SECONDS}"
    assert off in spec.pipeline
    without = train(
        folder, told.model_copy(update={"pipeline": told.pipeline.replace(off, "CHECKPOINT_SECONDS = 1e9")})
    )
    plan = artifacts.plan(next((folder / "iterations/0000/jobs").iterdir()))
    assert plan
    same = plan.model_dump(include={"epochs", "precision", "channels_last", "threads"}) | {"settled": True}
    # No busy moment makes it shorter.
    ample = spec.limits.model_copy(update={"train_seconds": 10 * spec.limits.train_seconds})
    told = told.model_copy(update=same | {"limits": ample})
    kept = train(folder, told)
    cost = sum(seconds for seconds, _ in kept["kept"])
    sizes = max((size for _, size in kept["kept"]), default=0)
    times = [seconds for seconds, _ in kept["kept"]] or [0.0]
    line = (
        f"| {name} | {len(kept['rows'])} | {without['seconds']:.0f} s | {epoch_seconds(without['rows']):.2f} s | {epoch_seconds(kept['rows']):.2f} s "
        f"| {len(kept['kept'])} | {sizes / 1e6:.1f} MB | {np.median(times):.3f} s | {100 * cost / kept['seconds']:.2f} % |"
    )
    draw, lines = random.Random(0), []
    for _ in range(KILLS):
        again = train(folder, told, kill_at=draw.uniform(0.2, 0.95) * len(kept["rows"]))
        at = next((row["seconds"] for row in again["rows"] if row["epoch"] == again["after"]), 0.0)
        equal = "yes" if again["weights"] == kept["weights"] else "no"
        lines.append(
            f"| {name} | {again['killed']:.0f} s, epoch {again['in']} | after epoch {again['after']} | {again['killed'] - at:.0f} s | {again['killed']:.0f} s "
            f"| {again['back']:.1f} s | {equal} |"
        )
    return line, lines


class Counted:
    """Stands for the log: its part of a checkpoint is the weights kept last."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        return {"weights": {name: value.clone() for name, value in self.model.state_dict().items()}}


def writing(name: str, folder: Path) -> str:
    """One checkpoint of a large model with AdamW and EMA."""
    model = timm.create_model(name, num_classes=10)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    checkpoint = Checkpoint(folder / "checkpoint.pt", Allowance(), 2**40)
    parts = [model, optimizer, EMA(model), Counted(model)]
    times = []
    for epoch in range(1, 4):
        checkpoint._due = 0.0
        began = time.monotonic()
        checkpoint.write(epoch, parts)
        times.append(time.monotonic() - began)
    millions, size = sum(p.numel() for p in model.parameters()) / 1e6, (folder / "checkpoint.pt").stat().st_size
    (folder / "checkpoint.pt").unlink()
    seconds = float(np.median(times))
    return f"| {name} | {millions:.1f} | {size / 1e6:.0f} MB | {seconds:.2f} s | {max(CHECKPOINT_SECONDS, seconds / CHECKPOINT_SHARE):.0f} s |"


def main(jobs: list[str]) -> None:
    os.environ["IMPROVE_SUPERVISOR_IDLE"] = "30"
    undisturbed, interrupted = [], []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        for given in jobs:
            name, _, file = given.partition("=")
            spec = JobSpec.model_validate_json(Path(file).read_bytes())
            folder = Path(made) / name
            try:
                line, lines = trainings(name, spec, folder)
            finally:
                job.shutdown(folder)
            undisturbed.append(line)
            interrupted += lines
            print(line, *lines, sep="\n", flush=True)
        large = [writing(name, Path(made)) for name in MODELS]
    text = "\n".join([
        "# What it costs that a training can go on, and what an interruption costs",
        "",
        f"`python -m benchmarks.resume NAME=JOB.json ...` writes this file; JOB.json is the first training of `improve run`. {os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__},",
        "shared with other work: two seconds per epoch differ by more than what is measured, so the share is that of the time spent in writing, as the script itself timed it.",
        "",
        "## Undisturbed",
        "",
        "| training | epochs | seconds | per epoch without | per epoch with | kept | size | one takes | share of the training |",
        "|---|---|---|---|---|---|---|---|---|",
        *undisturbed,
        "",
        "## The supervisor killed with -9 at a random moment of the training (after its first fifth)",
        "",
        "Lost is what has to be trained again; before, it was all of it. Back is from the new start to where the training goes on: a new sandbox, its imports, the data, the checkpoint.",
        "",
        "| training | killed at | goes on | lost | lost before | back | same weights as undisturbed |",
        "|---|---|---|---|---|---|---|",
        *interrupted,
        "",
        "## Large models",
        "",
        "One checkpoint with AdamW, EMA and the weights kept last, on this disk (with fsync), median of three, and how often that is then written at most.",
        "",
        "| model | million parameters | size | one takes | every |",
        "|---|---|---|---|---|",
        *large,
    ])  # fmt: skip
    OUT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
