"""Which column of a table names the images, which gives the labels, which the split: judged by what is in the
cells."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
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
    "choice",
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
# Names that labels often have, and other things too.
WEAK_NAMES = frozenset(["y", "level", "type", "tag", "tags", "grade", "stage", "genus", "variety", "finding", "target"])
# What annotation tools and cameras write beside the label: none of it is one.
ABOUT_THE_ROW = frozenset([
    "annotator", "annotation_id", "annotated_by", "user", "username", "created_at", "updated_at", "completed_at", "lead_time",
    "timestamp", "date", "time", "datetime", "url", "width", "height", "size", "depth", "channels", "md5", "hash", "sha256",
    "checksum", "comment", "comments", "notes", "note", "remark",
])  # fmt: skip
# Columns of who or what was photographed: several images of one belong on one side of every split.
SUBJECTS = re.compile(
    r"(patient|subject|person|participant)s?(_?(id|no|nr|num|number|name|uid|key))?"
    r"|(user|animal|individual|plant|tree|lesion|case|study|series|video|clip|sequence|track|scene|specimen|slide|site"
    r"|camera|session|visit|burst|event|location|field|plot|farm|sample|sender|owner|author|photographer|contributor|observer)_?(id|no|nr|num|number|uid|key)"
)
FLAGS = dict.fromkeys(["0", "0.0", "-1", "-1.0", "false", "no", "n", ""], False) | dict.fromkeys(
    ["1", "1.0", "true", "yes", "y", "x"], True
)
SPLIT_CELLS: dict[str, Split] = {"tr": "train", "va": "validation", "vl": "validation", "te": "test", "ts": "test",
                                 "public": "validation", "private": "test"}  # fmt: skip
ONE_OF = 0.98  # share of the rows that have exactly one of the columns of a class each
LONGEST_NUMBER = 40  # signs
SAMPLED = 400  # cells of a column that are looked up
BOX_NAMES = frozenset(["xmin", "ymin", "xmax", "ymax", "x_min", "y_min", "bbox", "bounding_box", "bbox_x", "bbox_y"])


@dataclass(frozen=True, slots=True)
class Columns:
    """Indices of the columns.

    `doubt` says why they are not clear; `one_hot` has a column per class, `flags` one per split.
    """

    file: int
    label: int | None
    one_hot: tuple[int, ...] = ()
    split: int | None = None
    flags: tuple[int, ...] = ()
    doubt: str = ""
    note: str = ""


def normal(name: str) -> str:
    """Write the name of a column as it is compared: without case and signs, and without the number that tells
    columns of one name apart."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r" \(\d+\)$", "", name).lower()).strip("_")


def column_index(table: Table, wanted: str, option: str) -> int:
    """Find a column by the name that the user typed.

    Raises DatasetError.
    """
    for same in (lambda c: c == wanted, lambda c: normal(c) == normal(wanted)):
        found = [i for i, column in enumerate(table.columns) if same(column)]
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            several = name_list([table.columns[i] for i in found])
            raise DatasetError(
                f"{table.path} has several columns {wanted!r}. Say which: {option} with one of {several}"
            )
    raise DatasetError(f"{table.path} has no column {wanted!r} ({option}); it has: {name_list(table.columns)}")


def file_columns(table: Table, index: FileIndex, home: str) -> list[int]:
    """List the columns that may name the images, the likeliest first: several only if they name different
    ones and none is better.

    Whole names of files come before numbers and names without suffix, which a number of the row or an age may
    equal by chance.
    """
    ranks: dict[int, tuple[bool, bool, int, bool]] = {}
    for i, column in enumerate(table.columns):
        cells = [row[i] for row in _sampled(table.rows) if row[i]]
        distinct = set(cells)
        named = {cell: match for cell in distinct if (match := find_image(index, cell, home)).reason != "absent"}
        few = len(named) < 0.02 * len(distinct) and len(named) < 2
        whole = sum(match.whole for match in named.values()) >= 0.5 * max(1, len(named))
        if not named or few or (len(distinct) < 0.5 * len(cells) and not whole):
            continue
        ranks[i] = (whole, len(distinct) >= 0.95 * len(cells), len(named), normal(column) in FILE_NAMES)
    most = max((rank[2] for rank in ranks.values()), default=0)
    # A column of whole names that names hardly any of the images is about something else.
    ranked = sorted(ranks, key=lambda i: (ranks[i][2] >= 0.1 * most, *ranks[i], -i), reverse=True)
    if len(ranked) > 1:
        ranked = [i for i in ranked if not _numbers_the_rows(table, i)] or ranked
    kept: list[int] = []
    for i in ranked:
        first = ranks[kept[0]] if kept else ranks[i]
        as_good = ranks[i][:2] == first[:2] and ranks[i][2] >= 0.5 * first[2]
        if as_good and not any(_same_files(table, index, home, i, other) for other in kept):
            kept.append(i)
    return kept


