"""What changes usually bring, and how lucky the incumbent is: learned from the run's own ledger, so that a measured difference can be shrunk.

The model is written out in docs/acceptance.md. Every function takes arrays over runs, so that `benchmarks/acceptance` simulates with this very code.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schema.settings import Metric, higher_is_better
from schema.team import LedgerRow

Floats = NDArray[np.float64]

# Gains are counted as the share of the incumbent's error that a change removes: 1 point at 80 % is 0.05, as is 0.15 points at 97 %.
# The weakly informative belief before the first row: the mean gain is -0.01 ± 0.025, single changes scatter around it by 0.06, give or take a
# factor of two, as those of real runs do (benchmarks/acceptance/EFFECTS.md).
_MEAN_BELIEF, SPREAD_BELIEF = (-0.01, 0.025), (0.06, 0.7)
_MEANS = np.array([-0.12, -0.08, -0.05, -0.03, -0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02, 0.03, 0.05])
_SPREADS = np.array([0.005, 0.01, 0.02, 0.035, 0.06, 0.1, 0.17])
_MEAN, _SPREAD = (axis.ravel() for axis in np.meshgrid(_MEANS, _SPREADS, indexing="ij"))
# True gains have the tails of Student's t with so many degrees of freedom: a candidate that collapses is believed, and says little about
# the next one or about the incumbent's luck.
_TAIL = 4.0
# A disappointing candidate may mean poor changes or a lucky incumbent, and one comparison cannot tell which; so a rejection moves the
# estimate of the luck by half of what it would if the mean gain were known. The whole of it does as well in mean, and worse where nearly
# all changes harm (benchmarks/acceptance).
BLAME = 0.5
# Standard errors of the last comparison by which an earlier incumbent has to be believed better than the last one to be taken home instead.
# 0 to 0.5 all remove more of the error than never to look back: at 100 trainings and 200 images 7.2 % instead of 2.9 (benchmarks/acceptance).
MARGIN = 0.25
# Rows of the ledger that the belief is learned from: 300 take 10 to 25 ms on one core, so that the thousandth decision is as quick as the
# third hundredth. A run of the usual length (20 iterations) forgets nothing, and in a very long one early gains say little about late ones.
RECENT = 300


@dataclass(frozen=True, slots=True)
class Prior:
    """What to expect of the next change. `mean` and `sd` are shares of the incumbent's error; `luck` is in units of the score."""

    mean: float
    sd: float
    luck: float = 0.0  # by how much the incumbent's shown score is thought too good
    luck_sd: float | None = None  # None: the incumbent was never compared, so its luck is as wide as the candidate's


@dataclass(frozen=True, slots=True)
class Beliefs:
    """The state of learning of R runs: weights over the grid of (mean, spread) [R, G], and the incumbent's luck [R] (variance NaN: unknown)."""

    log_weights: Floats
    luck: Floats
    luck_variance: Floats


class Posterior(NamedTuple):
    """Of one comparison, each [R], in units of the score: the true gain, and the luck in both shown scores."""

    gain: Floats
    gain_sd: Floats
    candidate_luck: Floats
    candidate_variance: Floats
    incumbent_luck: Floats
    incumbent_variance: Floats


@dataclass(frozen=True, slots=True)
class Standing:
    """A pipeline that is or was the incumbent: its shown score, and by how much that is thought too good (in units of the score)."""

    iteration: int
    shown: float
    luck: float
    standard_error: float  # of the last comparison with it; 0 if there was none

    def believed(self, metric: Metric) -> float:
        """Return the score that it is thought to have in truth."""
        return self.shown - self.luck if higher_is_better(metric) else self.shown + self.luck


def prior_from(ledger: list[LedgerRow], metric: Metric) -> Prior:
    """The belief after the rows of a run, in their order; with an empty ledger the default. Rows without a comparison count for nothing.

    Of a very long run the last `RECENT` rows count, and the one that made the incumbent.
    """
    beliefs, _ = _learned(ledger, metric)
    mean, sd = expectation(beliefs)
    luck_sd = None if np.isnan(beliefs.luck_variance[0]) else float(np.sqrt(beliefs.luck_variance[0]))
    return Prior(float(mean[0]), float(sd[0]), float(beliefs.luck[0]), luck_sd)


def standings(ledger: list[LedgerRow], metric: Metric) -> list[Standing]:
    """The first pipeline and all that were accepted after it, in their order, each with what was last thought of its luck."""
    return list(_learned(ledger, metric)[1].values())


def chosen(ledger: list[LedgerRow], metric: Metric) -> Standing:
    """Choose who is taken home, of all that were the incumbent: the last one, unless an earlier one is believed better by more than MARGIN.

    A run of many changes can walk downhill, since each of them is compared with the last incumbent alone. Raises ValueError
    where nothing was ever scored.
    """
    found = standings(ledger, metric)
    if not found:
        raise ValueError("no pipeline of this ledger has a score")
    last, sign = found[-1], 1.0 if higher_is_better(metric) else -1.0
    best = max(found, key=lambda one: (sign * one.believed(metric), one.iteration))
    ahead = sign * (best.believed(metric) - last.believed(metric))
    return best if ahead > MARGIN * last.standard_error else last


