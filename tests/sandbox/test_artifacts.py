"""What a job leaves behind is read as untrusted data: every trick is a named fault, and none of them hangs."""

import io
import json
import os
import re
import tarfile
import threading
import zipfile
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
        (save(np.ones((4, 2), np.int64)), "<i8"),
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
    assert re.search(message, found.message), found.message


@pytest.mark.parametrize(
    "header",
    ["{'descr': (", "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2L), }", "(" * 1900, "  x\n y\n  z", "{[]: 1}", "\0" * 50, ""],
)  # fmt: skip
def test_a_header_that_is_no_python_is_refused_by_name(work: Path, header: str) -> None:
    raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    (work / "validation.npy").write_bytes(raw + GOOD.tobytes())
    found = artifacts.probabilities(work.parent, "validation", 4, 2)
    assert isinstance(found, Fault)
    assert "a header that numpy.save does not write" in found.message


def tar(work: Path) -> None:
    with tarfile.open(work / "validation.npy", "w") as archive:
        entry = tarfile.TarInfo("../../owned")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"owned"))


def zipped(work: Path) -> None:
    with zipfile.ZipFile(work / "validation.npy", "w") as archive:
        archive.writestr("../../owned", "owned")


def npz(work: Path) -> None:
    with (work / "validation.npy").open("wb") as file:
        np.savez(file, GOOD)


@pytest.mark.parametrize("leave", [tar, zipped, npz])
def test_archives_are_refused_by_name_and_never_unpacked(work: Path, leave: Callable[[Path], None]) -> None:
    leave(work)
    found = artifacts.probabilities(work.parent, "validation", 4, 2)
    assert isinstance(found, Fault)
    assert "larger than" in found.message or "magic" in found.message
    assert [path.name for path in work.parent.rglob("*")] == ["work", "validation.npy"]


def test_what_is_swapped_while_it_is_read_gives_no_byte_of_a_secret(work: Path, tmp_path: Path) -> None:
    """In a real run nothing of the job is alive when we read; the reader does not depend on it."""
    secret = tmp_path / "secret"
    secret.mkdir()
    np.save(secret / "validation.npy", np.full((4, 2), [0.25, 0.75], np.float32))
    np.save(work / "good", GOOD)
    (work / "link").symlink_to(secret / "validation.npy")
    (work / "folder").mkdir()
    (work / "aside").symlink_to(secret)
    over, swaps = threading.Event(), 0

    def swap() -> None:
        nonlocal swaps
        target = work / "validation.npy"
        while not over.is_set():
            for name in ("good.npy", "link", "folder"):
                (work / name).rename(target)
                target.rename(work / name)
            work.rename(tmp_path / "away")  # the directory itself, for one that leads to the secret
            (tmp_path / "away/aside").rename(work)
            work.rename(tmp_path / "away/aside")
            (tmp_path / "away").rename(work)
            swaps += 5

    thread = threading.Thread(target=swap)
    thread.start()
    seen: dict[str, int] = {}
    try:
        while swaps < 20_000:
            found = artifacts.probabilities(work.parent, "validation", 4, 2)
            seen["rows" if isinstance(found, np.ndarray) else found.kind] = 1
            assert isinstance(found, Fault) or (found == 0.5).all()
            artifacts.safe_copy(work.parent, "work/validation.npy", tmp_path / "copied")
            assert not (tmp_path / "copied").exists() or (np.load(tmp_path / "copied") == 0.5).all()
    finally:
        over.set()
        thread.join()
    assert seen == {"rows": 1, "predictions": 1}


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


@pytest.mark.parametrize(
    "line",
    [
        '{"epoch": 1e400, "seconds": 1}',
        '{"epoch": NaN, "seconds": 1}',
        '{"epoch": -3, "seconds": 1}',
        '{"epoch": 1000000000000000000, "seconds": 1}',
        '{"epoch": true, "seconds": 1}',
        '{"epoch": "1", "seconds": 1}',
        '{"epoch": 1, "seconds": Infinity}',
        '{"epoch": 1, "seconds": 1' + "0" * 400 + "}",
        '{"epoch": 1, "seconds": 1, "deep": ' + "[" * 10**5 + "]" * 10**5 + "}",
        '{"epoch": 1, "seconds": 1, "x": "' + "x" * 10**8,
    ],
)
def test_a_row_of_the_curve_that_is_none_is_left_out(work: Path, line: str) -> None:
    (work / "metrics.jsonl").write_text(line)
    assert artifacts.curve(work.parent) == []
    assert artifacts.last_epoch(work) is None


