"""Predictions as text: for people, as a table (CSV), and as JSON; each written as soon as it is known."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from improve.output_file import output_file
from improve.predict import Prediction
from improve.terminal import open_console
from schema.text import one_line, readable

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
    from rich.progress import (  # noqa: PLC0415 - rich takes a tenth of a second to import
        BarColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    shown = TextColumn(f"predicting {images:,} images"), BarColumn(), TextColumn("{task.percentage:.0f} %")
    lines_come_here, console = sys.stdout.isatty(), open_console(err=True)  # those of the answer go above the bar
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
    """Write a column for each class in the order of the training, or the best ones with their classes.

    What could not be read is left out.

    Names are exact, so that the rows can be joined with others, but for bytes that are no UTF-8 (`\\xfc`, as
    everywhere). Only on a terminal they are made harmless.
    """
    name_of = _one_name if out.isatty() else readable
    more = [f"{what}_{place}" for place in range(2, (top or 0) + 1) for what in ("class", "probability")]
    _write_row(out, ["file", "class", "probability", *(more if top else map(name_of, classes))])
    for one in found:
        if one.problem is None:
            ranked = [entry for name, p in one.classes[:top] for entry in (name_of(name), f"{p:.6f}")]
            known = dict(one.classes)
            each = ranked[2:] if top else [f"{known[name]:.6f}" for name in classes]
            _write_row(out, [name_of(str(one.file)), *ranked[:2], *each])
        yield one


def _write_row(out: TextIO, cells: list[str]) -> None:
    """Quote where it is needed; the module `csv` forgets a carriage return that is no line end of its own."""
    all_of_them = any("\r" in cell for cell in cells)
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL if all_of_them else csv.QUOTE_MINIMAL).writerow(cells)


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
    """The file's name for a terminal."""
    return _one_name(str(one.file))


def _one_name(name: str) -> str:
    return one_line(name, NO_LIMIT)
