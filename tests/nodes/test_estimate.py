"""What a person is told before a run: how certain a comparison is, how long it may take, what it may cost."""

from pathlib import Path

import pytest

from nodes.estimate import certainty, estimates
from schema.settings import Settings
from tests.agents.briefs import make_profile


def settings(**own: object) -> Settings:
    return Settings.model_validate({"dataset": "photos", "iterations": 20, "train_seconds": 1200} | own)


def test_more_images_are_less_uncertain() -> None:
    few, many = (certainty(settings(), make_profile(images=images)) for images in (100, 10_000))
    assert few != many
    assert "±" in few


def test_without_a_budget_the_longest_time_is_that_of_all_trainings() -> None:
    time = estimates(settings(), make_profile())[1]
    assert "up to 7 hours" in time
    assert "--budget sets a limit" in time


def test_a_budget_is_the_limit() -> None:
    time = estimates(settings(budget_seconds=3600, train_seconds=900), make_profile())[1]
    assert time == "at most 60 minutes for 20 changes, trainings of up to 15 minutes each"


def test_a_training_that_can_lead_nowhere_is_warned_of() -> None:
    assert (
        "1.25 s for a training are hardly a look"
        in estimates(settings(budget_seconds=5, train_seconds=1.25), make_profile())[2]
    )
    assert not any("hardly" in told for told in estimates(settings(train_seconds=15), make_profile()))
    assert not any("hardly" in told for told in estimates(settings(train_seconds=8), make_profile(images=100)))


def test_zero_shot_is_one_training() -> None:
    assert estimates(settings(strategy="zero-shot"), make_profile())[1].startswith("up to 20 minutes")


def test_the_playbook_costs_no_tokens() -> None:
    assert len(estimates(settings(), make_profile())) == 2


def test_tokens_have_a_price_where_one_is_known(home: Path) -> None:
    (home / "prices.toml").write_text('["openai:mine"]\ninput = 1.0\noutput = 10.0\n')
    told = estimates(settings(model="openai:mine"), make_profile())[2]
    assert told.startswith("about 327,000 tokens, $0.68 with openai:mine")
    assert "$" not in estimates(settings(model="openai:unknown"), make_profile())[2]


@pytest.mark.parametrize(
    ("strategy", "tokens"), [("iterative", "327,000"), ("global", "637,000"), ("zero-shot", "1,000")]
)
def test_the_tokens_are_those_that_were_measured(strategy: str, tokens: str) -> None:
    assert f"about {tokens} tokens" in estimates(settings(model="openai:m", strategy=strategy), make_profile())[2]
