"""How many folds a run gets by itself: those that pay for what they cost."""

from pathlib import Path

import pytest

from dataset.arrays import FOLDS
from nodes.folds import fitting_folds
from schema.dataset import DatasetProfile
from schema.settings import Settings
from tests.agents.briefs import make_profile


def prepared(folder: Path, images: int) -> DatasetProfile:
    (folder / FOLDS).parent.mkdir(exist_ok=True)
    (folder / FOLDS).touch()
    return make_profile(["cat", "dog"], images=images).model_copy(update={"directory": str(folder)})


def chosen(folder: Path, images: int = 400, seconds: float = 10.0, **own: object) -> int:
    settings = Settings.model_validate({"dataset": "photos", "iterations": 200} | own)
    return fitting_folds(settings, prepared(folder, images), seconds, clock=0.0)


@pytest.mark.parametrize(("trainings", "folds"), [(30, 1), (45, 3), (95, 3), (105, 5)])
def test_what_the_budget_holds_decides(tmp_path: Path, trainings: int, folds: int) -> None:
    assert chosen(tmp_path, budget_seconds=10.0 * (trainings + 1)) == folds


@pytest.mark.parametrize(("trainings", "folds"), [(17, 1), (18, 3), (30, 5)])
def test_folds_that_cost_no_candidate_are_taken_in_short_runs_too(tmp_path: Path, trainings: int, folds: int) -> None:
    """Five changes and the first pipeline are 6 trainings, or 18 in three folds."""
    assert chosen(tmp_path, budget_seconds=10.0 * (trainings + 1), iterations=5) == folds


@pytest.mark.parametrize(("limit", "folds"), [(29.0, 1), (30.0, 3), (50.0, 5)])
def test_without_a_budget_an_iteration_takes_no_longer_than_was_told(tmp_path: Path, limit: float, folds: int) -> None:
    assert chosen(tmp_path, train_seconds=limit) == folds


@pytest.mark.parametrize("own", [{"images": 10_000}, {"model": "openai:any"}, {"iterations": 0}, {"select_on": "test"}])
def test_large_sets_language_models_and_runs_without_a_comparison_have_one_part(
    tmp_path: Path, own: dict[str, int]
) -> None:
    assert chosen(tmp_path, budget_seconds=1e6, **own) == 1


def test_the_person_has_the_last_word(tmp_path: Path) -> None:
    assert chosen(tmp_path, images=10_000, folds=4) == 4
