"""A source that gives no labels: said with what was found there and what to type or to do instead."""

import json
import re
from pathlib import Path, PurePosixPath
from typing import NoReturn

from dataset.folder_reading import FolderReadings
from dataset.inventory import ARCHIVES, Folder, folders_below, foreign_below, images_below
from dataset.name_reading import suggest_pattern
from dataset.split_names import is_generic
from dataset.table_reading import Found
from schema.errors import DatasetError
from schema.text import name_list, one_line

WAYS = (
    "Sort the images into one folder per class, or give a table of file and label: --labels FILE.csv"
    " --file-column NAME --label-column NAME"
)
LARGEST_JSON = 64 * 2**20  # bytes that are read whole
BOXES = re.compile(r"^\d+( [-\d.e]+){4,}\s*$")


def refuse(root: Path, tree: Folder, found: Found, folders: FolderReadings) -> NoReturn:
    """Raise DatasetError for images without labels."""
    doubt = next((table.columns.doubt for table in found.tables if table.columns.doubt), "")
    if doubt:
        raise DatasetError(f"{root}: {doubt}")
    if problem := _detection(root, tree, found):
        raise DatasetError(f"{root} {problem}: that is object detection, and IMPROVE classifies whole images. {WAYS}")
    foreign = list(foreign_below(tree))
    if len(foreign) == tree.total:
        raise DatasetError(_only_foreign(root, foreign))
    images = f"{root} holds {tree.total:,} images"
    tables = [*found.unusable, *(table.name for table in found.tables)]
    reasons = [f"{name} {reason}" if not reason.startswith("/") else reason for name, reason in found.unusable.items()]
    reasons += [f"{table.name} names {table.named:,} of its {table.rows:,} files" for table in found.tables]
    if tables and any(not reason.endswith("labels") for reason in reasons):
        raise DatasetError(
            f"{images} and no class folders, and no table there gives their labels:"
            f" {'; '.join(reason.rstrip('.') for reason in reasons[:4])}; an image there:"
            f" {next(images_below(tree), 'none')}. Say which does: --labels FILE.csv --file-column NAME"
            " --label-column NAME"
        )
    pattern, classes = suggest_pattern(tree)
    if pattern:
        shown = name_list([f"{name} ({n})" for name, n in classes.most_common(6)])
        raise DatasetError(
            f"{images} and no class folders, so their labels are unknown. If the file names tell them"
            f" ({shown}): --label-pattern {pattern}. {WAYS}"
        )
    level = folders.level or tree
    if folders.generic and folders.readings:
        names = name_list([f"{name}/" for name in folders.readings[0].classes], 5)
        raise DatasetError(
            f"{images} in {names}, which are not names of classes, so their labels are unknown. {WAYS}. If"
            f" these folders are the classes: {folders.readings[0].option}"
        )
    if level is not tree and not is_generic(level.name):
        raise DatasetError(
            f"{root} has one class only, {level.name!r}, and no class folders beside it. A classifier needs"
            f" at least two. {WAYS}"
        )
    lying = [folder.inside(name) for folder in folders_below(tree) for name in [*folder.tables, *folder.others]]
    there = f" Also there, and not understood as labels: {name_list(lying, 4)}." if lying else ""
    raise DatasetError(f"{images} and no class folders, so their labels are unknown. {WAYS}.{there}")


def refuse_without_images(root: Path, tree: Folder) -> NoReturn:
    """Raise DatasetError for a source without a single image."""
    names = [folder.inside(name) for folder in folders_below(tree) for name in [*folder.tables, *folder.others]]
    foreign = list(foreign_below(tree))
    if not names and not foreign:
        raise DatasetError(
            f"{root} is empty. Expected one folder of images per class, or a table of file and label beside the images."
        )
    archives = [name for name in names if PurePosixPath(name).suffix.lower() in ARCHIVES]
    arrays = [
        name
        for name in names
        if name.lower().endswith((".npz", ".parquet", ".pkl", ".tfrecord", ".arrow", "-ubyte", "-ubyte.gz"))
    ]
    if foreign:
        raise DatasetError(_only_foreign(root, foreign))
    if archives:
        one = len(archives) == 1
        way = f"Unpack {'it' if one else 'them'}, and give the folder that holds what was in {'it' if one else 'them'}"
        raise DatasetError(f"{root} holds no images, but archives: {name_list(archives, 4)}. {way}.")
    if arrays:
        npz = next((name for name in arrays if name.endswith(".npz")), None)
        way = f"Give {root / npz}" if npz else "Export them as image files, or save an .npz of images and labels"
        raise DatasetError(f"{root} holds no images, but arrays: {name_list(arrays, 4)}. {way}.")
    raise DatasetError(
        f"{root} holds no images in class folders (found: {name_list(names, 5)}). Expected one folder of"
        " images per class."
    )


def _only_foreign(root: Path, foreign: list[tuple[str, str]]) -> str:
    path, reason = foreign[0]
    return (
        f"{root} holds no image that can be read: {len(foreign):,} files such as {one_line(path, 60)}, which {reason}."
    )


def _detection(root: Path, tree: Folder, found: Found) -> str:
    """Say what draws boxes or outlines here, or nothing."""
    if found.boxes:
        return f"has boxes in {name_list(found.boxes, 2)}"
    if coco := next((f"{folder.inside(name)}" for folder in folders_below(tree) for name in folder.tables
                     if name.lower().endswith(".json") and _is_coco(root / folder.path / name)), ""):  # fmt: skip
        return f"has COCO annotations in {coco}"
    texts, drawings = 0, 0
    stems = {PurePosixPath(path).stem for path in images_below(tree)}
    for folder in folders_below(tree):
        names = [*folder.tables, *folder.others]
        boxes = [name for name in names if name.endswith(".txt") and PurePosixPath(name).stem in stems]
        texts += len(boxes) if boxes and _draws_boxes(root / folder.path / boxes[0]) else 0
        drawings += sum(name.endswith(".xml") and PurePosixPath(name).stem in stems for name in names)
    if texts > len(stems) / 3:
        return f"has a text file of boxes for {texts:,} images (YOLO)"
    return f"has an XML file of boxes for {drawings:,} images (Pascal VOC)" if drawings > len(stems) / 3 else ""


def _is_coco(path: Path) -> bool:
    """Say whether a JSON file has the keys of COCO, in any order."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            with path.open("rb") as file:
                return b'"annotations"' in file.read(2**16) or b'"categories"' in file.read(2**16)
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"images", "annotations", "categories"} <= found.keys()


def _draws_boxes(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return bool(BOXES.match(file.readline()))
    except OSError:
        return False
