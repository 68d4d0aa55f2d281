"""Which image a table means: names of another machine, another system or another spelling are matched, and
never guessed."""

import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from dataset.decode import SUFFIXES
from dataset.split_names import split_of
from schema.dataset import Split

OTHER_SUFFIXES = frozenset({".heic", ".heif", ".dcm", ".cr2", ".nef"})


@dataclass(frozen=True, slots=True)
class Match:
    """The image that a name stands for; without a path, why there is none."""

    path: str | None
    reason: str = ""  # absent, ambiguous
    loosely: str = ""  # how, if not by its own name: number, stem
    shared: int = 0  # folders that the name and the path have in common at their ends
    whole: bool = False  # matched by the whole name of the file, not by a number or a name without suffix


@dataclass(slots=True)
class FileIndex:
    """Images by name, by name without suffix, and by number; a value is one relative path or several."""

    names: dict[str, list[str]] = field(default_factory=dict)
    stems: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[int, list[str]] = field(default_factory=dict)
    size: int = 0


def index_files(paths: Iterable[str]) -> FileIndex:
    """Index the relative paths of all images that a table may name."""
    index = FileIndex()
    for path in paths:
        name = fold(path.rpartition("/")[2])
        stem = name.rpartition(".")[0] or name
        index.names.setdefault(name, []).append(path)
        index.stems.setdefault(stem, []).append(path)
        if stem.isdecimal() and len(stem) < 19:
            index.numbers.setdefault(int(stem), []).append(path)
        index.size += 1
    return index


def fold(text: str) -> str:
    """Return one spelling for all that differ in case or in how accents are encoded."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def find_image(index: FileIndex, given: str, home: str = "", split: Split | None = None) -> Match:
    """Match a cell with an image by the longest common end of their paths.

    `home` is the folder of the table and `split` what the table's name says: both only choose among files of
    one name.
    """
    parts = [part for part in re.split(r"[\\/]+", given.strip()) if part not in {"", "."}]
    if not parts:
        return Match(None, "absent")
    last = fold(parts[-1])
    candidates, loosely = _candidates(index, last)
    if not candidates:
        plain = _from_address(given)
        return find_image(index, plain, home, split) if plain != given else Match(None, "absent")
    folders = [fold(part) for part in parts[:-1]]
    shared = [_common_end(folders, path) for path in candidates]
    best = [path for path, count in zip(candidates, shared, strict=True) if count == max(shared)]
    for narrower in (
        [path for path in best if unicodedata.normalize("NFC", path).endswith(unicodedata.normalize("NFC", parts[-1]))],
        [path for path in best if home and path.startswith(f"{home}/")],
        [path for path in best if split and split_of_path(path) == split],
    ):
        if len(best) > 1 and narrower:
            best = narrower
    whole = last in index.names
    if len(best) > 1:
        return Match(None, "ambiguous", whole=whole)
    return Match(best[0], loosely=loosely, shared=max(shared), whole=whole)


def _from_address(given: str) -> str:
    """Take the path out of a web address, and write %20 as a blank."""
    if "://" in given:
        with suppress(ValueError):
            return unquote(urlsplit(given).path)
    return unquote(given)


def find_images(index: FileIndex, given: str) -> list[str]:
    """List the images that have the name at the end of a path."""
    return _candidates(index, fold(re.split(r"[\\/]+", given.strip())[-1]))[0]


def _candidates(index: FileIndex, last: str) -> tuple[list[str], str]:
    if last in index.names:
        return index.names[last], ""
    if last in index.stems:
        return index.stems[last], ""
    stem, _, suffix = last.rpartition(".")
    if stem and (f".{suffix}" in SUFFIXES or f".{suffix}" in OTHER_SUFFIXES) and stem in index.stems:
        return index.stems[stem], "suffix"
    number = re.fullmatch(r"(\d{1,18})(\.0+)?", last)  # ids that lost their zeros, or that became decimals
    if number:
        return index.numbers.get(int(number.group(1)), []), "number"
    if stem.isdecimal() and len(stem) < 19:  # 1.jpg for 001.jpg
        return [path for path in index.numbers.get(int(stem), []) if fold(path).endswith(f".{suffix}")], "number"
    return [], ""


def _common_end(folders: list[str], path: str) -> int:
    own = [fold(part) for part in PurePosixPath(path).parts[:-1]]
    count = 0
    for given, there in zip(reversed(folders), reversed(own), strict=False):
        if given != there:
            break
        count += 1
    return count


def split_of_path(path: str) -> Split | None:
    """Return the split that one of an image's folders is named after."""
    return next((split for part in path.split("/")[:-1] if (split := split_of(part))), None)
