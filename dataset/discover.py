"""What did the user give?

Every reading that the source allows is weighed; the one that is clearly meant is told in a sentence.
"""

import re
from collections import Counter
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from dataset.archive import OTHER_ARCHIVES, is_archive, unpack
from dataset.array_reading import joined, pixel_columns, read_arrays, read_pixels, with_pixel_header
from dataset.inventory import (
    TABLES,
    Folder,
    count_others,
    folders_below,
    foreign_below,
    images_below,
    take_inventory,
)
from dataset.label_table import Table, read_table
from dataset.listing import Listing, ReadingOptions, Sample
from dataset.masks import take_out_masks
from dataset.name_reading import read_names, with_groups
from dataset.reading import Reading
from dataset.refusal import refuse_without_images
from dataset.split_names import word_of_split
from dataset.torchvision_sets import TORCHVISION, from_torchvision
from dataset.weighing import weigh, with_groups_of_tables
from schema.errors import DatasetError, SettingsError
from schema.settings import option_of
from schema.text import name_list, readable

AS_THEY_ARE = ReadingOptions()


def discover(source: str, options: ReadingOptions = AS_THEY_ARE, *, workdir: Path) -> Listing:
    """Find every labelled image of a folder, an archive, an .npz, a table or a known name.

    Decodes nothing. Raises DatasetError.
    """
    path = Path(source).expanduser()
    if not path.exists():
        if source.lower() not in {"digits", *TORCHVISION}:
            raise DatasetError(_absent(path))
        _refuse_options(source, options)
        return digits() if source.lower() == "digits" else from_torchvision(source.lower(), workdir)
    name = re.sub(r"(\.tar)?\.\w+$", "", path.name) if path.is_file() else path.resolve().name
    if path.is_file() and path.suffix.lower() in TABLES:
        listing = _from_table_file(path, options)
    elif path.is_file() and is_archive(path):
        listing = _from_archive(path, options, workdir)
    elif path.is_file() and path.suffix.lower() == ".npz":
        _refuse_options(path.name, options)
        listing = read_arrays(path)
    elif path.is_dir():
        listing = _from_folder(path, replace(options, labels=labels_in(path, options.labels)))
    else:
        raise DatasetError(_not_known(path))
    _check_classes(source, listing)
    return in_readable_text(replace(listing, name=name))


