"""A file that a person asks for: there when all of it is, and never in place of something else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from schema.errors import InputError


@contextmanager
def output_file(option: str, file: str, suffixes: tuple[str, ...]) -> Iterator[TextIO]:
    """Open a text file for writing.

    Raises InputError, also if a file of another kind is there: options take the next word.
    """
    path = Path(file)
    if path.exists() and path.suffix.lower() not in suffixes:
        raise InputError(
            f"{option} {file}: it exists, and its name does not end in {' or '.join(suffixes)}. Give another name."
        )
    partial = path.with_name(path.name + ".partial")
    try:
        out = partial.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{option} {file} cannot be written: {error.strerror}.") from None
    try:
        with out:
            yield out
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
