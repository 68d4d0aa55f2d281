"""R runs of one rule in one world, step by step: the decisions are those of `sandbox.gains` and `sandbox.acceptance`, on arrays."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr

from benchmarks.acceptance.world import CHASED, Bools, Draw, Floats, threshold
from sandbox import gains
from sandbox.acceptance import ASK_FROM, ASK_SHARE, LOWEST_KEPT, PAIRED_ASK, PAIRED_LEVEL, SEED_SHARE
from sandbox.gains import MARGIN

EARLY = 6  # trainings after which the true score is noted as well


@dataclass(frozen=True, slots=True)
class Rule:
    """A combination to try. `ask`: when one more seed of both is bought; p below it (paired), or ASK_SHARE (expected); 0: never."""

    name: str
    family: Literal["oracle", "better", "paired", "expected"]
    level: float = PAIRED_LEVEL
    ask: float = 0.0
    learned: bool = True
    luck: bool = True
    blame: float = gains.BLAME
    lowest: float = LOWEST_KEPT
    # Standard errors by which an earlier incumbent has to be believed better to be taken home; None: never.
    back: float | None = None
    spread: tuple[float, float] = gains.SPREAD_BELIEF  # of the prior
    # Cross-validation: each pipeline is trained so many times, and answers so many times the images.
    folds: int = 1


RULES = (
    Rule("oracle, which knows the truth", "oracle"),
    Rule("better", "better"),
    Rule("paired at 0.20, no seeds", "paired", 0.2),
    Rule("paired at 0.05, no seeds", "paired"),
    Rule("paired at 0.05, a seed if p < 0.20", "paired", ask=0.2),
    Rule("paired", "paired", ask=PAIRED_ASK),
    Rule("paired at 0.20, a seed if p < 0.60", "paired", 0.2, ask=0.6),
    Rule("expected, fixed prior, no luck, no seeds", "expected", learned=False, luck=False, back=MARGIN),
    Rule("expected, no luck", "expected", luck=False, ask=ASK_SHARE, back=MARGIN),
    Rule("expected, no seeds", "expected", back=MARGIN),
    Rule("expected, twice the seeds' range", "expected", ask=2 * ASK_SHARE, back=MARGIN),
    Rule("expected, fixed prior", "expected", learned=False, ask=ASK_SHARE, back=MARGIN),
    Rule("expected, all blame on luck", "expected", blame=1.0, ask=ASK_SHARE, back=MARGIN),
    Rule("expected, never a lower score", "expected", lowest=0.0, ask=ASK_SHARE, back=MARGIN),
    Rule("expected, any lower score", "expected", lowest=9.0, ask=ASK_SHARE, back=MARGIN),
    Rule("expected, the last incumbent", "expected", ask=ASK_SHARE),
    Rule("expected, back at once", "expected", ask=ASK_SHARE, back=0.0),
    Rule("expected, back at half an error", "expected", ask=ASK_SHARE, back=0.5),
    Rule("expected, prior half as wide", "expected", ask=ASK_SHARE, back=MARGIN, spread=(0.03, 0.7)),
    Rule("expected, prior 1.7 times as wide", "expected", ask=ASK_SHARE, back=MARGIN, spread=(0.1, 0.7)),
    Rule("expected, 3 folds", "expected", back=MARGIN, folds=3),
    Rule("expected, 5 folds", "expected", back=MARGIN, folds=5),
    Rule("expected", "expected", ask=ASK_SHARE, back=MARGIN),
)
SHIPPED = ("better", "paired", "expected")  # as --accept offers them


class Setting(NamedTuple):
    """One cell of the grid."""

    mix: str
    base: float
    seed_share: float
    n: int


@dataclass(slots=True)
class Former:
    """Of each run, the earlier incumbent that was believed best when it was replaced. Arrays over runs."""

    believed: Floats
    shown: Floats
    error: Floats
    holder: NDArray[np.int64]


@dataclass(slots=True)
class Race:
    """Where the runs stand; every array is over runs. `right`: the incumbent's correct answers [R, N] by seed."""

    rule: Rule
    setting: Setting
    folds: int
    images: int  # that a pipeline answers: of all folds
    fold_seeds: Floats  # of the second fold on, standard normal [folds - 1, SEEDS, 1 + T, R]
    difficulty: NDArray[np.float32]
    world: Draw
    error: Floats
    holder: NDArray[np.int64]
    right: list[Bools]
    repeated: Bools
    left: Floats
    beliefs: gains.Beliefs
    counts: dict[str, Floats]
    early: Floats
    former: Former
    last_error: Floats  # standard error of the last comparison


