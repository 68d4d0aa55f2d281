"""Several readings of one source: taken if one is clearly meant, refused with both if two are plausible."""

import shlex
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from dataset.file_index import FileIndex, find_image, fold, index_files, split_of_path
from dataset.folder_reading import FolderReadings, read_folders
from dataset.inventory import Folder, folders_below, images_below
from dataset.label_table import has_label
from dataset.listing import ReadingOptions, Sample
from dataset.reading import Reading, count
from dataset.refusal import refuse
from dataset.split_names import GENERIC, split_of
from dataset.table_columns import column_index, has_strong_labels, normal, split_of_row
from dataset.table_reading import Found, LabelTable, find_tables, given_table, read_tables
from schema.dataset import Split
from schema.errors import DatasetError
from schema.text import name_list

AGREE = 0.98  # share of the images on which two readings have to say the same
FEW = 0.5  # a table that names a smaller share of its rows and of the images is about something else


def weigh(root: Path, tree: Folder, options: ReadingOptions) -> Reading:
    """Choose the one reading that the evidence is for.

    Raises DatasetError with what was found and what to type.
    """
    index = index_files(images_below(tree))
    if options.labels:
        reading = read_tables(root, [given_table(root, options, [], index)], index, options.group_column)
        return _with_groups_of(Found(), reading, options.group_column, index)
    found = find_tables(root, tree, index, options.group_column)
    if options.file_column or options.label_column or options.layout == "table":
        return _chosen_table(root, options, found, index)
    folders = read_folders(root, tree, options.layout)
    if options.layout:
        return _with_groups_of(found, folders.readings[0], options.group_column, index)
    named = bool(folders.readings) and not folders.generic and not _numbered(folders)
    tables = [table for table in found.tables if not table.columns.doubt and _names_enough(table, index)]
    # Beside a table of labels a single folder is no reading.
    readings = [one for one in folders.readings if len(one.classes) > 1 or not tables] if named else []
    if readings:
        group = options.group_column  # a table that is there for the groups gives no labels beside class folders
        tables = [t for t in tables if not (group and _has(t, group)) or has_strong_labels(t.table, t.columns)]
        tables += [
            told for table in found.tables if table.columns.doubt and (told := _told_by_folders(table, readings[0]))
        ]
        _refuse_ambiguous(root, tables, index)
        tables = _complete(root, tables, found, readings[0], index)
    by_table = _table_readings(root, tables, found, index, options.group_column, strict=not readings)
    if not readings and not by_table:
        refuse(root, tree, found, folders)
    chosen = _decide(root, readings, by_table)
    _with_splits_of(found, chosen, index)
    _mention(found, chosen, index)
    _mention_splits(tree, chosen)
    return _with_groups_of(found, chosen, options.group_column, index)


def _refuse_ambiguous(root: Path, tables: list[LabelTable], index: FileIndex) -> None:
    """Raise DatasetError for a table of labels beside class folders whose names are all those of several images: is it
    out of date, or meant?"""
    for table in tables:
        if not has_strong_labels(table.table, table.columns):
            continue
        matches = [find_image(index, row[table.columns.file], table.home, table.split) for row in table.table.rows]
        if sum(match.reason == "ambiguous" for match in matches) < AGREE * len(matches):
            continue
        try:
            read_tables(root, [table], index)
        except DatasetError as error:
            raise DatasetError(f"{error} If the folders are the classes: --layout class-folders") from None


def _told_by_folders(table: LabelTable, folders: Reading) -> LabelTable | None:
    """Let the class folders tell which column of a table holds the labels: the one whose cells are their
    names."""
    classes = {fold(name) for name in folders.classes}
    for i in range(len(table.table.columns)):
        cells = [fold(row[i]) for row in table.table.rows if row[i]]
        if cells and i != table.columns.file and sum(cell in classes for cell in cells) >= 0.9 * len(cells):
            return replace(table, columns=replace(table.columns, label=i, one_hot=(), doubt=""))
    return None


def _names_enough(table: LabelTable, index: FileIndex) -> bool:
    if not table.whole and table.named < min(10, 0.5 * index.size):
        return False  # numbers of something else, such as those of the classes
    return table.named >= FEW * table.rows or table.named >= FEW * index.size


def _numbered(folders: FolderReadings) -> bool:
    """Say whether the folders are parts of one another by their names: HAM10000_images_part_1 and _2."""
    names = list(folders.readings[0].classes)
    stems = {name.rstrip("0123456789").lower() for name in names}
    return len(names) > 1 and len(stems) == 1 and bool(GENERIC & set(normal(next(iter(stems))).split("_")))


