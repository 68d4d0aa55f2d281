"""Every router as a table: state in, edge label out."""

import pytest

from graph import routes
from schema.state import State

FAULT = {"stage": "smoke", "kind": "TypeError", "message": "no"}


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ([], "assemble"),
        (["data"], "data"),
        (["model"], "model"),
        (["training"], "training"),
        (["training", "model"], "model"),
        (["training", "model", "data"], "data"),
    ],
)
def test_the_next_engineer_is_the_first_that_still_has_to_write(waiting: list[str], expected: str) -> None:
    assert routes.next_engineer(State(queue=waiting)) == expected  # type: ignore[typeddict-item]


@pytest.mark.parametrize(("fault", "expected"), [(None, "fits"), (FAULT, "check failed")])
def test_after_assemble(fault: dict[str, str] | None, expected: str) -> None:
    assert routes.after_assemble(State(fault=fault)) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State(reviewed="approve", queue=[]), "approve"),
        (State(reviewed="skip", queue=[], fault=FAULT), "skip"),
        (State(reviewed="edit", queue=["data"]), "data"),
        (State(reviewed="edit", queue=["data", "model", "training"]), "data"),
    ],
)
def test_after_review(state: State, expected: str) -> None:
    assert routes.after_review(state) == expected


@pytest.mark.parametrize(("fault", "expected"), [(None, "scored"), (FAULT, "failed")])
def test_after_sandbox(fault: dict[str, str] | None, expected: str) -> None:
    assert routes.after_sandbox(State(fault=fault)) == expected


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [([], "out of attempts"), (["data"], "data"), (["model"], "model"), (["training"], "training")],
)
def test_after_repair_only_the_component_at_fault_is_written_again(waiting: list[str], expected: str) -> None:
    assert routes.after_repair(State(queue=waiting)) == expected  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("first", "first"),
        ("accepted", "accepted"),
        ("rejected", "rejected"),
        ("failed", "failed"),
        ("inconclusive", "inconclusive"),
        ("skipped", "skipped"),
        (None, "undecided: one more seed"),
    ],
)
def test_after_decide(verdict: str | None, expected: str) -> None:
    assert routes.after_decide(State(verdict=verdict)) == expected


@pytest.mark.parametrize(("stop", "expected"), [(None, "next"), ("all 3 iterations done", "finished")])
def test_after_summarize(stop: str | None, expected: str) -> None:
    assert routes.after_summarize(State(stop=stop)) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State(stop="nothing left", queue=[]), "stop"),
        (State(stop=None, queue=["data"]), "data"),
        (State(stop=None, queue=["model"]), "model"),
        (State(stop=None, queue=["training"]), "training"),
        (State(stop=None, queue=["data", "model", "training"]), "all"),
    ],
)
def test_after_analyst(state: State, expected: str) -> None:
    assert routes.after_analyst(state) == expected
