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
# Words of pictures and files, and of what is drawn over pictures: no class by themselves.
PICTURES = (
    "set sets image images img imgs picture pictures photo photos data dataset datasets file files"
    " folder part png jpg jpeg metadata meta and"
)
DRAWN = (
    "mask masks annotation annotations trimap trimaps segmentation segmentations gt groundtruth"
    " label labels bbox bboxes boxes"
)
# Words that say nothing beside a split; any other word makes a name of its own: train_station is a class.
COMPANIONS = frozenset(
    f"{PICTURES} seg split samples cropped resized small full raw final labels label list csv annotations info"
    " df ground truth gt new clean my the with answers solution private public".split()
)
GENERIC = frozenset(
    f"{PICTURES} {DRAWN} pic pics jpegimages parts batch batches chunk shard shards fold folds folders subset"
    " volume vol disk archive ground truth".split()
)
MASKS = frozenset(f"{DRAWN} segmented contour contours outline outlines seg edges heatmap heatmaps saliency".split())
UNLABELLED = frozenset(["unlabeled", "unlabelled", "unlabel", "pred", "prediction", "predictions", "predict"])
FUSED = re.compile(rf"({'|'.join(sorted(WORDS, key=len, reverse=True))})(set|sets|images|imgs|data|df|labels)?")


def split_of(name: str) -> Split | None:
    """Return the split that a name stands for, or None for any other name."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    found: set[Split] = set()
    words = _words(spaced)
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


def is_generic(name: str) -> bool:
    """Say whether a folder's name is no class: images, part_2, masks, train_images, archive (1)."""
    words = _words(name)
    return bool(split_of(name)) or (bool(words) and all(word in GENERIC or word in WORDS for word in words))


def is_mask_folder(name: str) -> bool:
    """Say whether a folder's name says that its pictures are drawn over others: masks, Ground_Truth, trimaps."""
    words = _words(name)
    return any(word in MASKS for word in words) or "".join(words) in {"groundtruth", "groundtruths"}


def is_unlabelled(name: str) -> bool:
    """Say whether a folder's name says that its images have no labels: unlabeled, seg_pred."""
    words = _words(name)
    return any(word in UNLABELLED for word in words) and all(word in UNLABELLED | COMPANIONS for word in words)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", name.lower()) if word]
