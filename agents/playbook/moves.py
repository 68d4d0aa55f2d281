"""The moves that a practitioner would make: each with its precondition, the evidence that calls for it, and what it changes."""

from collections.abc import Callable
from dataclasses import dataclass

from agents.playbook.backbones import backbones
from agents.playbook.recipe import MOST_EPOCHS, Recipe, built_for, size_is_square
from agents.playbook.runners import paddings
from agents.playbook.tried import steps
from agents.playbook.view import View
from schema.pipeline import Component

Strength = Callable[[View], float]
Change = Callable[[View], Recipe]


@dataclass(frozen=True, slots=True)
class Move:
    """`applies` is the precondition, `strength` (0..1) how loudly the evidence calls for it, `prior` what it usually brings."""

    name: str
    component: Component
    needs: str  # the precondition in words
    evidence: str  # the sign in words
    applies: Callable[[View], bool]
    strength: Strength
    prior: float
    change: Change
    longer: bool = False

    def changed(self, view: View) -> Recipe:
        recipe = view.recipes.of(self.component)
        return {**recipe, **self.change(view)}

    def title(self, view: View) -> str:
        """The name with the values before and after: the same title is the same change."""
        recipe = view.recipes.of(self.component)
        parts = [
            f"{key} {_shown(recipe.get(key))} -> {_shown(value)}"
            for key, value in self.change(view).items()
            if recipe.get(key) != value
        ]
        return f"{self.name} ({', '.join(parts)})"


def _shown(value: object) -> object:
    return "''" if value == "" else value


def _overfit(v: View) -> float:
    return min(1.0, max(0.1, 4 * v.gap + (0.3 if v.train_accuracy > 0.98 else 0.0)))


def _underfit(v: View) -> float:
    # Mixing and strong augmentation pull the training accuracy below what the model can do.
    return min(1.0, max(0.1, 1.2 * (0.97 - max(v.train_accuracy, v.inner_accuracy)) - max(0.0, v.gap)))


def _similar(v: View) -> float:
    return min(1.0, 0.25 + 0.7 * v.confused)


def _always(level: float) -> Strength:
    return lambda _: level


def _scratch(v: View) -> bool:
    return bool(v.recipes.model["family"] == "convnet")


def _resized(v: View, factor: float) -> list[int]:
    brief = v.evidence.brief
    height, width = v.recipes.data["size"] or [brief.profile.height, brief.profile.width]
    return [max(8, round(height * factor / 8) * 8), max(8, round(width * factor / 8) * 8)]


def _zoom(v: View, share: float) -> float:
    """Where the classes may speak of a size, pictures are turned but not scaled."""
    return 0.0 if v.safe.scale == "changes" else share


def _trivial(v: View) -> str:
    """Which kinds of change TrivialAugment may draw from; empty if none keeps the label for certain."""
    moves, colours = v.safe.turn == v.safe.shift == "keeps", v.safe.colour == "keeps"
    return "all" if moves and colours else "moves" if moves else "colours" if colours else ""


def _next_backbone(v: View) -> str | None:
    """The best one that this run has not named yet."""
    named = {str(new) for row in v.evidence.ledger for key, _, new in steps(row.move) if key == "name"}
    return next((name for name in backbones(v.evidence.brief) if name not in named | {v.recipes.model["name"]}), None)


def _other_backbone(v: View) -> Recipe:
    name = _next_backbone(v)
    if name is None:
        return {}
    brief = v.evidence.brief
    raced = [entry.pad_type for entry in (brief.race.entries if brief.race else []) if entry.name == name]
    padding = raced[0] if raced else paddings(name, brief.weights[name])[-1]
    return {"name": name, "pad_type": padding, "size": built_for(name, _resized(v, 1.0))}


def _larger(v: View) -> bool:
    """The stored images hold more than the model sees; a pretrained network gains from enlarged images, too."""
    if v.recipes.model.get("size"):  # the network is built for this one
        return False
    return (v.recipes.data["size"] is not None and v.side * 1.25 <= _full(v)) or (v.fine_tuning and v.side * 1.3 <= 232)


