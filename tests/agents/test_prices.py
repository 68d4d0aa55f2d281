"""What a call costs, from prices that a person can read and change."""

import pytest

from agents.llm.prices import OURS, cost_of, prices
from checkpoints.home import home, prices_path
from schema.team import Usage

USAGE = Usage(role="analyst", model="openai:gpt-4o", tokens_in=1_000_000, tokens_cached=400_000, tokens_out=100_000)


def test_cached_tokens_cost_their_own_price() -> None:
    assert cost_of(USAGE, prices(prices_path())) == pytest.approx(0.6 * 2.50 + 0.4 * 1.25 + 0.1 * 10.00)


def test_a_name_with_a_date_costs_what_the_name_does() -> None:
    dated = USAGE.model_copy(update={"model": "openai:gpt-4o-2024-08-06"})
    assert cost_of(dated, prices(prices_path())) == cost_of(USAGE, prices(prices_path()))


def test_what_has_no_price_has_no_cost() -> None:
    assert cost_of(USAGE.model_copy(update={"model": "openai:mine"}), prices(prices_path())) is None


def test_the_person_s_own_prices_come_first_and_others_stay() -> None:
    home().mkdir(exist_ok=True)
    prices_path().write_text('["openai:gpt-4o"]\ninput = 1\noutput = 2\n')
    known = prices(prices_path())
    assert cost_of(USAGE, known) == pytest.approx(1.0 + 0.2)  # without a price of its own, cached costs what is new
    assert "openai:gpt-5.4" in known


def test_our_prices_say_from_when_they_are() -> None:
    assert "as they were told in June 2026" in OURS.read_text(encoding="utf-8")
