"""Images labelled by tables: which tables of the source give labels, and what they say of each image."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from dataset.file_index import FileIndex, Match, find_image, find_images, fold
from dataset.inventory import Folder, folders_below
from dataset.label_table import Table, class_order, has_label, read_table
from dataset.listing import ReadingOptions, Sample
from dataset.reading import Reading, clean_name, count
from dataset.split_names import split_of
from dataset.table_columns import (
    Columns,
    choose_columns,
    column_index,
    describes_boxes,
    file_column,
    group_hint,
    is_true,
    split_of_row,
    unread_split_column,
    with_header,
)
from schema.dataset import SetAside, Split
from schema.errors import DatasetError
from schema.text import name_list, one_line

MOST_TABLES = 300  # of a source
LEAST_TO_JUDGE = 8  # images
MOST_NOTES = 12  # .txt and .json files of a folder
NO_TABLE = re.compile(r"(readme|licen[cs]e|requirements|notice|changelog|citation)(\.\w+)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A table that names images, and which of its columns say what."""

    table: Table
    columns: Columns
    home: str  # relative folder of the table; '' for the source itself or a table from elsewhere
    split: Split | None  # what the name of the table or of its folder says
    named: int  # rows that name an image which is there
    whole: bool  # by the names of files, not by numbers or names without suffix alone
    rows: int

    @property
    def name(self) -> str:
        return f"{self.home}/{self.table.path.name}" if self.home else self.table.path.name


@dataclass(frozen=True, slots=True)
class FileList:
    """A text file that names the images of one split, a line each."""

    name: str
    split: Split
    images: frozenset[str]  # paths


@dataclass(slots=True)
class Found:
    """What a search for tables came to."""

    tables: list[LabelTable] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)  # name -> why it gives no labels
    boxes: list[str] = field(default_factory=list)
    lists: list[FileList] = field(default_factory=list)


def find_tables(root: Path, tree: Folder, index: FileIndex, group: str | None = None) -> Found:
    """Read every table of the source that may be one of labels.

    `group` is a column that holds none.
    """
    found = Found()
    looked_at = 0
    for folder in folders_below(tree):
        names = [name for name in folder.tables if not NO_TABLE.fullmatch(name)]
        notes = [name for name in names if name.lower().endswith((".txt", ".json"))]
        if len(notes) > MOST_NOTES:  # one beside each image, such as the boxes of a detection set
            names = [name for name in names if name not in notes]
        names = [name for name in names if fold(Path(name).stem) not in index.stems]
        for name in names[: MOST_TABLES - looked_at]:
            _look_at(root, folder, name, index, found, group)
        for name in names[MOST_TABLES - looked_at :]:
            found.unusable[folder.inside(name)] = f"is one of more than {MOST_TABLES} tables, which are not all read"
        looked_at = min(MOST_TABLES, looked_at + len(names))
    return found


def _look_at(  # noqa: PLR0917 - one table among all
    root: Path, folder: Folder, name: str, index: FileIndex, found: Found, group: str | None
) -> None:
    shown = folder.inside(name)
    try:
        table = with_header(read_table(root / folder.path / name), index, folder.path)
    except DatasetError as error:
        if not name.lower().endswith((".txt", ".json")):
            found.unusable[shown] = str(error)
        return
    if len(table.columns) == 1:
        found.lists += _file_list(shown, table, index, folder.path)
    file, doubt = file_column(table, index, folder.path) if len(table.columns) > 1 else (None, "")
    if file is None:
        if table.columns and not name.lower().endswith((".txt", ".json")):
            found.unusable[shown] = _why_unusable(table)
        return
    if describes_boxes(table) and _names_some_twice(table, file):
        found.boxes.append(shown)
        return
    if "submission" in name.lower():
        found.unusable[shown] = "is a sample submission, not a table of labels"
        return
    columns = choose_columns(table, file, None, group)
    columns = replace(columns, doubt=doubt or columns.doubt)
    if columns.label is None and not columns.one_hot and len(table.columns) == 1:
        found.unusable[shown] = "has no labels"
        return
    split = split_of(Path(name).stem) or next(
        (s for part in reversed(folder.path.split("/")) if (s := split_of(part))), None
    )
    found.tables.append(label_table(table, columns, folder.path, split, index))