def _numbers_the_rows(table: Table, column: int) -> bool:
    """Say whether a column is the index that pandas writes: without a name, 0, 1, 2 ...

    in the order of the rows.
    """
    numbers = [row[column] for row in table.rows]
    return normal(table.columns[column]) in {"", "index", "unnamed_0"} | {f"column_{column + 1}"} and (
        numbers == [str(i) for i in range(len(numbers))] or numbers == [str(i + 1) for i in range(len(numbers))]
    )


def _same_files(table: Table, index: FileIndex, home: str, a: int, b: int) -> bool:
    pairs = [
        (find_image(index, row[a], home).path, find_image(index, row[b], home).path) for row in table.rows[:SAMPLED]
    ]
    both = [(one, other) for one, other in pairs if one and other]
    return bool(both) and sum(one == other for one, other in both) >= 0.9 * len(both)


def file_column(table: Table, index: FileIndex, home: str) -> tuple[int | None, str]:
    """Find the column that names the images; also why it is not clear, if two name different ones."""
    kept = file_columns(table, index, home)
    if len(kept) < 2:
        return (kept[0], _doubt_about_counting(table, index, home, kept[0])) if kept else (None, "")
    listed = name_list([table.columns[i] for i in kept])
    return (
        kept[0],
        f"{table.path.name} names images in several columns: {listed}. Say which: --file-column NAME",
    )


def _doubt_about_counting(table: Table, index: FileIndex, home: str, column: int) -> str:
    """Say why numbers of rows are hardly those of images: another column looks like their names and fits none, or
    they begin at 0 and the images at 1."""
    numbers = [row[column] for row in table.rows]
    start = next((n for n in (0, 1) if numbers == [str(i + n) for i in range(len(numbers))]), None)
    if start is None:
        return ""
    name = table.columns[column]
    named = [
        other
        for i, other in enumerate(table.columns)
        if i != column and normal(other) in FILE_NAMES and len({row[i] for row in table.rows}) == len(table.rows)
    ]
    says = f"{table.path.name}: column {name!r} counts the rows ({numbers[0]} to {numbers[-1]})"
    ask = "Say which column names the images: --file-column NAME"
    if named:
        return f"{says}, and column {named[0]!r} names no image that is there. {ask}"
    off = find_image(index, numbers[0], home).path is None and index.numbers.get(len(numbers))
    if start == 0 and off:
        return (
            f"{says}, and the images are numbered 1 to {len(numbers)}: labels may be one image off. Write the names of"
            f" the images into the table; if the numbers are right: --file-column {name}"
        )
    return ""


def header_is_data(table: Table, index: FileIndex, home: str) -> bool:
    """Say whether the first line already names an image."""
    if list(table.columns) == [str(i) for i in range(len(table.columns))]:  # as pandas writes it
        return False
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


def choose_columns(table: Table, file: int, label: str | None, group: str | None = None) -> Columns:
    """Choose label and split columns, or say in `doubt` why that is not possible."""
    split, flags = split_columns(table, file)
    found = Columns(file, None, (), split, flags)
    if label:
        return replace(found, label=column_index(table, label, "--label-column"))
    used = {file, split, *flags}
    if group:
        used |= {i for i, column in enumerate(table.columns) if normal(column) == normal(group)}
    rest = [
        i
        for i, column in enumerate(table.columns)
        if i not in used and normal(column) not in ABOUT_THE_ROW and any(row[i] for row in table.rows)
    ]
    if len(flags) == 1 and len(hot := one_hot_columns(table, sorted([*rest, *flags]))) > 2 and flags[0] in hot:
        return Columns(file, None, tuple(hot))  # classes called bus, car and train
    known = [i for i in rest if normal(table.columns[i]) in LABEL_NAMES]
    strong = [i for i in known if normal(table.columns[i]) not in WEAK_NAMES]
    sure = set(strong)
    known = [i for i in known if i in sure or may_be_labels(table, i)]
    named = set(known)
    others = [i for i in rest if i not in named and may_be_labels(table, i) and not _is_measured(table, i)]
    if len(strong or known) > 1:
        return replace(_one_of(table, file, split, strong or known, others), flags=flags)
    if strong or (known and not others):
        return replace(found, label=(strong or known)[0])
    hot = [] if known else one_hot_columns(table, rest)
    if hot:
        return replace(found, one_hot=tuple(hot))
    return _by_what_is_in_them(table, found, rest)


