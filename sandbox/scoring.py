"""Trusted scoring: the one place where predictions of generated code meet held-out labels (DESIGN.md section 6)."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sandbox.bootstrap import Floats, Ints, decided, losses, resamples, statistic
from schema.score import Confusion, Score
from schema.settings import Metric

NORMAL_95 = 1.959963984540054


def score(
    metric: Metric, probabilities: NDArray[np.floating], labels: NDArray[np.integer], classes: list[str]
) -> Score:
    """Score class probabilities [N, K] against labels [N] (0..K-1), with a 95 % interval.

    The interval is Wilson's for accuracy, and a seeded bootstrap over images for the others (for auroc its linear form).
    A class without an image in this split has recall 0 and no part in macro averages. Raises ValueError where shapes do not fit.
    """
    truth, scores = labels.astype(np.int64), probabilities.astype(np.float64)
    _check(truth, scores, classes)
    chosen = decided(scores)
    value = _VALUES[metric](truth, scores)
    hits, n = int(np.count_nonzero(chosen == truth)), len(truth)
    low, high = wilson(hits, n) if metric == "accuracy" else _bootstrap(metric, truth, scores)
    return Score(
        metric=metric,
        value=value,
        n=n,
        low=min(low, value),
        high=max(high, value),
        accuracy=hits / n,
        counts=np.bincount(truth, minlength=len(classes)).tolist(),
        per_class=_recalls(truth, chosen, len(classes)),
        confusions=_confusions(truth, chosen, classes),
    )


def surest_mistakes(probabilities: NDArray[np.floating], labels: NDArray[np.integer], most: int) -> Ints:
    """Return the places of at most `most` wrongly answered images, those answered with the most confidence first."""
    scores = probabilities.astype(np.float64)
    chosen = decided(scores)
    wrong = np.flatnonzero(chosen != labels)
    return wrong[np.argsort(-scores[wrong, chosen[wrong]], kind="stable")][:most]


def wilson(hits: int, n: int, z: float = NORMAL_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (1927): holds its level near 0 and 1, where the normal one does not."""
    middle = (hits + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * math.sqrt(hits * (n - hits) / n + z**2 / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _check(labels: Ints, probabilities: Floats, classes: list[str]) -> None:
    if probabilities.shape != (len(labels), len(classes)) or not len(labels):
        raise ValueError(
            f"probabilities have shape {probabilities.shape}, but there are {len(labels)} labels and {len(classes)} classes"
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels lie in {labels.min()}..{labels.max()}, expected 0..{len(classes) - 1}")


def _accuracy(labels: Ints, probabilities: Floats) -> float:
    from sklearn.metrics import accuracy_score  # noqa: PLC0415 - scikit-learn takes seconds to import

    return float(accuracy_score(labels, decided(probabilities)))


def _balanced_accuracy(labels: Ints, probabilities: Floats) -> float:
    # The mean recall over the classes that occur is balanced accuracy; balanced_accuracy_score warns about the others.
    from sklearn.metrics import recall_score  # noqa: PLC0415

    return float(
        recall_score(labels, decided(probabilities), labels=np.unique(labels), average="macro", zero_division=0)
    )


def _macro_f1(labels: Ints, probabilities: Floats) -> float:
    from sklearn.metrics import f1_score  # noqa: PLC0415

    return float(f1_score(labels, decided(probabilities), average="macro", zero_division=0))


def _auroc(labels: Ints, probabilities: Floats) -> float:
    """Mean over the classes that occur of one class against the rest; 0.5 where only one class occurs."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    if len(np.unique(labels)) == 1:
        return 0.5
    areas = [roc_auc_score(labels == k, probabilities[:, k]) for k in np.unique(labels)]
    return float(np.mean(areas))


def _log_loss(labels: Ints, probabilities: Floats) -> float:
    return float(losses(labels, probabilities).mean())


def _quadratic_kappa(labels: Ints, probabilities: Floats) -> float:
    """Agreement in the order of the classes; 0 where truth and answers are all one class, so that chance cannot be told from skill."""
    from sklearn.metrics import cohen_kappa_score  # noqa: PLC0415

    chosen = decided(probabilities)
    if len(np.union1d(labels, chosen)) == 1:
        return 0.0
    every = list(range(probabilities.shape[1]))
    return float(cohen_kappa_score(labels, chosen, labels=every, weights="quadratic"))


_VALUES: dict[Metric, Callable[[Ints, Floats], float]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "auroc": _auroc,
    "log_loss": _log_loss,
    "quadratic_kappa": _quadratic_kappa,
}


def _bootstrap(metric: Metric, labels: Ints, probabilities: Floats) -> tuple[float, float]:
    evaluate = statistic(metric, labels, probabilities)
    values = np.concatenate([evaluate(weights) for weights in resamples(len(labels))])
    low, high = np.quantile(values, [0.025, 0.975])
    return (max(0.0, float(low)), min(1.0, float(high))) if metric == "auroc" else (float(low), float(high))


def _recalls(labels: Ints, chosen: Ints, count: int) -> list[float]:
    totals = np.bincount(labels, minlength=count)
    hits = np.bincount(labels[labels == chosen], minlength=count)
    return [float(share) for share in hits / np.maximum(totals, 1)]


def _confusions(labels: Ints, chosen: Ints, classes: list[str]) -> list[Confusion]:
    """The ten most frequent mistakes; of equally frequent ones those that come first in the order of the classes."""
    wrong = labels != chosen
    pairs, counts = np.unique(np.stack([labels[wrong], chosen[wrong]]), axis=1, return_counts=True)
    top = np.argsort(-counts, kind="stable")[:10]
    return [Confusion(truth=classes[pairs[0, i]], predicted=classes[pairs[1, i]], count=int(counts[i])) for i in top]
