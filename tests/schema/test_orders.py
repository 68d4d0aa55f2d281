"""Orders of the user reach the roles that they are meant for, and are never passed over in silence."""

import pytest

from schema.errors import SettingRefused
from schema.settings import Settings, make_settings

MODEL = "openai:gpt-5.4-mini"


def test_an_order_to_the_team_is_one_to_each_role_and_its_own_comes_after() -> None:
    settings = make_settings(
        {"dataset": "d", "model": MODEL, "instruct": "use a ViT-B/16", "role_instructions": {"training": "30 epochs"}}
    )
    assert settings.orders_for("training") == "use a ViT-B/16\n30 epochs"
    assert settings.orders_for("model") == "use a ViT-B/16"


@pytest.mark.parametrize("orders", [{"instruct": "use x"}, {"role_instructions": {"model": "use x"}}])
def test_the_playbook_reads_no_orders_and_says_so(orders: dict[str, object]) -> None:
    with pytest.raises(
        SettingRefused,
        match=r"instruct.*the playbook follows its own moves and reads no orders. Name a language model",
    ):
        make_settings({"dataset": "d", **orders})


def test_one_role_that_reads_them_is_enough() -> None:
    make_settings({"dataset": "d", "instruct": "use x", "role_models": {"model": MODEL}})


@pytest.mark.parametrize(
    ("own", "attempts", "first"),
    [
        ({}, 3, 9),
        ({"max_attempts": 1}, 1, 1),
        ({"strategy": "zero-shot"}, 1, 1),
        ({"strategy": "zero-shot", "max_attempts": 2}, 2, 6),
    ],
)
def test_zero_shot_is_one_execution_unless_more_are_asked_for(
    own: dict[str, object], attempts: int, first: int
) -> None:
    settings = Settings.model_validate({"dataset": "d", **own})
    assert (settings.attempts, settings.first_attempts) == (attempts, first)