def _chosen_table(root: Path, options: ReadingOptions, found: Found, index: FileIndex) -> Reading:
    """Read the table that has the columns which the user named."""
    wanted = [
        (name, option)
        for name, option in ((options.file_column, "--file-column"), (options.label_column, "--label-column"))
        if name
    ]
    fitting = [table for table in found.tables if all(_has(table, name) for name, _ in wanted)]
    if not fitting and len(found.tables) == 1 and wanted:
        column_index(found.tables[0].table, *wanted[0])
        column_index(found.tables[0].table, *wanted[-1])
    if not fitting:
        listed = "; ".join(f"{table.name} ({name_list(table.table.columns)})" for table in found.tables[:5])
        said = " ".join(f"{option} {name!r}" for name, option in wanted) or "--layout table"
        raise DatasetError(
            f"{root}: {said}: no table there has such columns and names images that are there. Found:"
            f" {listed or 'no table'}. Give one with --labels FILE.csv"
        )
    tables = [given_table(root, replace(options, labels=str(table.table.path)), [], index) for table in fitting]
    readings = _table_readings(root, tables, found, index, options.group_column, strict=True)
    return _with_groups_of(found, _decide(root, [], readings), options.group_column, index)


def _has(table: LabelTable, name: str) -> bool:
    return any(normal(column) == normal(name) or column == name for column in table.table.columns)


def _table_readings(
    root: Path, tables: list[LabelTable], found: Found, index: FileIndex, group: str | None, *, strict: bool
) -> list[Reading]:
    """Read tables that belong together as one; of those that say the same, the ones that say most."""
    families: list[list[LabelTable]] = []
    known: list[set[str]] = []  # images of each family
    for table in sorted(tables, key=lambda t: (t.split is None, -t.rows)):
        try:
            images = {sample.name for sample in read_tables(root, [table], index).samples}
        except DatasetError as error:
            if strict and len(tables) == 1:
                raise
            found.unusable[table.name] = str(error)
            continue
        fits = (i for i, family in enumerate(families) if not images & known[i] and _same_columns(table, family[0]))
        place = next(fits, None)
        if place is None:
            families.append([table])
            known.append(images)
        else:
            families[place].append(table)
            known[place] |= images
    readings = [read_tables(root, family, index, _group_in(family[0], group)) for family in families]
    return _without_repeated(readings)


def _without_repeated(readings: list[Reading]) -> list[Reading]:
    """Leave out readings that say the same as another one of no more images, and no other splits."""
    left = list(readings)
    for one in readings:
        for other in left:
            if other is not one and one in left and _repeats(one, other):
                left.remove(one)
                names = name_list(sorted(one.used_tables))
                other.notes.append(
                    f"{names} {'says' if len(one.used_tables) == 1 else 'say'} the same of no more images"
                )
                other.used_tables |= one.used_tables
    return left


def _repeats(one: Reading, other: Reading) -> bool:
    """Say whether `other` says all that `one` says: labels, and splits if it has any."""
    labels = {sample.name: (sample.label, sample.split) for sample in other.samples}
    common = [(sample, labels[sample.name]) for sample in one.samples if sample.name in labels]
    with_splits = any(sample.split for sample in one.samples)
    same = all(
        sample.label == label and (not with_splits or sample.split == split) for sample, (label, split) in common
    )
    return same and len(common) >= AGREE * len(one.samples)


def _group_in(table: LabelTable, group: str | None) -> str | None:
    return group if group and _has(table, group) else None


def _same_columns(a: LabelTable, b: LabelTable) -> bool:
    def names(table: LabelTable) -> list[str]:
        wanted = [table.columns.label] if table.columns.label is not None else list(table.columns.one_hot)
        return [normal(table.table.columns[i]) for i in wanted]

    return names(a) == names(b)


def _complete(root: Path, tables: list[LabelTable], found: Found, first: Reading, index: FileIndex) -> list[LabelTable]:
    """Let tables label the split folders that have no class folders (TinyImageNet's val/); return the other
    tables."""
    left = []
    for table in tables:
        try:
            more = read_tables(root, [table], index)
        except DatasetError as error:
            found.unusable[table.name] = str(error)
            continue
        fits = sum(sample.label in first.classes for sample in more.samples)
        inside = [sample for sample in more.samples if sample.name in first.used]
        splits = {sample.name: _split_of_sample(sample, table) for sample in more.samples}
        if first.layout != "split-folders" or inside or fits < 0.9 * len(more.samples) or None in splits.values():
            left.append(table)
            continue
        added = [replace(sample, split=splits[sample.name]) for sample in more.samples if sample.label in first.classes]
        first.samples += added
        first.used |= {sample.name for sample in added}
        first.set_aside += more.set_aside
        first.used_tables.add(table.name)
        first.unused = {
            reason: n
            for reason, n in first.unused.items()
            if not any(f"{folder}/" in reason for folder in _top_folders(added))
        }
        first.notes = [
            note
            for note in first.notes
            if not any(note.startswith(f"{folder}/ has no") for folder in _top_folders(added))
        ]
        first.text += (
            f"; {table.name} gives the labels of {count(len(added), 'image', 'images')} more ({splits[added[0].name]})"
        )
    return left


