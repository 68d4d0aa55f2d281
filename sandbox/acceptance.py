"""Keep a change or not: both pipelines answered the same images, and most changes do little (docs/acceptance.md).

Keeping a change and claiming a gain are two questions: the rule answers the first, the shrunken estimate with its interval the second.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sandbox.bootstrap import Floats, Ints, Statistic, Weights, decided, resamples, statistic
from sandbox.gains import Prior, Standing, chosen, headroom, posterior, prior_from, standings
from sandbox.scoring import NORMAL_95
from schema.score import Comparison, Decision
from schema.settings import Metric, Rule, higher_is_better

__all__ = ["Prior", "Standing", "chosen", "compare", "decide", "prior_from", "smallest_kept", "standings"]

# Two trainings of one recipe differ by more than the images explain: their true scores scatter by about 2 % of the error
# (0.5 points at 75 %, 0.1 at 95 %). It counts like the evidence of four pairs of seeds against what the pairs at hand show.
SEED_SHARE, SEED_PAIRS = 0.02, 4.0
# From benchmarks/acceptance. `paired` keeps a change at the conventional level, and buys one more seed where that can still change
# the verdict. `expected` buys one where the expected gain is near 0 and the comparison is noisy beside what is still unknown of the
# gain: few images to tell by. With many images the next candidate is worth more than a second look at this one.
PAIRED_LEVEL, PAIRED_ASK = 0.05, 0.4
ASK_SHARE, ASK_FROM = 0.1, 1.5
# `expected` keeps a change that scored lower only by less than this share of a standard error, however lucky the incumbent is thought.
LOWEST_KEPT = 0.5

OF_ANSWERS = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "quadratic_kappa",
)  # metrics of what is answered, not of how surely
_EXACT_UP_TO = 1000  # discordant images; beyond, the exact test and the normal one agree to three digits


def compare(
    metric: Metric,
    labels: NDArray[np.integer],
    incumbent: Sequence[NDArray[np.floating]],
    candidate: Sequence[NDArray[np.floating]],
    prior: Prior,
    *,
    folds: int = 1,
) -> Comparison:
    """Candidate minus incumbent on the same N images: lists of probabilities [N, K], one array per seed; positive is better.

    The standard error is that of a difference of recipes: which images are in the split, and which seeds were drawn.
    The lists may differ in length. With `folds` each array is of so many trainings, each of which answered its part of the images. Raises ValueError where one is empty.
    """
    if not incumbent or not candidate:
        raise ValueError("a comparison needs at least one training of each pipeline")
    sides = _Sides(
        metric, folds, labels.astype(np.int64), *([p.astype(np.float64) for p in s] for s in (incumbent, candidate))
    )
    delta, level, image_variance = _measured(sides)
    if _same_answers(sides):
        return _comparison(sides, level, _Found(0.0, 0.0, 1.0, 0.0, 0.0))
    left = float(headroom(metric, np.array([level]), np.array([1 / len(labels)]))[0])
    trainings = 1 / len(incumbent) + 1 / len(candidate)
    error = math.sqrt(image_variance + _seed_variance(sides, left) / folds * trainings)
    gain = _shrunken(prior, delta, error, float(headroom(metric, np.array([level]), np.array([error]))[0]))
    p_value = math.erfc(abs(delta) / error / math.sqrt(2))
    if metric == "accuracy":
        p_value = max(p_value, _mcnemar(sides))
    return _comparison(sides, level, _Found(delta, error, p_value, *gain))


def decide(rule: Rule, comparison: Comparison, *, can_repeat: bool) -> Decision:
    """The verdict of a rule. `undecided` (only when `can_repeat`) asks for one more seed of both pipelines."""
    verdict = {"better": _better, "paired": _paired, "expected": _expected}[rule](comparison, can_repeat)
    return Decision(verdict=verdict.word, rule=rule, reason=f"{verdict.why}: {_numbers(comparison)}")


class _Sides(NamedTuple):
    metric: Metric
    folds: int
    labels: Ints
    incumbent: list[Floats]
    candidate: list[Floats]


class _Found(NamedTuple):
    delta: float
    error: float  # standard error of it
    p_value: float
    gain: float  # expected
    gain_sd: float


class _Verdict(NamedTuple):
    word: Literal["accepted", "rejected", "undecided", "inconclusive"]
    why: str


def _better(c: Comparison, _can_repeat: bool) -> _Verdict:
    return _Verdict("accepted", "higher") if c.delta > 0 else _Verdict("rejected", "not higher")


def _paired(c: Comparison, can_repeat: bool) -> _Verdict:
    if c.delta <= 0:
        return _Verdict("rejected", "not higher")
    if c.p_value < PAIRED_LEVEL:
        return _Verdict("accepted", "higher, and more than chance explains")
    if can_repeat and c.p_value < PAIRED_ASK:
        return _Verdict("undecided", "higher, but chance could explain it; one more seed of both")
    return _Verdict("inconclusive", "higher, but chance could explain it")


def _expected(c: Comparison, can_repeat: bool) -> _Verdict:
    sd = (c.high - c.low) / (2 * NORMAL_95)
    if can_repeat and abs(c.expected) < ASK_SHARE * (c.standard_error - ASK_FROM * sd):
        return _Verdict("undecided", "too close to call; one more seed of both")
    if c.expected <= 0:
        return _Verdict("rejected", "no true gain is expected")
    if c.delta < -LOWEST_KEPT * c.standard_error:
        return _Verdict("rejected", "scored clearly lower, though the incumbent's score is thought lucky")
    if c.delta <= 0:
        return _Verdict("accepted", "a true gain is expected, since the incumbent's score is thought lucky")
    return _Verdict("accepted", "a true gain is expected")


def _numbers(c: Comparison) -> str:
    """`measured +1.20 ± 0.90 points, expected +0.31 [-0.42, +1.04], p=0.18, n=706`; log loss in nats. Of the same answers, that alone."""
    if not c.standard_error:
        return f"it gives the same answer as the incumbent to each of the {c.n:,} images"
    unit, scale = (" nats", 1.0) if c.metric == "log_loss" else (" points", 100.0)
    digits = 4 if c.metric == "log_loss" else 2
    delta, error, expected, low, high = (
        f"{scale * value:+.{digits}f}" for value in (c.delta, c.standard_error, c.expected, c.low, c.high)
    )
    both = f"{c.seeds} and {c.incumbent_seeds}" if c.seeds != c.incumbent_seeds else f"{c.seeds}"
    seeds = f", {both} seeds" if max(c.seeds, c.incumbent_seeds) > 1 else ""
    seeds += f", {c.folds} folds" if c.folds > 1 else ""
    return (
        f"measured {delta} ± {error[1:]}{unit}, expected {expected} [{low}, {high}], p={c.p_value:.2g}, n={c.n}{seeds}"
    )


def _comparison(sides: _Sides, level: float, found: _Found) -> Comparison:
    sign = 1.0 if higher_is_better(sides.metric) else -1.0
    gained, lost = _gained_and_lost(sides) if sides.metric in OF_ANSWERS else (None, None)
    return Comparison(
        metric=sides.metric,
        n=len(sides.labels),
        seeds=len(sides.candidate),
        incumbent_seeds=len(sides.incumbent),
        folds=sides.folds,
        incumbent=level,
        candidate=level + sign * found.delta,
        gained=gained,
        lost=lost,
        delta=found.delta,
        standard_error=found.error,
        p_value=found.p_value,
        expected=found.gain,
        low=found.gain - NORMAL_95 * found.gain_sd,
        high=found.gain + NORMAL_95 * found.gain_sd,
    )


def _same_answers(sides: _Sides) -> bool:
    """Whether no image tells the pipelines apart: then nothing was gained, whatever the prior hopes for."""
    every = [*sides.incumbent, *sides.candidate]
    if sides.metric not in OF_ANSWERS:
        return all(np.array_equal(every[0], other) for other in every[1:])
    return all(np.array_equal(decided(every[0]), decided(other)) for other in every[1:])


def _shrunken(prior: Prior, delta: float, error: float, left: float) -> tuple[float, float]:
    """Mean and standard deviation of the true gain, given what was measured and what changes usually bring."""
    held = math.nan if prior.luck_sd is None else prior.luck_sd**2
    mean, sd, luck, variance, difference, deviation = (
        np.array([value]) for value in (prior.mean * left, prior.sd * left, prior.luck, held, delta, error)
    )
    after = posterior(mean, sd, luck, variance, delta=difference, standard_error=deviation)
    return float(after.gain[0]), float(after.gain_sd[0])


def _measured(sides: _Sides) -> tuple[float, float, float]:
    """Difference, the incumbent's score, and the variance of the difference over draws of the images."""
    if sides.metric == "accuracy":
        ours, theirs = (_share_right(side, sides.labels) for side in (sides.candidate, sides.incumbent))
        return float((ours - theirs).mean()), float(theirs.mean()), _image_variance(ours - theirs)
    ours_, theirs_ = (_averaged(sides, side) for side in (sides.candidate, sides.incumbent))
    sign = 1.0 if higher_is_better(sides.metric) else -1.0
    whole = np.ones((1, len(sides.labels)), dtype=np.float32)
    level = float(theirs_(whole)[0])
    drawn = np.concatenate([ours_(weights) - theirs_(weights) for weights in resamples(len(sides.labels))])
    return sign * (float(ours_(whole)[0]) - level), level, float(drawn.var())


