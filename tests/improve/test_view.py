"""What the view tells of a run's start, and of a wait for its turn."""

import pytest

from graph.build import build_graph
from improve.view import DOES, PREPARING_EVERY, Lines, Screen, plain_line
from nodes.services import Services
from schema.events import Event, JobProgress, NodeEntered, Preparing, Raced, RunStarted, Settled
from schema.race import SCRATCH, Padding, Race, RaceEntry
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


def race_entry(name: str, accuracy: float, pad_type: Padding = "") -> RaceEntry:
    return RaceEntry(
        name=name,
        height=96,
        width=128,
        pad_type=pad_type,
        images=900,
        accuracy=accuracy,
        images_per_second=90,
        seconds=16,
    )


@pytest.mark.parametrize(("planned", "told"), [(120.0, False), (300.0, True)])
def test_the_race_is_told_in_a_line_and_what_it_means_for_a_short_budget(planned: float, told: bool) -> None:
    entries = [
        race_entry("net_b", 0.9),
        race_entry("net_a", 0.8, "same"),
        race_entry("net_c", 0.7),
        race_entry(SCRATCH, 0.5),
    ]
    event = Raced(race=Race(entries=entries, seconds=52.4), train_seconds=planned)
    lines = (plain_line(event, Settings(dataset="digits", budget_seconds=480)) or "").split("\n")
    assert lines[0] == (
        "race: accuracy on a sample, before fine-tuning: net_b at 128 x 96 0.900; net_a (same padding) at 128 x 96 0.800; "
        "from scratch at 128 x 96 0.500 after 16 s · 52 s"
    )
    assert (lines[1:] != []) is told
    assert not told or lines[1].startswith("plan: one training of up to 5 minutes")


def test_of_a_race_that_was_given_up_the_reason_is_told() -> None:
    race = Race(entries=[], notes=["the race was given up: \x1b[2Jno memory"], seconds=1)
    line = plain_line(Raced(race=race, train_seconds=20), Settings(dataset="digits"))
    assert line == "race: the race was given up: [2Jno memory · 1 s"