def _full(v: View) -> int:
    return min(v.evidence.brief.profile.height, v.evidence.brief.profile.width)


# One row a move reads as a table; the formatter would make each a dozen lines.
# fmt: off
MOVES: tuple[Move, ...] = (
    # Data
    Move("flip-views", "data", "a mirror image keeps its label", "predictions of mirror images may differ",
         lambda v: v.safe.flip == "keeps" and "flip" not in v.recipes.data["views"], _always(0.8), 0.6, lambda v: {"views": [*v.recipes.data["views"], "flip"]}),
    Move("shift-views", "data", "a small shift keeps its label; images of at least 24 pixels", "small shifts change predictions of small images",
         lambda v: v.safe.shift == "keeps" and "shift" not in v.recipes.data["views"] and 24 <= v.side <= 128, _always(0.7), 0.45, lambda v: {"views": [*v.recipes.data["views"], "shift"]}),
    Move("flip", "data", "nothing speaks against mirror images, and nothing vouches for them", "training accuracy above inner validation",
         lambda v: v.safe.flip == "unknown" and not v.recipes.data["flip"], _overfit, 0.5, lambda _: {"flip": True}),
    Move("vertical-flip", "data", "up and down mean nothing", "training accuracy above inner validation",
         lambda v: v.safe.vertical == "keeps" and not v.recipes.data["vertical"], _overfit, 0.6, lambda _: {"vertical": True}),
    Move("quarter-turns", "data", "up and down mean nothing; square images", "training accuracy above inner validation",
         lambda v: v.safe.vertical == "keeps" and not v.recipes.data["transpose"] and size_is_square(_resized(v, 1.0)), _overfit, 0.55, lambda _: {"transpose": True}),
    Move("vertical-views", "data", "up and down mean nothing", "predictions of mirror images may differ",
         lambda v: v.safe.vertical == "keeps" and "vertical" not in v.recipes.data["views"], _always(0.7), 0.5, lambda v: {"views": [*v.recipes.data["views"], "vertical"]}),
    Move("more-translation", "data", "a shift keeps its label", "training accuracy above inner validation",
         lambda v: v.safe.shift == "keeps" and v.recipes.data["translate"] < v.side // 4 and not v.recipes.data["crop"], _overfit, 0.4, lambda v: {"translate": max(v.recipes.data["translate"] + 1, round(v.recipes.data["translate"] * 1.6))}),
    Move("less-translation", "data", "translation is on", "training accuracy low and no gap",
         lambda v: v.recipes.data["translate"] > 1, _underfit, 0.3, lambda v: {"translate": v.recipes.data["translate"] // 2}),
    Move("small-rotation", "data", "a turn by 10 degrees keeps its label", "training accuracy above inner validation",
         lambda v: v.safe.turn == "keeps" and not v.recipes.data["rotate"], _overfit, 0.55, lambda v: {"rotate": 10, "zoom": _zoom(v, 0.1)}),
    Move("gentle-warp", "data", "a turn by 6 degrees is not known to change the label", "training accuracy above inner validation",
         lambda v: v.safe.turn == "unknown" and not v.recipes.data["rotate"], _overfit, 0.35, lambda v: {"rotate": 6, "zoom": _zoom(v, 0.05)}),
    Move("stronger-rotation", "data", "small rotation is on and keeps its label", "training accuracy still above inner validation",
         lambda v: v.safe.turn == "keeps" and v.recipes.data["rotate"] == 10, _overfit, 0.35, lambda v: {"rotate": 18, "zoom": _zoom(v, 0.15)}),
    Move("no-rotation", "data", "rotation is on", "training accuracy low and no gap",
         lambda v: v.recipes.data["rotate"] > 0, _underfit, 0.25, lambda _: {"rotate": 0, "zoom": 0.0}),
    Move("resized-crop", "data", "a zoom keeps its label; images of at least 48 pixels", "training accuracy above inner validation",
         lambda v: v.safe.scale == "keeps" and not v.recipes.data["crop"] and v.side >= 48, _overfit, 0.6, lambda _: {"crop": 0.5, "translate": 0}),
    Move("stronger-crop", "data", "random crops are on", "training accuracy above inner validation",
         lambda v: v.recipes.data["crop"] >= 0.5, _overfit, 0.4, lambda _: {"crop": 0.25}),
    Move("gentler-crop", "data", "random crops are on", "training accuracy low and no gap",
         lambda v: 0 < v.recipes.data["crop"] <= 0.5, _underfit, 0.4, lambda _: {"crop": 0.75}),
    Move("cutout", "data", "hiding a part keeps its label", "training accuracy above inner validation",
         lambda v: v.safe.hide != "changes" and not v.recipes.data["cutout"] and v.side >= 16, _overfit, 0.4, lambda v: {"cutout": round(v.side / 4)}),
    Move("no-cutout", "data", "cutout is on", "training accuracy low and no gap",
         lambda v: v.recipes.data["cutout"] > 0, _underfit, 0.35, lambda _: {"cutout": 0}),
    Move("colour-jitter", "data", "colour does not decide the label", "training accuracy above inner validation",
         lambda v: v.safe.colour == "keeps" and not v.recipes.data["jitter"], _overfit, 0.45, lambda _: {"jitter": 0.25}),
    Move("stronger-jitter", "data", "colour jitter is on", "training accuracy still above inner validation",
         lambda v: v.recipes.data["jitter"] == 0.25, _overfit, 0.25, lambda _: {"jitter": 0.4}),
    Move("trivial-augment", "data", "a turn by some degrees or a change of tones keeps its label; at least 10 epochs and 24 pixels", "training accuracy above inner validation",
         lambda v: bool(_trivial(v)) and not v.recipes.data.get("trivial") and v.epochs >= 10 and v.side >= 24, _overfit, 0.5, lambda v: {"trivial": _trivial(v), "jitter": 0.0, "rotate": 0, "zoom": 0.0}),
    Move("no-trivial-augment", "data", "one random change of each image is on", "training accuracy low and no gap",
         lambda v: bool(v.recipes.data.get("trivial")), _underfit, 0.3, lambda _: {"trivial": ""}),
    Move("mixup", "data", "at least 20 epochs", "training accuracy well above inner validation",
         lambda v: not v.mixed and v.epochs >= 20, _overfit, 0.35, lambda _: {"mixup": 0.2}),
    Move("cutmix", "data", "hiding a part keeps its label; at least 20 epochs and 24 pixels", "training accuracy well above inner validation",
         lambda v: v.safe.hide == "keeps" and not v.mixed and v.epochs >= 20 and v.side >= 24, _overfit, 0.45, lambda _: {"cutmix": 1.0, "cutout": 0}),
    Move("no-mixing", "data", "MixUp or CutMix is on", "training accuracy low",
         lambda v: v.mixed, _underfit, 0.3, lambda _: {"mixup": 0.0, "cutmix": 0.0}),
    Move("higher-resolution", "data", "the stored images are larger than what the model sees, or it is pretrained and sees less than 224 pixels; and there is time", "detail is thrown away",
         lambda v: _larger(v) and v.room, _always(0.8), 0.6, lambda v: {"size": _resized(v, 1.3)}),
    Move("lower-resolution", "data", "images above 64 pixels", "the training was cut by time or saw few epochs",
         lambda v: v.side > 64 and (v.cut or v.epochs < 8) and not v.recipes.model.get("size"), _always(0.8), 0.4, lambda v: {"size": _resized(v, 0.75)}, longer=True),
    # Model
    Move("wider", "model", "own network, and time for it", "training accuracy low, or time left",
         lambda v: _scratch(v) and v.recipes.model["width"] < 160 and v.room, lambda v: max(_underfit(v), 0.6 * v.spare, 0.35), 0.65, lambda v: {"width": round(v.recipes.model["width"] * 1.5 / 8) * 8}),
    Move("narrower", "model", "own network wider than 16", "cut by time, or few epochs",
         lambda v: _scratch(v) and v.recipes.model["width"] > 16, lambda v: 0.7 if v.cut or v.epochs < 10 else 0.1, 0.4, lambda v: {"width": max(16, round(v.recipes.model["width"] / 1.5 / 8) * 8)}, longer=True),
    Move("deeper", "model", "own network with less than 4 layers a stage, and time for it", "training accuracy low, or time left",
         lambda v: _scratch(v) and v.recipes.model["depth"] < 4 and v.room, lambda v: max(_underfit(v), 0.5 * v.spare, 0.3), 0.55, lambda v: {"depth": v.recipes.model["depth"] + 1}),
    Move("shallower", "model", "own network with more than one layer a stage", "cut by time",
         lambda v: _scratch(v) and v.recipes.model["depth"] > 1, lambda v: 0.5 if v.cut or v.epochs < 10 else 0.05, 0.3, lambda v: {"depth": v.recipes.model["depth"] - 1}, longer=True),
    Move("squeeze-and-excite", "model", "own network", "a few pairs of classes take most of the mistakes",
         lambda v: _scratch(v) and not v.recipes.model["squeeze"], _similar, 0.4, lambda _: {"squeeze": True}),
    Move("mean-and-max-pooling", "model", "own network", "a few pairs of classes take most of the mistakes",
         lambda v: _scratch(v) and v.recipes.model["pooling"] == "max", _similar, 0.4, lambda _: {"pooling": "both"}),
    Move("mean-pooling", "model", "own network", "training accuracy above inner validation: the maximum listens to single cells",
         lambda v: _scratch(v) and v.recipes.model["pooling"] != "mean", _overfit, 0.3, lambda _: {"pooling": "mean"}),
    Move("dropout", "model", "no dropout yet", "training accuracy well above inner validation",
         lambda v: v.recipes.model["dropout"] == 0, _overfit, 0.35, lambda _: {"dropout": 0.2}),
    Move("no-dropout", "model", "dropout is on", "training accuracy low",
         lambda v: v.recipes.model["dropout"] > 0, _underfit, 0.3, lambda _: {"dropout": 0.0}),
    Move("other-padding", "model", "a mobile backbone with padding options that did not race both ways", "ported weights expect the padding they were trained with",
         lambda v: v.fine_tuning and v.evidence.brief.race is None and v.recipes.model["name"].startswith(("mobilenet", "efficientnet", "tf_")), _always(0.3), 0.3, lambda v: {"pad_type": "" if v.recipes.model["pad_type"] else "same"}),
    Move("other-backbone", "model", "another pretrained model is on disk", "other features may suit these pictures better",
         lambda v: v.fine_tuning and _next_backbone(v) is not None, _always(0.6), 0.5, _other_backbone),
    Move("own-statistics", "model", "a pretrained network whose batch normalisation keeps what it knew; at least 8 epochs", "these images are unlike those of its pretraining: training accuracy low",
         lambda v: v.fine_tuning and v.recipes.model.get("statistics") == "kept" and v.epochs >= 8, lambda v: max(0.2, _underfit(v)), 0.3, lambda _: {"statistics": "own"}),
    Move("train-more-layers", "model", "a pretrained network whose early layers are frozen", "training accuracy low, or time left",
         lambda v: v.fine_tuning and v.recipes.model["freeze"] > 0, lambda v: max(0.4, _underfit(v), v.spare), 0.45, lambda v: {"freeze": max(0.0, round(v.recipes.model["freeze"] - 0.25, 2))}),
    Move("train-fewer-layers", "model", "a pretrained network", "cut by time, few epochs, or training accuracy well above inner validation",
         lambda v: v.fine_tuning and v.recipes.model["freeze"] < 0.75, lambda v: max(0.6 if v.cut or v.epochs < 6 else 0.0, 0.5 * _overfit(v)), 0.4, lambda v: {"freeze": round(v.recipes.model["freeze"] + 0.25, 2)}, longer=True),
    # Training
    Move("train-longer", "training", "time left", "the curve still rises, or time is left unused",
         lambda v: v.spare > 0.35 and not v.cut and v.recipes.training["epochs"] < MOST_EPOCHS, lambda v: min(1.0, max(v.spare, 0.4 + 10 * max(0.0, v.rising))), 0.7, lambda v: {"epochs": min(MOST_EPOCHS, round(v.recipes.training["epochs"] * 1.8))}, longer=True),
    Move("train-shorter", "training", "at least 20 epochs", "inner validation falls at the end",
         lambda v: v.epochs >= 20, lambda v: 0.6 if v.rising < -0.005 else 0.05, 0.3, lambda v: {"epochs": round(v.epochs * 0.6)}),
    Move("weight-averaging", "training", "no averaging yet", "the curve is noisy near its end",
         lambda v: not v.recipes.training["ema"], lambda v: min(1.0, 0.3 + 20 * v.noise), 0.45, lambda v: {"ema": 0.998 if v.size > 4000 else 0.99}),
    Move("no-averaging", "training", "averaging is on", "short training: the average lags behind",
         lambda v: bool(v.recipes.training["ema"]), lambda v: 0.5 if v.epochs < 12 else 0.2, 0.25, lambda _: {"ema": 0.0}),
    Move("higher-learning-rate", "training", "finite losses", "training accuracy low at the end",
         lambda v: v.recipes.training["lr"] < 0.8, lambda v: max(0.35, _underfit(v)), 0.4, lambda v: {"lr": round(v.recipes.training["lr"] * 2, 6)}),
    Move("lower-learning-rate", "training", "learning rate above 1e-4", "training loss jumps, or fine-tuning forgets",
         lambda v: v.recipes.training["lr"] > 1e-4, lambda v: min(1.0, (0.6 if v.fine_tuning else 0.3) + 2 * v.jumps), 0.4, lambda v: {"lr": round(v.recipes.training["lr"] / 2, 6)}),
    Move("more-weight-decay", "training", "from scratch or fine-tuning", "training accuracy well above inner validation",
         lambda v: v.recipes.training["weight_decay"] < 0.2, _overfit, 0.35, lambda v: {"weight_decay": round(v.recipes.training["weight_decay"] * 3, 6)}),
    Move("less-weight-decay", "training", "weight decay is on", "training accuracy low",
         lambda v: v.recipes.training["weight_decay"] > 1e-5, _underfit, 0.3, lambda v: {"weight_decay": round(v.recipes.training["weight_decay"] / 3, 7)}),
    Move("more-label-smoothing", "training", "cross-entropy with little smoothing; the metric does not judge the probabilities themselves", "confident mistakes: training accuracy above inner validation",
         lambda v: v.recipes.training["loss"] == "cross-entropy" and v.recipes.training["smoothing"] < 0.2 and not v.calibrated, _overfit, 0.3, lambda _: {"smoothing": 0.2}),
    Move("no-label-smoothing", "training", "cross-entropy with smoothing", "training accuracy low, or the metric judges the probabilities themselves",
         lambda v: v.recipes.training["loss"] == "cross-entropy" and v.recipes.training["smoothing"] > 0, lambda v: 1.0 if v.calibrated else _underfit(v), 0.25, lambda _: {"smoothing": 0.0}),
    Move("smaller-batches", "training", "batch above 16", "few steps per epoch",
         lambda v: v.recipes.training["batch"] > 16, lambda v: 0.6 if v.size / v.recipes.training["batch"] * v.epochs < 1500 else 0.25, 0.4, lambda v: {"batch": v.recipes.training["batch"] // 2}),
    Move("larger-batches", "training", "at least 4,000 images", "noisy steps, time short",
         lambda v: v.size >= 4000 and v.recipes.training["batch"] < 512, lambda v: 0.4 if v.cut else 0.15, 0.25, lambda v: {"batch": v.recipes.training["batch"] * 2}),
    Move("cosine-schedule", "training", "linear schedule", "either may be better",
         lambda v: v.recipes.training["schedule"] == "linear", _always(0.3), 0.25, lambda _: {"schedule": "cosine", "warmup": 0.1}),
    Move("adamw", "training", "SGD so far", "plain SGD is sensitive to its learning rate",
         lambda v: v.recipes.training["optimizer"] == "sgd", lambda v: max(0.35, _underfit(v)), 0.4, lambda v: {"optimizer": "adamw", **({"lr": 1e-3, "weight_decay": 0.02} if v.fine_tuning else {"lr": 0.003, "weight_decay": 0.05})}),
    Move("train-on-everything", "training", "a schedule that ends at zero and keeps its last weights", "the inner split is a tenth of the images",
         lambda v: not v.recipes.training["everything"] and v.recipes.training["keep"] == "last", _always(0.9), 0.6, lambda _: {"everything": True}),
    Move("class-weights", "training", "classes differ in size by half or more", "a rare class has low recall",
         lambda v: v.evidence.brief.profile.imbalance > 1.5 and not v.recipes.training["weighted"] and not v.recipes.training["balanced"], lambda v: max(0.1, 0.7 - v.worst_recall), 0.35, lambda _: {"weighted": True, "loss": "cross-entropy"}),
    Move("balanced-batches", "training", "classes differ in size three times or more", "a rare class has low recall",
         lambda v: v.evidence.brief.profile.imbalance > 3 and not v.recipes.training["balanced"], lambda v: max(0.1, 0.6 - v.worst_recall), 0.3, lambda _: {"balanced": True, "weighted": False}),
    Move("focal-loss", "training", "at least 4 classes; the metric does not judge the probabilities themselves", "a few pairs of classes take most of the mistakes",
         lambda v: v.recipes.training["loss"] != "focal" and len(v.evidence.brief.profile.classes) >= 4 and not v.calibrated, lambda v: 0.1 + 0.3 * v.confused, 0.2, lambda _: {"loss": "focal", "weighted": False}),
    Move("best-weights", "training", "the inner validation images are not trained on; at least 8 epochs", "inner validation falls at the end",
         lambda v: v.recipes.training["keep"] == "last" and not v.recipes.training["everything"] and v.epochs >= 8, lambda v: 0.6 if v.rising < -0.005 else 0.15, 0.25, lambda _: {"keep": "best"}),
    Move("momentum", "training", "AdamW so far", "training accuracy above inner validation: plain momentum often generalises better",
         lambda v: v.recipes.training["optimizer"] == "adamw", _overfit, 0.3, lambda v: {"optimizer": "sgd", **({"lr": 0.02, "weight_decay": 5e-4} if v.fine_tuning else {"lr": 0.2, "weight_decay": 5e-3})}),
    Move("longer-warmup", "training", "a warm-up below a third", "a first epoch near chance, or losses that jump",
         lambda v: v.recipes.training["warmup"] < 0.3, lambda v: min(1.0, 0.15 + 0.5 * v.slow_start + v.jumps), 0.2, lambda _: {"warmup": 0.35}),
    Move("clip-gradients", "training", "no clipping yet", "training loss jumps",
         lambda v: not v.recipes.training["clip"], lambda v: min(1.0, 0.15 + 3 * v.jumps), 0.2, lambda _: {"clip": 1.0}),
    Move("flatter-layer-rates", "training", "layer-wise rates in fine-tuning", "training accuracy low: early layers hardly learn",
         lambda v: 0 < v.recipes.training["layer_decay"] < 0.9, lambda v: max(0.4, _underfit(v)), 0.4, lambda _: {"layer_decay": 0.9}),
    Move("solve-the-head-first", "training", "a pretrained network with a fresh head", "a first epoch near chance, or fine-tuning forgets",
         lambda v: v.fine_tuning and not v.recipes.training["fit_head"], lambda v: 0.9 if v.slow_start else 0.6, 0.5, lambda _: {"fit_head": True}),
    Move("steeper-layer-rates", "training", "layer-wise rates in fine-tuning", "training accuracy well above inner validation",
         lambda v: v.recipes.training["layer_decay"] > 0.6, _overfit, 0.3, lambda v: {"layer_decay": round(v.recipes.training["layer_decay"] - 0.15, 2)}),
)
# fmt: on
