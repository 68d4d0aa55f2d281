"""What the view tells of a run's start."""

import pytest

from improve.view import plain_line
from schema.events import RunStarted
from schema.settings import Settings

NOTE = "note: each training may take 7.5 min: a quarter of --budget"


@pytest.mark.parametrize(
    ("budget", "resumed", "notes"),
    [
        (1800.0, False, [NOTE]),
        (1800.0, True, []),  # the run keeps the limit that it began with
        (4800.0, False, []),  # four trainings of the full length
        (None, False, []),
    ],
)
def test_a_budget_that_shortens_the_trainings_is_told_at_the_start(
    budget: float | None, resumed: bool, notes: list[str]
) -> None:
    settings = Settings(dataset="digits", train_seconds=1200.0, budget_seconds=budget)
    line = plain_line(RunStarted(run="r", resumed=resumed, sandbox="none", model="playbook"), settings)
    assert line
    assert line.splitlines()[1:] == notes