def _learned(ledger: list[LedgerRow], metric: Metric) -> tuple[Beliefs, dict[int, Standing]]:
    beliefs, incumbent = start(1), None
    scores = {row.iteration: row.validation for row in ledger}
    ordered = sorted(ledger, key=lambda row: row.iteration)
    found = {
        row.iteration: Standing(row.iteration, row.validation, 0.0, 0.0)
        for row in ordered
        if row.verdict in {"first", "accepted"} and row.validation is not None
    }
    made = [row for row in ordered[:-RECENT] if row.verdict == "accepted"][-1:]
    for row in [*made, *ordered[-RECENT:]]:
        base = None if row.base is None else scores.get(row.base)
        if row.base is None or base is None or row.delta is None or not row.standard_error:
            continue
        if row.base != incumbent:
            beliefs = Beliefs(beliefs.log_weights, np.zeros(1), np.full(1, np.nan))
        kept = row.verdict == "accepted"
        delta, error = np.array([row.delta]), np.array([row.standard_error])
        left = headroom(metric, np.array([base]), error)
        after = _after(beliefs, delta, error, left)
        beliefs = learn(beliefs, delta, error, left, np.array([kept]))
        for iteration, luck in (
            (row.base, after.incumbent_luck),
            *([(row.iteration, after.candidate_luck)] if kept else []),
        ):
            if iteration in found:
                found[iteration] = replace(found[iteration], luck=float(luck[0]), standard_error=row.standard_error)
        incumbent = row.iteration if kept else row.base
    return beliefs, found


def _after(beliefs: Beliefs, delta: Floats, error: Floats, left: Floats, blame: float = BLAME) -> Posterior:
    """What one comparison per run says, given the beliefs before it."""
    mean, sd = expectation(beliefs)
    luck = (beliefs.luck, beliefs.luck_variance)
    return posterior(mean * left, sd * left, *luck, delta=delta, standard_error=error, blame=blame)


def headroom(metric: Metric, score: Floats, standard_error: Floats) -> Floats:
    """How much better the score could be: 1 - score, or the loss itself; at least a standard error, so that a perfect score divides nothing by 0."""
    left: Floats = np.maximum(1.0 - score if higher_is_better(metric) else score, standard_error)
    return left


def start(runs: int, spread: tuple[float, float] = SPREAD_BELIEF) -> Beliefs:
    """Before the first comparison; `spread`: by what single changes are thought to scatter, and the standard deviation of its logarithm."""
    mean, wide = (_MEAN - _MEAN_BELIEF[0]) / _MEAN_BELIEF[1], np.log(_SPREAD / spread[0]) / spread[1]
    log_weights = np.tile(-0.5 * (mean**2 + wide**2), (runs, 1))
    return Beliefs(log_weights, np.zeros(runs), np.full(runs, np.nan))


def expectation(beliefs: Beliefs) -> tuple[Floats, Floats]:
    """Mean and standard deviation [R] of the next change's gain, as shares of the error."""
    weights = np.exp(beliefs.log_weights - beliefs.log_weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = weights @ _MEAN
    return mean, np.sqrt(weights @ (_SPREAD**2 + _MEAN**2) - mean**2)


def posterior(
    mean: Floats,
    sd: Floats,
    luck: Floats,
    luck_variance: Floats,
    *,
    delta: Floats,
    standard_error: Floats,
    blame: float = BLAME,
) -> Posterior:
    """Measured difference = true gain + the candidate's luck - the incumbent's luck; everything in units of the score, [R].

    Each of two fresh pipelines carries half of the difference's sampling variance. `blame`: see BLAME.
    """
    fresh = standard_error**2 / 2
    held = np.where(np.isnan(luck_variance), fresh, luck_variance)
    surprise = delta - (mean - luck)
    tail = np.where(surprise < 0, _trust(surprise**2 / (sd**2 + fresh + held)), 1.0)
    variance = sd**2 / tail
    total = variance + fresh + held
    return Posterior(
        gain=mean + variance / total * surprise,
        gain_sd=np.sqrt(variance - variance**2 / total),
        candidate_luck=fresh / total * surprise,
        candidate_variance=fresh - fresh**2 / total,
        incumbent_luck=luck - blame * tail * held / total * surprise,
        incumbent_variance=held - blame * tail * held**2 / total,
    )


def learn(
    beliefs: Beliefs,
    delta: Floats,
    standard_error: Floats,
    left: Floats,
    kept: NDArray[np.bool_],
    *,
    blame: float = BLAME,
) -> Beliefs:
    """The beliefs after one comparison per run; `left` is the headroom, all arrays are [R]."""
    after = _after(beliefs, delta, standard_error, left, blame)
    fair = ((delta + beliefs.luck) / left)[:, None]
    scale = _SPREAD**2 + (standard_error / left)[:, None] ** 2
    likelihood = -0.5 * np.log(scale) - (_TAIL + 1) / 2 * np.log1p((fair - _MEAN) ** 2 / scale / _TAIL)
    return Beliefs(
        log_weights=beliefs.log_weights + likelihood,
        luck=np.where(kept, after.candidate_luck, after.incumbent_luck),
        luck_variance=np.where(kept, after.candidate_variance, after.incumbent_variance),
    )


def _trust(squared: Floats) -> Floats:
    """By how much Student's t is wider than the normal at a squared standardised residual: 1 in the middle, less in the tails."""
    weight: Floats = (_TAIL + 1) / (_TAIL + np.maximum(squared, 1.0))
    return weight