def _top_folders(samples: list[Sample]) -> set[str]:
    """Every folder above the images, so that what was said of them can be taken back."""
    return {
        "/".join(parts[:i]) for s in samples for parts in [s.name.split("/")[:-1]] for i in range(1, len(parts) + 1)
    }


def _split_of_sample(sample: Sample, table: LabelTable) -> Split | None:
    return sample.split or split_of_path(sample.name) or table.split


def _decide(root: Path, folders: list[Reading], tables: list[Reading]) -> Reading:
    """Return the one reading that the others agree with.

    Raises DatasetError that lists those that differ.
    """
    plausible = [*tables]
    for folder in folders:
        agreeing = [table for table in tables if _agree(folder, table)]
        for table in agreeing:
            plausible.remove(table) if table in plausible else None
            folder.used_tables |= table.used_tables
            folder.notes.append(
                f"{name_list(sorted(table.used_tables))} {'says' if len(table.used_tables) == 1 else 'say'}"
                " the same as the folders"
            )
            _compare_splits(folder, table)
        plausible.append(folder)
    if not plausible:
        raise DatasetError(f"{root}: no table there gives labels that can be used.")
    if len(plausible) == 1:
        return plausible[0]
    ways = "; ".join(f"({i}) {reading.text}: {_way(root, reading)}" for i, reading in enumerate(plausible, 1))
    raise DatasetError(f"{root} can be read in {len(plausible)} ways, and which of them is meant is not clear. {ways}.")


def _compare_splits(folder: Reading, table: Reading) -> None:
    """Take the splits of a table beside class folders; beside split folders say where they differ."""
    if not any(sample.split for sample in table.samples):
        return
    if folder.layout != "split-folders":
        _take_splits(folder, {s.name: s.split for s in table.samples}, name_list(sorted(table.used_tables)))
        return
    splits = {sample.name: sample.split for sample in folder.samples}
    differing = sum(s.name in splits and splits[s.name] != s.split for s in table.samples)
    if differing:
        folder.notes[-1] += (
            f", but for the splits: {count(differing, 'image is', 'images are')} in another one there. The"
            " folders were taken; to take the table: --layout table"
        )


def _take_splits(folder: Reading, splits: dict[str, Split | None], told: str) -> None:
    folder.samples = [replace(sample, split=splits.get(sample.name, sample.split)) for sample in folder.samples]
    folder.text += f"; {told} {'give' if ', ' in told else 'gives'} the splits"


def _with_splits_of(found: Found, reading: Reading, index: FileIndex) -> None:
    """Take the splits of a table that gives no labels, but says of the images of class folders which part
    they are in."""
    if any(sample.split for sample in reading.samples):
        return
    if _take_lists(found, reading):
        return
    for table in found.tables:
        if table.columns.label is not None or table.columns.one_hot or table.name in reading.used_tables:
            continue
        splits: dict[str, Split | None] = {}
        for row in table.table.rows:
            split, _ = split_of_row(table.table, table.columns, row)
            match = find_image(index, row[table.columns.file], table.home, split)
            if split and match.path:
                splits[match.path] = split
        if "train" in splits.values() and len(set(splits.values())) > 1 and len(splits) >= AGREE * len(reading.samples):
            reading.used_tables.add(table.name)
            _take_splits(reading, splits, table.name)
            return


def _take_lists(found: Found, reading: Reading) -> bool:
    """Take the splits from text files that list images: train.txt, test.txt, as Food-101 has them."""
    splits: dict[str, Split | None] = {path: one.split for one in found.lists for path in one.images}
    known = {sample.name for sample in reading.samples}
    listed = splits.keys() & known
    parts = {splits[path] for path in listed}
    if not parts & {"validation", "test"} or sum(len(one.images) for one in found.lists) != len(splits):
        return False
    if "train" in parts and len(listed) < AGREE * len(known):
        return False
    reading.used_tables |= {one.name for one in found.lists}
    _take_splits(reading, splits, name_list([one.name for one in found.lists]))
    return True


def _way(root: Path, reading: Reading) -> str:
    """What chooses a reading: the option to type, the path of a table as it is from where the user is."""
    option, _, name = reading.option.partition(" ")
    if not option:
        return "move the tables of the other readings elsewhere"
    return f"type {option} {shlex.quote(str(root / name))}" if option == "--labels" else f"type {reading.option}"