def _file_list(name: str, table: Table, index: FileIndex, home: str) -> list[FileList]:
    """The list that a table of one column is, if its name is that of a split and its cells name images."""
    split = split_of(Path(name).stem)
    cells = [row[0] for row in table.rows]
    images = {match.path for cell in cells if (match := find_image(index, cell, home)).path}
    if split is None or not images or len(images) < 0.9 * len(cells):
        return []
    return [FileList(name, split, frozenset(path for path in images if path))]


def _names_some_twice(table: Table, file: int) -> bool:
    """Say whether images have several rows each, as the boxes of a detection set."""
    return len({row[file] for row in table.rows}) < 0.98 * len(table.rows)


def label_table(table: Table, columns: Columns, home: str, split: Split | None, index: FileIndex) -> LabelTable:
    matches = [find_image(index, row[columns.file], home, split) for row in table.rows]
    named = sum(match.reason != "absent" for match in matches)
    return LabelTable(table, columns, home, split, named, any(match.whole for match in matches), len(table.rows))


def _why_unusable(table: Table) -> str:
    if not table.rows:
        return _why_empty(table)
    if len(table.columns) == 1:
        return "has one column only and no labels"
    return (
        f"names no image that is there (columns: {name_list(table.columns)}; first row:"
        f" {one_line(', '.join(table.rows[0]), 80)})"
    )


def _why_empty(table: Table) -> str:
    if not table.bad_lines:
        return f"has {f'a header ({name_list(table.columns)}) and ' if table.columns else ''}no rows"
    return (
        f"has no row that fits its header ({name_list(table.columns)}): {table.bad_lines[0]}. If a label holds what"
        " separates the cells, put it into quotes"
    )


def given_table(root: Path, options: ReadingOptions, tables: list[Path], index: FileIndex) -> LabelTable:
    """Read the table that the user named, with the columns that they named.

    Raises DatasetError with what is missing.
    """
    path = Path(options.labels).expanduser() if options.labels else tables[0]
    home = path.resolve().parent
    inside = home.relative_to(root.resolve()).as_posix() if home.is_relative_to(root.resolve()) else ""
    home_path = "" if inside == "." else inside
    table = with_header(read_table(path), index, home_path)
    if not table.rows:
        raise DatasetError(f"{path} {_why_empty(table)}. Expected a row of file and label per image.")
    if options.file_column:
        file = column_index(table, options.file_column, "--file-column")
    elif (chosen := file_column(table, index, home_path))[0] is not None:
        file = chosen[0]
        if chosen[1]:
            raise DatasetError(f"{path}: {chosen[1]}")
    else:
        raise DatasetError(
            f"{path}: no column names images below {root} (columns: {name_list(table.columns)}; first row:"
            f" {one_line(', '.join(table.rows[0]), 80)}; an image there: {_an_image(index)}). Say which does:"
            " --file-column NAME, or give the folder that holds them."
        )
    columns = choose_columns(table, file, options.label_column, options.group_column)
    if columns.doubt:
        raise DatasetError(
            f"{path}: {columns.doubt}"
            if "--" in columns.doubt
            else f"{path}: {columns.doubt}. Say which: --label-column NAME"
        )
    return label_table(table, columns, home_path, split_of(path.stem), index)


def _an_image(index: FileIndex) -> str:
    return next((paths[0] for paths in index.names.values()), "none")


def read_tables(root: Path, tables: list[LabelTable], index: FileIndex, group_column: str | None = None) -> Reading:
    """Give every image the label of its rows.

    Rows that contradict each other or name no image are set aside.
    """
    rows = _Rows()
    for table in tables:
        _collect(table, index, rows, group_column)
    reading = Reading("table", option=f"--labels {tables[0].name}" if len(tables) == 1 else "")
    merged = _merge_spellings(rows)
    _settle(root, tables, rows, reading)
    labels = {sample.label for sample in reading.samples}
    reading.classes = _hot_classes(tables, labels) or class_order(labels)
    reading.used_tables = {table.name for table in tables}
    reading.notes += [note for table in tables for note in (*table.table.notes, table.columns.note) if note]
    reading.notes += _notes(tables, rows, labels, merged)
    reading.group_hint = next((hint for t in tables if (hint := group_hint(t.table, t.columns))), "")
    reading.text = _sentence(tables, reading)
    _complain(root, tables, rows, reading, index)
    return reading