def test_of_a_row_only_finite_numbers_under_readable_names_are_kept(work: Path) -> None:
    """A NaN would win every max(), and a whole number may be too large for a float."""
    row = '{"epoch": 1, "seconds": 1, "loss": 2, "a": NaN, "b": 1e400, "c": %s, "d": "0.9", "e": true, "f": [1], "acc\\u001b[2J\\u202e\\ud800": 3}'
    (work / "metrics.jsonl").write_text(row % ("9" * 400))
    [found] = artifacts.curve(work.parent)
    assert found.metrics == {"loss": 2.0, "acc[2J": 3.0}
    assert artifacts.last_epoch(work) == found
    assert found.model_dump_json()


@pytest.mark.parametrize(
    "forged",
    [
        {"epochs": -1},
        {"epochs": float("nan")},
        {"epochs": 10**18},
        {"epochs": 10**400},
        {"images_per_second": float("inf")},
        {"images_per_second": float("nan")},
        {"images_per_second": -1},
        {"threads": 10**9},
        {"precision": "float8"},
        {"more": 1},
    ],
)
def test_a_plan_out_of_bounds_is_none(work: Path, forged: dict[str, object]) -> None:
    plan = {"epochs": 3, "threads": 1, "images_per_second": 10.0}
    (work / "smoke.json").write_text(json.dumps(plan))
    assert artifacts.plan(work.parent)
    (work / "smoke.json").write_text(json.dumps(plan | forged))
    assert artifacts.plan(work.parent) is None


def test_the_log_comes_without_control_characters(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_bytes(b"one\n\x1b[31mred\x1b[0m\x07\ntwo\xff\n")
    assert "\x1b" not in artifacts.log_tail(tmp_path)
    assert "red" in artifacts.log_tail(tmp_path)


def test_no_trusted_code_opens_weights() -> None:
    """They are copied as bytes; only the script, in a sandbox or at the person's, has a parser for them. (torch.hub downloads.)"""
    root = Path(artifacts.__file__).parent.parent
    rooms = ("agents", "checkpoints", "dataset", "graph", "improve", "nodes", "sandbox", "schema")
    parsers = re.compile(r"^\s*(?:from|import) (?:safetensors|pickle|torch)\b(?!\.hub)", re.MULTILINE)
    found = {
        str(file.relative_to(root))
        for room in rooms
        for file in (root / room).rglob("*.py")
        if parsers.search(file.read_text())
    }
    assert {name for name in found if not name.startswith("sandbox/script/")} == {
        "sandbox/harness.py",
        "sandbox/race.py",
        "sandbox/warm.py",
        "sandbox/device_check.py",
    }


def test_files_are_copied_whole_or_not_at_all(work: Path, tmp_path: Path) -> None:
    (work / "weights.safetensors").write_bytes(b"x" * 1000)
    assert artifacts.safe_copy(work.parent, "work/weights.safetensors", tmp_path / "kept")
    assert (tmp_path / "kept").stat().st_size == 1000
    assert not artifacts.safe_copy(work.parent, "work/weights.safetensors", tmp_path / "small", largest=10)
    assert not (tmp_path / "small").exists()


def test_a_copy_takes_no_more_room_than_what_is_copied(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with (tmp_path / "work/weights.safetensors").open("wb") as file:
        file.write(b"begin")
        file.truncate(2**28)
        file.seek(2**27)
        file.write(b"middle")
    assert artifacts.safe_copy(tmp_path, "work/weights.safetensors", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "work/weights.safetensors").read_bytes()
    assert (tmp_path / "copy").stat().st_blocks * 512 < 2**23
