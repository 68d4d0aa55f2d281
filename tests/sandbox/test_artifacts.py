"""What a job leaves behind is read as untrusted data: every trick is a named fault, and none of them hangs."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sandbox import artifacts
from schema.pipeline import Fault

GOOD = np.full((4, 2), 0.5, np.float32)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def save(array: np.ndarray) -> Callable[[Path], None]:
    return lambda work: np.save(work / "validation.npy", array, allow_pickle=True)


def link(work: Path) -> None:
    np.save(work / "real.npy", GOOD)
    (work / "validation.npy").symlink_to(work / "real.npy")


def fifo(work: Path) -> None:
    os.mkfifo(work / "validation.npy")


def sparse(work: Path) -> None:
    np.save(work / "validation.npy", GOOD)
    os.truncate(work / "validation.npy", 2**40)


def truncated(work: Path) -> None:
    np.save(work / "validation.npy", GOOD)
    os.truncate(work / "validation.npy", 140)


def text(work: Path) -> None:
    (work / "validation.npy").write_text("not an array")


def folder(work: Path) -> None:
    (work / "validation.npy").mkdir()


def nan(value: float) -> np.ndarray:
    array = GOOD.copy()
    array[2, 1] = value
    return array


@pytest.mark.parametrize(
    ("leave", "message"),
    [
        (lambda _: None, "was not written"),
        (link, "not a plain file"),
        (fifo, "not a plain file"),
        (folder, "not a plain file"),
        (sparse, "larger than 4 rows"),
        (truncated, "ends after"),
        (text, "magic"),
        (save(np.full((3, 2), 0.5, np.float32)), r"\(3, 2\), expected float \(4, 2\)"),
        (save(np.ones((4, 2), np.int64)), "int64"),
        (save(np.array([[{}, 1]] * 4, dtype=object)), "expected float"),
        (save(np.asfortranarray(GOOD)), "expected float"),
        (save(nan(np.nan)), "1 rows with NaN"),
        (save(nan(np.inf)), "NaN or infinite"),
        (save(nan(0.9)), "not probabilities"),
        (save(np.tile(np.float32([-1.0, 2.0]), (4, 1))), "not probabilities"),
    ],
)
def test_predictions_that_cannot_be_taken_are_a_fault(work: Path, leave: Callable[[Path], None], message: str) -> None:
    leave(work)
    found = artifacts.probabilities(work.parent, "validation", 4, 2)
    assert isinstance(found, Fault)
    assert found.stage == "score"
    import re

    assert re.search(message, found.message), found.message


def test_good_predictions_come_back_as_numbers(work: Path) -> None:
    np.save(work / "validation.npy", GOOD)
    found = artifacts.probabilities(work.parent, "validation", 4, 2)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64


def test_a_linked_parent_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    np.save(tmp_path / "elsewhere" / "validation.npy", GOOD)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "work").symlink_to(tmp_path / "elsewhere")
    assert isinstance(artifacts.probabilities(tmp_path / "job", "validation", 4, 2), Fault)


def test_a_curve_keeps_what_is_a_number_and_its_ends(work: Path) -> None:
    rows = [f'{{"epoch": {i}, "seconds": {i}, "train_loss": {1 / i}, "note": "x"}}' for i in range(1, 101)]
    (work / "metrics.jsonl").write_text("\n".join([*rows, "nonsense", "[1]", '{"epoch": 1}', '{"cut": true}']))
    curve = artifacts.curve(work.parent)
    assert (len(curve), curve[0].epoch, curve[-1].epoch) == (40, 1, 100)
    assert curve[0].metrics.keys() == {"train_loss"}


def test_the_log_comes_without_control_characters(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_bytes(b"one\n\x1b[31mred\x1b[0m\x07\ntwo\xff\n")
    assert "\x1b" not in artifacts.log_tail(tmp_path)
    assert "red" in artifacts.log_tail(tmp_path)


def test_files_are_copied_whole_or_not_at_all(work: Path, tmp_path: Path) -> None:
    (work / "weights.safetensors").write_bytes(b"x" * 1000)
    assert artifacts.safe_copy(work.parent, "work/weights.safetensors", tmp_path / "kept")
    assert (tmp_path / "kept").stat().st_size == 1000
    assert not artifacts.safe_copy(work.parent, "work/weights.safetensors", tmp_path / "small", largest=10)
    assert not (tmp_path / "small").exists()
