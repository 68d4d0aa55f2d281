"""What the analyst reads off a training's curve, its mistakes and its recipes: the figures that the moves ask for."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from statistics import pstdev

from agents.playbook.labels import Symmetry, symmetry
from agents.playbook.recipe import Recipes, recipes_in
from schema.score import Score
from schema.team import Evidence


@dataclass(frozen=True, slots=True)
class View:
    """What the analyst reads off the evidence."""

    evidence: Evidence
    recipes: Recipes
    safe: Symmetry
    train_accuracy: float
    inner_accuracy: float  # on images that were not trained on
    gap: float  # training minus inner validation accuracy; augmentation and mixing pull it down
    rising: float  # inner accuracy gained over the last fifth of the curve
    spare: float  # share of the training time left unused
    epochs: int  # run
    cut: bool
    size: int  # training images
    side: int  # shorter side of the images as the model sees them
    worst_recall: float
    confused: float  # share of the mistakes on inner validation images between the three most confused pairs of classes
    noise: float  # standard deviation of the steps of inner validation accuracy over the last third of the curve
    jumps: float  # share of the epochs after the first in which the training loss rose by a tenth or more
    slow_start: bool  # the first epoch ended near chance

    @property
    def mixed(self) -> bool:
        return bool(self.recipes.data["mixup"] or self.recipes.data["cutmix"])

    @property
    def gpu(self) -> bool:
        return self.evidence.brief.hardware.device == "cuda"

    @property
    def fine_tuning(self) -> bool:
        return bool(self.recipes.model.get("pretrained"))

    @property
    def calibrated(self) -> bool:
        """The metric judges the probabilities themselves."""
        return self.evidence.brief.metric == "log_loss"

    @property
    def room(self) -> bool:
        """Time for something slower."""
        return self.spare > 0.3 or self.epochs >= 30


def view_of(evidence: Evidence) -> View:
    training, brief = evidence.training, evidence.brief
    curve = [row.metrics for row in training.curve]
    inner = [row["validation_accuracy"] for row in curve if "validation_accuracy" in row]
    train = [row["train_accuracy"] for row in curve if "train_accuracy" in row]
    recipes = recipes_in(evidence.pipeline, brief)
    losses = [row["train_loss"] for row in curve if "train_loss" in row]
    # Where the inner validation images are trained on, too, only the held-out images tell.
    judged = training.score.accuracy if recipes.training["everything"] or not inner else inner[-1]
    tail = inner[-max(2, len(inner) // 5) :]
    steps = [after - before for before, after in pairwise(inner[-max(3, len(inner) // 3) :])]
    size = recipes.data["size"] or [brief.profile.height, brief.profile.width]
    counts = brief.profile.counts["train"]
    chance = max(counts) / max(1, sum(counts))  # of always saying the largest class
    return View(
        evidence=evidence,
        recipes=recipes,
        safe=symmetry(brief),
        train_accuracy=train[-1] if train else 0.0,
        inner_accuracy=judged,
        gap=(train[-1] if train else 0.0) - judged,
        rising=(tail[-1] - tail[0]) if len(tail) > 1 else 0.0,
        spare=max(0.0, 1 - (training.alone or training.seconds) / max(1e-9, brief.train_seconds)),
        epochs=training.curve[-1].epoch if training.curve else 1,
        cut=training.cut,
        size=brief.profile.size("train"),
        side=min(size),
        worst_recall=min(_recalls(training.inner), default=1.0) if training.inner else 1.0,
        confused=_confused(training.inner) if training.inner else 0.0,
        noise=pstdev(steps) if len(steps) > 1 else 0.0,
        jumps=sum(after > 1.1 * before for before, after in pairwise(losses)) / max(1, len(losses) - 1),
        slow_start=bool(train) and train[0] < chance + 0.1 * (1 - chance),
    )


def _confused(score: Score) -> float:
    """Of the listed mistakes, those between the three most confused pairs, as a share of all mistakes."""
    pairs = Counter[frozenset[str]]()
    for one in score.confusions:
        pairs[frozenset({one.truth, one.predicted})] += one.count
    mistakes = (1 - score.accuracy) * score.n
    classes = len(score.per_class)
    even = 3 / max(1, classes * (classes - 1) // 2)  # their share if every pair were confused alike
    if mistakes < 1 or even >= 1:
        return 0.0
    share = min(1.0, sum(count for _, count in pairs.most_common(3)) / mistakes)
    return max(0.0, (share - even) / (1 - even))


def _recalls(score: Score) -> list[float]:
    """Of the classes that have images there; the others' recall is 0 and says nothing."""
    return [recall for recall, count in zip(score.per_class, score.counts, strict=True) if count]