def _averaged(sides: _Sides, side: list[Floats]) -> Statistic:
    """The metric, averaged over the seeds of one side, as a function of the images' weights."""
    each = [statistic(sides.metric, sides.labels, probabilities) for probabilities in side]

    def value(weights: Weights) -> Floats:
        mean: Floats = np.mean([evaluate(weights) for evaluate in each], axis=0)
        return mean

    return value


def _share_right(side: list[Floats], labels: Ints) -> Floats:
    """Per image, the share of the seeds that answer it correctly [N]."""
    share: Floats = np.mean([decided(probabilities) == labels for probabilities in side], axis=0)
    return share


def _image_variance(differences: Floats) -> float:
    """Variance of the mean of per-image differences [N], with one more discordant image than was seen: none seen does not mean none."""
    n = len(differences)
    return float((np.sum(differences**2) + 1) / n**2 - differences.mean() ** 2 / n)


def _seed_variance(sides: _Sides, left: float) -> float:
    """Variance of one training's true score around its recipe's: what pairs of seeds show beyond their images, pooled with the default."""
    default = (SEED_SHARE * left) ** 2
    seen = [
        ((delta**2 - images) / 2)
        for side in (sides.incumbent, sides.candidate)
        for first, second in pairwise(side)
        for delta, _, images in [_measured(sides._replace(incumbent=[first], candidate=[second]))]
    ]
    return max((SEED_PAIRS * default + sum(seen)) / (SEED_PAIRS + len(seen)), default / 4)


