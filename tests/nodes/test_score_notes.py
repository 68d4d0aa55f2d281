"""What stands beside a final score: guessing, the classes that are missed, and a test part that disagrees."""

from typing import Any

import pytest

from nodes.report_text import report_text
from nodes.score_notes import chance_of_gap, class_recalls, score_notes
from schema.dataset import DatasetProfile, Duplicates, ImageSizes, Split
from schema.run import Final, RunRow, Totals
from schema.score import Confusion, Score
from schema.settings import Metric, Settings

ODD = "rare | <b>\tone"
TOTALS = Totals(seconds=1, training_seconds=1, jobs=1, tokens=0, cost=None)


def score(value: float, n: int = 100, metric: Metric = "accuracy", half: float = 0.05) -> Score:
    return Score(
        metric=metric,
        value=value,
        n=n,
        low=value - half,
        high=value + half,
        accuracy=value,
        per_class=[0.99, 0.25],
        confusions=[Confusion(truth=ODD, predicted="common", count=3)],
    )


def finished(validation: Score, test: Score, counts: list[int], given: list[Split] | None = None, **own: Any) -> RunRow:
    profile = DatasetProfile(
        name="d",
        key="k",
        fingerprint="f",
        layout="class-folders",
        directory="/d",
        classes=["common", ODD],
        counts={"train": counts, "validation": counts, "test": counts},
        given_splits=given or [],
        channels=1,
        height=8,
        width=8,
        mean=[0.5],
        std=[0.2],
        sizes=ImageSizes(
            width_min=8, width_median=8, width_max=8, height_min=8, height_median=8, height_max=8, uniform=True
        ),
        formats={"PNG/L": 1},
        imbalance=counts[0] / counts[1],
        duplicates=Duplicates(),
        set_aside=[],
        set_aside_total=0,
        seconds=0,
        groups=own.pop("groups", None),
    )
    best = Final(iteration=0, validation=validation, test=test)
    settings = Settings(dataset="d", metric=test.metric, **own)
    return RunRow(
        name="r",
        status="finished",
        sandbox="none",
        settings=settings,
        created="",
        profile=profile,
        first=best,
        best=best,
    )


def test_an_imbalanced_set_is_told_with_what_guessing_gives_and_the_rare_class_first() -> None:
    [note] = score_notes(finished(score(0.98), score(0.98), [96, 4]))
    assert "would give an accuracy of 0.9600" in note
    assert "rare | <b> one: 0.25 of 4, common: 0.99 of 96" in note
    assert "--metric balanced_accuracy" in note


def test_a_balanced_set_whose_scores_agree_needs_no_note() -> None:
    assert score_notes(finished(score(0.98), score(0.96), [50, 50])) == []


def test_a_test_part_that_disagrees_is_told_with_the_first_suspect() -> None:
    [note] = score_notes(finished(score(0.98), score(0.7), [50, 50], given=["test"]))
    assert note.startswith("Validation 0.9800 and test 0.7000 differ by more than chance allows (p < 0.0001).")
    assert note.index("--group COLUMN or --group-pattern REGEX") < note.index("another source")


def test_where_groups_are_kept_together_they_are_not_suspected() -> None:
    [note] = score_notes(finished(score(0.98), score(0.7), [50, 50], given=["test"], groups=9))
    assert "--group" not in note
    assert "another source" in note


def test_a_test_part_that_decided_is_not_compared_with_itself() -> None:
    assert score_notes(finished(score(0.98), score(0.7), [50, 50], select_on="test")) == []


@pytest.mark.parametrize(
    ("validation", "test", "differ"),
    [
        (score(1.0, 10), score(0.8, 10), False),
        (score(0.99, 1000), score(0.96, 1000), True),
        (score(1.0, 50), score(1.0, 50), False),
        (score(0.9, metric="auroc", half=0.02), score(0.8, metric="auroc", half=0.02), True),
        (score(0.9, metric="auroc", half=0.1), score(0.8, metric="auroc", half=0.1), False),
        (score(0.9, metric="auroc", half=0.0), score(0.8, metric="auroc", half=0.0), False),
    ],
)
def test_small_sets_may_differ_by_chance(validation: Score, test: Score, *, differ: bool) -> None:
    assert (chance_of_gap(validation, test) < 0.01) is differ


def test_a_class_without_an_image_in_the_split_has_no_recall() -> None:
    run = finished(score(0.98), score(0.98), [96, 4])
    assert run.profile
    profile = run.profile.model_copy(update={"counts": {"test": [96, 0]}})
    assert [one.name for one in class_recalls(score(0.98), "test", profile)] == ["common"]


def test_the_report_has_recall_and_mistakes_by_name_and_obeys_no_name() -> None:
    text = report_text(finished(score(0.98), score(0.98), [96, 4]), [], TOTALS)
    assert "| rare &#124; &#60;b> one | 4 | 0.2500 |" in text
    assert "| rare &#124; &#60;b> one | common | 3 |" in text
    assert "an accuracy of 0.9600" in text
