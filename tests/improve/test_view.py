"""What the view tells of a run's start, and of a wait for its turn."""

import pytest

from graph.build import build_graph
from improve.view import DOES, PREPARING_EVERY, Lines, Screen, plain_line
from nodes.services import Services
from schema.events import Event, JobProgress, NodeEntered, Preparing, RunStarted, Settled
from schema.settings import Settings
from schema.team import Proposal
from tests.agents.briefs import make_row

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


def test_the_live_view_says_in_words_what_goes_on_and_why_the_last_verdict_fell() -> None:
    screen = Screen(Settings(dataset="digits"))
    row = make_row(Proposal(action="change", component="model", move="wider"), 1, 0, "rejected")
    screen.take(
        Settled(row=row, reason="no true gain is expected", best_validation=0.9, best_believed=0.89, best_iteration=0)
    )
    screen.take(NodeEntered(node="sandbox", iteration=2))
    with screen.console.capture() as shown:
        screen.console.print(screen.draw())
    told = " ".join(shown.get().split())
    assert "#1 rejected: no true gain is expected" in told
    assert "training · iteration 2/20" in told
    assert "best validation 0.9000 (likely 0.8900)" in told


def test_every_step_of_the_graph_has_its_words() -> None:
    assert set(DOES) == {name for name in build_graph(Services()).nodes if not name.startswith("_")}


def test_a_long_preparation_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("improve.view.time.monotonic", lambda: now)
    lines = Lines(Settings(dataset="digits"))
    event = Preparing(stage="reading images", done=2500, total=10_000, seconds_left=120.0)
    assert lines.of(event) == []
    now = PREPARING_EVERY + 1
    assert lines.of(event) == ["reading images: 2,500 of 10,000 (25%) · 2 min left"]
    assert lines.of(event) == []
