"""A component's recipe: a literal at the top of its source, so that the source alone tells what it is."""

import ast
import math
from dataclasses import dataclass
from typing import Any

from agents.playbook.backbones import backbones
from agents.playbook.labels import Symmetry, symmetry
from agents.playbook.runners import Start, best_start, paddings, sizes
from schema.pipeline import COMPONENTS, Component, Pipeline
from schema.race import Race, RaceEntry
from schema.source import parse_source
from schema.team import Brief

Recipe = dict[str, Any]
SPEED = {
    "cpu": 1.2e6,
    "cuda": 1e8,
}  # pixels that a core, or a card, takes through a small network in a second; if nothing was measured
MOST_EPOCHS = 300  # what the script plans at most
NAMES: dict[Component, str] = {"data": "DATA", "model": "MODEL", "training": "TRAINING"}


@dataclass(frozen=True, slots=True)
class Recipes:
    data: Recipe
    model: Recipe
    training: Recipe

    def of(self, component: Component) -> Recipe:
        return {"data": self.data, "model": self.model, "training": self.training}[component]


def recipe_in(component: Component, source: str) -> Recipe | None:
    """None where the source is not ours."""
    try:
        body = parse_source(source).body
        for node in body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == NAMES[component]:
                found = ast.literal_eval(node.value)
                return found if isinstance(found, dict) else None
    except (SyntaxError, ValueError):
        pass
    return None


def recipes_in(pipeline: Pipeline, brief: Brief) -> Recipes:
    """Foreign components count as what we would have begun with."""
    first = first_recipes(brief)
    found = {
        component: recipe_in(component, pipeline.code(component)) or first.of(component) for component in COMPONENTS
    }
    return Recipes(found["data"], found["model"], found["training"])


def first_recipes(brief: Brief) -> Recipes:
    """What a good practitioner would start from: what came furthest in the race, or, without one, the first of the networks at hand."""
    safe = symmetry(brief)
    start = _start(brief)
    if start and start.entry.pretrained:
        return _fine_tuning(brief, start, safe)
    return _from_scratch(brief, safe, small=max(brief.profile.height, brief.profile.width) <= 64)


def _start(brief: Brief) -> Start | None:
    """Without a race, and with images that are not small: the first network at hand, as large as leaves some passes in the time."""
    if brief.race and brief.race.entries:
        return best_start(brief)
    if not (names := backbones(brief)) or max(brief.profile.height, brief.profile.width) <= 64:
        return None
    guessed = [
        RaceEntry(
            name=names[0],
            height=height,
            width=width,
            pad_type=paddings(names[0], brief.weights[names[0]])[-1],
            images=1,
            accuracy=1 - 0.4 * (64 / max(height, width)) ** 0.5,
            images_per_second=SPEED[brief.hardware.device] * brief.hardware.cores / (height * width),
            seconds=0.0,
        )
        for height, width in sizes(brief, names[0])
    ]
    return best_start(brief.model_copy(update={"race": Race(entries=guessed)}))


def naive_recipes(brief: Brief) -> Recipes:
    """What one plain request gives: no augmentation, a narrow network, AdamW, ten epochs. Also the last resort of a repair."""
    start = first_recipes(brief.model_copy(update={"weights": {}}))
    calm = {"flip": False, "vertical": False, "transpose": False, "translate": 0, "crop": 0.0, "cutout": 0, "views": []}
    plain = {
        "optimizer": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.0,
        "epochs": 10,
        "batch": 32,
        "smoothing": 0.0,
        "ema": 0.0,
        "weighted": False,
    }
    return Recipes(start.data | calm, start.model | {"width": 16}, start.training | plain)


