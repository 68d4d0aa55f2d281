"""Names of folders, tables and cells that mean a split: train_images, seg_test, Validation, dev, PublicTest."""

import re

from schema.dataset import Split

WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "trainval": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "validate": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "holdout": "validation",
    "test": "test",
    "testing": "test",
    "tests": "test",
    "tst": "test",
}
# Words that say nothing beside one of the above; any other word makes a name of its own: train_station is a class.
COMPANIONS = frozenset(
    [
        "set",
        "sets",
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "photo",
        "photos",
        "data",
        "dataset",
        "datasets",
        "file",
        "files",
        "folder",
        "seg",
        "split",
        "part",
        "samples",
        "cropped",
        "resized",
        "small",
        "full",
        "png",
        "jpg",
        "jpeg",
        "raw",
        "final",
        "labels",
        "label",
        "list",
        "csv",
        "annotations",
        "metadata",
        "meta",
        "info",
        "df",
        "ground",
        "truth",
        "gt",
        "new",
        "clean",
        "my",
        "the",
        "and",
        "with",
        "answers",
        "solution",
        "private",
        "public",
    ]
)
FUSED = re.compile(rf"({'|'.join(sorted(WORDS, key=len, reverse=True))})(set|sets|images|imgs|data|df|labels)?")


def split_of(name: str) -> Split | None:
    """Return the split that a name stands for, or None for any other name."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    found: set[Split] = set()
    words = [word for word in re.split(r"[^a-z]+", spaced) if word]
    for word in words:
        fused = FUSED.fullmatch(word)
        if fused:
            found.add(WORDS[fused.group(1)])
        elif word not in COMPANIONS:
            return None
    if len(found) != 1:
        return None
    split = found.pop()
    return "validation" if split == "test" and "public" in words else split  # FER2013's PublicTest and PrivateTest


GENERIC = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "picture",
        "pictures",
        "photo",
        "photos",
        "pic",
        "pics",
        "data",
        "dataset",
        "datasets",
        "file",
        "files",
        "jpegimages",
        "jpeg",
        "jpg",
        "png",
        "part",
        "parts",
        "batch",
        "batches",
        "chunk",
        "shard",
        "shards",
        "fold",
        "folds",
        "folder",
        "folders",
        "set",
        "sets",
        "subset",
        "volume",
        "vol",
        "disk",
        "archive",
        "and",
        "mask",
        "masks",
        "annotation",
        "annotations",
        "label",
        "labels",
        "trimap",
        "trimaps",
        "segmentation",
        "segmentations",
        "gt",
        "groundtruth",
        "ground",
        "truth",
        "bbox",
        "bboxes",
        "boxes",
        "meta",
        "metadata",
    ]
)


def is_generic(name: str) -> bool:
    """Say whether a folder's name is no class: images, part_2, masks, train_images, archive (1)."""
    if split_of(name):
        return True
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return bool(words) and all(word in GENERIC or word in WORDS for word in words)


MASK_WORDS = frozenset(
    [
        "mask",
        "masks",
        "annotation",
        "annotations",
        "trimap",
        "trimaps",
        "segmentation",
        "segmentations",
        "segmented",
        "gt",
        "groundtruth",
        "label",
        "labels",
        "bbox",
        "bboxes",
        "boxes",
        "contour",
        "contours",
        "outline",
        "outlines",
        "seg",
        "edges",
        "heatmap",
        "heatmaps",
        "saliency",
    ]
)


def is_mask_folder(name: str) -> bool:
    """Say whether a folder's name says that its pictures are drawn over others: masks, Ground_Truth, trimaps."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return any(word in MASK_WORDS for word in words) or "".join(words) in {"groundtruth", "groundtruths"}


def is_unlabelled(name: str) -> bool:
    """Say whether a folder's name says that its images have no labels: unlabeled, seg_pred."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    plain = {"unlabeled", "unlabelled", "unlabel", "pred", "prediction", "predictions", "predict"}
    return any(word in plain for word in words) and all(word in plain | COMPANIONS for word in words)
