"""No iteration begins that the rest of a budget does not hold in full."""

from typing import Any

import pytest

from checkpoints.home import prepare_home
from checkpoints.store import Store, open_store
from nodes.budget import iteration_seconds, reason_to_stop
from schema.settings import Settings
from schema.team import LedgerRow


@pytest.fixture
def store() -> Store:
    """A run whose first pipeline and three changes took 100 seconds each, and one that failed at once."""
    prepare_home()
    made = open_store()
    made.create_run("demo", Settings(dataset="photos"), "none")
    for number, (seconds, trained) in enumerate([(100, 90), (100, 90), (2, 0), (100, 90), (100, 90)]):
        row = LedgerRow(
            iteration=number, base=None, component="all", move="x", verdict="rejected", seconds=seconds,
            training_seconds=trained,
        )  # fmt: skip
        made.put_iteration("demo", row, previous=None, pipeline=None, proposal=None, fault=None, training=None)
    return made


def reason(store: Store, clock: float, **settings: Any) -> str | None:
    return reason_to_stop(Settings(dataset="photos", **settings), store, "demo", clock)


def test_what_an_iteration_takes_is_what_those_with_a_training_took(store: Store) -> None:
    assert iteration_seconds(store, "demo") == 100


def test_a_rest_that_holds_an_iteration_is_used(store: Store) -> None:
    assert reason(store, clock=405, budget_seconds=500) is None


def test_a_rest_that_does_not_is_told(store: Store) -> None:
    told = "80 s of the budget are left, and an iteration takes about 100 s"
    assert reason(store, clock=420, budget_seconds=500) == told


def test_a_budget_that_is_over_is_spent(store: Store) -> None:
    assert reason(store, clock=700, budget_seconds=600) == "the budget of 10 minutes is spent"


def test_without_a_budget_there_is_no_end(store: Store) -> None:
    assert reason(store, clock=1e9) is None