def _fine_tuning(brief: Brief, start: Start, safe: Symmetry) -> Recipes:
    entry = start.entry
    size = [entry.height, entry.width]
    data = _data(brief, safe, longest=None) | {
        "size": size,
        "transpose": safe.vertical == "keeps" and size_is_square(size),
        "stats": entry.name,
        "crop": 0.5 if safe.scale == "keeps" else 0.0,
    }
    data |= {"translate": 0 if data["crop"] or safe.shift != "keeps" else min(size) // 16, "cutout": 0}
    model = {"family": "timm", "name": entry.name, "pretrained": True, "dropout": 0.2}
    model |= {"size": built_for(entry.name, size)}
    model |= {"pad_type": entry.pad_type, "freeze": start.freeze, "statistics": "kept"}
    batch = min(32, _batch(brief))
    training = _training(brief) | {
        "optimizer": "adamw",
        "lr": 4e-4,
        "weight_decay": 0.02,
        "epochs": _epochs(brief, batch, least=15, steps=400),
        "batch": batch,
        "schedule": "cosine",
        "warmup": 0.1,
        "layer_decay": 0.75,
        "clip": 1.0,
        "ema": 0.0,
        "fit_head": True,
    }
    return Recipes(data, model, training)


# Networks with learned positions: timm wants to be told the size of the images.
BUILT_FOR_A_SIZE = ("vit_", "deit", "eva", "beit", "swin", "flexivit", "cait")


def built_for(name: str, size: list[int]) -> list[int] | None:
    """Return the height and width that a network of this name has to be built for; None if it takes images of any size."""
    return list(size) if name.startswith(BUILT_FOR_A_SIZE) else None


def _from_scratch(brief: Brief, safe: Symmetry, *, small: bool) -> Recipes:
    profile = brief.profile
    data = _data(brief, safe, longest=None if small else (128 if brief.hardware.device == "cuda" else 96))
    size = data["size"] or [profile.height, profile.width]
    model = {
        "family": "convnet",
        "width": _width(brief, size),
        "depth": 2,
        "dropout": 0.0,
        "pooling": "max",
        "squeeze": False,
    }
    batch = _batch(brief)
    epochs = 40 if profile.size("train") >= 20_000 else _epochs(brief, batch, least=60, steps=1000)
    return Recipes(data, model, _training(brief) | {"epochs": epochs})


def _batch(brief: Brief) -> int:
    """At least 16 steps an epoch over few images: a power of two between 8 and 64; 128 from 4,000 images on."""
    count = brief.profile.size("train")
    return 128 if count >= 4000 else max(8, min(64, 2 ** int(math.log2(max(1, 0.9 * count / 16)))))


def _epochs(brief: Brief, batch: int, *, least: int, steps: int) -> int:
    """Enough for this many steps; a training over a hundred images needs many passes. At most MOST_EPOCHS."""
    return min(MOST_EPOCHS, max(least, math.ceil(steps / max(1, 0.9 * brief.profile.size("train") // batch))))


def _data(brief: Brief, safe: Symmetry, longest: int | None) -> Recipe:
    """Only what certainly keeps the label is in a first pipeline."""
    height, width = brief.profile.height, brief.profile.width
    if longest and max(height, width) > longest:
        scale = longest / max(height, width)
        size = [max(8, round(height * scale / 8) * 8), max(8, round(width * scale / 8) * 8)]
    else:
        size = None
    shortest = min(size or [height, width])
    return {
        "size": size,
        "flip": safe.flip == "keeps",
        "vertical": safe.vertical == "keeps",
        "transpose": safe.vertical == "keeps" and size_is_square(size or [height, width]),
        "translate": max(1, round(shortest / 8)) if safe.shift == "keeps" else 0,
        "crop": 0.0,
        "rotate": 0,
        "zoom": 0.0,
        "jitter": 0.0,
        "trivial": "",
        "cutout": round(shortest / 4) if safe.hide == "keeps" and shortest >= 24 else 0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "views": ["flip"] if safe.flip == "keeps" else [],
        "stats": "data",
    }


def size_is_square(size: list[int]) -> bool:
    return size[0] == size[1]


def _training(brief: Brief) -> Recipe:
    batch = _batch(brief)
    return {
        "optimizer": "sgd",
        "lr": round(0.2 * min(1.0, batch / 64), 6),
        "weight_decay": 5e-3,
        "epochs": 60,
        "batch": batch,
        "schedule": "linear",
        "warmup": 0.2,
        "smoothing": 0.0 if brief.metric == "log_loss" else 0.1,
        "ema": 0.99,
        "clip": 0.0,
        "keep": "last",
        "loss": "cross-entropy",
        "weighted": brief.metric in {"balanced_accuracy", "macro_f1"} and brief.profile.imbalance > 1.5,
        "balanced": False,
        "everything": brief.race is not None and brief.race.one_training,  # nobody asks the inner split for advice then
        "layer_decay": 0.0,
        "fit_head": False,
    }


def _width(brief: Brief, size: list[int]) -> int:
    """As wide as 12 passes (40 over few images) in the time allow, from the speed of such nets on this kind of machine."""
    pixels = size[0] * size[1] / (4 if min(size) >= 64 else 1)  # the first convolution halves large images
    speed = (
        60_000.0 if brief.hardware.device == "cuda" else 550.0 * brief.hardware.cores
    )  # images/s at width 32, 32 x 32
    images = 0.8 * brief.train_seconds * speed * 1024 / pixels
    count = brief.profile.size("train")
    enough = max(12 * count, min(100_000, 40 * count))
    for width in (64, 48, 32, 24):
        if width <= 4 * min(size) and images * (32 / width) ** 2 >= enough:
            return width
    return 16
