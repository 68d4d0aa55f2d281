"""Blame: the deepest line inside a component, unless the harness knows better; limits and silent deaths from what was last seen."""

from typing import Any, get_args

import pytest

from benchmarks.mistakes.good import GOOD
from dataset.decode import SOURCE
from sandbox.assemble import assemble, sections
from sandbox.attribution import fault_from
from schema.job import Limit, Limits
from schema.pipeline import Cause, Component, Fault

SCRIPT = assemble(GOOD["own-loop"], SOURCE, title="test")
LIMITS = Limits(train_seconds=60, memory_bytes=2**31)


def row(component: Component, line: int) -> int:
    return sections(SCRIPT)[component].start + line - 1


def frame(line: int, name: str, file: str = "pipeline.py") -> dict[str, Any]:
    return {"file": file, "line": line, "name": name, "text": "y = f(x)"}


def blamed(account: Any = None, log: str = "", limit: Limit | None = None, status: int | None = 1) -> Fault:
    return fault_from("smoke", account, log, SCRIPT, exit_status=status, limit=limit, limits=LIMITS)


def raised(*frames: dict[str, Any], kind: str = "RuntimeError", message: str = "boom", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "message": message, "frames": list(frames), **more}


TRAINING, MODEL, LIBRARY = (
    frame(row("training", 24), "train"),
    frame(row("model", 22), "forward"),
    frame(1, "linear", "linear.py"),
)


@pytest.mark.parametrize(
    ("frames", "component", "line"),
    [
        ([TRAINING], "training", 24),
        ([TRAINING, MODEL], "model", 22),
        ([TRAINING, MODEL, LIBRARY], "model", 22),
        ([frame(3, "smoke", "harness.py"), LIBRARY], None, None),
    ],
)
def test_deepest_line_inside_a_component_decides(
    frames: list[dict[str, Any]], component: Component | None, line: int | None
) -> None:
    fault = blamed(raised(*frames))
    assert (fault.component, fault.line) == (component, line)


def test_harness_may_name_the_component() -> None:
    fault = blamed(raised(MODEL, component="training"))
    assert (fault.component, fault.line) == ("training", None)


def test_probe_decides_where_no_line_is_a_components() -> None:
    assert blamed(raised(LIBRARY, probe="data")).component == "data"


def test_excerpt_has_the_tracebacks_lines_with_the_components_numbers() -> None:
    excerpt = blamed(raised(frame(9, "main", "harness.py"), TRAINING, MODEL)).excerpt
    assert "training component, line 24, in train" in excerpt
    assert "model component, line 22, in forward" in excerpt
    assert "harness.py" not in excerpt


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("mat1 and mat2 shapes cannot be multiplied (8x64 and 512x10)", "follow the shapes"),
        ("Expected all tensors to be on the same device, but found cuda:0 and cpu", "info.device"),
        ("Target 10 is out of bounds.", "labels int64 [B]"),
    ],
)
def test_message_says_what_usually_helps(message: str, says: str) -> None:
    fault = blamed(raised(MODEL, message=message))
    assert message in fault.message
    assert says in fault.message


def test_message_has_no_path_of_the_machine() -> None:
    fault = blamed(raised(MODEL, kind="FileNotFoundError", message="no file '/home/someone/secret/best.pt'"))
    assert "someone" not in fault.message + fault.excerpt
    assert "best.pt" in fault.message


def test_wrong_call_of_the_toolbox_shows_its_signature() -> None:
    said = "EMA.__init__() got an unexpected keyword argument 'beta'"
    assert "EMA(model: nn.Module, decay" in blamed(raised(TRAINING, kind="TypeError", message=said)).message


DUMP = f"""epoch 1
Current thread 0x00007f (most recent call first):
  File "/somewhere/torch/nn/functional.py", line 80 in relu
  File "/somewhere/pipeline.py", line {row("model", 22)} in forward
  File "/somewhere/pipeline.py", line {row("training", 24)} in train
"""


@pytest.mark.parametrize("limit", ["time", "memory", "output", "disk", "processes"])
def test_limit_is_blamed_on_where_the_process_was(limit: str) -> None:
    fault = blamed(log=DUMP, limit=limit, status=None)
    assert (fault.kind, fault.component, fault.line) == (limit, "model", 22)
    assert "and was ended" in fault.message


@pytest.mark.parametrize("word", get_args(Cause))
def test_what_a_job_calls_its_exception_decides_nothing(word: str) -> None:
    """A class named `sandbox` once ended the whole run, and a `stopped` one could not be resumed."""
    fault = blamed(raised(TRAINING, kind=word) | {"cause": word, "limit": word})
    assert (fault.kind, fault.cause) == (word, "code")


@pytest.mark.parametrize("limit", get_args(Limit))
def test_a_limit_is_what_our_side_saw_whatever_the_job_says(limit: Limit) -> None:
    fault = blamed(raised(TRAINING, kind="TypeError"), limit=limit)
    assert (fault.kind, fault.cause) == (limit, limit)


def test_death_without_an_account_is_read_from_the_dump() -> None:
    fault = blamed(log=DUMP, status=-11)
    assert (fault.kind, fault.component, fault.line) == ("died", "model", 22)
    assert "signal 11" in fault.message


def test_leaving_the_process_is_told_as_such() -> None:
    assert "left the process by itself" in blamed(raised(TRAINING, kind="SystemExit", message="0")).message


@pytest.mark.parametrize(
    "account",
    [
        "text",
        {"frames": "none"},
        {"kind": 3, "message": None, "frames": [None, 4, {"file": "pipeline.py", "line": "x"}]},
        {"kind": "x", "message": "m", "frames": [], "component": [], "probe": {}},
        {"kind": [], "message": {"a": "b"}, "frames": [{"file": [], "line": True, "name": {}, "text": 1}]},
        {"kind": "Input type and weight type " * 40_000, "message": "/a" * 10**6, "frames": [{}] * 10**6},
        {"kind": "E", "message": "line\n" * 10**6, "frames": [{"file": "a\nb\x1b]0;owned\x07", "text": "\u202e"}] * 40},
        {"kind": "x" * 9999, "message": "\x1b[31m" + "y" * 99999, "frames": [], "component": "the user"},
    ],
)
def test_account_is_untrusted(account: Any) -> None:
    fault = blamed(account)
    assert fault.component is None
    assert len(fault.message) + len(fault.excerpt) + len(fault.kind) < 4000
    assert not {"\x1b", "\x07", "\u202e"} & set(fault.kind + fault.message + fault.excerpt)