def _by_what_is_in_them(table: Table, found: Columns, rest: list[int]) -> Columns:
    """Take the only column of `rest` that can hold labels, if none of the others says anything else."""
    subjects = {i for i in rest if SUBJECTS.fullmatch(normal(table.columns[i]))}
    possible = [i for i in rest if may_be_labels(table, i) and i not in subjects and not _is_measured(table, i)]
    ids = [i for i in rest if normal(table.columns[i]) in FILE_NAMES or _numbers_the_rows(table, i)]
    silent = {*ids, *(i for i in rest if _is_measured(table, i))}
    if len(possible) == 1 and len({*rest} - silent) <= 1:
        return replace(found, label=possible[0])
    listed = name_list([table.columns[i] for i in rest])
    which = f"which column of {table.path.name} holds the labels? It has: {listed}. Say so: --label-column NAME"
    if possible:
        return replace(found, doubt=which)
    others = rest or [i for i in range(len(table.columns)) if i not in {found.file, found.split, *found.flags}]
    if not others:
        return replace(found, doubt=f"{table.path.name} has no column of labels")
    why = "; ".join(f"{table.columns[i]!r} {_why_no_labels(table, i)}" for i in others[:4])
    ask = "If one of them holds the classes: --label-column NAME"
    return replace(found, doubt=f"{table.path.name} has no column of labels: {why}. {ask}")


def _why_no_labels(table: Table, column: int) -> str:
    cells = {row[column] for row in table.rows if row[column]}
    if SUBJECTS.fullmatch(normal(table.columns[column])):
        return "names what was photographed"
    if normal(table.columns[column]) in ABOUT_THE_ROW:
        return "says something else by its name"
    if _is_measured(table, column):
        return "holds measured numbers"
    return f"has {len(cells):,} different values in {len(table.rows):,} rows, and labels recur"


def group_hint(table: Table, columns: Columns) -> str:
    """Say which column tells what images are of one patient, plant or video; '' if none does."""
    for i, name in enumerate(table.columns):
        cells = [row[i] for row in table.rows if has_label(row[i])]
        distinct = len(set(cells))
        if i in {columns.file, columns.label} or not SUBJECTS.fullmatch(normal(name)):
            continue
        if 2 < distinct < 0.9 * len(cells):
            return (
                f"column {name!r} of {table.path.name} has {distinct:,} values for {len(cells):,} images: if images of"
                f" one {normal(name).split('_')[0]} look alike, keep them on one side of every split with --group {name!r}"
            )
    return ""


def has_strong_labels(table: Table, columns: Columns) -> bool:
    """Say whether the label column is called as labels are, or there is a column for each class."""
    name = normal(table.columns[columns.label]) if columns.label is not None else ""
    return bool(columns.one_hot) or (name in LABEL_NAMES and name not in WEAK_NAMES)


def may_be_labels(table: Table, column: int) -> bool:
    """Say whether values recur, as labels do: a name of each image of its own is none."""
    cells = [row[column] for row in table.rows if has_label(row[column])]
    return len(cells) < 8 or len(set(cells)) <= 0.6 * len(cells)


