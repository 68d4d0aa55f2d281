"""The truth that the rules cannot see: how hard each image is, what each change really does, how each seed turned out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TRAININGS, LONG = 20, 100  # after the first pipeline's: a run of the usual length, and a long one
SEEDS = 2
SIZES = (40, 100, 200, 500, 1000, 2000, 5000, 10_000)
LONG_SIZES = (40, 200, 1000)
BASES = (0.7, 0.9, 0.97)
# Sd of a training's true score around its recipe's, as a share of the error: a well-converged recipe, and a short budget.
SEED_SHARES = (0.005, 0.025)

# An image is answered correctly where a normal "difficulty" lies below the pipeline's threshold. Two seeds of a recipe share
# 0.90 of its variance and two recipes 0.86: 10 % and 12 % of the images are discordant at an accuracy of 0.8 (measured: 8 to 14 %).
RECIPES_SHARE, SEEDS_SHARE = 0.86, 0.90


# Scale and centre of the effects of real changes (EFFECTS.md), as shares of the error. The other mixes are assumed: stress tests.
MEASURED = (0.091, -0.01)


@dataclass(frozen=True, slots=True)
class Mix:
    """What candidates are made of. Sizes are mean shares of the incumbent's error, exponentially distributed."""

    name: str
    harmful: Floats  # probability per candidate [LONG]
    null: Floats
    harm: float
    help: float
    scale: float = 0.0  # of all effects, as measured: Student's t with TAIL degrees of freedom around `centre`; 0: by the shares above
    centre: float = 0.0
    chasing: float = 0.0  # of the candidates, those that were made to mend mistakes on the very images that decide


def _mix(name: str, harmful: float, null: float, harm: float, help_: float, *, chasing: float = 0.0) -> Mix:
    return Mix(name, np.full(LONG, harmful), np.full(LONG, null), harm, help_, chasing=chasing)


def _measured(scale: float, centre: float) -> Mix:
    return Mix("measured", np.zeros(LONG), np.zeros(LONG), 0.0, 0.0, scale, centre)


_LATER = np.arange(LONG) >= 6
MIXES = (
    _measured(*MEASURED),
    _mix("pessimistic", 0.50, 0.35, 0.10, 0.05),
    _mix("paper", 0.30, 0.25, 0.08, 0.05),  # more than half useless
    _mix("optimistic", 0.15, 0.15, 0.06, 0.05),
    _mix("subtle", 0.35, 0.30, 0.02, 0.02),
    # the good ideas come first: six good draws, then hardly any
    Mix("exhausted", np.where(_LATER, 0.60, 0.15), np.where(_LATER, 0.35, 0.20), 0.08, 0.07),
    _mix("hostile", 0.80, 0.15, 0.10, 0.05),
    _mix("nothing", 0.0, 1.0, 0.0, 0.0),  # no change does anything
    _mix("adaptive", 0.30, 0.25, 0.08, 0.05, chasing=0.3),
)
CHASED = (
    0.05  # of the incumbent's mistakes on the validation images, what a chasing candidate mends there, and nowhere else
)
COLLAPSES, COLLAPSE = 0.15, 8.0  # of the harmful changes, this share is so many times worse
TAIL, MOST_REMOVED = 4.0, 0.8
FADING = 0.95  # each further candidate of a run helps by so much less


@dataclass(frozen=True, slots=True)
class Draw:
    """R runs of one mix: share of the error that each candidate removes [T, R], which of them chase mistakes [T, R]; seed effects, standard normal
    [SEEDS, 1 + T, R]."""

    removed: Floats
    chasing: Bools
    seeds: Floats


def images(rng: np.random.Generator, runs: int, n: int, trainings: int = TRAININGS) -> NDArray[np.float32]:
    """Difficulties [SEEDS, 1 + T, R, N], each standard normal; index 0 is the first pipeline."""
    shape = (1 + trainings, runs, n)
    image = rng.standard_normal((1, runs, n), dtype=np.float32) * np.float32(RECIPES_SHARE**0.5)
    recipe = image + rng.standard_normal(shape, dtype=np.float32) * np.float32((SEEDS_SHARE - RECIPES_SHARE) ** 0.5)
    own = np.float32((1 - SEEDS_SHARE) ** 0.5)
    return np.stack([recipe + rng.standard_normal(shape, dtype=np.float32) * own for _ in range(SEEDS)])


def draw(rng: np.random.Generator, mix: Mix, runs: int, trainings: int = TRAININGS) -> Draw:
    kind = rng.random((trainings, runs))
    helps = rng.exponential(mix.help, kind.shape) * FADING ** np.arange(trainings)[:, None]
    collapse = np.where(rng.random(kind.shape) < COLLAPSES, COLLAPSE, 1.0)
    harms = -rng.exponential(mix.harm, kind.shape) * collapse
    harmful, useless = mix.harmful[:trainings, None], (mix.harmful + mix.null)[:trainings, None]
    removed = np.where(kind < harmful, harms, np.where(kind < useless, 0.0, helps))
    if mix.scale:
        drawn = mix.centre + mix.scale * rng.standard_t(TAIL, kind.shape)
        removed = np.minimum(np.where(drawn > 0, drawn * FADING ** np.arange(trainings)[:, None], drawn), MOST_REMOVED)
    return Draw(removed, rng.random(kind.shape) < mix.chasing, rng.standard_normal((SEEDS, 1 + trainings, runs)))


def threshold(error: Floats, seed_effect: Floats, seed_share: float) -> Floats:
    """Where difficulty ends for a training whose recipe errs on a share `error` of all images, moved by its seed's luck."""
    middle: Floats = ndtri(1 - error)
    density = np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi)
    limit: Floats = middle + seed_effect * seed_share * error / density
    return limit
