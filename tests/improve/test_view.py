"""What the view tells of a run's start, and of a wait for its turn."""

import pytest

from improve.view import PREPARING_EVERY, Lines, Screen, plain_line
from schema.events import Event, JobProgress, NodeEntered, Preparing, RunStarted
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


def waiting(seconds: float, job: str = "r/0/1-s0") -> JobProgress:
    return JobProgress(job=job, step=None, waits_for="CPU", seconds=seconds, limit_seconds=0.0)


def training(job: str = "r/0/1-s0") -> JobProgress:
    return JobProgress(job=job, step="train", seconds=1.0, limit_seconds=60.0)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (
            [waiting(0.1), waiting(0.6), waiting(40), training(), training()],
            ["waiting for a free CPU: other trainings come first", "waited 40 s for a free CPU"],
        ),
        (
            [waiting(600), training()],
            ["waiting for a free CPU since 10 min: other trainings come first", "waited 10 min for a free CPU"],
        ),
        ([training(), training()], []),
        (
            [waiting(1), NodeEntered(node="repair", iteration=1)],
            ["waiting for a free CPU since 1 s: other trainings come first"],
        ),
        (
            [waiting(5), waiting(0.2, "r/0/1-s1")],
            [
                "waiting for a free CPU since 5 s: other trainings come first",
                "waited 5 s for a free CPU",
                "waiting for a free CPU: other trainings come first",
            ],
        ),
    ],
)
def test_a_wait_is_told_when_it_begins_and_when_it_is_over(events: list[Event], told: list[str]) -> None:
    lines = Lines(Settings(dataset="digits"))
    assert [line for event in events for line in lines.of(event)] == told


def test_the_live_view_counts_the_seconds_of_a_wait() -> None:
    screen = Screen(Settings(dataset="digits"))
    screen.take(waiting(40))
    with screen.console.capture() as shown:
        screen.console.print(screen.draw())
    assert "waiting for a free CPU since 40 s · other trainings come first" in shown.get()


def test_a_long_preparation_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("improve.view.time.monotonic", lambda: now)
    lines = Lines(Settings(dataset="digits"))
    event = Preparing(stage="reading images", done=2500, total=10_000, seconds_left=120.0)
    assert lines.of(event) == []
    now = PREPARING_EVERY + 1
    assert lines.of(event) == ["reading images: 2,500 of 10,000 (25%) · 2 min left"]
    assert lines.of(event) == []
