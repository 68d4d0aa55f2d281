"""Whether a busy machine decides anything: the same run alone, beside one busy process and beside four.

    python -m benchmarks.fairness [--train-limit 30] [--json NEW.json]
    python -m benchmarks.fairness --read NEW.json --before OLD.json

A scripted team tries the same changes each time; what each of them does is known. Images are made here: gratings in
noise, which a small network learns in a few dozen passes. `--json` keeps the figures and writes no RESULTS.md; `--read`
takes them from there, and `--before` puts those of another version beside them.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.store import open_store
from graph.run import run
from nodes.services import Services
from schema.pipeline import Component, Pipeline
from schema.settings import make_settings
from tests.scripted import ScriptedTeam

OUT = Path(__file__).with_name("RESULTS.md")
NEIGHBOURS = (0, 1, 4)
CLASSES, PER_CLASS, SIDE = 8, 300, 24
EPOCHS = 40  # where the time holds them

DATA = """
def build_transforms(info):
    def prepare(images):
        return normalize(images, info)
    return Transforms(train=prepare, eval=prepare)
"""
SHIFTED = """
def build_transforms(info):
    def augment(images):
        return normalize(random_translate(images, 3), info)
    def prepare(images):
        return normalize(images, info)
    return Transforms(train=augment, eval=prepare)
"""
MODEL = """
from torch import nn


def build_model(info):
    width = WIDTH
    return nn.Sequential(
        nn.Conv2d(info.channels, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, info.num_classes),
    )
"""
TRAINING = """
import torch


def train(model, loaders, info, log):
    batches = loaders.train
    optimizer = torch.optim.SGD(split_decay(model, 5e-4), lr=RATE, momentum=0.9, nesterov=True)
    epochs = min(EPOCHS, info.epochs)
    schedule = warmup_cosine(optimizer, steps=epochs * len(batches))

    def loss(logits, targets):
        LABELS
        return soft_cross_entropy(logits, targets)

    return fit(model, batches, loaders, info, log, epochs=epochs, optimizer=optimizer, schedule=schedule, loss=loss)
"""


def training(rate: float = 0.05, labels: str = "pass") -> str:
    return TRAINING.replace("EPOCHS", str(EPOCHS)).replace("RATE", str(rate)).replace("LABELS", labels)


WRONG = "wrong = torch.rand(len(targets)) < 0.7; targets = torch.where(wrong, torch.randint_like(targets, info.num_classes), targets)"
FIRST = Pipeline(data=DATA, model=MODEL.replace("WIDTH", "16"), training=training())
CHANGES: list[tuple[str, str, Component, str]] = [
    ("learning rate / 1000", "harms much", "training", training(rate=0.00005)),
    ("shifted images", "helps", "data", SHIFTED),
    ("70 % wrong labels", "harms", "training", training(labels=WRONG)),
    ("twice as wide", "helps", "model", MODEL.replace("WIDTH", "32")),
    ("half as wide", "harms", "model", MODEL.replace("WIDTH", "8")),
]


def images(folder: Path) -> Path:
    """Write one array file of gratings: the class is their direction, in much noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    angle = np.pi * labels / CLASSES + rng.normal(0, 0.07, len(labels))
    phase, period = rng.uniform(0, 2 * np.pi, len(labels)), rng.uniform(4, 7, len(labels))
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    waves = np.sin(2 * np.pi * along / period[:, None, None] + phase[:, None, None])
    pixels = 128 + 25 * waves + rng.normal(0, 80, waves.shape)
    np.savez(folder / "gratings.npz", images=pixels.clip(0, 255).astype(np.uint8), labels=labels)
    return folder / "gratings.npz"


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` cores busy, or what there is of them."""
    neighbours = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(count)
    ]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def measured(data: Path, count: int, seconds: float) -> dict[str, Any]:
    """One run beside `count` busy processes: its rows, and how long it took."""
    name = f"fairness-{count}-{os.getpid()}"
    settings = make_settings(
        {
            "dataset": str(data),
            "iterations": len(CHANGES),
            "train_seconds": seconds,
            "max_seeds": 2,
            "device": "cpu",
            "folds": 1,
        }
    )
    team = ScriptedTeam([(component, [code]) for _, _, component, code in CHANGES], first=FIRST)
    began = time.monotonic()
    with busy(count):
        run(settings, name=name, services=Services(team=lambda *_: team))
    store = open_store()
    rows = []
    for row in store.ledger(name):
        training_ = store.training(name, row.iteration)
        assert training_ is not None
        assert training_.plan is not None
        trainings = [job for job in store.jobs(name, row.iteration) if job.result.ok]
        rows.append(
            {
                "verdict": row.verdict,
                "validation": row.validation,
                "delta": row.delta,
                "epochs": row.epochs,
                "planned": min(EPOCHS, training_.plan.epochs),
                "seconds": round(training_.seconds, 1),
                "trainings": len(trainings),
                "cut": row.cut,
            }
        )
    return {"minutes": round((time.monotonic() - began) / 60, 1), "rows": rows}


def cell(row: dict[str, Any]) -> str:
    share = row["epochs"] / row["planned"]
    delta = "" if row["delta"] is None else f" {100 * row['delta']:+.1f}"
    return f"{row['verdict']}{delta}, {row['epochs']} of {row['planned']} ({100 * share:.0f} %), {row['seconds']:.0f} s"


def table(found: dict[str, Any]) -> list[str]:
    heads = ["alone" if count == "0" else f"beside {count} busy" for count in found]
    lines = ["| change | what it does | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    names = [("first pipeline", ""), *((name, effect) for name, effect, _, _ in CHANGES)]
    for number, (name, effect) in enumerate(names):
        cells = [cell(one["rows"][number]) if number < len(one["rows"]) else "not reached" for one in found.values()]
        lines.append(f"| {name} | {effect} | " + " | ".join(cells) + " |")
    lines.append("| **minutes** | | " + " | ".join(f"{one['minutes']}" for one in found.values()) + " |")
    return lines


def least_share(found: dict[str, Any]) -> float:
    """The least share of its planned epochs that a training with a verdict has had."""
    judged = [row for one in found.values() for row in one["rows"] if row["verdict"] in {"accepted", "rejected"}]
    return min(float(row["epochs"]) / float(row["planned"]) for row in judged)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--train-limit", type=float, default=30.0)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--read", type=Path)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    found = json.loads(chosen.read.read_text(encoding="utf-8")) if chosen.read else {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMPROVE_HOME"] = str(Path(folder) / "home")
        data = images(Path(folder))
        for count in () if chosen.read else NEIGHBOURS:
            found[str(count)] = measured(data, count, chosen.train_limit)
            print(f"beside {count}: {found[str(count)]['minutes']} minutes", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found), encoding="utf-8")
        print("\n".join(table(found)))
        return 0
    lines = [
        "# Does a busy machine decide anything?",
        f"Command: `python -m benchmarks.fairness` ({os.cpu_count()} cores, {platform.processor() or platform.machine()}, trainings planned for {chosen.train_limit:.0f} s). "
        "Each cell: the verdict with the measured difference in points, epochs run of those planned, seconds of the first training by the clock on the wall.",
        "\n".join(table(found)),
        f"Least share of its planned epochs that a judged training has had: {100 * least_share(found):.0f} %.",
    ]
    if chosen.before:
        before = json.loads(chosen.before.read_text(encoding="utf-8"))
        lines += [
            "## The version before equal work",
            "\n".join(table(before)),
            f"Least share: {100 * least_share(before):.0f} %.",
        ]
    OUT.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