@dataclass(slots=True)
class _Rows:
    """What all rows say, by image."""

    labels: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))  # path -> label -> table
    names: dict[str, dict[str, int]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # path -> given name -> shared folders
    splits: dict[str, set[Split | None]] = field(default_factory=lambda: defaultdict(set))
    groups: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    loosely: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    aside: list[SetAside] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    unlabelled: Counter[str] = field(default_factory=Counter)
    no_split: Counter[str] = field(default_factory=Counter)  # why -> rows that are in no split
    without: dict[str, str] = field(default_factory=dict)  # image -> why its row gives no label


def _collect(table: LabelTable, index: FileIndex, rows: _Rows, group_column: str | None) -> None:
    columns, source = table.columns, table.table
    group = column_index(source, group_column, "--group") if group_column else None
    rows.aside += [SetAside(file=table.name, reason=line) for line in source.bad_lines]
    for row in source.rows:
        name = row[columns.file]
        own_split, problem = split_of_row(source, columns, row)
        match = find_image(index, name, table.home, own_split or table.split)
        if match.reason == "ambiguous":
            match = _with_folder_of(row, columns.file, index) or match
        if problem and match.path:
            rows.without[match.path] = f"{problem} of {table.name}"
            rows.no_split[problem] += 1
            continue
        if match.path is None:
            reason = f"named in {table.name}, but there is no such image"
            if match.reason == "ambiguous":
                reason = f"named in {table.name}, but several images are called so: give more of their path"
                rows.ambiguous.append(name)
            else:
                rows.absent.append(name)
            rows.aside.append(SetAside(file=name or "(no name)", reason=reason))
            continue
        label, problem = _label_of(row, columns, source)
        if problem:
            rows.unlabelled[label] += 1
            rows.without[match.path] = f"{problem} in {table.name}" + (f" ({label!r})" if label else "")
            continue
        rows.labels[match.path][label] = table.name
        rows.names[match.path][name] = match.shared
        rows.splits[match.path].add(own_split if columns.split is not None or columns.flags else table.split)
        rows.counts[match.path] += 1
        if group is not None and has_label(row[group]):
            rows.groups[match.path] = row[group]
        if match.loosely:
            rows.loosely[match.loosely].append((name, match.path))


def _with_folder_of(row: list[str], file: int, index: FileIndex) -> Match | None:
    """Let another cell of the row tell the folder of a name that several images have."""
    found = [find_image(index, f"{cell}/{row[file]}") for i, cell in enumerate(row) if i != file and cell]
    paths = {match.path: match for match in found if match.path and match.shared}
    return next(iter(paths.values())) if len(paths) == 1 else None


def _label_of(row: list[str], columns: Columns, table: Table) -> tuple[str, str]:
    """The label of a row; or why it has none."""
    if columns.label is not None:
        cell = clean_name(row[columns.label])
        return (cell, "") if has_label(cell) else (cell, "has no label")
    hot = [table.columns[i] for i in columns.one_hot if is_true(row[i])]
    if len(hot) == 1:
        return hot[0], ""
    return ", ".join(hot), "has several labels" if hot else "has no label"


def _merge_spellings(rows: _Rows) -> dict[str, list[str]]:
    """Let labels that differ in case and blanks alone be one: the spelling of most images, with the others.

    Single letters are told apart, as in sets of characters.
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for labels in rows.labels.values():
        for label in labels:
            if len(label) > 1:
                spellings[fold(label)][label] += 1
    several = {kept: names for names in spellings.values() if len(names) > 1 for kept in [names.most_common(1)[0][0]]}
    instead = {name: kept for kept, names in several.items() for name in names}
    if instead:
        for path, labels in rows.labels.items():
            rows.labels[path] = {instead.get(label, label): table for label, table in labels.items()}
    return {kept: sorted(name for name in names if name != kept) for kept, names in several.items()}


def _settle(root: Path, tables: list[LabelTable], rows: _Rows, reading: Reading) -> None:
    in_tables = any(table.columns.split is not None or table.columns.flags for table in tables)
    single = {None, "train"} if in_tables else {table.split for table in tables}
    keep_split = len(single) > 1
    for path, labels in rows.labels.items():
        names = rows.names[path]
        most = max(names.values())
        claims = [name for name, shared in names.items() if shared == most]
        if len(names) > 1 and len({_plain(name) for name in claims}) > 1:
            for name in names:
                rows.aside.append(
                    SetAside(
                        file=name,
                        reason=(
                            f"could be {path}, as could {next(n for n in names if n != name)}: give their"
                            " paths in the table"
                        ),
                    )
                )
        elif len(labels) > 1:
            table = next(iter(labels.values()))
            rows.aside.append(
                SetAside(file=path, reason=f"has contradicting labels in {table}: {name_list(sorted(labels))}")
            )
        else:
            splits = rows.splits[path]
            split = next(iter(splits)) if keep_split and len(splits) == 1 else None
            if keep_split and len(splits) > 1:
                rows.aside.append(SetAside(file=path, reason="is in two splits of the table"))
                continue
            reading.samples.append(Sample(path, next(iter(labels)), split, root / path, None, rows.groups.get(path)))
            reading.used.add(path)
    rows.aside += [
        SetAside(file=path, reason=reason) for path, reason in rows.without.items() if path not in rows.labels
    ]
    reading.used |= {*rows.labels, *rows.without}
    reading.set_aside = rows.aside


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./").lower()


def _hot_classes(tables: list[LabelTable], labels: set[str]) -> tuple[str, ...]:
    hot = tables[0].columns.one_hot
    return tuple(name for i in hot if (name := tables[0].table.columns[i]) in labels)


def _notes(tables: list[LabelTable], rows: _Rows, labels: set[str], merged: dict[str, list[str]]) -> list[str]:
    listed = name_list([table.name for table in tables])
    notes = []
    doubled = sum(1 for path, n in rows.counts.items() if n > 1 and len(rows.labels[path]) == 1)
    if doubled:
        notes.append(f"{listed}: {count(doubled, 'file is', 'files are')} named more than once with the same label")
    for how, pairs in rows.loosely.items():
        name, path = pairs[0]
        what = {"number": "by their number", "suffix": "with another suffix"}[how]
        notes.append(f"{listed}: {count(len(pairs), 'name was', 'names were')} matched {what}, e.g. {name} with {path}")
    if rows.absent:
        notes.append(
            f"{listed}: {count(len(rows.absent), 'row names an image that is', 'rows name images that are')}"
            f" not there, e.g. {one_line(rows.absent[0], 60)}"
        )
    if rows.unlabelled:
        cells = name_list([cell or "an empty cell" for cell in rows.unlabelled])
        notes.append(
            f"{listed}: {count(sum(rows.unlabelled.values()), 'row has', 'rows have')} no label of their own"
            f" ({cells}) and were set aside"
            + (". If one of these is a class, call it otherwise in the table" if any(rows.unlabelled) else "")
        )
    if rows.no_split:
        many = count(sum(rows.no_split.values()), "row", "rows")
        notes.append(
            f"{listed}: {many} set aside, e.g. one that {next(iter(rows.no_split))}; write train, val or test there"
        )
    twins: dict[str, list[str]] = {}
    for label in sorted(labels):
        twins.setdefault(_one_spelling(label), []).append(label)
    alike = [" and ".join(map(repr, names)) for names in twins.values() if len(names) > 1]
    if alike:
        notes.append(
            f"{listed}: these labels are classes of their own, and differ only in how they are written:"
            f" {name_list(alike, 4)}. If they mean the same, write them in one way in the table"
        )
    if merged:
        shown = name_list([f"{kept!r} (also {', '.join(map(repr, others))})" for kept, others in merged.items()], 4)
        notes.append(f"{listed}: labels that differ in capitals or blanks alone were taken as one: {shown}")
    if any(describes_boxes(table.table) for table in tables):
        notes.append(f"{listed}: the boxes are not used; each image as a whole has the label of its row")
    notes += [note for table in tables if (note := unread_split_column(table.table, table.columns))]
    parts = {
        label: parts
        for label in labels
        if len(parts := set(label.replace(",", " ").replace("|", " ").replace(";", " ").split())) > 1
    }
    combined = [label for label, words in parts.items() if words <= labels or "|" in label or ";" in label]
    if combined:
        notes.append(
            f"combined labels such as {combined[0]!r} were taken as classes of their own ({len(combined)} of"
            f" {len(labels)}): IMPROVE gives each image one class"
        )
    return notes


def _one_spelling(label: str) -> str:
    try:
        return str(float(label))
    except ValueError:
        return " ".join(fold(label).replace("_", " ").replace("-", " ").split())


def _sentence(tables: list[LabelTable], reading: Reading) -> str:
    listed = name_list([table.name for table in tables])
    first = tables[0]
    columns = first.table.columns
    what = (
        columns[first.columns.label]
        if first.columns.label is not None
        else f"one column per class: {name_list([columns[i] for i in first.columns.one_hot], 4)}"
    )
    folders = sorted({sample.name.rpartition("/")[0] for sample in reading.samples})
    where = f" in {name_list([f'{f}/' for f in folders], 3)}" if folders and folders != [""] else ""
    text = (
        f"{listed} {'gives' if len(tables) == 1 else 'give'} the labels ({columns[first.columns.file]} ->"
        f" {what}) of {len(reading.samples):,} images{where}"
    )
    if first.columns.split is not None:
        text += f"; its column {columns[first.columns.split]} gives the splits"
    elif first.columns.flags:
        flags = first.columns.flags
        listed = name_list([columns[i] for i in flags])
        text += (
            f"; its {'columns' if len(flags) > 1 else 'column'} {listed}"
            f" {'give' if len(flags) > 1 else 'gives'} the splits"
        )
    elif any(sample.split for sample in reading.samples):
        text += "; the names of the tables give the splits"
    return text


def _complain(root: Path, tables: list[LabelTable], rows: _Rows, reading: Reading, index: FileIndex) -> None:
    """Refuse a table that cannot be believed, or that fits none of the images."""
    problem = next((table.table.problem for table in tables if table.table.problem), "")
    if problem:
        raise DatasetError(f"{problem}. Close the quote, or save the table anew.")
    if not reading.samples:
        raise DatasetError(_nothing_fits(root, tables[0], rows, index))
    labels = {sample.label for sample in reading.samples}
    if len(reading.samples) >= LEAST_TO_JUDGE and len(labels) > 0.6 * len(reading.samples):
        column = tables[0].table.columns[tables[0].columns.label or 0]
        raise DatasetError(
            f"{tables[0].name}: column {column!r} has {len(labels):,} different values for {len(reading.samples):,}"
            " images, and the labels of a classifier recur. Is it a measurement, or a name of each image? Say which"
            " column holds the classes: --label-column NAME"
        )


def _nothing_fits(root: Path, table: LabelTable, rows: _Rows, index: FileIndex) -> str:
    path = table.name if table.home or not table.table.path.is_relative_to(root) else table.table.path.name
    if rows.ambiguous:
        found = find_images(index, rows.ambiguous[0])
        return (
            f"{path} cannot be used: {count(len(rows.ambiguous), 'name is', 'names are')} those of several"
            f" images, e.g. {one_line(rows.ambiguous[0], 60)} of {name_list(found, 3)}. Give more of the path"
            " in the table."
        )
    if not rows.absent:
        return (
            f"{path} cannot be used: none of its {table.rows:,} rows has one label that can be used (column"
            f" {table.table.columns[table.columns.label or 0]}). Say which column holds them: --label-column"
            " NAME"
        )
    return (
        f"{path}: {len(rows.absent):,} of its {table.rows:,} files are not below {root} (e.g."
        f" {one_line(rows.absent[0], 60)}; an image there: {_an_image(index)}). Give the folder that holds"
        " the images, or another column: --file-column NAME --label-column NAME"
    )
