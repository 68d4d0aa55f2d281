"""The paper's cost model, measured: its quantities on runs whose numbers are known, and its slips named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from improve.costs import PAPER, cost_model, costs_text, crossover, decay, f
from schema.run import CallRow, Final, RunRow
from schema.score import Comparison, Score, Verdict
from schema.settings import Settings, Strategy
from schema.team import LedgerRow, Usage


def run_row(strategy: Strategy = "iterative", winner: int = 0, gained: float = 0.0) -> RunRow:
    """A run whose winner is better than its first pipeline by so much on the sealed images."""
    settings = Settings(dataset="photos", strategy=strategy)
    score = Score(metric="accuracy", value=0.9, n=10, low=0.8, high=1, accuracy=0.9, per_class=[0.9], confusions=[])
    over = Comparison(
        metric="accuracy", n=10, seeds=1, delta=gained, standard_error=0.1, p_value=1, expected=0, low=0, high=0
    )
    return RunRow(
        name="demo",
        status="finished",
        sandbox="bwrap",
        settings=settings,
        created="2026-01-01T00:00:00",
        best=Final(iteration=winner, validation=score, over_first=over if winner else None),
    )


def call(iteration: int, tokens: int, role: str = "analyst") -> CallRow:
    usage = Usage(role=role, model="openai:m", tokens_in=tokens - 10, tokens_out=10)  # type: ignore[arg-type]
    return CallRow(iteration=iteration, node=role, usage=usage)


def ledger(gains: list[float]) -> list[LedgerRow]:
    first = LedgerRow(iteration=0, base=None, component="all", move="first pipeline", verdict="first")
    rows, base = [first], 0
    for i, gain in enumerate(gains, start=1):
        verdict: Verdict = "accepted" if gain else "rejected"
        rows.append(LedgerRow(iteration=i, base=base, component="data", move="m", verdict=verdict, expected=gain))
        base = i if gain else base
    return rows


def test_the_start_and_the_steps_are_told_apart() -> None:
    """Steps of 1000 + 50 (k - 1) tokens."""
    calls = [call(0, 5000), *(call(k, 1000 + 50 * (k - 1)) for k in range(1, 6))]
    found = cost_model(run_row(), ledger([0.0] * 5), calls)
    assert (found.c0, found.c1, found.c2, found.x) == pytest.approx((5000, 1000, 50, 1200))
    assert found.steps_ratio == pytest.approx((5000 + 1200) / (5000 + 3 * 1200))


def test_a_global_step_updates_three_modules() -> None:
    calls = [call(0, 5000), call(1, 3000), call(2, 3000)]
    found = cost_model(run_row("global"), ledger([0.0, 0.0]), calls)
    assert (found.c1, found.c2) == pytest.approx((1000, 0))


def test_the_paper_s_own_example_crosses_at_3_and_falls_at_first() -> None:
    assert crossover(**PAPER) == 3
    assert f(1, **PAPER) < f(0, **PAPER) == 0
    assert f(2, **PAPER) < 0 < f(3, **PAPER)


def test_without_a_gain_there_is_no_crossover() -> None:
    assert crossover(0.3, 0.0, 0.5) is None
    found = cost_model(run_row(), ledger([0.0, 0.0]), [call(0, 100), call(1, 100), call(2, 100)])
    assert (found.alpha, found.gamma, found.crossover) == (None, None, None)
    assert "no accepted gain" in costs_text(found)


@given(st.floats(0.01, 1), st.floats(0.05, 0.95))
def test_a_decay_that_is_one_is_found(alpha: float, gamma: float) -> None:
    gains = [alpha * gamma**t for t in range(1, 13)]
    fitted_alpha, fitted_gamma = decay(gains)
    assert fitted_alpha is not None
    assert fitted_gamma is not None
    for t in range(1, 13):
        assert fitted_alpha * fitted_gamma**t == pytest.approx(gains[t - 1], abs=0.05 * gains[0])


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.5), st.floats(0.05, 0.95))
def test_the_crossover_is_the_first_step_at_which_local_has_caught_up(alpha: float, beta: float, gamma: float) -> None:
    star = crossover(alpha, beta, gamma)
    assert star is not None
    assert f(star, alpha, beta, gamma) >= 0
    assert all(f(steps, alpha, beta, gamma) < 0 for steps in range(1, star))


def test_what_a_person_reads() -> None:
    calls = [call(0, 5000, "architect"), call(1, 1000), call(2, 1000), call(3, 1000, "data")]
    text = costs_text(cost_model(run_row(winner=3, gained=0.03), ledger([0.2, 0.0, 0.1]), calls))
    for part in (
        "8,000 tokens",
        "cost not known",
        "architect",
        "c0 5,000",
        "Lemma 3.2",
        "beta 0.01000",
        "T* =",
        "T* is 3, not about 2.5",
        "upside down",
    ):
        assert part in text


def test_gains_are_those_of_the_sealed_images_and_not_what_steps_add_up_to() -> None:
    """Steps that expected 0.3 in all have gained 0.03, or nothing."""
    calls = [call(k, 1000) for k in range(4)]
    assert cost_model(run_row(winner=3, gained=0.03), ledger([0.2, 0.0, 0.1]), calls).beta == pytest.approx(0.01)
    assert cost_model(run_row(winner=3, gained=-0.01), ledger([0.2, 0.0, 0.1]), calls).beta == 0.0


def test_a_run_of_the_playbook_costs_nothing() -> None:
    assert "no language model was asked" in costs_text(cost_model(run_row(), ledger([]), []))
