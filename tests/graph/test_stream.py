"""A run in a loop, and in an event loop: notebooks and asynchronous programs. The jobs are instant; the rest is real."""

import asyncio
import contextvars
from pathlib import Path

import pytest

import improve
from checkpoints.saver import open_checkpointer
from checkpoints.store import open_store
from graph.build import build_graph
from graph.run import begun, resume, resumed
from schema.errors import DatasetError, SettingsError, UnknownRun
from schema.events import Finished, RunStarted, Settled
from tests.graph.test_resume import photos, services, settings  # noqa: F401 - a fixture


def test_a_loop_that_is_left_stops_the_run_which_goes_on_in_another(photos: Path) -> None:  # noqa: F811
    for event in begun(settings(photos, iterations=2), name="r", services=services()):
        if isinstance(event, Settled):
            break
    assert open_store().run("r").status == "stopped"
    events = list(resumed("r", services=services()))
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], Finished)
    assert [row.iteration for row in open_store().ledger("r")] == [0, 1, 2]


def test_each_event_may_be_asked_for_in_another_context_as_in_the_cells_of_a_notebook(photos: Path) -> None:  # noqa: F811
    events = begun(settings(photos), name="r", services=services())
    while contextvars.copy_context().run(next, events, None):
        pass
    assert open_store().run("r").status == "finished"


def test_the_graph_runs_in_an_event_loop_and_is_resumed_outside_of_it(photos: Path) -> None:  # noqa: F811
    async def main() -> None:
        with open_checkpointer() as saver:
            graph = build_graph(services()).compile(checkpointer=saver)
            asked = settings(photos).model_dump(mode="json")
            await graph.ainvoke(asked, {"configurable": {"thread_id": "r"}})  # type: ignore[call-overload]

    asyncio.run(main())
    assert open_store().run("r").status == "finished"
    resume("r", iterations=2, services=services())
    assert [row.iteration for row in open_store().ledger("r")] == [0, 1, 2]


def test_a_run_has_started_when_its_images_are_known_to_be_good(photos: Path) -> None:  # noqa: F811
    told = [event.kind for event in begun(settings(photos), name="r", services=services())]
    assert [kind for kind in told if kind != "preparing"][:2] == ["run_started", "dataset_ready"]
    events = begun(settings(photos.parent / "misspelt"), name="s", services=services())
    with pytest.raises(DatasetError):
        next(events)


def test_a_setting_that_does_not_exist_is_refused_with_the_near_one() -> None:
    with pytest.raises(SettingsError, match="iteration=1: there is no such setting. Did you mean iterations"):
        improve.run("photos/", iteration=1)


def test_what_a_run_keeps_as_it_began_is_said() -> None:
    with pytest.raises(
        SettingsError, match=r"metric, seed: a run keeps that as it began. What can be given anew: budget_seconds, "
    ):
        improve.resume("r", metric="auroc", seed=1)


def test_an_unknown_run_is_said_when_the_loop_begins() -> None:
    with pytest.raises(UnknownRun, match="There is no run yet"):
        next(improve.stream_resumed("r"))
