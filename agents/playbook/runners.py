"""Who runs in the race of starting points, at which image sizes, and which of them makes a first pipeline."""

import math
from pathlib import PurePath
from typing import NamedTuple

from agents.playbook.backbones import backbones
from schema.race import Padding, RaceEntry, Runner
from schema.team import Brief

MOST_RUNNERS = {"cpu": 4, "cuda": 8}
SIDES = {
    "cpu": (128, 96, 160, 224),
    "cuda": (224, 160, 288, 384),
}  # longer side in pixels, that of the first heat first
MOST_ENLARGED = 5.0  # times
FINEST = 1.35  # times the stored images' longer side: beyond it there is nothing to see
# Families that have timm's `pad_type`.
PADDED = ("mobilenet", "efficientnet", "mnasnet", "tf_", "fbnet", "mixnet", "lcnet", "tinynet")
# From scratch a network is worth a try only if the images are small or many.
SMALL_SIDE, MANY = 96, 20_000


def runners(brief: Brief) -> tuple[Runner, ...]:
    """The best networks that lie on disk, at each size that suits the images.

    Those whose padding nobody knows with both.
    """
    found = []
    for name in backbones(brief)[: MOST_RUNNERS[brief.hardware.device]]:
        for pad_type in paddings(name, brief.weights[name]):
            found += [Runner(name=name, height=h, width=w, pad_type=pad_type) for h, w in sizes(brief, name)]
    return tuple(found)


def can_run(brief: Brief) -> bool:
    """Whether pretrained networks are worth a look at all: of images of a few pixels they see nothing."""
    return bool(sizes(brief, ""))


def races_from_scratch(brief: Brief) -> bool:
    profile = brief.profile
    return max(profile.height, profile.width) <= SMALL_SIDE or profile.size("train") >= MANY


def sizes(brief: Brief, name: str) -> list[tuple[int, int]]:
    """Height and width, multiples of what the network divides an image into.

    None if the images are too small for any.
    """
    height, width = brief.profile.height, brief.profile.width
    longest, cell = max(height, width), 14 if "patch14" in name else 32
    finest = (MOST_ENLARGED if longest <= SMALL_SIDE else FINEST) * longest
    sides = [side for side in SIDES[brief.hardware.device] if side <= finest]
    scales = [side / longest for side in sides]
    found = [(_multiple(height * scale, cell), _multiple(width * scale, cell)) for scale in scales]
    return list(dict.fromkeys(found))


def _multiple(pixels: float, cell: int) -> int:
    return max(cell, round(pixels / cell) * cell)


def paddings(name: str, file: str) -> tuple[Padding, ...]:
    """How the borders of its images were padded when it was trained; both where neither name nor file tells.

    Weights that come from TensorFlow want `same`; a timm tag (`mobilenetv2_100.ra_in1k`) says that timm trained
    them, and its own default.
    """
    if not name.startswith(PADDED) or name.startswith("tf_"):
        return ("",)
    return ("",) if "." in name or "." in PurePath(file).stem else ("", "same")


class Start(NamedTuple):
    """What a first pipeline begins from."""

    entry: RaceEntry
    freeze: float  # share of the layers that stay as they are
    expected: float  # accuracy after the training that it is meant for


# Fine-tuning: share of the layers that are frozen, cost of an image in forward passes, share of the head's
# errors that a long training removes.
# All of this from trials on one core with photographs of weather and waste and CIFAR-10
# (docs/decisions/0014-race.md).
WAYS = ((0.0, 3.4, 0.48), (0.5, 2.3, 0.45), (0.9, 1.4, 0.20))
EPOCHS_TO_LEARN = 1.3  # after so many, two thirds of that are there
HEAD_POWER = 0.1  # the errors of a head fall with its images to this power
SCRATCH_EPOCHS = 40.0
SCRATCH_POWER = 0.25  # and those of a network from scratch with its time
USED = 0.8  # of a training's time: what else a training does takes the rest


def best_start(brief: Brief) -> Start | None:
    """Return the entry of the race from which a training is expected to come furthest; None without a race.

    If the time holds one pass over the images with none of them, it is the fastest, of which hardly
    anything is trained.
    """
    entries = brief.race.entries if brief.race else []
    starts = [start for entry in entries for start in _starts(entry, brief)]
    tuned = [entry for entry in entries if entry.pretrained]
    hurried = max(tuned, key=lambda one: one.images_per_second, default=None)
    if not starts and hurried:
        return Start(hurried, WAYS[-1][0], hurried.accuracy)
    return max(starts, key=lambda start: start.expected, default=None)


WANTED_EPOCHS = 6.0  # of fine-tuning: nearly all that it can learn is there then


def wanted_seconds(brief: Brief) -> float:
    """How long a training from the best start goes on learning much; 0 without a race."""
    start, count = best_start(brief), brief.profile.size("train")
    if start is None:
        return 0.0
    if not start.entry.pretrained:
        return SCRATCH_EPOCHS * count / start.entry.images_per_second / USED
    cost = next(cost for freeze, cost, _ in WAYS if freeze == start.freeze)
    return (1 + WANTED_EPOCHS * cost) * count / start.entry.images_per_second / USED


def _starts(entry: RaceEntry, brief: Brief) -> list[Start]:
    time, count = USED * brief.train_seconds, brief.profile.size("train")
    if not entry.pretrained:
        share = max(1.0, time / max(entry.seconds, 1.0)) ** -SCRATCH_POWER
        return [Start(entry, 0.0, 1 - (1 - entry.accuracy) * share)]
    found = []
    for freeze, cost, gain in WAYS:
        head = min(count / entry.images_per_second, 0.2 * time)  # `fit_head` takes no more
        epochs = (time - head) * entry.images_per_second / cost / count
        if epochs >= 1:
            wrong = (1 - entry.accuracy) * min(1.0, entry.images / count) ** HEAD_POWER
            learned = gain * (1 - math.exp(-epochs / EPOCHS_TO_LEARN))
            found.append(Start(entry, freeze, 1 - wrong * (1 - learned)))
    return found
