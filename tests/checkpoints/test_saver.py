"""The checkpointer does all that LangGraph asks of one, in a file and on a server."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from checkpoints.saver import open_checkpointer
from schema.pipeline import Fault

pytestmark = pytest.mark.usefixtures("either_database")


def config(thread: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


class Counted(TypedDict):
    n: int
    words: list[str]


def counting(saver: Any, steps: int = 3) -> Any:
    """A graph that counts `n` up to `steps`, one checkpoint each."""
    graph = StateGraph(Counted)
    graph.add_node("count", lambda state: {"n": state["n"] + 1, "words": [*state["words"], "more"]})
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", lambda state: END if state["n"] >= steps else "count", ["count", END])
    return graph.compile(checkpointer=saver)


def test_it_conforms_in_full() -> None:
    number = count()

    @checkpointer_test(name="ours")
    async def fresh():  # type: ignore[no-untyped-def]
        with open_checkpointer() as saver:
            for thread in {found.config["configurable"]["thread_id"] for found in saver.list(None)}:
                saver.delete_thread(thread)
            next(number)
            yield saver

    report = asyncio.run(validate(fresh))
    assert report.passed_all(), report
    assert next(number) > 1


def test_sixteen_threads_share_it() -> None:
    with open_checkpointer() as saver, ThreadPoolExecutor(16) as pool:
        graph = counting(saver, 5)
        found = list(pool.map(lambda i: graph.invoke({"n": 0, "words": []}, config(f"t{i}")), range(48)))
        assert [len(list(saver.list(config(f"t{i}")))) for i in range(48)] == [7] * 48
    assert {state["n"] for state in found} == {5}


def test_an_importable_type_smuggled_into_a_checkpoint_does_not_come_back() -> None:
    with open_checkpointer() as saver:
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"smuggled": Fault(stage="smoke", kind="TypeError", message="no")}
        checkpoint["channel_versions"] = {"smuggled": "1"}
        written = saver.put(config("t"), checkpoint, {}, {"smuggled": "1"})  # type: ignore[arg-type]
        saver.put_writes(written, [("smuggled", Fault(stage="smoke", kind="TypeError", message="no"))], "task")
        found = saver.get_tuple(config("t"))  # type: ignore[arg-type]
    assert found
    assert found.pending_writes
    for value in (found.checkpoint["channel_values"]["smuggled"], found.pending_writes[0][2]):
        assert type(value) is dict


GO_ON = """
import sys, time
real = time.time_ns
time.time_ns = lambda: real() + int(sys.argv[1]) * 86400 * 10**9
from checkpoints.saver import open_checkpointer
from tests.checkpoints.test_saver import config, counting
with open_checkpointer() as saver:
    graph = counting(saver, int(sys.argv[2]))
    before = graph.get_state(config("t")).values
    if before:
        graph.update_state(config("t"), {"n": before["n"]}, as_node="__start__")
    print(graph.invoke(None if before else {"n": 0, "words": []}, config("t"))["n"])
"""


def test_a_clock_that_has_gone_back_a_day_between_two_processes_loses_no_step() -> None:
    counted = []
    for days, steps in ((1, 3), (0, 6)):
        command = [sys.executable, "-c", GO_ON, str(days), str(steps)]
        counted.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        with open_checkpointer() as saver:
            assert counting(saver).get_state(config("t")).values["n"] == steps
    assert counted == ["3", "6"]


def test_a_text_with_a_nul_character_is_kept() -> None:
    """As a model may write it. A server refuses the character; what only looks like one stays."""
    with open_checkpointer() as saver:
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"reason": "one\0two \\u0000"}
        checkpoint["channel_versions"] = {"reason": "1"}
        saver.put(config("inline"), checkpoint, {}, {"reason": "1"})  # type: ignore[arg-type]
        found = saver.get_tuple(config("inline"))  # type: ignore[arg-type]
    assert found
    assert found.checkpoint["channel_values"]["reason"] in {"onetwo \\u0000", "one\0two \\u0000"}


def test_pruning_keeps_the_state_and_gives_the_room_back() -> None:
    with open_checkpointer() as saver:
        graph = counting(saver, 300)
        graph.invoke({"n": 0, "words": []}, config("t") | {"recursion_limit": 500})
        before = saver.size()
        saver.prune(["t"])
        saver.compact()
        assert saver.size() < before / 5
        assert len(list(saver.list(config("t")))) == 1  # type: ignore[arg-type]
        assert graph.get_state(config("t")).values["n"] == 300


def test_runs_of_the_server_are_deleted_with_what_belonged_to_them() -> None:
    with open_checkpointer() as saver:
        graph = counting(saver)
        for run in ("one", "two"):
            graph.invoke({"n": 0, "words": []}, {"configurable": {"thread_id": run}, "metadata": {"run_id": run}})
        saver.delete_for_runs(["one"])
        assert not graph.get_state(config("one")).values
        assert graph.get_state(config("two")).values["n"] == 3
