"""A training that was ended before its work was done is not judged: it is given more time, or tried again."""

import json
from pathlib import Path

import pytest

from checkpoints.home import run_dir
from checkpoints.store import open_store
from graph.run import resume, run
from nodes import sandbox
from nodes.services import Services
from schema.events import Event, Settled
from schema.settings import Settings
from tests.scripted import PIPELINE, TRAINING, WAITING, ScriptedTeam, image_folder

NEVER = WAITING.replace("SHARE", "1e9 if info.seconds < 1000 else 0")
ONCE_MORE = WAITING.replace("SHARE", "2.0")  # the second time it has 3 times its seconds
BETTER = TRAINING.replace("epochs=1", "epochs=8")


def services(*trainings: str, first: str = TRAINING) -> Services:
    team = ScriptedTeam([("training", [code]) for code in trainings], first=PIPELINE.with_code("training", first))
    return Services(team=lambda *_: team)


def settings(tmp_path: Path, iterations: int) -> Settings:
    data = image_folder(tmp_path / "photos")
    return Settings(
        dataset=str(data),
        iterations=iterations,
        train_seconds=1,
        accept="better",
        device="cpu",
        folds=1,
        until_budget=True,
    )


def test_it_is_given_its_time_once_more_and_then_compared(tmp_path: Path) -> None:
    name = run(settings(tmp_path, 1), name="r", services=services(ONCE_MORE))
    row = open_store().ledger(name)[1]
    assert (row.verdict in {"accepted", "rejected"}, row.cut, row.epochs, row.planned) == (True, False, 6, 6)


def test_what_is_cut_all_the_same_has_no_verdict_and_does_not_count_as_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MOST_CUTS", 0)
    events: list[Event] = []
    name = run(settings(tmp_path, 1), name="r", services=services(NEVER, BETTER), on_event=events.append)
    _, cut, judged = open_store().ledger(name)
    assert (cut.verdict, cut.cut, cut.epochs, cut.planned, cut.delta) == ("cut", True, 2, 6, None)
    assert judged.verdict in {"accepted", "rejected"}
    [reason] = [event.reason for event in events if isinstance(event, Settled) and event.row.verdict == "cut"]
    assert "cut: 2 of 6 epochs" in reason
    assert "says nothing about the change" in reason


@pytest.mark.slow
def test_three_in_a_row_end_the_run_which_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_CUTS", 0)
    team = services(NEVER, NEVER, NEVER, BETTER)
    name = run(settings(tmp_path, 1), name="r", services=team)
    assert [row.verdict for row in open_store().ledger(name)] == ["first", "cut", "cut", "cut"]
    reason = open_store().run(name).reason
    assert "3 trainings in a row were cut" in reason
    assert "improve resume r" in reason
    resume(name, services=team)
    assert open_store().ledger(name)[-1].verdict in {"accepted", "rejected"}


def test_what_is_compared_with_a_first_pipeline_that_was_cut_gets_what_that_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MOST_CUTS", 0)
    name = run(settings(tmp_path, 1), name="r", services=services(BETTER, first=NEVER))
    first = open_store().ledger(name)[0]
    assert (first.verdict, first.cut, first.epochs) == ("first", True, 2)
    job = json.loads((run_dir(name) / "iterations/0001/jobs/1-s0/job.json").read_text())
    assert job["epochs"] == 2
