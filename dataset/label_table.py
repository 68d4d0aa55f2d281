"""A CSV of file and label beside a folder of images, as on Kaggle."""

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dataset.listing import Listing, Sample
from schema.dataset import SetAside, Split
from schema.errors import DatasetError

FILE_COLUMNS = ("file", "filename", "file_name", "image", "image_id", "image_name", "img", "path", "filepath", "id")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "species", "breed")
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")


@dataclass(frozen=True, slots=True)
class Table:
    path: Path
    columns: list[str]
    rows: list[dict[str, str]]
    file: str | None  # the column with the file names, where it is recognised
    label: str | None


def read_table(path: Path, file_column: str | None = None, label_column: str | None = None) -> Table:
    """Raises DatasetError for a missing or unreadable file, or a column that is not there."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}. Give the CSV of file and label with --labels.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    columns = [name.strip() for name in reader.fieldnames or []]
    rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str)} for row in reader]
    for wanted, option in ((file_column, "--file-column"), (label_column, "--label-column")):
        if wanted and wanted not in columns:
            raise DatasetError(f"{path} has no column {wanted!r} ({option}); it has: {', '.join(columns)}")
    return Table(
        path,
        columns,
        rows,
        file_column or _known(columns, FILE_COLUMNS),
        label_column or _known(columns, LABEL_COLUMNS),
    )


def _known(columns: list[str], names: tuple[str, ...]) -> str | None:
    lowered = {column.lower(): column for column in columns}
    return next((lowered[name] for name in names if name in lowered), None)


def table_listing(root: Path, table: Table, answers: Table | None = None) -> Listing:
    """`answers` is a second table with the labels of the test part."""
    if table.file is None or table.label is None:
        missing = "file names (--file-column)" if table.file is None else "labels (--label-column)"
        raise DatasetError(f"{table.path}: which column holds the {missing}? It has: {', '.join(table.columns)}")
    files = _image_files(root)
    parts: list[tuple[Table, Split | None]] = [(table, "train" if answers else None)]
    if answers:
        parts.append((answers, "test"))
    samples: list[Sample] = []
    aside: list[SetAside] = []
    warnings: list[str] = []
    for part, split in parts:
        found, absent, noted = _samples(part, files, split)
        samples += found
        aside += absent
        warnings += noted
        if len(absent) > len(found):
            shown = absent[0].file
            raise DatasetError(
                f"{part.path}: {len(absent)} of its {len(found) + len(absent)} files are not below {root}; "
                f"looked e.g. for {shown!r}. Is {part.file!r} the column of file names (--file-column)?"
            )
    classes = tuple(sorted({sample.label for sample in samples}))
    return Listing(root.name, "csv", classes, tuple(samples), tuple(aside), tuple(warnings))


def _image_files(root: Path) -> dict[str, Path]:
    """Every name that a row may use for a file: relative path, base name, base name without suffix."""
    found: dict[str, Path] = {}
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and "__MACOSX" not in p.parts):
        for name in (path.stem, path.name, path.relative_to(root).as_posix()):
            found[name] = path
    return found


def _samples(
    table: Table, files: dict[str, Path], split: Split | None
) -> tuple[list[Sample], list[SetAside], list[str]]:
    labels: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for row in table.rows:
        name = row.get(table.file or "", "").replace("\\", "/")
        labels.setdefault(name, set()).add(row.get(table.label or "", ""))
        counts[name] += 1
    samples: list[Sample] = []
    aside: list[SetAside] = []
    for name, given in labels.items():
        path = files.get(name) or files.get(name.rsplit("/", 1)[-1])
        if path is None:
            aside.append(SetAside(file=name, reason=f"named in {table.path.name}, but there is no such image"))
        elif len(given) > 1:
            aside.append(
                SetAside(file=name, reason=f"has contradicting labels in {table.path.name}: {', '.join(sorted(given))}")
            )
        elif not next(iter(given)):
            aside.append(SetAside(file=name, reason=f"has no label in {table.path.name}"))
        else:
            samples.append(Sample(name, next(iter(given)), split, path))
    doubled = sum(1 for name, count in counts.items() if count > 1 and len(labels[name]) == 1)
    return (
        samples,
        aside,
        [f"{table.path.name}: {doubled} files are named more than once with the same label"] if doubled else [],
    )
