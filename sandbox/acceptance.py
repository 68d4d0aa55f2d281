"""Keep a change or not: both pipelines answered the same images, and most changes do little (docs/acceptance.md).

Keeping a change and claiming a gain are two questions: the rule answers the first, the shrunken estimate with its interval the second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sandbox.scoring import Z95, higher_is_better, resamples, value_of
from schema.score import Comparison, Decision
from schema.settings import Metric, Rule
from schema.team import LedgerRow

# Two trainings of one recipe with different seeds disagree: their accuracies differ by this standard deviation at least (0.5 to 1 point was seen).
SEED_SD = 0.004
# True gains of changes: mostly small, some harmful. `sd` learns from the run's own ledger.
PRIOR_MEAN, PRIOR_SD, PRIOR_ROWS = 0.0, 0.01, 4
# benchmarks/acceptance: `paired` keeps at one-sided p < 0.2, and asks for a seed while |z| is below that.
PAIRED_Z = 0.84
# `expected` asks for one more seed when the sign of the expected gain is less sure than this many posterior standard deviations.
SURE = 0.5


@dataclass(frozen=True, slots=True)
class Prior:
    """Normal prior of a change's true gain, in units of the metric."""

    mean: float = PRIOR_MEAN
    sd: float = PRIOR_SD


def prior_from(ledger: Sequence[LedgerRow]) -> Prior:
    """Empirical Bayes by moments: the spread of past differences beyond their standard errors, together with PRIOR_ROWS default rows."""
    rows = [row for row in ledger if row.delta is not None and row.standard_error is not None]
    excess = sum(max(0.0, (row.delta or 0.0) ** 2 - (row.standard_error or 0.0) ** 2) for row in rows)
    variance = (PRIOR_ROWS * PRIOR_SD**2 + excess) / (PRIOR_ROWS + len(rows))
    return Prior(PRIOR_MEAN, math.sqrt(variance))


def compare(
    metric: Metric, labels: np.ndarray, incumbent: list[np.ndarray], candidate: list[np.ndarray], prior: Prior
) -> Comparison:
    """Candidate minus incumbent, positive is better; lists hold probabilities float64 [N, K], one per seed, paired in order.

    The standard error has two parts: which images are in the split, and which seeds were drawn.
    """
    if metric == "accuracy":
        differences = np.mean(
            [_right(c, labels) - _right(i, labels) for i, c in zip(incumbent, candidate, strict=True)], axis=0
        )
        delta, image_error = float(differences.mean()), float(differences.std() / math.sqrt(len(labels)))
        p_value = _mcnemar(differences) if len(candidate) == 1 else _normal_p(delta, image_error)
    else:
        delta, image_error, p_value = _bootstrapped(metric, labels, incumbent, candidate)
    error = math.sqrt(image_error**2 + 2 * SEED_SD**2 / len(candidate)) if delta or image_error else 0.0
    precision = 1 / error**2 if error else 0.0
    variance = 1 / (1 / prior.sd**2 + precision)
    expected = variance * (prior.mean / prior.sd**2 + delta * precision)
    half = Z95 * math.sqrt(variance)
    return Comparison(
        metric=metric,
        n=len(labels),
        seeds=len(candidate),
        delta=delta,
        standard_error=error,
        p_value=p_value,
        expected=expected,
        low=expected - half,
        high=expected + half,
    )


def decide(rule: Rule, comparison: Comparison, *, can_repeat: bool) -> Decision:
    """`undecided` (only when `can_repeat`) asks for one more seed of both pipelines."""
    c = comparison
    numbers = f"difference {c.delta:+.4f} ± {c.standard_error:.4f}, expected true gain {c.expected:+.4f} [{c.low:+.4f}, {c.high:+.4f}], n={c.n}"
    if rule == "better" or c.standard_error == 0:
        verdict = "accepted" if c.delta > 0 else "rejected"
        return Decision(verdict=verdict, rule=rule, reason=f"{'higher' if c.delta > 0 else 'not higher'}: {numbers}")  # type: ignore[arg-type]
    if rule == "paired":
        return _paired(c, numbers, can_repeat=can_repeat)
    sd = (c.high - c.low) / (2 * Z95)
    if can_repeat and abs(c.expected) < SURE * sd and c.delta != 0:
        return Decision(verdict="undecided", rule=rule, reason=f"too close to call: {numbers}")
    if c.expected > 0:
        return Decision(verdict="accepted", rule=rule, reason=f"an expected gain: {numbers}")
    return Decision(verdict="rejected", rule=rule, reason=f"no expected gain: {numbers}")


def _paired(c: Comparison, numbers: str, *, can_repeat: bool) -> Decision:
    z = c.delta / c.standard_error
    if z >= PAIRED_Z:
        return Decision(verdict="accepted", rule="paired", reason=f"supported by the paired test: {numbers}")
    if z <= -PAIRED_Z:
        return Decision(verdict="rejected", rule="paired", reason=f"worse: {numbers}")
    if can_repeat:
        return Decision(verdict="undecided", rule="paired", reason=f"too close to call: {numbers}")
    if z <= 0:
        return Decision(verdict="rejected", rule="paired", reason=f"not better: {numbers}")
    return Decision(verdict="inconclusive", rule="paired", reason=f"higher, but not supported: {numbers}")


def _right(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (probabilities.argmax(1) == labels).astype(np.float64)


def _mcnemar(differences: np.ndarray) -> float:
    """Exact two-sided McNemar test: of the images that one alone has right, are half the candidate's?"""
    from scipy.stats import binomtest  # noqa: PLC0415 - a second that the command line's start does not need

    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def _normal_p(delta: float, error: float) -> float:
    return math.erfc(abs(delta) / error / math.sqrt(2)) if error else 1.0


def _bootstrapped(
    metric: Metric, labels: np.ndarray, incumbent: list[np.ndarray], candidate: list[np.ndarray]
) -> tuple[float, float, float]:
    sign = 1.0 if higher_is_better(metric) else -1.0

    def difference(draw: np.ndarray) -> float:
        pairs = zip(incumbent, candidate, strict=True)
        return sign * float(
            np.mean(
                [value_of(metric, c[draw], labels[draw]) - value_of(metric, i[draw], labels[draw]) for i, c in pairs]
            )
        )

    delta = difference(np.arange(len(labels)))
    spread = np.array([difference(draw) for draw in resamples(len(labels), 200)])
    error = float(spread.std())
    return delta, error, _normal_p(delta, error)
