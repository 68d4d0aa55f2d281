"""A setting that cannot be: what was given, what was expected, and the near one, in words of ours."""

from typing import Any

import pytest

from schema.errors import SettingRefused
from schema.settings import Settings, make_settings, option_of


def refused(**given: Any) -> SettingRefused:
    with pytest.raises(SettingRefused) as caught:
        make_settings({"dataset": "digits"} | given)
    return caught.value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"iterations": -1}, "iterations=-1: expected a whole number from 0 to 10000."),
        ({"iterations": 1.5}, "iterations=1.5: expected a whole number from 0 to 10000."),
        ({"train_seconds": 0}, "train_seconds=0: expected a number above 0."),
        ({"tier": "docker"}, "tier='docker': expected bwrap, landlock, none or auto."),
        ({"metric": "accurcy"}, "quadratic_kappa. Did you mean accuracy?"),
        ({"metric": "f1"}, "Did you mean macro_f1?"),
        ({"device": "gpu"}, "device='gpu': expected auto, cpu or cuda. Did you mean cuda?"),
        ({"layout": "x"}, "layout='x': expected class-folders, inner-folders, split-folders, table or file-names."),
        ({"init": "bottom"}, "Did you mean bottom-up?"),
        ({"describe": "x" * 5000}, "…: expected text of at most 4000 characters."),
        ({"review": "perhaps"}, "review='perhaps': expected True or False."),
        ({"iteration": 1}, "iteration=1: there is no such setting. Did you mean iterations?"),
        ({"sandbox": "none"}, "Did you mean tier?"),
        ({"train_limit": 60}, "Did you mean train_seconds?"),
        ({"target": 99}, "target=99: accuracy lies between 0 and 1. Did you mean 0.99?"),
        ({"target": -0.1, "metric": "log_loss"}, "target=-0.1: log_loss is never below 0."),
        ({"target": -2, "metric": "quadratic_kappa"}, "quadratic_kappa lies between -1 and 1."),
    ],
)
def test_a_refusal_says_what_was_expected(given: dict[str, Any], message: str) -> None:
    assert message in str(refused(**given))


def test_an_address_that_may_hold_a_key_is_not_repeated() -> None:
    assert "secret" not in str(refused(base_url="ftp://secret@host"))


@pytest.mark.parametrize(
    ("target", "metric"), [(0.99, "accuracy"), (2.5, "log_loss"), (-0.5, "quadratic_kappa"), (1, "auroc")]
)
def test_a_target_that_can_be_reached_is_taken(target: float, metric: str) -> None:
    assert make_settings({"dataset": "digits", "target": target, "metric": metric}).target == target


def test_the_command_spells_fields_as_its_options() -> None:
    spelt = [option_of(field) for field in ("iterations", "train_seconds", "tier", "group_column", "image_size")]
    assert spelt == ["--iterations", "--train-limit", "--sandbox", "--group", "--image-size"]
    assert len({option_of(field) for field in Settings.model_fields}) == len(Settings.model_fields)
