"""One life of a driver: begin the scripted run, or go on with it, telling each event on standard output; die where it was asked to.

python -m benchmarks.durability.driver PHOTOS NAME [NODE]      kills itself with SIGKILL when it enters NODE (in three of them: while it works), or the twelfth node if that does not come
"""

import os
import signal
import sys
from contextlib import suppress

from checkpoints.store import open_store
from graph.run import resume, run
from nodes.services import Services
from schema.errors import RunStopped, UnknownRun
from schema.events import Event
from schema.pipeline import Component, Pipeline
from schema.settings import Settings
from tests.scripted import DATA, ScriptedTeam

MOST = 12
# Nodes that do not say when they begin: what they tell while they work. `settled` comes when all is written and not yet in the checkpoint.
INSIDE = {"dataset_ready": "profile", "fault_found": "repair", "settled": "summarize"}
# Numbers that do not depend on which precision was the fastest at that moment.
MODEL = """
import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            return self.linear(x.flatten(1).float())


def build_model(info):
    return Plain(info.channels * info.height * info.width, info.num_classes)
"""
TRAINING = """
import time

import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    trained = fit(model, loaders.train, loaders, info, log, epochs=EPOCHS, optimizer=optimizer)
    for epoch in range(EPOCHS + 1, EPOCHS + 11):
        time.sleep(0.1)
        log(epoch, train_loss=1.0 / epoch)
    return trained
"""
BROKEN = "def build_model(info):\n    return undefined_name(info)\n"


def _training(rate: float, epochs: int) -> str:
    return TRAINING.replace("RATE", str(rate)).replace("EPOCHS", str(epochs))


ANSWERS: list[tuple[Component, list[str]]] = [
    ("training", [_training(0.001, 4)]),
    (
        "model",
        [BROKEN, MODEL.replace("nn.Linear(inputs, classes)", "nn.Linear(inputs, classes, bias=False)")],
    ),  # mended
    ("model", [BROKEN]),  # never mended: this iteration fails
    ("training", [_training(0.03, 6)]),
    ("data", [DATA.replace("normalize(images, info)", "normalize(images, info) * 0.5")]),
    ("training", [_training(0.0001, 1)]),
]
FIRST = Pipeline(data=DATA, model=MODEL, training=_training(0.00001, 1))


def services() -> Services:
    return Services(team=lambda *_: ScriptedTeam(ANSWERS, first=FIRST))


def main(photos: str, name: str, place: str = "") -> None:
    entered = 0

    def note(event: Event) -> None:
        nonlocal entered
        node = INSIDE.get(event.kind) or getattr(event, "node", "")
        sys.stdout.write(f"{event.kind} {node}\n")
        sys.stdout.flush()
        entered += event.kind == "node_entered"
        if place and (node == place or entered == MOST):
            os.kill(os.getpid(), signal.SIGKILL)

    settings = Settings(
        dataset=photos,
        iterations=len(ANSWERS),
        train_seconds=60,
        accept="expected",
        max_seeds=2,
        max_attempts=2,
        device="cpu",
        folds=1,
        until_budget=True,
    )
    begun = False
    with suppress(UnknownRun):
        begun = bool(open_store().run(name))
    try:
        if begun:
            resume(name, on_event=note, services=services())
        else:
            run(settings, name=name, on_event=note, services=services())
    except RunStopped as stopped:
        sys.exit(stopped.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:4])