def _mcnemar(sides: _Sides) -> float:
    """Exact two-sided McNemar test: of the images that only one pipeline has right (averaged over seeds), does each have half?"""
    gained, lost = _gained_and_lost(sides)
    return _exact_p(gained, lost)


def _exact_p(gained: int, lost: int) -> float:
    discordant = gained + lost
    if not 0 < discordant <= _EXACT_UP_TO:
        return 1.0 if discordant == 0 else 0.0
    tail: int = sum(math.comb(discordant, k) for k in range(min(gained, lost) + 1))
    return min(1.0, float(2 * tail / 2**discordant))


def _gained_and_lost(sides: _Sides) -> tuple[int, int]:
    """How many images only the candidate has right, and how many only the incumbent, averaged over seeds."""
    ours, theirs = (_share_right(side, sides.labels) for side in (sides.candidate, sides.incumbent))
    return round(float(np.sum(ours * (1 - theirs)))), round(float(np.sum(theirs * (1 - ours))))


def smallest_kept(rule: Rule, n: int, mistakes: int, lost: int, prior: Prior) -> int | None:
    """Return how many images net of `n` a change has to gain to be kept, by accuracy and with one training each; None if none would be.

    `mistakes` are the incumbent's, `lost` the images that a change usually loses while it gains others.
    """

    def kept(net: int) -> bool:
        losses = min(lost, mistakes - net)
        delta, level = net / n, 1 - mistakes / n
        images = (net + 2 * losses + 1) / n**2 - delta**2 / n
        left = max(1 - level, 1 / n)
        error = math.sqrt(images + 2 * (SEED_SHARE * left) ** 2)
        gain, sd = _shrunken(prior, delta, error, max(1 - level, error))
        p_value = max(math.erfc(delta / error / math.sqrt(2)), _exact_p(net + losses, losses))
        found = Comparison(
            metric="accuracy", n=n, seeds=1, delta=delta, standard_error=error, p_value=p_value, expected=gain,
            low=gain - NORMAL_95 * sd, high=gain + NORMAL_95 * sd,
        )  # fmt: skip
        return decide(rule, found, can_repeat=False).verdict == "accepted"

    return next((net for net in range(1, mistakes + 1) if kept(net)), None)
