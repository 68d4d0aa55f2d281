"""Predictions as text: for people, as a table (CSV), and as JSON; each written as soon as it is known."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from improve.output_file import output_file
from improve.predict import Prediction
from schema.text import one_line

SHOWN = 3  # classes of an image, for people
LONGEST_NAME = 60  # of a class, for people
NO_LIMIT = 10_000  # characters of a name in a table
TABLES = (".csv", ".tsv", ".txt")


@contextmanager
def table_at(file: str) -> Iterator[TextIO]:
    """Open a table for writing; `-` is standard output. Raises InputError."""
    if file == "-":
        yield sys.stdout
        return
    with output_file("--csv", file, TABLES) as out:
        yield out


@contextmanager
def progress_bar(images: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error, if that is a terminal. What is yielded is to be called twice for each image."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415 - rich takes a tenth of a second to import
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    shown = TextColumn(f"predicting {images:,} images"), BarColumn(), TextColumn("{task.percentage:.0f} %")
    lines_come_here, console = sys.stdout.isatty(), Console(stderr=True)  # those of the answer go above the bar
    with Progress(
        *shown, TimeRemainingColumn(), console=console, transient=True, redirect_stdout=lines_come_here
    ) as progress:
        task = progress.add_task("", total=2 * images)
        yield lambda: progress.advance(task)


def write_lines(found: Iterator[Prediction], out: TextIO, top: int | None) -> Iterator[Prediction]:
    """`photo.jpg  class cat: 98.3 %  class dog: 1.7 %`. What could not be read is left out, and passed on."""
    for one in found:
        if one.problem is None:
            shares = [f"class {one_line(name, LONGEST_NAME)}: {p:.1%}" for name, p in one.classes[: top or SHOWN]]
            out.write(f"{shown_name(one)}  {'  '.join(shares).replace('%', ' %')}\n")
        yield one


def write_csv(found: Iterator[Prediction], out: TextIO, classes: list[str], top: int | None) -> Iterator[Prediction]:
    """A column for each class in the order of the training, or the best ones with their classes. What could not be read is left out."""
    writer = csv.writer(out, lineterminator="\n")
    cleaned = {name: one_line(name, NO_LIMIT) for name in classes}
    more = [f"{what}_{place}" for place in range(2, (top or 0) + 1) for what in ("class", "probability")]
    writer.writerow(["file", "class", "probability", *(more if top else cleaned.values())])
    for one in found:
        if one.problem is None:
            ranked = [entry for name, p in one.classes[:top] for entry in (cleaned[name], f"{p:.6f}")]
            known = dict(one.classes)
            each = ranked[2:] if top else [f"{known[name]:.6f}" for name in classes]
            writer.writerow([_file_text(one), *ranked[:2], *each])
        yield one


def write_json(found: Iterator[Prediction], out: TextIO, top: int | None) -> Iterator[Prediction]:
    """A list with one object per image, those that could not be read too. Names are exact."""
    before = "["
    for one in found:
        row = {"file": str(one.file), "problem": one.problem, "classes": dict(one.classes[:top])}
        out.write(f"{before}{json.dumps(row)}")
        before = ",\n"
        yield one
    out.write("]\n" if before != "[" else "[]\n")


def shown_name(one: Prediction) -> str:
    """The file's name for a terminal: bytes that are no text and characters that it would obey are replaced or left out."""
    return one_line(os.fsencode(one.file).decode("utf-8", errors="replace"), NO_LIMIT)


def _file_text(one: Prediction) -> str:
    return str(one.file).encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
