"""Images in arrays: an .npz of images and labels, or a table with a row of pixels per image."""

import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from numpy.lib import format as npy

from dataset.archive import RATIO
from dataset.label_table import Table, class_order, has_label, without_header
from dataset.listing import Listing, Sample
from dataset.split_names import split_of
from dataset.table_columns import LABEL_NAMES, Columns, column_index, normal, split_columns, split_of_row
from schema.dataset import SetAside, Split
from schema.errors import DatasetError
from schema.text import name_list, one_line

IMAGES = ("images", "image", "x", "data", "imgs", "features", "arr_0")
LABELS = ("labels", "label", "y", "targets", "target", "classes", "arr_1")
MOST_CLASSES = 1000
MOST_ROWS = 5_000_000  # as many as the files of an archive
ROW_BYTES = 500  # in memory, for an image beside its pixels: its name, its label, its place
MEMORY_SHARE = 0.5  # of what is free, for the arrays; others are made of them
PIXEL_TABLE = "pixel-table"  # as the layout is called
EXPECTED = (
    "Expected arrays such as images [N, H, W] or [N, H, W, C] and labels [N], or x_train, y_train, x_test, y_test"
)


def read_arrays(path: Path) -> Listing:
    """Read an .npz.

    Raises DatasetError for arrays that are no images and labels.
    """
    try:
        return _read_arrays(path)
    except DatasetError:
        raise
    except Exception as error:  # a damaged archive raises whatever zipfile, zlib and numpy do
        why = one_line(str(error), 200) or type(error).__name__
        raise DatasetError(f"{path} cannot be read: {why}. Is the download complete?") from None


def _read_arrays(path: Path) -> Listing:
    _check_size(path)
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _is_array(path, archive, member)]
            for member in members:
                with archive.open(member) as stream:
                    arrays[member.filename.removesuffix(".npy").lower()] = npy.read_array(stream, allow_pickle=False)
    except DatasetError:
        raise
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DatasetError(
            f"{path} cannot be read: {one_line(str(error), 200)}. Save it with numpy.savez(images=..., labels=...),"
            " without objects."
        ) from None
    samples: list[Sample] = []
    aside: list[SetAside] = []
    notes: list[str] = []
    pairs = list(_pairs(arrays))
    for image_key, label_key, split in pairs:
        images, note = _images(path, image_key, arrays[image_key])
        labels = _labels(path, label_key, arrays[label_key], len(images))
        notes += [note] if note and note not in notes else []
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            if has_label(label):
                samples.append(Sample(f"{image_key}/{i}", label, split, None, image))
            else:
                aside.append(SetAside(file=f"{image_key}/{i}", reason=f"has no label in {label_key} ({label!r})"))
    if not samples:
        found = name_list([f"{key} {list(value.shape)}" for key, value in arrays.items()])
        raise DatasetError(f"{path} holds {found or 'nothing'}. {EXPECTED}.")
    used = {key for pair in pairs for key in pair[:2]}
    left = [key for key in arrays if key not in used]
    notes += [f"arrays that were not used: {name_list(left)}"] if left else []
    said = ", ".join(f"{image} and {label}{f' ({split})' if split else ''}" for image, label, split in pairs)
    classes = class_order(sample.label for sample in samples)
    text = f"the arrays {said}: {len(samples):,} images of {len(classes)} classes"
    return Listing(path.stem, "arrays", classes, tuple(samples), tuple(aside), tuple(notes), None, text)


