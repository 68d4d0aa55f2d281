"""Labels and groups in file names: read by a pattern that the user gives, suggested but never guessed."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from dataset.inventory import Folder, foreign_below, images_below
from dataset.label_table import class_order
from dataset.listing import Sample
from dataset.reading import Reading, count
from dataset.split_names import split_of
from schema.dataset import SetAside, Split
from schema.errors import DatasetError, SettingsError
from schema.text import name_list, one_line

NUMBERED = re.compile(r"(.*?[^\W\d_].*?)[ ._-]*\(?\d+\)?([ ._-]\d+)*")
# Names that begin with the number of their class, or end with its name.
OTHERWISE = (r"^(\d+)[_-]", r"[_-]([A-Za-z]+)\.[^.]+$")
SUGGESTED = (r"^(.+?)[._ -]*\d+", r"^(.+?)[._ (-]+\d+", r"^(.+)[._ (-]+\d+")
CAMERA = re.compile(
    r"(img|image|images|dsc|dscn|dscf|pxl|mvimg|pict?|photo|foto|scan|frame|screenshot|screen|wa|whatsapp|snap|gopr|dji|p|cam|camera|file|sample|test|train|val|"
    r"x|im|pic|picture|untitled|download|isic|patient|subject|case|id)\b.*",
    re.IGNORECASE,
)


def compiled(pattern: str, option: str) -> re.Pattern[str]:
    """Compile a pattern that the user typed.

    Raises SettingsError.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"{option} {pattern!r} is no regular expression ({error}). Expected e.g. '^(.+?)[._-]?[0-9]+' to"
            " take what stands before the number."
        ) from None


def first_group(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return (match.group(1) if pattern.groups else match.group()) if match else None


def read_names(root: Path, tree: Folder, given: str | None) -> Reading:
    """Take the label of every image from its file name.

    Raises DatasetError if no name fits, SettingsError for a bad pattern.
    """
    if not given:
        raise SettingsError(
            "--layout file-names needs a pattern: --label-pattern"
            f" {suggest_pattern(tree)[0] or chr(39) + '^(.+?)[._-]?[0-9]+' + chr(39)}"
        )
    pattern = compiled(given, "--label-pattern")
    reading = Reading("file-names", option=f"--label-pattern {given!r}")
    splits = _splits_of_folders(tree)
    missed = 0
    for path in images_below(tree):
        label = first_group(pattern, PurePosixPath(path).name)
        reading.used.add(path)
        if label:
            reading.samples.append(Sample(path, label, splits.get(path.split("/", 1)[0]), root / path))
        else:
            missed += 1
            reading.set_aside.append(SetAside(file=path, reason=f"its name does not fit --label-pattern {given}"))
    for path, reason in foreign_below(tree):
        reading.set_aside.append(SetAside(file=path, reason=reason))
        reading.used.add(path)
    if not reading.samples:
        example = next(images_below(tree), "none")
        raise DatasetError(
            f"--label-pattern {given!r} fits none of the {tree.total:,} file names below {root}, e.g."
            f" {one_line(PurePosixPath(example).name, 60)!r}."
        )
    reading.classes = class_order(sample.label for sample in reading.samples)
    reading.text = (
        f"the file names give the labels ({one_line(given, 60)}): {name_list(reading.classes, 6)}"
        f" ({len(reading.samples):,} images)"
    )
    if missed:
        reading.notes.append(
            f"{count(missed, 'file name does', 'file names do')} not fit --label-pattern and"
            f" {'was' if missed == 1 else 'were'} set aside"
        )
    return reading


def _splits_of_folders(tree: Folder) -> dict[str, Split]:
    found = {folder.name: split for folder in tree.folders if folder.total and (split := split_of(folder.name))}
    return found if "train" in found.values() else {}


def suggest_pattern(tree: Folder) -> tuple[str, Counter[str]]:
    """Return a pattern that takes what stands before the number of a name, and the classes that it would
    give; '' if it explains little."""
    stems = [PurePosixPath(path).stem for path in images_below(tree)]
    found = Counter(match.group(1) for stem in stems if (match := NUMBERED.fullmatch(stem)))
    classes = Counter({name: n for name, n in found.items() if not CAMERA.fullmatch(name)})
    names = [PurePosixPath(path).name for path in images_below(tree)]
    if not _explain(classes, stems):
        for pattern in OTHERWISE:
            told = Counter(label for name in names if (label := first_group(re.compile(pattern), name)))
            if _explain(told, stems) and not any(map(CAMERA.fullmatch, told)):
                return f"'{pattern}'", told
        return "", Counter()
    for pattern in SUGGESTED:
        given = Counter(first_group(re.compile(pattern), name) for name in names)
        if all(given[name] == number for name, number in classes.items()):
            return f"'{pattern}'", classes
    return "", Counter()


def _explain(classes: Counter[str], stems: list[str]) -> bool:
    """Say whether classes are few, and hold nearly all images."""
    return len(classes) >= 2 and sum(classes.values()) >= 0.9 * len(stems) and len(classes) <= len(stems) / 3


def with_groups(samples: list[Sample], given: str) -> tuple[list[Sample], str]:
    """Put images in groups by --group-pattern; also a note on images that it does not fit.

    Raises DatasetError if it fits none.
    """
    pattern = compiled(given, "--group-pattern")
    grouped = [replace(s, group=first_group(pattern, str(PurePosixPath(s.name).with_suffix("")))) for s in samples]
    missed = sum(1 for sample in grouped if sample.group is None)
    if missed == len(samples):
        raise DatasetError(
            f"--group-pattern {given!r} fits none of the file names, e.g. {one_line(samples[0].name, 80)!r}."
        )
    return (
        grouped,
        (
            f"{count(missed, 'image fits', 'images fit')} no --group-pattern and"
            f" {'is' if missed == 1 else 'are'} in no group"
            if missed
            else ""
        ),
    )
