"""Six trainings that are held back by one thing each: the images, the pipeline, what the evidence has to say, and what would help."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from schema.pipeline import Pipeline

SIZE = 16

DATA = """
def build_transforms(info):
    def prepare(images):
        return normalize(images, info)

    return Transforms(train=prepare, eval=prepare)
"""
MIRRORING = DATA.replace(
    "    return Transforms(train=prepare",
    """    def mirrored(images):
        return prepare(random_flip(images))

    return Transforms(train=mirrored""",
)
MODEL = """
from torch import nn


def build_model(info):
    return nn.Sequential(
        nn.Conv2d(info.channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4),
        nn.Flatten(), nn.Linear(16 * (info.height // 4) * (info.width // 4), WIDTH), nn.ReLU(), nn.Linear(WIDTH, info.num_classes),
    )
"""
TRAINING = """
import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    return fit(model, loaders.train, loaders, info, log, epochs=EPOCHS, optimizer=optimizer)
"""
# Slower than its first steps have shown: each later epoch waits.
WAITING = """
import time

import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    for epoch in log.epochs(info.epochs, model=model, optimizer=optimizer):
        losses = []
        for images, targets in loaders.train:
            loss = soft_cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if epoch > 2:
                time.sleep(0.5)
        log.keep(model)
        log(epoch, epochs=info.epochs, train_loss=sum(losses) / len(losses), **evaluate(model, loaders.validation, info))
    return model
"""


def pipeline(
    *, data: str = DATA, width: int = 64, rate: float = 0.003, epochs: int = 20, training: str = ""
) -> Pipeline:
    plain = TRAINING.replace("RATE", str(rate)).replace("EPOCHS", str(epochs))
    return Pipeline(data=data, model=MODEL.replace("WIDTH", str(width)), training=training or plain)


def corners(folder: Path, counts: list[int], noise: int = 110, light: int = 70) -> None:
    """A bright spot in one of four corners, in noise."""
    random = np.random.default_rng(0)
    half = SIZE // 2
    places = {"north-west": (0, 0), "north-east": (0, half), "south-west": (half, 0), "south-east": (half, half)}
    for (name, (row, column)), count in zip(places.items(), counts, strict=False):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, noise, (SIZE, SIZE, 3))
            y, x = random.integers(0, half - 3, 2)
            pixels[row + y : row + y + 3, column + x : column + x + 3] += light
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


@dataclass(frozen=True, slots=True)
class Situation:
    """`facts`: patterns that the analyst's prompt has; `remedies`: words of which a sensible proposal has one."""

    name: str
    images: Callable[[Path], None]
    pipeline: Pipeline
    facts: tuple[str, ...]
    remedies: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


SITUATIONS = (
    Situation(
        "overfit",
        lambda folder: corners(folder, [60] * 4, 200, 25),
        pipeline(width=512, epochs=60),
        (r"Training images 1\d\d ", r"Training accuracy at the end (0\.9[5-9]\d*|1\.0000): \+0\.[2-9]"),
        (
            "augment",
            "regular",
            "dropout",
            "decay",
            "smooth",
            "mix",
            "translat",
            "crop",
            "eras",
            "cutout",
            "smaller",
            "narrow",
            "early",
            "shift",
        ),
    ),
    Situation(
        "underfit",
        lambda folder: corners(folder, [150] * 4),
        pipeline(width=32, rate=0.00003, epochs=3),
        (
            r"Training accuracy at the end 0\.[2-4]\d*: [+-]0\.0",
            r"It ran 3 of 3 epochs; measured before the training: info\.epochs [1-9]\d",
        ),
        ("rate", "epoch", "longer", "info.epochs", "sgd", "optimi", "wider", "capacity"),
    ),
    Situation(
        "mirrored",
        lambda folder: corners(folder, [150] * 4, 60),
        pipeline(data=MIRRORING),
        (
            r"(?s)The best pipeline so far.*def mirrored\(",
            r"Most frequent: '(north|south)-(east|west)' taken for '\1-",
        ),
        ("flip", "mirror"),
    ),
    Situation(
        "cut",
        lambda folder: corners(folder, [150] * 4),
        pipeline(training=WAITING),
        (r"the clock ended it before its work was done",),
        ("sleep", "cheap", "fewer", "smaller", "faster", "shorter", "batch", "time"),
        {"train_seconds": 4.0},
    ),
    Situation(
        "few-images",
        lambda folder: corners(folder, [12] * 4, 200, 30),
        pipeline(epochs=40),
        (r"Training images (2\d|3\d) ", r"mistakes of \d images"),
        (
            "augment",
            "pretrain",
            "everything",
            "regular",
            "translat",
            "dropout",
            "mix",
            "decay",
            "fewer parameters",
            "smaller",
        ),
    ),
    Situation(
        "imbalance",
        lambda folder: corners(folder, [400, 300, 30, 15], 170, 40),
        pipeline(epochs=8),
        (r"Largest class [12]\d[\d.]* times the smallest", r"Recall per class: 'south-(east|west)' 0\.000"),
        ("balanc", "weight", "oversampl", "focal", "logit adjust", "resampl"),
        {"metric": "balanced_accuracy"},
    ),
)