class Measured(NamedTuple):
    delta: Floats
    error: Floats
    headroom: Floats
    p_value: Floats
    gain: Floats
    gain_sd: Floats


def race(rule: Rule, setting: Setting, difficulty: NDArray[np.float32], world: Draw) -> dict[str, Floats]:
    """Run all trainings beyond the first pipeline's, and report what came of it, per run."""
    trainings, runs = world.removed.shape
    state = _begin(rule, setting, difficulty, world, runs)
    for step in range(trainings):
        live = state.left >= state.folds
        if not live.any():
            break
        state.left -= live * state.folds
        _try(state, step, live)
        state.early = np.where(state.left >= trainings - EARLY, _true(state), state.early)
    return _outcome(state)


def _begin(rule: Rule, setting: Setting, difficulty: NDArray[np.float32], world: Draw, runs: int) -> Race:
    names = ("compared", "kept", "useless", "lower", "claims", "false", "covered", "trusty", "seeds", "back", "steps")
    folds = max(1, min(rule.folds, difficulty.shape[-1] // setting.n))
    rng = np.random.default_rng([folds, 23])
    state = Race(
        rule=rule,
        setting=setting,
        folds=folds,
        images=folds * setting.n,
        fold_seeds=rng.standard_normal((folds - 1, *world.seeds.shape)),
        difficulty=difficulty,
        world=world,
        error=np.full(runs, 1 - setting.base),
        holder=np.zeros(runs, np.int64),
        right=[],
        repeated=np.zeros(runs, bool),
        left=np.full(runs, float(len(world.removed) - (folds - 1))),
        beliefs=gains.start(runs, rule.spread),
        counts={name: np.zeros(runs) for name in names},
        early=np.zeros(runs),
        former=Former(np.full(runs, -np.inf), np.zeros(runs), np.zeros(runs), np.zeros(runs, np.int64)),
        last_error=np.zeros(runs),
    )
    state.right = [_answers(state, 0, state.error, state.holder, np.arange(runs))]
    state.right.append(np.zeros_like(state.right[0]))
    return state


def _try(state: Race, step: int, live: Bools) -> None:
    """One candidate: train it, compare, perhaps with one more seed of both, and settle."""
    runs = np.arange(len(live))
    error = np.clip(state.error * (1 - state.world.removed[step]), 0.001, 0.97)
    candidate = np.full(len(live), step + 1)
    right = [_answers(state, 0, error, candidate, runs)]
    right[0] = _chased(state, step, right[0])
    measured = _measure(state, right[0], state.right[0], seeds=1)
    price = np.where(state.repeated, 1.0, 2.0)
    asked = live & _undecided(state.rule, measured) & (state.left >= price)
    if asked.any():
        right.append(_repeat(state, error, candidate, asked))
        second = _measure(state, _sum(right), _sum(state.right), seeds=2)
        measured = Measured(*(np.where(asked, new, old) for new, old in zip(second, measured, strict=True)))
        state.left -= np.where(asked, price, 0.0)
        state.counts["seeds"] += np.where(asked, price, 0.0)
    kept = live & _keeps(state.rule, measured, state.world.removed[step])
    _count(state, measured, state.error - error, live, kept)
    _remember(state, measured, kept)
    _learn(state, measured, live, kept)
    state.last_error = np.where(live, measured.error, state.last_error)
    state.error, state.holder = np.where(kept, error, state.error), np.where(kept, candidate, state.holder)
    for ours, theirs in zip(right, state.right, strict=False):
        theirs[kept] = ours[kept]
    state.repeated = np.where(kept, asked, state.repeated | asked)


def _chased(state: Race, step: int, right: Bools) -> Bools:
    """Some of the incumbent's mistakes are mended by a candidate that was made to: on these images, and on no others."""
    chasing = state.world.chasing[step]
    if not chasing.any():
        return right
    rng = np.random.default_rng([step, 21])
    mended = ~state.right[0] & (rng.random(right.shape) < CHASED) & chasing[:, None]
    return right | mended


def _remember(state: Race, measured: Measured, kept: Bools) -> None:
    """Note the incumbents that are replaced, with what was last thought of their luck, where no earlier one is believed better."""
    after, former = _posterior(state, *measured[:3]), state.former
    luck = after.incumbent_luck if state.rule.luck else np.zeros(len(kept))
    shown = state.right[0].mean(axis=1)
    better = kept & (shown - luck > former.believed)
    state.former = Former(
        *(
            np.where(better, new, old)
            for new, old in (
                (shown - luck, former.believed),
                (shown, former.shown),
                (state.error, former.error),
                (state.holder, former.holder),
            )
        )
    )


def _take_home(state: Race) -> Floats:
    """Make the best of all former incumbents the holder where the rule looks back; returns the shown score of who is taken home."""
    shown = state.right[0].mean(axis=1)
    if state.rule.back is None:
        return shown
    former = state.former
    back = former.believed > shown - state.beliefs.luck + state.rule.back * state.last_error
    state.error, state.holder = np.where(back, former.error, state.error), np.where(back, former.holder, state.holder)
    state.counts["back"] += back
    return np.where(back, former.shown, shown)


def _repeat(state: Race, error: Floats, candidate: NDArray[np.int64], asked: Bools) -> Bools:
    """The candidate's answers with its second seed, where asked for; the incumbent's too, where it has none yet."""
    rows, lacking = np.flatnonzero(asked), np.flatnonzero(asked & ~state.repeated)
    state.right[1][lacking] = _answers(state, 1, state.error, state.holder, lacking)
    answers = np.zeros_like(state.right[1])
    answers[rows] = _answers(state, 1, error, candidate, rows)
    return answers


def _sum(right: list[Bools]) -> NDArray[np.int8]:
    return right[0].astype(np.int8) + right[1]


def _answers(state: Race, seed: int, error: Floats, pipeline: NDArray[np.int64], rows: NDArray[np.int64]) -> Bools:
    """Which validation images a pipeline answers correctly [len(rows), N], each fold by a training of its own."""
    n, whole = state.setting.n, len(rows) == len(error) and pipeline.min() == pipeline.max()
    answers = []
    for fold in range(state.folds):
        drawn = state.world.seeds if fold == 0 else state.fold_seeds[fold - 1]
        limit = threshold(error[rows], drawn[seed, pipeline[rows], rows], state.setting.seed_share).astype(np.float32)
        difficulty = state.difficulty[seed, :, :, fold * n : (fold + 1) * n]
        # For all runs at once a view does, without a copy.
        answers.append((difficulty[pipeline[0]] if whole else difficulty[pipeline[rows], rows]) < limit[:, None])
    return answers[0] if state.folds == 1 else np.concatenate(answers, axis=1)


def _measure(state: Race, ours: NDArray[np.generic], theirs: NDArray[np.generic], seeds: int) -> Measured:
    """What `sandbox.acceptance.compare` computes for accuracy, for all runs at once."""
    n, level = state.images, 1 - np.count_nonzero(state.right[0], axis=1) / state.images
    if seeds == 1:
        discordant = np.count_nonzero(ours != theirs, axis=1).astype(float)
        delta = (np.count_nonzero(ours, axis=1) - np.count_nonzero(theirs, axis=1)) / n
        squares = discordant
    else:
        difference = ours.astype(np.int8) - theirs.astype(np.int8)
        delta = difference.mean(axis=1) / seeds
        squares = np.square(difference, dtype=np.int16).sum(axis=1) / seeds**2
        discordant = np.zeros(len(delta))
    images = (squares + 1) / n**2 - delta**2 / n
    error = np.sqrt(images + 2 / seeds / state.folds * (SEED_SHARE * np.maximum(level, 1 / n)) ** 2)
    headroom = np.maximum(level, error)
    exact = 2 * bdtr(np.rint((discordant - np.abs(delta) * n) / 2), np.maximum(discordant, 1).astype(int), 0.5)
    p_value = np.maximum(2 * ndtr(-np.abs(delta) / error), np.where(discordant > 0, np.minimum(exact, 1), 0))
    after = _posterior(state, delta, error, headroom)
    return Measured(delta, error, headroom, p_value, after.gain, after.gain_sd)


def _posterior(state: Race, delta: Floats, error: Floats, headroom: Floats) -> gains.Posterior:
    mean, sd = gains.expectation(state.beliefs)
    luck = (state.beliefs.luck, state.beliefs.luck_variance)
    return gains.posterior(mean * headroom, sd * headroom, *luck, delta=delta, standard_error=error)


def _undecided(rule: Rule, measured: Measured) -> Bools:
    if rule.family == "paired":
        return (measured.delta > 0) & (measured.p_value >= rule.level) & (measured.p_value < rule.ask)
    if rule.family == "expected":
        return np.abs(measured.gain) < rule.ask * (measured.error - ASK_FROM * measured.gain_sd)
    return np.zeros(len(measured.delta), bool)


def _keeps(rule: Rule, measured: Measured, removed: Floats) -> Bools:
    if rule.family == "oracle":
        return removed > 0
    if rule.family == "better":
        return measured.delta > 0
    if rule.family == "paired":
        return (measured.delta > 0) & (measured.p_value < rule.level)
    return (measured.gain > 0) & (measured.delta >= -rule.lowest * measured.error)


def _learn(state: Race, measured: Measured, live: Bools, kept: Bools) -> None:
    rule, old = state.rule, state.beliefs
    new = gains.learn(old, measured.delta, measured.error, measured.headroom, kept, blame=rule.blame)
    if not rule.learned:
        new = replace(new, log_weights=old.log_weights)
    if not rule.luck:
        new = replace(new, luck=old.luck, luck_variance=old.luck_variance)
    state.beliefs = gains.Beliefs(
        np.where(live[:, None], new.log_weights, old.log_weights),
        np.where(live, new.luck, old.luck),
        np.where(live, new.luck_variance, old.luck_variance),
    )


def _count(state: Race, measured: Measured, truth: Floats, live: Bools, kept: Bools) -> None:
    claim = kept & (measured.gain - 1.96 * measured.gain_sd > 0)
    found = {
        "compared": live,
        "kept": kept,
        "useless": kept & (truth <= 0),
        "lower": kept & (measured.delta <= 0),
        "claims": claim,
        "false": claim & (truth <= 0),
        "trusty": kept & (np.abs(truth - measured.gain) <= 1.96 * measured.gain_sd),
        "covered": live & (np.abs(truth - measured.gain) <= 1.96 * measured.gain_sd),
    }
    for name, where in found.items():
        state.counts[name] += where
    state.counts["steps"] += np.where(kept, measured.gain, 0.0)


def _true(state: Race) -> Floats:
    """True accuracy of the model that the person would take home: the incumbent's first training."""
    effect = state.world.seeds[0, state.holder, np.arange(len(state.error))]
    accuracy: Floats = ndtr(threshold(state.error, effect, state.setting.seed_share))
    return accuracy


def _outcome(state: Race) -> dict[str, Floats]:
    base = np.full(len(state.error), 1 - state.setting.base)
    first = ndtr(threshold(base, state.world.seeds[0, 0], state.setting.seed_share))
    luck = state.beliefs.luck
    shown = _take_home(state)
    true = _true(state)
    return {
        "gain": true - first,
        "early": state.early - first,
        "shown": shown - true,
        "corrected": np.where(state.counts["back"] > 0, state.former.believed, shown - luck) - true,
        **state.counts,
    }