def _agree(folder: Reading, table: Reading) -> bool:
    """Say whether folder and table sort the images that both know in the same way, whatever they call the
    classes.

    A table that calls them as the folders do has to agree on every image: corrected labels are another reading.
    """
    own = {sample.name: sample.label for sample in folder.samples}
    pairs = Counter((own[sample.name], sample.label) for sample in table.samples if sample.name in own)
    if not pairs:
        return False
    named = {fold(name) for name in folder.classes}
    if sum(n for (_, b), n in pairs.items() if fold(b) in named) >= AGREE * sum(pairs.values()):
        return all(fold(a) == fold(b) for a, b in pairs)
    there: dict[str, Counter[str]] = defaultdict(Counter)
    for (a, b), n in pairs.items():
        there[a][b] += n
    best = {a: counts.most_common(1)[0] for a, counts in there.items()}
    one_to_one = len({b for b, _ in best.values()}) == len(best)
    return one_to_one and sum(n for _, n in best.values()) >= AGREE * sum(pairs.values())


def _mention(found: Found, chosen: Reading, index: FileIndex) -> None:
    """Say of every table that was not used why."""
    for table in found.tables:
        if table.name in chosen.used_tables or table.name in found.unusable:
            continue
        if table.columns.doubt or not _names_enough(table, index):
            what = (
                f"names {count(table.named, 'image', 'images')} (columns: {name_list(table.table.columns)})"
                " and is not used"
            )
            chosen.notes.append(
                f"{table.name} {what}; to take labels from it: --labels {shlex.quote(table.name)} --label-column NAME"
            )
    for name, reason in found.unusable.items():
        if name not in chosen.used_tables:
            says_which = reason.startswith(("/", name))
            chosen.notes.append(reason if says_which else f"{name} is not used: it {reason}")


def _mention_splits(tree: Folder, chosen: Reading) -> None:
    """Name files that may give splits and are not understood, if none are known."""
    if any(sample.split for sample in chosen.samples):
        return
    told = " ".join(chosen.notes)
    names = [folder.inside(name) for folder in folders_below(tree) for name in folder.tables]
    unread = [n for n in names if _speaks_of_splits(n) and n not in chosen.used_tables and n not in told]
    if unread:
        chosen.notes.append(
            f"{name_list(unread, 4)} may give the splits and {'is' if len(unread) == 1 else 'are'} not understood: new"
            " splits are drawn. Understood are a table of file and split, and lists of files called train.txt and test.txt"
        )


def _speaks_of_splits(name: str) -> bool:
    stem = Path(name).stem
    return split_of(stem) is not None or "split" in stem.lower()


def with_groups_of_tables(root: Path, tree: Folder, reading: Reading, column: str) -> Reading:
    """Take the groups of images from whichever table has the column.

    Raises DatasetError if none has it, or says nothing there.
    """
    index = index_files(images_below(tree))
    return _with_groups_of(find_tables(root, tree, index, column), reading, column, index)


def _with_groups_of(found: Found, reading: Reading, column: str | None, index: FileIndex) -> Reading:
    """Take --group COLUMN from a table, also if the labels come from elsewhere."""
    if not column:
        return reading
    if all(sample.group is None for sample in reading.samples):
        _take_groups(found, reading, column, index)
    without = sum(sample.group is None for sample in reading.samples)
    if without == len(reading.samples):
        raise DatasetError(
            f"--group {column!r}: the table that has this column names none of the {without:,} images"
            " clearly, or has empty cells there. Give more of the path in the table, or --group-pattern"
        )
    if without:
        reading.notes.append(
            f"{count(without, 'image has', 'images have')} no value in column {column!r} and"
            f" {'is' if without == 1 else 'are'} in no group"
        )
    return reading


def _take_groups(found: Found, reading: Reading, column: str, index: FileIndex) -> None:
    for table in found.tables:
        if _has(table, column):
            place = column_index(table.table, column, "--group")
            groups = {
                match.path: row[place]
                for row in table.table.rows
                if has_label(row[place]) and (match := find_image(index, row[table.columns.file], table.home)).path
            }
            reading.samples = [replace(sample, group=groups.get(sample.name)) for sample in reading.samples]
            reading.used_tables.add(table.name)
            return
    listed = "; ".join(f"{table.name} ({name_list(table.table.columns)})" for table in found.tables[:5])
    raise DatasetError(
        f"--group {column!r}: no table that names the images has such a column. Found:"
        f" {listed or 'no table'}. If file names tell the groups: --group-pattern '^(.*)_[0-9]+$'"
    )