def _check_size(path: Path) -> None:
    """Raise DatasetError for what is no .npz, and for one that would unpack to more than such a file or this machine holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is no .npz ({one_line(str(error), 80)}). {EXPECTED}, saved with numpy.savez. Is the download complete?"
        ) from None
    packed, free = path.stat().st_size, psutil.virtual_memory().available
    if unpacked > max(RATIO * packed, 2**30):
        raise DatasetError(
            f"{path} would unpack from {packed / 2**20:.1f} MB to {unpacked / 2**30:.1f} GB, which no images do. If you trust"
            " it, save it anew with numpy.savez."
        )
    if unpacked > MEMORY_SHARE * free:
        raise DatasetError(
            f"{path} unpacks to {unpacked / 2**30:.1f} GB, and {free / 2**30:.1f} GB of memory are free. Save the images as"
            " files, one folder per class."
        )


def _is_array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Say whether a member is an array, by its header alone.

    Raises DatasetError for one that would take more memory or time than its bytes are worth.
    """
    with archive.open(member) as stream:
        if stream.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
            return False
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version > (2, 0):  # records with names of their own: neither images nor labels
            return False
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    found = f"{path}: {one_line(member.filename, 80)} is {dtype} {list(shape)}"
    if min(shape, default=1) < 0 or (
        math.prod(shape) * dtype.itemsize > max(member.file_size, 0) and not dtype.hasobject
    ):
        raise DatasetError(f"{found}, and the file holds {member.file_size:,} bytes of it. Is the download complete?")
    first = shape[0] if shape else 0
    if first and not dtype.itemsize * math.prod(shape[1:]):
        raise DatasetError(f"{found}: {first:,} entries of no bytes. {EXPECTED}.")
    free = psutil.virtual_memory().available
    if first > MOST_ROWS or (len(shape) > 2 and first * ROW_BYTES > MEMORY_SHARE * free):
        raise DatasetError(
            f"{found}: {first:,} entries take {first * ROW_BYTES / 2**30:.1f} GB of memory to list, {free / 2**30:.1f} GB"
            f" are free, and IMPROVE lists {MOST_ROWS:,} at most. Save a part of them."
        )
    return True


def _pairs(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, str, Split | None]]:
    """Yield the names of arrays that belong together: x_train with y_train, test_images with test_labels."""
    found = []
    for key in arrays:
        words = [word for word in re.split(r"[^a-z0-9]+", key) if word]
        split = next((s for word in words if (s := split_of(word))), None)
        base = "_".join(word for word in words if not split_of(word))
        found.append((key, base, split))
    for key, base, split in found:
        if base in IMAGES and arrays[key].ndim >= 3:
            labels = [k for k, b, s in found if s == split and b in LABELS and k != key]
            if labels:
                yield key, labels[0], split


def _images(path: Path, key: str, images: np.ndarray) -> tuple[np.ndarray, str]:
    """[N, H, W] or [N, H, W, C]; arrays with channels first are turned, and that is told."""
    wrong = (
        f"{path}: {key} is {images.dtype} {list(images.shape)}; expected numbers [N, H, W] or [N, H, W, C]"
        " with 1 to 4 channels"
    )
    if images.ndim not in {3, 4} or images.dtype.kind not in "buif":
        raise DatasetError(f"{wrong}.")
    if images.dtype.kind == "b":
        images = images.astype(np.uint8) * 255
    if images.ndim == 3 or images.shape[-1] in {1, 2, 3, 4}:
        return images, ""
    if images.shape[1] in {1, 2, 3, 4}:
        return (
            np.moveaxis(images, 1, -1),
            f"{key} has its channels first: {list(images.shape)} was read as [N, C, H, W]",
        )
    raise DatasetError(f"{wrong}.")


def _labels(path: Path, key: str, labels: np.ndarray, wanted: int) -> list[str]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        ones = labels.astype(bool).sum(1) if labels.dtype.kind in "buif" else np.zeros(len(labels))
        if not (ones == 1).all():
            raise DatasetError(
                f"{path}: {key} {list(labels.shape)} gives several labels per image, or none; IMPROVE gives"
                " each image one class."
            )
        labels = labels.argmax(1)
    labels = labels.reshape(-1)
    if len(labels) != wanted:
        raise DatasetError(f"{path}: {key} has {len(labels):,} labels beside {wanted:,} images.")
    if labels.dtype.kind == "S":
        return [label.decode("utf-8", errors="replace") for label in labels.tolist()]
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == labels.round()).all():
        labels = labels.astype(np.int64)
    return [str(label) for label in labels.tolist()]


def pixel_columns(table: Table) -> list[int]:
    """List the columns that hold one pixel each, or the one that holds them all; empty if the table has no
    pixels."""
    if not table.rows:
        return []
    listed = [i for i, cell in enumerate(table.rows[0]) if len(cell) > 100 and re.fullmatch(r"[\d\s]+", cell)]
    if len(listed) == 1:
        return listed
    named = [
        i
        for i, column in enumerate(table.columns)
        if re.fullmatch(r"(pixel|px|p|x|\d+x)?[_ ]?\d+(x\d+)?", column.lower())
    ]
    return named if len(named) >= 49 and _side(len(named)) else []


