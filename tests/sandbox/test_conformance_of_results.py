"""Every tier of isolation against forged results, cheats, bombs and kills; and honest code, which it must not hinder.

The cases are in tests/sandbox/conformance, those that try to get out or to read what they should not in test_conformance.py.
"""

import sys
from collections.abc import Iterator

import pytest

from sandbox.isolation import tiers
from tests.sandbox.conformance.bombs import UNSEEN
from tests.sandbox.conformance.suite import WHO, best_tier, check, suite, what_is_left

# Of the cheats that have worked one of a kind; `make test-slow` runs all of them in every tier.
QUICK = (
    "cheats:predictions_handed_on_in_tmp,trained_while_predicting,plan_written_again_while_it_trains,"
    "leaves_in_the_middle_of_training,account_with_a_list_for_a_name,curve_without_numbers",
    "weights:header_of_2_to_the_60,nan_weights",
)

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux"), pytest.mark.timeout(900)]


def open_to_cheats(tier: str, who: str) -> set[str]:
    """Without isolation prediction can read the training data; what lies in the machine's own shared memory is not always ours to remove."""
    shared = {"predictions_handed_on_in_shared_memory"}
    if tier == "none":
        return shared | {
            "trained_while_predicting",
            "predictions_handed_on_in_a_segment",
            "weights_exchanged_while_predicting",
        }
    return shared if (tier, who) == ("landlock", "user") else set()


def test_forged_predictions_are_refused_and_cheats_gain_nothing() -> None:
    check(suite(best_tier(), WHO[-1], "forgeries", "texts", *QUICK), set())


@pytest.mark.slow
def test_honest_code_is_not_hindered() -> None:
    check(suite(best_tier(), WHO[-1], "honest"), set())


@pytest.mark.slow
def test_what_is_killed_stopped_or_removed_leaves_nothing_and_lowers_nothing() -> None:
    check(suite(best_tier(), WHO[0], "lifecycle"), set())


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("tier", [*tiers.ISOLATED, "none"])
def test_every_limit_holds(tier: str, who: str) -> None:
    rows = suite(tier, who, "bombs")
    limited = all(row["limited"] for row in rows.values() if row["group"] == "bombs")
    check(rows, set() if limited else UNSEEN)


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("tier", [*tiers.ISOLATED, "none"])
def test_every_tier_survives_kills_and_forgeries_and_hinders_nobody(tier: str, who: str) -> None:
    check(suite(tier, who, "lifecycle", "forgeries", "honest"), set())


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("tier", [*tiers.ISOLATED, "none"])
def test_no_cheat_counts_and_no_text_or_weights_do_harm(tier: str, who: str) -> None:
    check(suite(tier, who, "cheats", "weights", "texts"), open_to_cheats(tier, who))


@pytest.fixture(autouse=True)
def _nothing_of_ours_is_left() -> Iterator[None]:
    yield
    assert not what_is_left()
