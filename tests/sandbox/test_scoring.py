"""Trusted scoring: agreement with scikit-learn, honest intervals, and the cases that a split of a few images brings."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from sandbox.bootstrap import losses, resamples, statistic
from sandbox.scoring import score, surest_mistakes, wilson
from schema.settings import Metric, higher_is_better

METRICS: tuple[Metric, ...] = get_args(Metric)


def answers(n: int = 300, classes: int = 4, skill: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels [n] and probabilities [n, classes] of a classifier that is right more often the larger its skill."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.standard_normal((n, classes))
    logits[np.arange(n), labels] += skill
    probabilities = np.exp(logits)
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def names(count: int) -> list[str]:
    return [f"class {k}" for k in range(count)]


@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        ("accuracy", lambda y, p: metrics.accuracy_score(y, p.argmax(1))),
        ("balanced_accuracy", lambda y, p: metrics.balanced_accuracy_score(y, p.argmax(1))),
        ("macro_f1", lambda y, p: metrics.f1_score(y, p.argmax(1), average="macro")),
        ("auroc", lambda y, p: metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")),
        ("log_loss", metrics.log_loss),
        ("quadratic_kappa", lambda y, p: metrics.cohen_kappa_score(y, p.argmax(1), weights="quadratic")),
    ],
)
def test_values_agree_with_scikit_learn(metric: Metric, reference: Callable[[np.ndarray, np.ndarray], float]) -> None:
    labels, probabilities = answers()
    assert score(metric, probabilities, labels, names(4)).value == pytest.approx(reference(labels, probabilities))


@pytest.mark.parametrize("metric", METRICS)
def test_the_resampled_form_of_a_metric_is_the_metric(metric: Metric) -> None:
    labels, probabilities = answers(skill=0.5)
    whole = statistic(metric, labels, probabilities)(np.ones((1, len(labels)), dtype=np.float32))
    assert whole[0] == pytest.approx(score(metric, probabilities, labels, names(4)).value, abs=1e-6)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric != "auroc"])
def test_a_resample_scores_like_the_images_it_repeats(metric: Metric) -> None:
    labels, probabilities = answers(n=60)
    weights = next(resamples(60, count=5))
    values = statistic(metric, labels, probabilities)(weights)
    for row, value in zip(weights, values, strict=True):
        drawn = np.repeat(np.arange(60), row.astype(int))
        assert value == pytest.approx(score(metric, probabilities[drawn], labels[drawn], names(4)).value, abs=1e-5)


def test_the_linear_bootstrap_of_auroc_spreads_like_the_real_one() -> None:
    labels, probabilities = answers(n=200, classes=2, skill=0.8)
    weights = next(resamples(200, count=300))
    linear = statistic("auroc", labels, probabilities)(weights).std()
    drawn = [np.repeat(np.arange(200), row.astype(int)) for row in weights]
    assert linear == pytest.approx(
        np.std([metrics.roc_auc_score(labels[d], probabilities[d, 1]) for d in drawn]), rel=0.1
    )


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 20), (355, 360), (360, 360), (7000, 10_000)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    interval = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((interval.low, interval.high))


def test_wilson_covers_the_truth_in_95_of_100_samples() -> None:
    hits = np.random.default_rng(1).binomial(200, 0.93, size=4000)
    low, high = np.array([wilson(int(h), 200) for h in hits]).T
    assert np.mean((low <= 0.93) & (high >= 0.93)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "log_loss", "auroc", "quadratic_kappa"])
def test_bootstrap_intervals_cover_the_truth_in_nearly_95_of_100_samples(metric: Metric) -> None:
    labels, probabilities = answers(n=36_000)
    truth = score(metric, probabilities, labels, names(4)).value
    parts = [slice(start, start + 300) for start in range(0, 36_000, 300)]
    found = [score(metric, probabilities[part], labels[part], names(4)) for part in parts]
    assert 0.88 <= np.mean([s.low <= truth <= s.high for s in found]) <= 0.99


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_answers_score_the_same_twice(metric: Metric) -> None:
    labels, probabilities = answers()
    assert score(metric, probabilities, labels, names(4)) == score(metric, probabilities, labels, names(4))


@pytest.mark.parametrize("metric", METRICS)
def test_a_perfect_classifier_is_perfect(metric: Metric) -> None:
    labels = np.repeat(np.arange(3), 10)
    found = score(metric, np.eye(3)[labels], labels, names(3))
    assert found.value == pytest.approx(0.0 if metric == "log_loss" else 1.0, abs=1e-5)
    assert found.confusions == []


@pytest.mark.parametrize("metric", METRICS)
def test_a_class_that_the_split_lacks_raises_no_warning_and_counts_for_nothing(metric: Metric) -> None:
    labels, probabilities = answers(classes=3)
    wider = np.column_stack([probabilities, np.full(len(labels), 1e-9)])
    with_absent, without = (score(metric, p, labels, names(p.shape[1])) for p in (wider, probabilities))
    assert with_absent.value == pytest.approx(without.value, abs=1e-6)
    assert with_absent.per_class == [*without.per_class, 0.0]


@pytest.mark.parametrize(("metric", "value"), [("auroc", 0.5), ("quadratic_kappa", 0.0), ("accuracy", 1.0)])
def test_a_split_of_one_class_has_a_value(metric: Metric, value: float) -> None:
    labels, probabilities = np.zeros(8, dtype=np.int64), np.tile([0.7, 0.3], (8, 1))
    assert score(metric, probabilities, labels, names(2)).value == value


def test_a_confident_mistake_costs_a_bounded_log_loss() -> None:
    labels, probabilities = np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert score("log_loss", probabilities, labels, names(2)).value == pytest.approx(-np.log(1e-7) / 2, rel=1e-3)


def test_log_loss_normalises_rows_that_float32_left_a_little_off() -> None:
    labels, probabilities = answers(n=50)
    assert losses(labels, probabilities * 1.001).sum() == pytest.approx(losses(labels, probabilities).sum(), rel=1e-5)


def test_of_equal_probabilities_the_class_that_comes_first_is_the_answer() -> None:
    found = score("accuracy", np.full((4, 2), 0.5), np.array([0, 0, 0, 1]), names(2))
    assert (found.value, found.per_class) == (0.75, [1.0, 0.0])


def test_confusions_come_most_frequent_first_and_ten_at_most() -> None:
    labels = np.repeat(np.arange(12), 3)
    chosen = np.where(np.arange(36) % 3 == 0, (labels + 1) % 12, labels)
    chosen[:2] = 5
    found = score("accuracy", np.eye(12)[chosen], labels, names(12))
    assert (found.confusions[0].truth, found.confusions[0].predicted, found.confusions[0].count) == (
        "class 0",
        "class 5",
        2,
    )
    assert [c.truth for c in found.confusions[1:]] == [f"class {k}" for k in range(1, 10)]


def test_only_log_loss_is_better_when_lower() -> None:
    assert [metric for metric in METRICS if not higher_is_better(metric)] == ["log_loss"]


@pytest.mark.parametrize(
    ("labels", "shape", "message"),
    [
        ([0, 1], (3, 2), "shape"),
        ([0, 1], (2, 3), "shape"),
        ([], (0, 2), "shape"),
        ([0, 2], (2, 2), "labels lie in 0..2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(labels: list[int], shape: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score("accuracy", np.full(shape, 0.5), np.array(labels, dtype=np.int64), names(2))


@settings(max_examples=25)
@given(st.permutations(range(4)), st.sampled_from([m for m in METRICS if m != "quadratic_kappa"]))
def test_renaming_the_classes_changes_no_score(order: list[int], metric: Metric) -> None:
    """Except quadratic kappa, which reads the order of the classes."""
    labels, probabilities = answers(n=80)
    renamed = np.argsort(order)[labels]
    before, after = (
        score(metric, p, y, names(4)) for p, y in ((probabilities, labels), (probabilities[:, order], renamed))
    )
    assert after.value == pytest.approx(before.value)


def test_ten_thousand_images_with_a_thousand_resamples_take_little_time() -> None:
    labels, probabilities = answers(n=10_000, classes=10)
    score("macro_f1", probabilities, labels, names(10))  # imports scikit-learn
    started = time.process_time()
    score("macro_f1", probabilities, labels, names(10))
    assert time.process_time() - started < 5


def test_importing_the_scoring_imports_no_heavy_library() -> None:
    """scikit-learn and scipy.stats take seconds, and the command line imports this module."""
    code = "import sandbox.acceptance, sys; print([m for m in ('sklearn', 'scipy', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_surest_mistakes_come_first() -> None:
    labels = np.array([0, 1, 0, 1, 0])
    sure = np.array([0.9, 0.7, 0.2, 0.95, 0.4])  # of class 0
    chosen = surest_mistakes(np.stack([sure, 1 - sure], axis=1), labels, 3)
    assert chosen.tolist() == [3, 2, 1]


def test_where_all_is_right_there_is_no_mistake() -> None:
    assert not len(surest_mistakes(np.eye(4), np.arange(4), 24))
