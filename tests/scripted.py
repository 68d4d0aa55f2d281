"""A team that answers from a script, and the smallest pipeline that learns: for runs that take seconds."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from schema.pipeline import COMPONENTS, Component, Pipeline
from schema.team import Brief, Design, Evidence, Outcome, Proposal, RepairTask, WriteTask, Written

DATA = """
def build_transforms(info):
    def prepare(images):
        return normalize(images, info)
    return Transforms(train=prepare, eval=prepare)
"""
MODEL = """
from torch import nn


def build_model(info):
    return nn.Sequential(nn.Flatten(), nn.Linear(info.channels * info.height * info.width, info.num_classes))
"""
TRAINING = """
import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return fit(model, loaders.train, loaders, info, log, epochs=1, optimizer=optimizer)
"""
# Six epochs, of which the third does not begin before SHARE times the planned seconds are left: slower than its first steps have shown.
WAITING = """
import time

import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in log.epochs(6, model=model, optimizer=optimizer):
        for images, targets in loaders.train:
            soft_cross_entropy(model(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        log.keep(model)
        log(epoch, train_loss=0.5)
        while epoch == 2 and log.time_left() < SHARE * info.seconds:
            time.sleep(0.05)
            log(epoch, train_loss=0.5)
    return model
"""
PIPELINE = Pipeline(data=DATA, model=MODEL, training=TRAINING)


@dataclass
class ScriptedTeam:
    """`answers`: per iteration (from 1) the component and the source texts that its engineer gives, one per attempt."""

    answers: list[tuple[Component, list[str]]]
    first: Pipeline = PIPELINE
    seen: list[str] = field(default_factory=list)

    def check(self) -> None:
        pass

    def design(self, brief: Brief) -> Design:
        components = {c: self.first.code(c) for c in COMPONENTS}
        return Design(text=f"as scripted, for {len(brief.profile.classes)} classes", components=components)

    def write(self, task: WriteTask) -> Written:
        if task.proposal is None:
            return Written(code=task.pipeline[task.component])
        if not task.proposal.move.isdigit():  # a person's edit
            return Written(code=f"{task.pipeline[task.component]}\n# {task.proposal.instruction}\n")
        return Written(code=self._answers(task.proposal)[0])

    def repair(self, task: RepairTask) -> Written:
        self.seen.append(str(task.fault))
        answers = self._answers(task.write.proposal) if task.write.proposal else [task.code]
        return Written(code=answers[min(task.attempt, len(answers) - 1)])

    def _answers(self, proposal: Proposal) -> list[str]:
        return self.answers[int(proposal.move) - 1][1]

    def analyse(self, evidence: Evidence) -> Proposal:
        if evidence.iteration > len(self.answers):
            return Proposal(action="stop", diagnosis="the script ends")
        component = self.answers[evidence.iteration - 1][0]
        return Proposal(action="change", component=component, move=str(evidence.iteration))

    def summarise(self, outcome: Outcome) -> str:
        return f"{outcome.row.move}: {outcome.row.verdict}"


def image_folder(root: Path, per_class: int = 30, size: int = 12, light: int = 60) -> Path:
    """Two classes that a linear model can tell apart by where the light is, of which there may be little; every picture is different."""
    random = np.random.default_rng(0)
    for label, columns in (("left", slice(0, size // 2)), ("right", slice(size // 2, size))):
        (root / label).mkdir(parents=True)
        for i in range(per_class):
            pixels = random.integers(0, 120, (size, size, 3), dtype=np.uint8)
            pixels[:, columns] += light
            Image.fromarray(pixels).save(root / label / f"{i}.png")
    return root
