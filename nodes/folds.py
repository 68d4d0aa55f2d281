"""How many parts of a small data set are held out in turn, and which images a pipeline's trainings have answered."""

from collections.abc import Sequence

import numpy as np

from dataset.folds import has_folds
from dataset.prepare import load_labels
from schema.dataset import DatasetProfile
from schema.errors import InputError
from schema.settings import Settings
from schema.state import State

# By benchmarks/acceptance: below these sizes more parts decide better than more candidates, in runs of so many trainings.
SMALL_TRAIN, SMALL_VALIDATION = 1000, 200  # images
FROM_TRAININGS = {5: 100, 3: 40}  # folds that pay in runs of so many trainings, though they cost candidates


def folds_of(state: State) -> int:
    return state.get("folds") or 1


def trainings_of(state: State) -> int:
    """Return how many trainings of each pipeline this comparison wants: one for each fold, or for each seed."""
    return folds_of(state) if folds_of(state) > 1 else state["seeds"]


def check_folds(settings: Settings, profile: DatasetProfile) -> None:
    """Raise InputError if folds are asked for that cannot be had."""
    if (settings.folds or 1) > 1 and (why := _impossible(settings, profile)):
        raise InputError(f"--folds {settings.folds}: {why}. Leave the option out, or say --folds 1")


def fitting_folds(settings: Settings, profile: DatasetProfile, seconds: float, clock: float) -> int:
    """Choose the folds after the first training, which took `seconds`; `clock`: seconds that the run had taken before.

    Language models get several only if the person asks: what one training's code saw of labels it could tell its author, and so the next
    (docs/security.md).
    """
    if settings.folds is not None:
        return settings.folds
    small = profile.size("train") < SMALL_TRAIN or profile.size("validation") < SMALL_VALIDATION
    if not small or settings.iterations == 0 or settings.model != "playbook" or _impossible(settings, profile):
        return 1
    if (
        settings.budget_seconds is None
    ):  # then no iteration may take longer than the person was told: one training at its limit
        return next((folds for folds in FROM_TRAININGS if folds * seconds <= settings.train_seconds), 1)
    held = (settings.budget_seconds - clock - seconds) / max(seconds, 1e-9)
    paying = (folds for folds, least in FROM_TRAININGS.items() if held >= min(least, folds * (settings.iterations + 1)))
    return next(paying, 1)


def labels_of(settings: Settings, profile: DatasetProfile, folds: Sequence[int]) -> np.ndarray:
    """int64 [images that decide], fold after fold."""
    return np.concatenate([load_labels(profile, settings.select_on, fold) for fold in folds])


def _impossible(settings: Settings, profile: DatasetProfile) -> str | None:
    if settings.strategy == "zero-shot":
        return "zero-shot is one training, and compares nothing"
    if settings.select_on == "test":
        return "the test part decides (--select-on test), and is one part"
    if "validation" in profile.given_splits:
        return "your data has a validation part, which decides as you gave it"
    if not has_folds(profile):
        return f"this data set is too large for it to pay ({profile.size('train'):,} training images), or was prepared by an earlier version"
    return None
