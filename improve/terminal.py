"""The one way to a terminal: what others wrote (names, models, generated code) is shown, and not obeyed."""

import json
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import typer

from schema.text import plain, readable

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251

WIDTH_ELSEWHERE = 180  # columns of a table that goes to a file or a pipe


def say(text: str, *, err: bool = False) -> None:
    """Print lines on standard output or standard error, without control characters and invisible marks.

    A name in them is the writer's to put on one line: `schema.text.one_line`.
    """
    typer.echo(plain(readable(text)), err=err)  # noqa: TID251 - here alone


def say_wrapped(text: str) -> None:
    """Print a sentence on standard output, at a terminal with its lines broken between words."""
    if not sys.stdout.isatty():
        say(text)
        return
    width = shutil.get_terminal_size().columns
    say("\n".join(textwrap.wrap(plain(readable(text)), width, break_long_words=False, break_on_hyphens=False) or [""]))


def say_json(value: Any, *, indent: int | None = None) -> None:
    """Print a value for programs on standard output.

    Names in it stay exact: JSON spells what a terminal would obey.
    """
    typer.echo(json.dumps(value, indent=indent))  # noqa: TID251


def open_console(*, err: bool = False, wide: bool = False) -> "Console":
    """Make a console of rich for which text is text: `[red]` and `:warning:` are names, not markup.

    `wide`: also where nobody looks at it. Line breaks and control characters are the writer's to leave out.
    """
    from rich.console import Console  # noqa: PLC0415, TID251 - a tenth of a second; here alone

    console = Console(stderr=err, markup=False, emoji=False)
    if wide and not console.is_terminal:
        console.width = WIDTH_ELSEWHERE
    return console
