"""The images that a command is given: files, folders, patterns, and a list on standard input."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataset.inventory import count_others, foreign_below, images_below, take_inventory
from schema.errors import InputError

STANDARD_INPUT = "-"


@dataclass(slots=True)
class Given:
    """What was found: files to be read, and what is told of the rest."""

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def images_given(arguments: Sequence[str], read_list: Callable[[], bytes]) -> Given:
    """Find the images. A folder gives those in it and below, whatever their suffix; what else lies there is counted.

    A file that is named is taken as it is: whether it can be read shows when it is. Raises InputError where nothing is found.
    """
    given = Given()
    for argument in arguments:
        if argument == STANDARD_INPUT:
            given.files += _listed(read_list())
        elif Path(argument).is_dir():
            _take_folder(Path(argument), given)
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            _take_pattern(argument, given)
        else:
            given.files.append(Path(argument))
    if not given.files:
        raise InputError(
            " ".join(given.notes) or "There is no image to predict. Give files, a folder, or - for a list."
        )
    return given


def _listed(raw: bytes) -> list[Path]:
    """One path a line, or each ended by a NUL as `find -print0` writes them."""
    lines = raw.split(b"\0") if b"\0" in raw else [line.removesuffix(b"\r") for line in raw.split(b"\n")]
    return [Path(os.fsdecode(line)) for line in lines if line]


def _take_folder(folder: Path, given: Given) -> None:
    tree = take_inventory(folder)
    found = [folder / name for name in images_below(tree)]
    others = count_others(tree, set()) | Counter(reason for _, reason in foreign_below(tree))
    left = "; ".join(f"{count:,} × {reason}" for reason, count in sorted(others.items()))
    given.files += found
    if left or not found:
        given.notes.append(f"{folder}: {len(found):,} images{f', and not read: {left}' if left else ''}.")


def _take_pattern(pattern: str, given: Given) -> None:
    """A pattern that no shell has spelt out, since it was quoted or too long; `**` reaches into folders."""
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - a Path takes no absolute pattern
    if not found:
        given.notes.append(f"{pattern}: no file matches.")
    for name in found:
        if Path(name).is_dir():
            _take_folder(Path(name), given)
        else:
            given.files.append(Path(name))
