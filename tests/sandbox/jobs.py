"""A small data set and a job that trains on it, without isolation."""

import json
import time
from pathlib import Path

import numpy as np

from dataset.decode import SOURCE
from sandbox import job
from sandbox.assemble import assemble
from schema.job import JobSpec, Limits
from schema.pipeline import Pipeline
from tests.scripted import PIPELINE, TRAINING

GB = 2**30


# It has learned what it can, and does not end.
ENDLESS_TRAINING = """
import time

import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trained = fit(model, loaders.train, loaders, info, log, epochs=1, optimizer=optimizer)
    for epoch in range(2, 10**6):
        time.sleep(0.01)
        log(epoch, epochs=10**6, train_loss=1.0)
    return trained
"""
ENDLESS = PIPELINE.with_code("training", ENDLESS_TRAINING)


def write_training(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """What a job trains on, of two classes that a linear model can tell apart. The images, uint8 [80, 1, 8, 8], and their labels."""
    random = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = (random.integers(0, 120, (80, 1, 8, 8)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    facts = {
        "classes": ["dark", "light"],
        "channels": 1,
        "height": 8,
        "width": 8,
        "mean": [0.4],
        "std": [0.2],
        "counts": [40, 32],
    }
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "inner.npy", np.arange(80) % 10 == 9)
    (folder / "dataset.json").write_text(json.dumps(facts))
    return images, labels


def lay_out_data(folder: Path) -> None:
    """With held-out images beside it."""
    data = folder / "data"
    data.mkdir(parents=True)
    images, _ = write_training(data)
    np.save(data / "heldout.npy", images[:20])


def spec(run_dir: Path, pipeline: Pipeline, **limits: float) -> JobSpec:
    allowed = {"train_seconds": 30, "smoke_seconds": 20, "grace_seconds": 2, "memory_bytes": 4 * GB} | limits
    return JobSpec(
        name="test",
        pipeline=assemble(pipeline, SOURCE, "test"),
        fingerprint=pipeline.fingerprint,
        data=str(run_dir / "data"),
        heldout={"validation": str(run_dir / "data" / "heldout.npy"), "test": str(run_dir / "data" / "heldout.npy")},
        device="cpu",
        threads=1,
        tier="none",
        limits=Limits.model_validate(allowed),
    )


def training(body: str) -> Pipeline:
    """A training component that does this first."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return PIPELINE.with_code("training", TRAINING.replace("log):\n", f"log):\n{lines}"))


def until(directory: Path, state: str, step: str | None = None) -> None:
    while (told := job.status(directory)).state != state or (step and told.step != step):
        time.sleep(0.02)
