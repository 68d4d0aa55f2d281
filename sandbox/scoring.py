"""Scores from class probabilities, computed on the trusted side with scikit-learn. Generated code hands in predictions, never a number."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from schema.score import Confusion, Score
from schema.settings import Metric

RESAMPLES = 400
Z95 = 1.959964


def higher_is_better(metric: Metric) -> bool:
    return metric != "log_loss"


def score(metric: Metric, probabilities: np.ndarray, labels: np.ndarray, classes: list[str]) -> Score:
    """`probabilities` float64 [N, K], rows summing to 1; `labels` int64 [N]. The interval is Wilson's for accuracy, else a bootstrap."""
    predicted, n = probabilities.argmax(1), len(labels)
    accuracy = float((predicted == labels).mean())
    value = accuracy if metric == "accuracy" else value_of(metric, probabilities, labels)
    low, high = wilson(accuracy, n) if metric == "accuracy" else _bootstrap(metric, probabilities, labels)
    per_class = [
        float((predicted[labels == k] == k).mean()) if (labels == k).any() else 0.0 for k in range(len(classes))
    ]
    wrong = Counter((int(t), int(p)) for t, p in zip(labels, predicted, strict=True) if t != p)
    confusions = [
        Confusion(truth=classes[t], predicted=classes[p], count=c)
        for (t, p), c in sorted(wrong.items(), key=lambda i: (-i[1], i[0]))[:10]
    ]
    return Score(
        metric=metric,
        value=round(value, 6),
        n=n,
        low=round(low, 6),
        high=round(high, 6),
        accuracy=accuracy,
        per_class=per_class,
        confusions=confusions,
    )


def value_of(metric: Metric, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The metric's own value (log loss: lower is better)."""
    from sklearn import metrics  # noqa: PLC0415 - a second that the command line's start does not need

    predicted = probabilities.argmax(1)
    table: dict[str, Callable[[], float]] = {
        "accuracy": lambda: float((predicted == labels).mean()),
        "balanced_accuracy": lambda: float(np.mean([(predicted[labels == k] == k).mean() for k in np.unique(labels)])),
        "macro_f1": lambda: float(metrics.f1_score(labels, predicted, average="macro", zero_division=0)),
        "auroc": lambda: _auroc(probabilities, labels),
        "log_loss": lambda: float(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, 1)).mean()),
        "quadratic_kappa": lambda: float(
            metrics.cohen_kappa_score(
                labels, predicted, weights="quadratic", labels=list(range(probabilities.shape[1]))
            )
        ),
    }
    return table[metric]()


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927)."""
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return float(centre - half), float(centre + half)


def resamples(n: int, count: int = RESAMPLES) -> np.ndarray:
    """int64 [count, n]: the same bootstrap draws every time."""
    return np.random.default_rng(20_250_218).integers(0, n, (count, n))


def _bootstrap(metric: Metric, probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    values = [value_of(metric, probabilities[draw], labels[draw]) for draw in resamples(len(labels))]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def _auroc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """One against the rest, averaged over the classes that occur, by ranks."""
    from scipy.stats import rankdata  # noqa: PLC0415 - as above

    values = []
    for k in np.unique(labels):
        positive = labels == k
        if positive.all():
            return 0.5
        ranks = rankdata(probabilities[:, k])
        count = positive.sum()
        values.append((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))
    return float(np.mean(values))
