"""The graph's shape: the picture in the README is the graph, and the server finds it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from checkpoints.saver import open_checkpointer
from graph.build import build_graph, graph
from nodes.services import Services
from schema.errors import DatasetError, SettingRefused

ROOT = Path(__file__).resolve().parents[2]
NODES = {
    "profile",
    "race",
    "project_architect",
    "data_engineer",
    "model_engineer",
    "training_engineer",
    "assemble",
    "review",
    "sandbox",
    "repair",
    "decide",
    "summarize",
    "performance_analyst",
    "report",
}


def test_the_nodes_have_the_names_that_old_runs_wait_at() -> None:
    assert set(graph.get_graph().nodes) == NODES | {"__start__", "__end__"}


def test_the_picture_in_the_readme_is_drawn_from_the_code() -> None:
    assert graph.get_graph().draw_mermaid().strip() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_exported_graph_brings_no_checkpointer() -> None:
    assert graph.checkpointer is None


def test_the_server_finds_the_graph_and_the_checkpointer() -> None:
    config = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
    assert config["graphs"]["improve"]["path"] == "graph.build:graph"
    module, name = config["checkpointer"]["path"].split(":")
    assert f"def {name}(" in (ROOT / module).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "digits", "iteration": 1}, "iteration=1: there is no such setting. Did you mean iterations?"),
        ({"dataset": "digits", "iterations": "many"}, "iterations='many': expected a whole number from 0 to 10000"),
        ({"iterations": 1}, "dataset: is missing"),
    ],
)
def test_an_input_with_a_wrong_field_is_refused_by_name_and_the_thread_stays_usable(
    given: dict[str, Any], message: str
) -> None:
    with open_checkpointer() as saver:
        compiled = build_graph(Services()).compile(checkpointer=saver)
        thread: Any = {"configurable": {"thread_id": "t"}}
        with pytest.raises(SettingRefused, match=re.escape(message)):
            compiled.invoke(given, thread)  # type: ignore[arg-type]
        with pytest.raises(DatasetError):  # of the next input, not of the one before
            compiled.invoke({"dataset": "/nowhere/photos"}, thread)  # type: ignore[arg-type]


def test_the_input_form_describes_every_setting() -> None:
    properties = graph.get_input_jsonschema()["properties"]
    assert {"dataset", "iterations", "train_seconds", "metric"} <= properties.keys()
    assert all("description" in field for field in properties.values())