def digits() -> Listing:
    """Return scikit-learn's 1,797 grey 8 x 8 images of handwritten digits: real data without a download."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second

    data = load_digits()
    images = (data.images * (255 / 16)).round().astype(np.uint8)
    samples = (
        Sample(f"digits/{i:04d}", str(t), None, None, image)
        for i, (image, t) in enumerate(zip(images, data.target, strict=True))
    )
    text = "scikit-learn's 1,797 handwritten digits"
    return Listing("digits", "scikit-learn", tuple("0123456789"), tuple(samples), reading=text)


def _absent(path: Path) -> str:
    parent = path.parent
    beside = [p.name for p in parent.iterdir()] if parent.is_dir() else []
    close = get_close_matches(path.name, beside, n=3)
    hint = f" Did you mean {', '.join(str(parent / name) for name in close)}?" if close else ""
    return (
        f"There is no folder or file {path}.{hint} Give a folder of class folders, an archive, a table, an"
        " .npz, or a torchvision name such as cifar10."
    )


def _not_known(path: Path) -> str:
    if path.name.lower().endswith(OTHER_ARCHIVES):
        return (
            f"{path}: archives of this kind are not unpacked. Unpack it yourself and give the folder, or pack"
            " it as .zip or .tar.gz."
        )
    if not path.is_file():
        return f"{path} is a pipe or a device. Expected a folder, .zip, .tar, a table or .npz."
    return (
        f"{path} is not a data set that we know. Expected a folder, .zip, .tar, a table (.csv, .tsv, .xlsx,"
        " .jsonl) or .npz."
    )


def _read_pixels(table: Table, options: ReadingOptions) -> Listing:
    _refuse_options(table.path.name, replace(options, label_column=None, group_column=None))
    return read_pixels(table, options.label_column, options.group_column)


def _refuse_options(source: str, options: ReadingOptions) -> None:
    """Raise SettingsError for an option on files, folders and tables that a source of arrays would pass
    over."""
    given = [field.name for field in fields(options) if getattr(options, field.name) is not None]
    if given:
        raise SettingsError(
            f"{option_of(given[0])} does not go with {source}, which holds arrays and no image files."
            " Leave it out, or give a folder of images."
        )


def _from_table_file(path: Path, options: ReadingOptions) -> Listing:
    """A table that was given itself names images below its folder, or holds their pixels."""
    table = with_pixel_header(read_table(path))
    if pixel_columns(table):
        return _read_pixels(table, options)
    return _from_folder(path.parent, replace(options, labels=options.labels or str(path)))


def _from_archive(path: Path, options: ReadingOptions, workdir: Path) -> Listing:
    """Read what was unpacked, and speak of the archive: nobody knows the folder that it was unpacked into."""
    root = unpack(path, workdir)
    try:
        return _from_folder(root, replace(options, labels=labels_in(root, options.labels, path)))
    except DatasetError as error:
        raise DatasetError(str(error).replace(str(root), str(path))) from None


def labels_in(root: Path, labels: str | None, source: Path | None = None) -> str | None:
    """Find the table that the user named where it is, or else inside `root`; `source` is the archive that was unpacked there."""
    if labels is None or Path(labels).expanduser().exists():
        return labels
    inside = root / labels.removeprefix(f"{source or root}/")
    return str(inside) if inside.is_file() else labels


def _from_folder(root: Path, options: ReadingOptions) -> Listing:
    tree = take_inventory(root)
    masks = take_out_masks(tree)
    if not tree.total:
        return _without_images(root, tree, options)
    _check_options(options)
    if options.label_pattern or options.layout == "file-names":
        reading = read_names(root, tree, options.label_pattern)
        if options.group_column:
            reading = with_groups_of_tables(root, tree, reading, options.group_column)
    else:
        reading = _weighed(root, tree, options, masks)
    samples, notes = reading.samples, list(reading.notes)
    if reading.group_hint and not (options.group_column or options.group_pattern):
        notes.append(reading.group_hint)
    if options.group_pattern:
        samples, note = with_groups(samples, options.group_pattern)
        notes += [note] if note else []
    unused = _count_unused(tree, reading, masks)
    return Listing(
        root.name,
        reading.layout,
        reading.classes,
        tuple(samples),
        tuple(reading.set_aside),
        tuple(notes),
        root,
        reading.text,
        unused,
    )


def _weighed(root: Path, tree: Folder, options: ReadingOptions, masks: dict[str, int]) -> Reading:
    try:
        return weigh(root, tree, options)
    except DatasetError as error:
        if not masks:
            raise
        beside = "; ".join(f"{number:,} {what}" for what, number in masks.items())
        raise DatasetError(f"{error} Not counted there: {beside}.") from None


def _check_options(options: ReadingOptions) -> None:
    """Raise SettingsError for options that ask for two different readings: one would be passed over."""
    table = [f"--{n.replace('_', '-')}" for n in ("labels", "file_column", "label_column") if getattr(options, n)]
    pattern = ["--label-pattern"] if options.label_pattern else []
    layout = [f"--layout {options.layout}"] if options.layout else []
    if table and pattern:
        raise SettingsError(f"{table[0]} and --label-pattern: labels come from a table or from file names. Choose one.")
    if table and options.layout not in {None, "table"}:
        raise SettingsError(f"{table[0]} and {layout[0]}: labels come from a table or from folders. Choose one.")
    if pattern and options.layout not in {None, "file-names"}:
        raise SettingsError(f"--label-pattern and {layout[0]}: labels come from file names or not. Choose one.")
    if options.group_column and options.group_pattern:
        raise SettingsError("--group and --group-pattern: groups come from a table or from file names. Choose one.")


def _without_images(root: Path, tree: Folder, options: ReadingOptions) -> Listing:
    """A folder may hold tables of pixels instead of images."""
    tables = []
    for folder in folders_below(tree):
        for name in folder.tables:
            if name.lower().endswith((".csv", ".tsv")):
                table = with_pixel_header(read_table(root / folder.path / name))
                tables += [table] if pixel_columns(table) else []
    labelled = [t for t in tables if len(t.columns) > len(pixel_columns(t))] or tables
    splits = [word_of_split(t.path.stem) for t in labelled]
    if labelled and (len(labelled) == 1 or ("train" in splits and len({*splits, None}) == len(splits) + 1)):
        listings = [_read_pixels(t, options) for t in labelled]
        listing = listings[0] if len(listings) == 1 else joined(listings, splits)
        unlabelled = [t.path.name for t in tables if t not in labelled]
        notes = (f"tables of pixels without labels are not used: {name_list(unlabelled)}",) if unlabelled else ()
        others = count_others(tree, {t.path.relative_to(root).as_posix() for t in labelled})
        return replace(listing, unused=others, warnings=(*listing.warnings, *notes))
    if labelled:
        raise DatasetError(
            f"{root} holds several tables of pixels: {name_list([t.path.name for t in labelled])}. Give one"
            f" of them, e.g. {labelled[0].path}."
        )
    return refuse_without_images(root, tree)


def _count_unused(tree: Folder, reading: Reading, masks: dict[str, int]) -> dict[str, int]:
    """Count what lies in the source and is neither an image in use nor set aside with a reason."""
    found: Counter[str] = Counter(masks) + Counter(reading.unused)
    aside = {one.file for one in reading.set_aside}
    for path in images_below(tree):
        if path in reading.used or readable(path) in aside:
            continue
        folder = path.rpartition("/")[0]
        if any(f"{above}/" in reason for reason in reading.unused for above in _above(folder)):
            continue
        where = f" in {folder}/" if folder else ""
        beside = "that no table names" if reading.layout == "table" else "beside the folders in use"
        found[f"images{where} {beside}"] += 1
    for path, reason in foreign_below(tree):
        if path not in reading.used:
            found[f"pictures that are not read (each {reason})"] += 1
    return {**found, **count_others(tree, reading.used_tables)}


def _above(folder: str) -> list[str]:
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:i]) for i in range(1, len(parts) + 1)]


def _check_classes(source: str, listing: Listing) -> None:
    if not listing.samples and not listing.set_aside:
        raise DatasetError(f"{source}: no images found.")
    if len(listing.classes) < 2:
        only = f"one class only, {listing.classes[0]!r}" if listing.classes else "no class"
        aside = listing.set_aside
        first = (
            f" {len(aside):,} files or rows were set aside, e.g. {aside[0].file}: {aside[0].reason}." if aside else ""
        )
        notes = f" Also: {'; '.join(listing.warnings[:2])}." if listing.warnings else ""
        raise DatasetError(f"{source} has {only} ({listing.reading}). A classifier needs at least two.{first}{notes}")


def in_readable_text(listing: Listing) -> Listing:
    """Write bytes of names that are no UTF-8 as `\\xfc`: such a name can be shown and stored.

    Paths stay as they are.
    """
    texts = [listing.name, listing.reading, *listing.classes, *listing.warnings, *listing.unused]
    texts += [text for sample in listing.samples for text in (sample.name, sample.label, sample.group or "")]
    if all(text.isascii() or text == readable(text) for text in texts):
        return listing
    return replace(
        listing,
        name=readable(listing.name),
        reading=readable(listing.reading),
        classes=tuple(map(readable, listing.classes)),
        warnings=tuple(map(readable, listing.warnings)),
        unused={readable(what): number for what, number in listing.unused.items()},
        samples=tuple(
            replace(
                one,
                name=readable(one.name),
                label=readable(one.label),
                group=one.group and readable(one.group),
            )
            for one in listing.samples
        ),
    )