def _is_measured(table: Table, column: int) -> bool:
    """Say whether a column holds decimals, such as coordinates or ages."""
    cells = [row[column] for row in table.rows if row[column]]
    if any(len(cell) > LONGEST_NUMBER for cell in cells):
        return False
    numbers = all(re.fullmatch(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?", cell) for cell in cells)
    return numbers and any(re.fullmatch(r"[-+]?\d*[.,]0*[1-9]\d*", cell) for cell in cells)


def _one_of(table: Table, file: int, split: int | None, known: list[int], others: list[int]) -> Columns:
    """Two columns that say the same in numbers and in words are one; of others the user has to choose."""
    by_rank = sorted(known, key=lambda i: LABEL_NAMES.index(normal(table.columns[i])))
    same = [i for i in known if i == by_rank[0] or _one_to_one(table, by_rank[0], i)]
    if len(same) == len(known):
        words = [i for i in same if any(re.search(r"[^\d.\s-]", row[i]) for row in table.rows)]
        chosen = (words or same)[0]
        rest = name_list([table.columns[i] for i in same if i != chosen])
        return Columns(
            file,
            chosen,
            (),
            split,
            note=(f"{table.path.name}: {table.columns[chosen]!r} was taken for the labels; {rest} says the same"),
        )
    listed = name_list([table.columns[i] for i in [*known, *others]])
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


def is_true(cell: str) -> bool:
    return FLAGS.get(cell.strip().lower(), False)


def one_hot_columns(table: Table, rest: list[int]) -> list[int]:
    """List the columns of yes and no, a class each, if nearly every row has a single yes.

    One flag of something else may stand among them.
    """
    flags = [i for i in rest if {row[i].strip().lower() for row in table.rows} <= FLAGS.keys()]
    flags = [i for i in flags if normal(table.columns[i]) not in SPLIT_NAMES]
    yes = [[i for i in flags if is_true(row[i])] for row in table.rows]
    sums = Counter(len(row) for row in yes)
    ever = {i for row in yes for i in row}
    alone = Counter[int | None](row[0] for row in yes if len(row) == 1)
    in_two = Counter[int | None](i for row in yes if len(row) == 2 for i in row)
    for left_out in (None, *flags) if len(flags) > 2 else (None,):
        number = len(flags) - (left_out is not None)
        seen = len(ever) - (left_out in ever)
        single = sums[1] - alone[left_out] + in_two[left_out]  # rows with one yes when that column is not counted
        if number >= 2 and seen == number and single >= ONE_OF * len(table.rows):
            return [i for i in flags if i != left_out]
    several = sum(number for many, number in sums.items() if many > 1)
    # Rows without any class, or with several, are set aside one by one if few; three columns or more are hardly flags of other things.
    return flags if len(flags) > 2 and sums[1] >= 0.6 * len(table.rows) and several <= 0.4 * len(table.rows) else []


def split_columns(table: Table, file: int) -> tuple[int | None, tuple[int, ...]]:
    """Find the column that says train, validation or test of each row; else the columns that say so by yes
    and no (is_train)."""
    flags = []
    for i, column in enumerate(table.columns):
        values = {row[i] for row in table.rows if row[i]}
        if i == file or not 0 < len(values) <= 6:
            continue
        if _flagged_split(column) and {value.strip().lower() for value in values} <= FLAGS.keys():
            flags.append(i)
            continue
        splits = {_split_of_value(column, value) for value in values}
        if (None not in splits and len(splits) > 1) or (splits - {None} and normal(column) in SPLIT_NAMES):
            return i, ()
    return None, tuple(flags)


def unread_split_column(table: Table, columns: Columns) -> str:
    """Say that a column called split, set or fold is not used, since its values are no names of splits; '' if
    there is none."""
    for i, column in enumerate(table.columns):
        if normal(column) in SPLIT_NAMES and i not in {columns.split, columns.label, columns.file}:
            values = sorted({row[i] for row in table.rows})
            return f"{table.path.name}: column {column!r} is not used, its values are no splits: {name_list(values, 4)}"
    return ""


def split_of_row(table: Table, columns: Columns, row: list[str]) -> tuple[Split | None, str]:
    """Return the split that a row is in by its own cells, or why it is in none."""
    if columns.split is not None:
        cell = row[columns.split]
        found = _split_of_value(table.columns[columns.split], cell)
        return found, "" if found or not cell.strip() else f"is in no split that is known ({cell!r})"
    if not columns.flags:
        return None, ""
    named = [(split, is_true(row[i])) for i in columns.flags if (split := _flagged_split(table.columns[i]))]
    chosen = [split for split, yes in named if yes]
    if len(chosen) > 1:
        return None, "is in several splits"
    if chosen:
        return chosen[0], ""
    known = {split for split, _ in named}
    left: list[Split] = [split for split in ("train", "test", "validation") if split not in known]
    return (left[0], "") if len(named) < 3 else (None, "is in no split")


def _split_of_value(column: str, cell: str) -> Split | None:
    short = SPLIT_CELLS.get(cell.strip().lower()) if normal(column) in SPLIT_NAMES else None
    return short or (split_of(cell) if cell else None)


def _flagged_split(column: str) -> Split | None:
    return split_of(normal(column).removeprefix("is_").replace("_", " "))


def describes_boxes(table: Table) -> bool:
    """Say whether the table draws boxes: object detection, not classification."""
    return len(BOX_NAMES & {normal(column) for column in table.columns}) >= 2
