"""Resampling of metrics: thousands of values from one pass over an array, because calling scikit-learn a thousand times takes minutes."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from schema.settings import Metric

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Weights = NDArray[np.float32]
Statistic = Callable[[Weights], Floats]

_CELLS = 8_000_000  # entries of one block of weights: 32 MB
_SMALLEST = 1e-7  # of a probability: float32 outputs cannot say less, and one image cannot cost more than 16 nats


def resamples(n: int, count: int = 1000, seed: int = 0) -> Iterator[Weights]:
    """How often each of n images is drawn, in blocks float32 [at most count, n]; rows add up to n. The same for the same arguments."""
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // n)
    for first in range(0, count, block):
        rows = min(block, count - first)
        drawn = rng.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)


def statistic(metric: Metric, labels: Ints, probabilities: Floats) -> Statistic:
    """The function from weights [B, N] to the metric's value [B] on the images so weighted. Whole ones give the ordinary value."""
    return _STATISTICS[metric](labels, probabilities)


def decided(probabilities: Floats) -> Ints:
    """Class per image [N]; of equal probabilities the class that comes first."""
    classes: Ints = np.argmax(probabilities, axis=1).astype(np.int64)
    return classes


def losses(labels: Ints, probabilities: Floats) -> Floats:
    """Negative log of the true class's probability per image [N], after clipping and normalising the rows."""
    clipped = np.clip(probabilities, _SMALLEST, 1.0)
    right = clipped[np.arange(len(labels)), labels] / clipped.sum(axis=1)
    nats: Floats = -np.log(right)
    return nats


def placements(positive: NDArray[np.bool_], scores: Floats) -> tuple[float, Floats]:
    """Area under one class's ROC curve, and each image's influence on it [N] (DeLong et al. 1988; ties count half)."""
    ahead, behind = int(positive.sum()), int((~positive).sum())
    place = np.empty(len(scores))
    every = _midranks(scores)
    place[positive] = (every[positive] - _midranks(scores[positive])) / behind
    place[~positive] = 1.0 - (every[~positive] - _midranks(scores[~positive])) / ahead
    area = float(place[positive].mean())
    return area, (place - area) / np.where(positive, ahead, behind)


def _mean_of(values: Floats) -> Statistic:
    column = values.astype(np.float32)
    return lambda weights: _weighted_sums(weights, column) / len(column)


def _accuracy(labels: Ints, probabilities: Floats) -> Statistic:
    return _mean_of((decided(probabilities) == labels).astype(np.float64))


def _log_loss(labels: Ints, probabilities: Floats) -> Statistic:
    return _mean_of(losses(labels, probabilities))


def _balanced_accuracy(labels: Ints, probabilities: Floats) -> Statistic:
    hit = decided(probabilities) == labels

    def value(weights: Weights) -> Floats:
        return _mean_where(
            _per_class(weights[:, hit], labels[hit], probabilities), _per_class(weights, labels, probabilities)
        )

    return value


def _macro_f1(labels: Ints, probabilities: Floats) -> Statistic:
    chosen = decided(probabilities)
    hit = chosen == labels

    def value(weights: Weights) -> Floats:
        both = _per_class(weights, labels, probabilities) + _per_class(weights, chosen, probabilities)
        return _mean_where(2 * _per_class(weights[:, hit], labels[hit], probabilities), both)

    return value


def _quadratic_kappa(labels: Ints, probabilities: Floats) -> Statistic:
    # Counted from the middle, which changes nothing but keeps the float32 sums small.
    truth, chosen = labels - labels.mean(), decided(probabilities) - labels.mean()
    columns = [truth, chosen, truth**2 + chosen**2, (truth - chosen) ** 2]

    def value(weights: Weights) -> Floats:
        rows, answers, squares, apart = (_weighted_sums(weights, column.astype(np.float32)) for column in columns)
        by_chance = squares - 2 * rows * answers / len(truth)
        possible = by_chance > 1e-9
        return np.where(possible, 1.0 - apart / np.where(possible, by_chance, 1.0), 0.0)

    return value


def _auroc(labels: Ints, probabilities: Floats) -> Statistic:
    """Linear in the weights (the infinitesimal form of the bootstrap): ranking every resample anew would take seconds per class."""
    found = [
        placements(labels == k, probabilities[:, k])
        for k in range(probabilities.shape[1])
        if 0 < np.count_nonzero(labels == k) < len(labels)
    ]
    if not found:
        return lambda weights: np.full(len(weights), 0.5)
    area = float(np.mean([area for area, _ in found]))
    influence = np.mean([influence for _, influence in found], axis=0).astype(np.float32)
    return lambda weights: area + _weighted_sums(weights, influence)


_STATISTICS: dict[Metric, Callable[[Ints, Floats], Statistic]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "auroc": _auroc,
    "log_loss": _log_loss,
    "quadratic_kappa": _quadratic_kappa,
}


def _weighted_sums(weights: Weights, column: Weights) -> Floats:
    """[B, N] times [N] -> [B]. Not `@`: its threads spin against the training that may be running."""
    sums: Floats = np.einsum("bn,n->b", weights, column).astype(np.float64)
    return sums


def _per_class(weights: Weights, classes: Ints, probabilities: Floats) -> Floats:
    """Sum of the weights of each class's images: [B, N] -> [B, K]."""
    sums = np.zeros((len(weights), probabilities.shape[1]))
    if len(classes):
        order = np.argsort(classes, kind="stable")
        present, starts = np.unique(classes[order], return_index=True)
        sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def _mean_where(parts: Floats, wholes: Floats) -> Floats:
    """Mean over the classes that occur of part / whole: [B, K] -> [B]."""
    occurs = wholes > 0
    shares = np.where(occurs, parts / np.where(occurs, wholes, 1.0), 0.0)
    mean: Floats = shares.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return mean


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
