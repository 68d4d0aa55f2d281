"""Masks and drawings that lie beside the images: pictures, but none of a class."""

import re
from pathlib import PurePosixPath

from dataset.inventory import Folder, folders_below, images_below
from dataset.split_names import is_generic, is_mask_folder

MASK_FILE = re.compile(
    r"(.+?)[ _.-]+(mask|masks|seg|segmentation|gt|groundtruth|annotation|trimap|contour)[ _.-]?\d*",
    re.IGNORECASE,
)
SURELY_MASKS = frozenset(["masks", "annotations", "trimaps", "segmentations", "groundtruth", "ground_truth"])
ORIGINALS = frozenset(["original", "originals", "rgb", "source", "sources", "input", "inputs", "raw", "scan", "scans"])
SHARE = 0.8  # of the masks that carry the name of an image


def take_out_masks(tree: Folder) -> dict[str, int]:
    """Remove masks from the tree, and count them by reason."""
    found: dict[str, int] = {}
    for folder in folders_below(tree):
        for inner in list(folder.folders):
            if inner.total and is_mask_folder(inner.name) and _draws_over(inner, folder):
                folder.folders.remove(inner)
                found[f"masks and annotations of other images ({inner.name}/)"] = (
                    found.get(f"masks and annotations of other images ({inner.name}/)", 0) + inner.total
                )
        beside = _masks_beside(folder.images)
        if beside:
            folder.images = [name for name in folder.images if name not in beside]
            key = "masks beside their images"
            found[key] = found.get(key, 0) + len(beside)
    if found:
        _count_again(tree)
    return found


def _draws_over(masks: Folder, parent: Folder) -> bool:
    siblings = [
        folder for folder in parent.folders if folder is not masks and folder.total and not is_mask_folder(folder.name)
    ]
    beside_images = any(is_generic(folder.name) or folder.name.lower() in ORIGINALS for folder in siblings)
    own = [_plain_stem(path) for path in images_below(masks)]
    # Files of several classes are often called 1, 2, 3 ...: that says nothing.
    sure = masks.name.lower() in SURELY_MASKS and (bool(parent.images) or not all(map(str.isdecimal, own)))
    if not sure and not beside_images:
        return False
    stems = {PurePosixPath(path).stem.lower() for folder in siblings for path in images_below(folder)}
    stems |= {PurePosixPath(name).stem.lower() for name in parent.images}
    return bool(own) and sum(stem in stems for stem in own) >= SHARE * len(own)


def _plain_stem(path: str) -> str:
    stem = PurePosixPath(path).stem
    match = MASK_FILE.fullmatch(stem)
    return (match.group(1) if match else stem).lower()


def _masks_beside(names: list[str]) -> set[str]:
    stems = {PurePosixPath(name).stem.lower() for name in names}
    marked = {
        name: match.group(1).lower() for name in names if (match := MASK_FILE.fullmatch(PurePosixPath(name).stem))
    }
    return {name for name, stem in marked.items() if stem in stems}


def _count_again(tree: Folder) -> None:
    for folder in reversed(list(folders_below(tree))):
        folder.total = len(folder.images) + len(folder.foreign) + sum(inner.total for inner in folder.folders)
