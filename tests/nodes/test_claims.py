"""What a run claims to have gained is what it has gained: single steps are never added up, and luck is not claimed."""

from typing import NamedTuple

import numpy as np
import pytest

from improve.show import final_line
from nodes.score_notes import claim, gain_shares, what_happened
from sandbox.acceptance import chosen, compare, decide, prior_from
from schema.run import Final, RunRow
from schema.score import Comparison, Verdict
from schema.settings import Settings
from schema.team import LedgerRow
from tests.nodes.test_score_notes import finished, score

RUNS, TRAININGS, VALIDATION, TEST = 120, 15, 200, 400


class Claims(NamedTuple):
    """Of one run: what it says in the end, and what its kept steps add up to."""

    sealed: float
    steps: float


def run_of_changes_that_do_nothing(rng: np.random.Generator) -> Claims:
    """All pipelines are right on 85 % of the images, and disagree on every seventh."""

    def answers(n: int, difficulty: np.ndarray) -> np.ndarray:
        right = difficulty + 0.4 * rng.standard_normal(n) < 1.12
        return np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])

    hard = [rng.standard_normal(n) for n in (VALIDATION, TEST)]
    labels = [np.zeros(n, np.int64) for n in (VALIDATION, TEST)]
    pipelines = [[answers(n, h) for n, h in zip((VALIDATION, TEST), hard, strict=True)]]
    shown = float((pipelines[0][0].argmax(1) == 0).mean())
    ledger = [LedgerRow(iteration=0, base=None, component="all", move="first", verdict="first", validation=shown)]
    best = 0
    for number in range(1, TRAININGS + 1):
        pipelines.append([answers(n, h) for n, h in zip((VALIDATION, TEST), hard, strict=True)])
        prior = prior_from(ledger, "accuracy")
        found = compare("accuracy", labels[0], [pipelines[best][0]], [pipelines[number][0]], prior)
        verdict = decide("expected", found, can_repeat=False).verdict
        ledger.append(
            LedgerRow(
                iteration=number,
                base=best,
                component="data",
                move="nothing",
                verdict=verdict,  # type: ignore[arg-type]
                validation=found.candidate,
                delta=found.delta,
                standard_error=found.standard_error,
                expected=found.expected,
            )
        )
        best = number if verdict == "accepted" else best
    winner = chosen(ledger, "accuracy").iteration
    over = compare("accuracy", labels[1], [pipelines[0][1]], [pipelines[winner][1]], prior_from([], "accuracy"))
    return Claims(over.delta, sum(row.expected or 0.0 for row in ledger if row.verdict == "accepted"))


def test_changes_that_do_nothing_gain_nothing_in_mean() -> None:
    rng = np.random.default_rng(0)
    found = np.array([run_of_changes_that_do_nothing(rng) for _ in range(RUNS)])
    mean, error = found.mean(axis=0), found.std(axis=0) / np.sqrt(RUNS)
    assert abs(mean[0]) < 3 * error[0]
    assert mean[1] > 3 * error[1]  # which is why steps are not added up


def row(iteration: int, base: int | None, verdict: Verdict, expected: float | None = None) -> LedgerRow:
    return LedgerRow(iteration=iteration, base=base, component="data", move="x", verdict=verdict, expected=expected)


LEDGER = [
    row(0, None, "first"),
    row(1, 0, "accepted", 0.02),
    row(2, 1, "rejected", -0.01),
    row(3, 1, "accepted", 0.01),
    row(4, 3, "accepted", 0.05),
]


@pytest.mark.parametrize(
    ("winner", "shares"), [(4, {1: 0.25, 3: 0.125, 4: 0.625}), (3, {1: 2 / 3, 3: 1 / 3}), (1, {1: 1.0}), (0, {})]
)
def test_shares_are_those_of_the_changes_on_the_way_to_the_winner(winner: int, shares: dict[int, float]) -> None:
    assert gain_shares(LEDGER, winner) == pytest.approx(shares)


def ended(winner: int, over: Comparison | None = None) -> RunRow:
    found = finished(score(0.9), score(0.9), [50, 50])
    assert found.best is not None
    best = found.best.model_copy(update={"iteration": winner, "over_first": over})
    return found.model_copy(update={"first": Final(iteration=0, validation=score(0.9), test=score(0.9)), "best": best})


OUTCOMES = {
    "nothing better": (0, [row(0, None, "first"), row(1, 0, "rejected"), row(2, 0, "failed")],
                       "2 changes tried, none better: you have the first pipeline."),
    "none tried": (0, [row(0, None, "first")], "No change was tried: you have the first pipeline."),
    "one cut": (0, [row(0, None, "first"), row(1, 0, "cut"), row(2, 0, "rejected")],
                "1 change tried, none better: you have the first pipeline. 1 more was cut by the time and not judged."),
    "the last one": (4, LEDGER, "4 changes tried, 3 kept: you have that of iteration 4."),
    "an earlier one": (1, LEDGER, "4 changes tried, 3 kept: you have that of iteration 1, which is believed better than the last one kept (iteration 4)."),
    "back to the first": (0, LEDGER, "4 changes tried, 3 kept, and none of them is believed better in the end: you have the first pipeline."),
}  # fmt: skip


@pytest.mark.parametrize(("winner", "ledger", "expected"), OUTCOMES.values(), ids=OUTCOMES)
def test_one_sentence_says_what_happened(winner: int, ledger: list[LedgerRow], expected: str) -> None:
    assert what_happened(ended(winner), ledger) == expected


def over(delta: float, p_value: float) -> Comparison:
    return Comparison(
        metric="accuracy", n=100, seeds=1, delta=delta, standard_error=0.01, p_value=p_value, expected=0, low=0, high=0
    )


@pytest.mark.parametrize(
    ("delta", "p_value", "verdict"),
    [
        (0.03, 0.003, "The improvement is supported by these images."),
        (0.01, 0.3, "That may be chance: the improvement is not supported by these images."),
        (-0.03, 0.003, "These images, which decided nothing, show no improvement."),
    ],
)
def test_the_difference_on_the_sealed_images_is_supported_or_not(delta: float, p_value: float, verdict: str) -> None:
    told = claim(ended(1, over(delta, p_value)))
    assert f"{100 * delta:+.2f} points [{100 * delta - 1.96:+.2f} points" in told
    assert "on the same 100 test images:" in told
    assert told.endswith(verdict)


def test_the_first_pipeline_claims_nothing() -> None:
    assert claim(ended(0)) == ""


def test_images_that_decided_are_named_as_such() -> None:
    found = ended(1, over(0.03, 0.003))
    told = claim(found.model_copy(update={"settings": Settings(dataset="d", select_on="test")}))
    assert "test images that decided" in told


@pytest.mark.parametrize(
    ("mean", "validation"),
    [(None, "0.9000"), (0.9, "0.9000"), (0.91, "0.9000 (mean of its pipeline's trainings 0.9100)")],
)
def test_the_last_line_says_which_validation_score_it_names(mean: float | None, validation: str) -> None:
    found = ended(4)
    assert found.best is not None
    row = found.model_copy(update={"best": found.best.model_copy(update={"shown": mean})})
    assert final_line(row) == f"test accuracy 0.9000 (n=100) · validation {validation} · run r"
