"""A run that is taken back, forked, or whose checkpoints are lost: what was settled stays as it was. The jobs are instant; the rest is real."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from checkpoints.home import checkpoints_path, run_dir
from checkpoints.saver import SqliteCheckpointer
from checkpoints.store import open_store
from graph.build import build_graph
from graph.fork import fork
from graph.run import resume, run
from schema.errors import InputError, RunNameTaken, RunStopped, UnknownRun
from schema.events import Event, RunStarted, Settled
from schema.team import Review, ReviewAsked
from tests.graph.test_resume import photos, services, settings  # noqa: F401 - a fixture
from tests.scripted import TRAINING


def told(row: Any) -> tuple[Any, ...]:
    return row.iteration, row.base, row.move, row.verdict, row.validation, row.delta


def test_a_thread_taken_back_goes_on_as_a_branch_and_the_old_one_stays(photos: Path) -> None:  # noqa: F811
    run(settings(photos, iterations=3), name="r", services=services())
    store = open_store()
    before = store.ledger("r")
    with SqliteCheckpointer.open(checkpoints_path()) as saver:
        graph: Any = build_graph(services()).compile(checkpointer=saver)
        thread = {"configurable": {"thread_id": store.run("r").thread}}
        history = list(graph.get_state_history(thread))
        proposed = next(s for s in history if s.next == ("training_engineer",) and s.values["iteration"] == 2)
        edited = proposed.values["proposal"] | {"move": "5"}
        forked = graph.update_state(proposed.config, {"proposal": edited}, as_node="performance_analyst")
        graph.invoke(None, forked)
    assert [row.iteration for row in store.ledger("r")] == [0, 1, 4, 5]
    assert [told(row) for row in store.ledger("r", 3)] == [told(row) for row in before]
    assert store.pipeline("r", 4).training == f"{TRAINING}\n# change 4\n"
    assert store.pipeline("r", 2).training == f"{TRAINING}\n# change 1\n"


def test_a_proposal_that_was_edited_to_another_component_goes_to_its_engineer(photos: Path) -> None:  # noqa: F811
    run(settings(photos, iterations=1), name="r", services=services())
    store = open_store()
    with SqliteCheckpointer.open(checkpoints_path()) as saver:
        graph: Any = build_graph(services()).compile(checkpointer=saver)
        thread = {"configurable": {"thread_id": store.run("r").thread}}
        proposed = next(
            s
            for s in graph.get_state_history(thread)
            if s.next == ("training_engineer",) and s.values["iteration"] == 1
        )
        edited = proposed.values["proposal"] | {"component": "data"}
        forked = graph.update_state(proposed.config, {"proposal": edited}, as_node="performance_analyst")
        assert graph.get_state(forked).next == ("data_engineer",)


@pytest.mark.parametrize("more", [{}, {"iterations": 2}, {"iterations": 1}, {"iterations": 5}])
def test_a_fork_is_a_run_of_its_own_from_an_earlier_iteration(photos: Path, more: dict[str, int]) -> None:  # noqa: F811
    run(settings(photos, iterations=3, accept="better"), name="r", services=services())
    store = open_store()
    old = store.ledger("r")
    new = fork("r", 1)
    assert new == "r-from-1"
    assert store.run(new).status == "stopped"
    assert store.run(new).best is None
    events: list[Event] = []
    resume(new, **more, services=services(), on_event=events.append)
    assert not any(event.notes for event in events if isinstance(event, RunStarted))
    rows = store.ledger(new)
    assert [told(row) for row in rows[:2]] == [told(row) for row in old[:2]]
    assert [row.iteration for row in rows] == list(range(1 + more.get("iterations", 3)))
    assert store.run(new).best
    assert (run_dir(new) / f"iterations/{rows[-1].iteration:04d}/pipeline.py").exists()
    assert store.ledger("r") == old


def test_what_is_given_anew_to_a_fork_that_was_stopped_before_its_first_step_is_taken(photos: Path) -> None:  # noqa: F811
    run(settings(photos, iterations=3), name="r", services=services())
    new = fork("r", 1)

    def leave(event: Event) -> None:
        raise KeyboardInterrupt

    for iterations in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            resume(new, iterations=iterations, services=services(), on_event=leave)
    resume(new, iterations=3, services=services())
    assert [row.iteration for row in open_store().ledger(new)] == [0, 1, 2, 3]


def test_what_cannot_be_forked_is_said(photos: Path) -> None:  # noqa: F811
    run(settings(photos), name="r", services=services())
    with pytest.raises(InputError, match=r"no settled iteration 7. It has: 0, 1\."):
        fork("r", 7)
    with pytest.raises(RunNameTaken, match="Choose another --name"):
        fork("r", 1, "r")
    with pytest.raises(UnknownRun, match="Did you mean r"):
        fork("rr", 1)


def interrupted_after(iteration: int, photos: Path, **more: object) -> None:  # noqa: F811
    def interrupt(event: Event) -> None:
        if isinstance(event, Settled) and event.row.iteration == iteration:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings(photos, **more), name="r", services=services(), on_event=interrupt)


def test_a_run_without_its_checkpoints_goes_on_from_the_last_settled_iteration_and_says_so(photos: Path) -> None:  # noqa: F811
    interrupted_after(2, photos, iterations=4)
    store = open_store()
    before = [told(row) for row in store.ledger("r")]
    for file in checkpoints_path().parent.glob("checkpoints.sqlite*"):
        file.unlink()
    events: list[Event] = []
    resume("r", iterations=5, services=services(), on_event=events.append)
    assert any(
        "were lost or damaged" in note for event in events if isinstance(event, RunStarted) for note in event.notes
    )
    rows = store.ledger("r")
    assert [row.iteration for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [told(row) for row in rows[:3]] == before
    assert store.run("r").status == "finished"


@pytest.mark.parametrize("where", ["at its beginning", "in the middle"])
def test_damaged_checkpoints_are_set_aside_and_the_run_goes_on_from_the_store(photos: Path, where: str) -> None:  # noqa: F811
    interrupted_after(2, photos, iterations=4)
    path = checkpoints_path()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek(0 if where == "at its beginning" else 4096)
        file.write(b"\xff" * (100 if where == "at its beginning" else path.stat().st_size - 4096))
    events: list[Event] = []
    resume("r", services=services(), on_event=events.append)
    started = next(event for event in events if isinstance(event, RunStarted))
    assert any("is damaged" in note and "It is kept as" in note for note in started.notes)
    assert [row.iteration for row in open_store().ledger("r")] == [0, 1, 2, 3, 4]
    assert list(path.parent.glob("checkpoints.sqlite.damaged-*"))


def test_checkpoints_that_are_older_than_the_store_do_not_take_the_run_back(photos: Path) -> None:  # noqa: F811
    interrupted_after(1, photos, iterations=4)
    with sqlite3.connect(checkpoints_path()) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    old = checkpoints_path().read_bytes()
    resume("r", iterations=3, services=services())
    for file in checkpoints_path().parent.glob("checkpoints.sqlite*"):
        file.unlink()
    checkpoints_path().write_bytes(old)
    resume("r", iterations=5, services=services())
    assert [row.iteration for row in open_store().ledger("r")] == [0, 1, 2, 3, 4, 5]
    assert open_store().run("r").seconds < 60


def test_a_review_can_approve_edit_and_skip(photos: Path) -> None:  # noqa: F811
    answers = iter(
        [
            Review(action="approve"),
            Review(action="edit"),  # without an instruction it is asked again
            Review(action="edit", component="data", instruction="blur a little"),
            Review(action="skip", reason="I know better"),
            Review(action="approve"),
        ]
    )
    asked: list[ReviewAsked] = []

    def answer(question: ReviewAsked) -> Review:
        asked.append(question)
        return next(answers)

    team = services()
    run(settings(photos, iterations=2, review=True), name="r", services=team, on_review=answer)
    assert [one.iteration for one in asked] == [0, 1, 1, 1, 2]
    assert [one.question for one in asked][2] == "An edit needs an instruction: what is the engineer to do instead?"
    assert asked[1].proposal
    assert "+# change 0" in asked[1].changes
    assert asked[3].proposal
    assert (asked[3].proposal.component, asked[3].proposal.instruction) == ("data", "blur a little")
    rows = open_store().ledger("r")
    assert [row.verdict for row in rows][:2] == ["first", "skipped"]
    assert rows[1].summary.endswith("skipped by you: I know better")


def test_a_review_that_nobody_answers_stops_the_run_which_can_be_resumed_without(photos: Path) -> None:  # noqa: F811
    with pytest.raises(RunStopped, match="waits for your review of iteration 0.*improve resume r --no-review"):
        run(settings(photos, review=True), name="r", services=services())
    assert open_store().run("r").reason == "waits for your review"
    resume("r", review=False, services=services())
    assert [row.iteration for row in open_store().ledger("r")] == [0, 1]
