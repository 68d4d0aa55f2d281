"""The one reader of what a job leaves behind. All of it is untrusted: no link is followed, no pickle is loaded, sizes come first."""

import io
import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from pydantic import ValidationError

from schema.job import Plan
from schema.pipeline import Fault
from schema.race import Race, Runner
from schema.team import EpochRow

# What an iteration keeps of its job: name there -> name in the iteration's folder.
KEPT = {
    "train.log": "train.log",
    "work/metrics.jsonl": "metrics.jsonl",
    "work/weights.safetensors": "weights.safetensors",
    "work/validation.npy": "predictions.npy",
}
LARGEST_CURVE = 8 * 2**20
CURVE_ROWS = 40
MOST_EPOCHS = 10**6
LARGEST_RACE, MOST_ENTRIES = 2**18, 100
HEADER = re.compile(
    r"\{'descr': '([<>|]\w{1,8})', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,80})\), \} *\n?"
)
FLOATS = {"<f2", "<f4", "<f8"}


class Unreadable(Exception):
    """A file that cannot be taken as it is."""


def open_regular(job_dir: Path, name: str) -> int:
    """A descriptor of a regular file beneath the job's directory. Raises Unreadable."""
    try:
        directory = os.open(job_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"the job left no directory ({error.strerror})") from None
    try:
        *folders, last = name.split("/")
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = inner
        descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        raise Unreadable(f"{name} was not written") from None
    except OSError as error:
        raise Unreadable(f"{name} is not a plain file ({error.strerror})") from None
    finally:
        os.close(directory)
    told = os.fstat(descriptor)
    if (
        not stat.S_ISREG(told.st_mode) or told.st_nlink > 1
    ):  # a second name may belong to a file that was never the job's
        os.close(descriptor)
        raise Unreadable(f"{name} is not a plain file")
    return descriptor


def read_bytes(job_dir: Path, name: str, limit: int, *, tail: bool = False) -> bytes:
    """At most `limit` bytes, from the start or (tail) from the end. Raises Unreadable."""
    with open(open_regular(job_dir, name), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if tail and size > limit:
            file.seek(size - limit)
        return file.read(limit)


def probabilities(job_dir: Path, split: str, n: int, num_classes: int) -> np.ndarray | Fault:
    """float64 [n, num_classes] from work/<split>.npy, each row a distribution; or the Fault that says what is wrong with it."""
    name = f"work/{split}.npy"
    try:
        with open(open_regular(job_dir, name), "rb") as file:
            return _distributions(file, name, n, num_classes)
    except (Unreadable, ValueError, EOFError) as error:
        return Fault(
            stage="score", kind="predictions", message=f"{error}. Expected class probabilities for {n} images."
        )


def _distributions(file: Any, name: str, n: int, num_classes: int) -> np.ndarray:
    if os.fstat(file.fileno()).st_size > n * num_classes * 8 + 4096:
        raise Unreadable(f"{name} is larger than {n} rows of {num_classes} classes")
    descr, fortran, shape = _header(file, name)
    if descr not in FLOATS or fortran == "True" or shape != f"{n}, {num_classes}":
        order = "in Fortran order " if fortran == "True" else ""
        raise Unreadable(f"{name} holds {descr} {order}({shape}), expected float ({n}, {num_classes})")
    dtype = np.dtype(descr)
    raw = file.read(n * num_classes * dtype.itemsize)
    rows = np.frombuffer(raw, dtype=dtype)
    if rows.size != n * num_classes:
        raise Unreadable(f"{name} ends after {rows.size} of {n * num_classes} numbers")
    rows = rows.reshape(n, num_classes).astype(np.float64)
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows).all(1)).sum())
        raise Unreadable(f"{name} has {bad} rows with NaN or infinite values")
    if (rows < -1e-6).any() or (np.abs(rows.sum(1) - 1) > 1e-2).any():
        raise Unreadable(f"{name} has rows that are not probabilities (negative, or not summing to 1)")
    return rows


def _header(file: Any, name: str) -> tuple[str, str, str]:
    """Of a .npy file as numpy.save writes it. numpy's own reader evaluates the text as Python, and fails in many ways on what is none."""
    version = npy.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
        raise Unreadable(f"{name} has an unknown .npy version {version}")
    size = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    found = HEADER.fullmatch(file.read(size).decode("latin-1")) if size <= 2000 else None
    if found is None:
        raise Unreadable(f"{name} has a header that numpy.save does not write for an array of numbers")
    return found[1], found[2], found[3]


