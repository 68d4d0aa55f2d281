"""Which column of a table names the images, which gives the labels, which the split: judged by what is in the cells."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath

from dataset.decode import SUFFIXES
from dataset.file_index import FileIndex, find_image
from dataset.label_table import Table, has_label, without_header
from dataset.split_names import split_of
from schema.dataset import Split
from schema.errors import DatasetError
from schema.text import name_list

LABEL_NAMES = [
    "label",
    "labels",
    "class",
    "classes",
    "class_name",
    "classname",
    "category",
    "target",
    "species",
    "breed",
    "diagnosis",
    "dx",
    "y",
    "label_name",
    "class_label",
    "label_text",
    "category_name",
    "grade",
    "level",
    "class_id",
    "classid",
    "label_id",
    "category_id",
    "target_name",
    "ground_truth",
    "groundtruth",
    "true_label",
    "variety",
    "cultivar",
    "disease",
    "finding",
    "finding_labels",
    "emotion",
    "tag",
    "tags",
    "genus",
    "type",
]
FILE_NAMES = [
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "path",
    "image",
    "image_id",
    "image_name",
    "image_path",
    "img",
    "id",
    "id_code",
    "name",
]
SPLIT_NAMES = [
    "split",
    "set",
    "subset",
    "partition",
    "usage",
    "phase",
    "fold",
    "data_set",
    "dataset",
    "data_split",
    "stage",
    "group_split",
]
FLAGS = {
    "0": False,
    "1": True,
    "0.0": False,
    "1.0": True,
    "False": False,
    "True": True,
    "false": False,
    "true": True,
}
SAMPLED = 400  # cells of a column that are looked up
BOX_NAMES = frozenset(["xmin", "ymin", "xmax", "ymax", "x_min", "y_min", "bbox", "bounding_box", "bbox_x", "bbox_y"])


@dataclass(frozen=True, slots=True)
class Columns:
    """Indices of the columns. `doubt` says why the labels are not clear; `one_hot` holds a column per class."""

    file: int
    label: int | None
    one_hot: tuple[int, ...] = ()
    split: int | None = None
    doubt: str = ""
    note: str = ""


def normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def column_index(table: Table, wanted: str, option: str) -> int:
    """Find a column by the name that the user typed. Raises DatasetError."""
    for same in (lambda c: c == wanted, lambda c: normal(c) == normal(wanted)):
        found = [i for i, column in enumerate(table.columns) if same(column)]
        if len(found) == 1:
            return found[0]
    raise DatasetError(f"{table.path} has no column {wanted!r} ({option}); it has: {name_list(table.columns)}")


def file_column(table: Table, index: FileIndex, home: str) -> int | None:
    """Find the column whose cells name most different images."""
    best, chosen = (0, 0), None
    for i, column in enumerate(table.columns):
        cells = [row[i] for row in _sampled(table.rows) if row[i]]
        matches = {
            match.path
            for cell in set(cells)
            if (match := find_image(index, cell, home)).path or match.reason == "ambiguous"
        }
        distinct = len(set(cells))
        found = sum(1 for cell in set(cells) if find_image(index, cell, home).reason != "absent")
        if not matches or distinct < 0.5 * len(cells) or (found < 0.02 * distinct and found < 2):
            continue
        rank = (found, normal(column) in FILE_NAMES)
        if rank > best:
            best, chosen = rank, i
    return chosen


def header_is_data(table: Table, index: FileIndex, home: str) -> bool:
    """Say whether the first line already names an image."""
    known = {*FILE_NAMES, *LABEL_NAMES, *SPLIT_NAMES}
    return any(
        normal(cell) not in known and (_named_like_an_image(cell) or find_image(index, cell, home).path is not None)
        for cell in table.columns
    )


def _named_like_an_image(cell: str) -> bool:
    return PurePosixPath(cell.strip()).suffix.lower() in SUFFIXES and not cell.strip().startswith(".")


def with_header(table: Table, index: FileIndex, home: str) -> Table:
    return without_header(table) if table.columns and header_is_data(table, index, home) else table


def _sampled(rows: list[list[str]]) -> list[list[str]]:
    step = max(1, len(rows) // SAMPLED)
    return rows[::step][: SAMPLED + 1]


def choose_columns(table: Table, file: int, label: str | None) -> Columns:
    """Choose label and split columns, or say in `doubt` why that is not possible."""
    split = split_column(table, file)
    if label:
        return Columns(file, column_index(table, label, "--label-column"), (), split)
    rest = [i for i in range(len(table.columns)) if i not in {file, split} and any(row[i] for row in table.rows)]
    known = [i for i in rest if normal(table.columns[i]) in LABEL_NAMES]
    if len(known) > 1:
        return _one_of(table, file, split, known)
    if known:
        return Columns(file, known[0], (), split)
    hot = one_hot_columns(table, rest)
    if hot:
        return Columns(file, None, tuple(hot), split)
    if len(rest) <= 1:
        doubt = "" if rest else f"{table.path.name} has no column of labels"
        return Columns(file, rest[0] if rest else None, (), split, doubt=doubt)
    listed = name_list([table.columns[i] for i in rest])
    doubt = f"which column of {table.path.name} holds the labels? It has: {listed}. Say so: --label-column NAME"
    return Columns(file, None, (), split, doubt=doubt)


def _one_of(table: Table, file: int, split: int | None, known: list[int]) -> Columns:
    """Two columns that say the same in numbers and in words are one; of others the user has to choose."""
    by_rank = sorted(known, key=lambda i: LABEL_NAMES.index(normal(table.columns[i])))
    same = [i for i in known if i == by_rank[0] or _one_to_one(table, by_rank[0], i)]
    if len(same) == len(known):
        words = [i for i in same if any(re.search(r"[^\d.\s-]", row[i]) for row in table.rows)]
        chosen = (words or same)[0]
        others = name_list([table.columns[i] for i in same if i != chosen])
        return Columns(
            file,
            chosen,
            (),
            split,
            note=(f"{table.path.name}: {table.columns[chosen]!r} was taken for the labels; {others} says the same"),
        )
    listed = name_list([table.columns[i] for i in known])
    return Columns(
        file,
        None,
        (),
        split,
        doubt=(
            f"{table.path.name} has several columns that may hold the labels: {listed}. Say which: --label-column NAME"
        ),
    )


def _one_to_one(table: Table, a: int, b: int) -> bool:
    there, back = defaultdict(set), defaultdict(set)
    for row in table.rows:
        if has_label(row[a]) and has_label(row[b]):
            there[row[a]].add(row[b])
            back[row[b]].add(row[a])
    return bool(there) and all(len(v) == 1 for v in [*there.values(), *back.values()])


def one_hot_columns(table: Table, rest: list[int]) -> list[int]:
    """List the columns of zeros and ones, a class each, if nearly every row has a single one."""
    flags = [i for i in rest if {row[i] for row in table.rows} <= {"0", "1", "0.0", "1.0", "", "True", "False"}]
    flags = [i for i in flags if normal(table.columns[i]) not in SPLIT_NAMES]
    if len(flags) < 2:
        return []
    sums = Counter(sum(row[i] in {"1", "1.0", "True"} for i in flags) for row in table.rows)
    return flags if sums and sums[1] >= 0.5 * sum(sums.values()) else []


def split_column(table: Table, file: int) -> int | None:
    """Find a column that says train, validation or test of each row, in words or as a flag (is_train)."""
    for i, column in enumerate(table.columns):
        values = {row[i] for row in table.rows if row[i]}
        if i == file or not 0 < len(values) <= 6:
            continue
        if _flagged_split(column) and values <= FLAGS.keys():
            return i
        if not all(split_of(value) for value in values):
            continue
        if len({split_of(value) for value in values}) > 1 or normal(column) in SPLIT_NAMES:
            return i
    return None


def split_of_cell(column: str, cell: str) -> Split | None:
    """Return the split that a cell of a split column stands for."""
    flagged = _flagged_split(column)
    if flagged and cell in FLAGS:
        return flagged if FLAGS[cell] else ("test" if flagged == "train" else "train")
    return split_of(cell) if cell else None


def _flagged_split(column: str) -> Split | None:
    return split_of(normal(column).removeprefix("is_").replace("_", " "))


def describes_boxes(table: Table) -> bool:
    """Say whether the table draws boxes: object detection, not classification."""
    return len(BOX_NAMES & {normal(column) for column in table.columns}) >= 2