def with_pixel_header(table: Table) -> Table:
    """Give a table of pixels without a header one: a row of numbers, of which the first or the last is the
    label."""
    names = [re.sub(r" \(\d+\)$", "", column) for column in table.columns]
    numbers = all(re.fullmatch(r"\d+(\.\d+)?|column \d+", name) for name in names)
    header = len({*names}) == len(names) and bool(pixel_columns(table))  # values recur, names of columns do not
    if len(names) < 50 or not numbers or not _side(len(names) - 1) or header:
        return table
    whole = without_header(table)
    last = len(names) - 1
    place = next((i for i in (0, last) if 2 <= len({row[i] for row in whole.rows}) <= MOST_CLASSES), None)
    if place is None:
        return table
    return replace(whole, columns=["label" if i == place else f"pixel{i}" for i in range(len(names))])


def joined(listings: Sequence[Listing], splits: Sequence[Split | None]) -> Listing:
    """Make one listing of tables of pixels that are the parts of a set."""
    samples = [
        replace(one, name=f"{listing.name}/{one.name}", split=split)
        for listing, split in zip(listings, splits, strict=True)
        for one in listing.samples
    ]
    aside = [
        SetAside(file=f"{listing.name}/{one.file}", reason=one.reason)
        for listing in listings
        for one in listing.set_aside
    ]
    text = "; ".join(f"{one.reading} ({split})" for one, split in zip(listings, splits, strict=True))
    notes = tuple(dict.fromkeys(note for one in listings for note in one.warnings))
    classes = class_order(one.label for one in samples)
    return Listing(listings[0].name, PIXEL_TABLE, classes, tuple(samples), tuple(aside), notes, None, text)


def _side(pixels: int) -> tuple[int, int] | None:
    """Side and channels of a square image of so many values."""
    for channels in (1, 3):
        side = round((pixels / channels) ** 0.5)
        if side * side * channels == pixels:
            return side, channels
    return None


def read_pixels(table: Table, label_column: str | None = None, group_column: str | None = None) -> Listing:
    """Read a table of pixels, as Kaggle's digit recognizer and FER2013 are.

    Raises DatasetError.
    """
    pixels = pixel_columns(table)
    rest = [i for i in range(len(table.columns)) if i not in set(pixels)]
    split, flags = split_columns(table, -1)
    named = [
        i
        for i in rest
        if i not in {split, *flags}
        and (table.columns[i] == label_column if label_column else normal(table.columns[i]) in LABEL_NAMES)
    ]
    others = [i for i in rest if i not in {split, *flags}]
    if not named and len(others) == 1 and not label_column:
        named = others
    group = column_index(table, group_column, "--group") if group_column else None
    if len(named) != 1:
        raise DatasetError(
            f"{table.path} holds pixels; which column holds the labels? It has:"
            f" {name_list([table.columns[i] for i in rest]) or 'pixels only'}. Say so: --label-column NAME"
        )
    rows = [row[pixels[0]].split() if len(pixels) == 1 else [row[i] for i in pixels] for row in table.rows]
    square = _side(len(rows[0]))
    if square is None or any(len(row) != len(rows[0]) for row in rows):
        raise DatasetError(
            f"{table.path}: {len(rows[0]):,} pixels in the first row are no square image, or the rows differ."
        )
    try:
        values = np.array(rows, dtype=np.float32)
    except ValueError as error:
        raise DatasetError(f"{table.path} holds pixels that are no numbers ({error}).") from None
    side, channels = square
    scaled = values if values.max() > 1 else values * 255
    images = scaled.clip(0, 255).round().astype(np.uint8).reshape(-1, side, side, channels)
    parts = Columns(-1, named[0], (), split, flags)
    samples, aside = [], []
    for i, (row, image) in enumerate(zip(table.rows, images, strict=True)):
        name, label = f"row/{i}", row[named[0]]
        if not has_label(label):
            aside.append(SetAside(file=name, reason=f"has no label in column {table.columns[named[0]]} ({label!r})"))
            continue
        part, problem = split_of_row(table, parts, row)
        if problem:
            aside.append(SetAside(file=name, reason=problem))
            continue
        pixels_of = image.squeeze(-1) if channels == 1 else image
        samples.append(Sample(name, label, part, None, pixels_of, None if group is None else row[group]))
    classes = class_order(sample.label for sample in samples)
    text = (
        f"{table.path.name} holds the pixels of {len(samples):,} images of {side} x {side}; its column"
        f" {table.columns[named[0]]} gives the labels"
    )
    if split is not None:
        text += f", {table.columns[split]} the splits"
    return Listing(table.path.stem, PIXEL_TABLE, classes, tuple(samples), tuple(aside), table.notes, None, text)