def race(job_dir: Path, runners: tuple[Runner, ...]) -> Race | None:
    """What a race has told, as far as it is about those who ran; None if it left no such table."""
    raw = read_json(job_dir, "work/race.json", LARGEST_RACE)
    if raw is None:
        return None
    known = {(one.name, one.height, one.width, one.pad_type) for one in runners}
    try:
        told = Race.model_validate(raw)
    except ValidationError:
        return None
    entries = [
        entry
        for entry in told.entries[:MOST_ENTRIES]
        if not entry.pretrained or (entry.name, entry.height, entry.width, entry.pad_type) in known
    ]
    return told.model_copy(update={"entries": entries, "notes": [cleaned(note)[:300] for note in told.notes[:20]]})


def curve(job_dir: Path, rows: int = CURVE_ROWS) -> list[EpochRow]:
    """The training curve as logged, thinned to `rows`, first and last kept. Lines that are not of the form are left out."""
    try:
        text = read_bytes(job_dir, "work/metrics.jsonl", LARGEST_CURVE).decode("utf-8", errors="replace")
    except Unreadable:
        return []
    found = [row for line in text.splitlines() if (row := _epoch_row(line))]
    if len(found) <= rows:
        return found
    return [found[round(i * (len(found) - 1) / (rows - 1))] for i in range(rows)]


def planned_epochs(curve: list[EpochRow]) -> int | None:
    """Return how many epochs a training has set out to run, as it said last; None if it did not."""
    said = curve[-1].metrics.get("epochs", 0.0) if curve else 0.0
    return int(said) if 1 <= said <= MOST_EPOCHS else None


def last_epoch(work: Path) -> EpochRow | None:
    """The last row of the curve, while the training goes on in this work directory."""
    try:
        text = read_bytes(work, "metrics.jsonl", 4096, tail=True).decode("utf-8", errors="replace")
    except Unreadable:
        return None
    return next((row for line in reversed(text.splitlines()) if (row := _epoch_row(line))), None)


def _epoch_row(line: str) -> EpochRow | None:
    """What is no number is left out: a NaN would win or lose every comparison, and a whole number can be too large for a float."""
    try:
        raw = json.loads(line)
        epoch, seconds = raw.pop("epoch"), _number(raw.pop("seconds"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if seconds is None or type(epoch) is not int or not 0 <= epoch <= MOST_EPOCHS:
        return None
    numbers = {cleaned(str(key)[:40]): _number(value) for key, value in list(raw.items())[:20]}
    return EpochRow(epoch=epoch, seconds=seconds, metrics={key: n for key, n in numbers.items() if n is not None})


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def plan(job_dir: Path) -> Plan | None:
    raw = read_json(job_dir, "work/smoke.json")
    try:
        return Plan.model_validate(raw)
    except ValueError:
        return None


def read_json(job_dir: Path, name: str, limit: int = 2**20) -> Any:
    """A JSON file of the job, or None where it is absent or is not one."""
    try:
        return json.loads(read_bytes(job_dir, name, limit))
    except (Unreadable, ValueError, RecursionError):
        return None


def log_tail(job_dir: Path, lines: int = 40) -> str:
    """The last lines of the captured output, without control characters."""
    try:
        text = read_bytes(job_dir, "train.log", 64 * 1024, tail=True).decode("utf-8", errors="replace")
    except Unreadable:
        return ""
    return "\n".join(cleaned(line)[:500] for line in text.splitlines()[-lines:])


def cleaned(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c == "\t")


def safe_copy(job_dir: Path, name: str, to: Path, largest: int = 16 * 2**30) -> bool:
    """Copy one of the job's files out, whole or not at all; False where there is none that can be taken."""
    partial = to.with_name(to.name + ".partial")
    try:
        with open(open_regular(job_dir, name), "rb") as source, partial.open("wb") as target:
            if os.fstat(source.fileno()).st_size > largest:
                return False
            _copy(source, target)
        partial.replace(to)
    except Unreadable:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _copy(source: io.BufferedReader, target: io.BufferedWriter) -> None:
    """Holes stay holes: a file of many zeros that took a job no room takes none of ours."""
    while block := source.read(2**20):
        if block.count(0) == len(block):
            target.seek(len(block), io.SEEK_CUR)
        else:
            target.write(block)
    target.truncate(target.tell())
