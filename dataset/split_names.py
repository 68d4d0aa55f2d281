"""Names of folders, tables and cells that mean a split: train_images, seg_test, Validation, dev,
PublicTest."""

import re
from collections.abc import Iterable

from schema.dataset import Split

WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "trainval": "train",
    "val": "validation",
    "valid": "validation",
    "vld": "validation",
    "validation": "validation",
    "validate": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "holdout": "test",
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
    " label labels lbl lbls bbox bboxes boxes manual"
)
# Words that say nothing beside a split; any other word makes a name of its own: train_station is a class.
COMPANIONS = frozenset(
    f"{PICTURES} seg split samples cropped resized small full raw final labels label list csv annotations"
    " info df ground truth gt new clean my the with answers solution private public".split()
)
GENERIC = frozenset(
    f"{PICTURES} {DRAWN} pic pics jpegimages parts batch batches chunk shard shards fold folds folders subset"
    " volume vol disk archive ground truth st nd rgb depth disparity thermal infrared nir".split()
)
# Words of what images come in series by: a number behind one of them is no class.
SERIES_WORDS = frozenset(
    f"{PICTURES} pic pics parts batch batches chunk shard shards fold folds volume vol disk day week month"
    " year date session video vid clip sequence seq scene shot take run trial site camera cam location"
    " patient subject case person participant user id scan slide roll folder dir".split()
)
DATE = re.compile(r"(19|20)\d\d[ _.-]?\d\d([ _.-]?\d\d)?|\d\d[ _.-]\d\d[ _.-](19|20)\d\d")
CAMERA_FOLDER = re.compile(r"\d{3}[A-Za-z_]{5}|\d{3}_\d{4}|DCIM", re.IGNORECASE)  # DCF: 100CANON, 101MSDCF, 100APPLE
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


def splits_of(names: Iterable[str]) -> dict[str, Split]:
    """Return the split of each name that stands for one: `evaluation` is the test part if another is the
    validation part."""
    found = {name: split for name in names if (split := split_of(name))}
    evaluated = [name for name in found if set(_words(name)) & {"eval", "evaluation", "evaluate"}]
    others = {split for name, split in found.items() if name not in evaluated}
    if "validation" in others and "test" not in others:
        found |= dict.fromkeys(evaluated, "test")
    return found


def split_and_class(name: str) -> tuple[Split, str] | None:
    """Take a folder's name apart that tells both, such as trainA or test_cats; None for any other name."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    found = [(i, WORDS[word.lower()]) for i, word in enumerate(words) if word.lower() in WORDS]
    rest = [word for i, word in enumerate(words) if i not in {place for place, _ in found}]
    if len(found) != 1 or not rest or all(word.lower() in COMPANIONS for word in rest):
        return None
    return found[0][1], "_".join(rest)


def word_of_split(name: str) -> Split | None:
    """Return the split that one word of a name stands for, whatever the others: mnist_train,
    sign_mnist_test."""
    found = {WORDS[word] for word in _words(name) if word in WORDS}
    return found.pop() if len(found) == 1 else None


def is_series(name: str) -> bool:
    """Say whether a folder's name only counts or dates: part_1, day 3, patient007, 2021-03-04."""
    return bool(DATE.fullmatch(name)) or (
        bool(re.search(r"\d", name)) and bool(words := _words(name)) and all(word in SERIES_WORDS for word in words)
    )


def is_numbered(name: str) -> bool:
    """Say whether a folder's name is a number, or a word and a number: 3, grade2.

    It may be a class, and it may count.
    """
    return bool(re.fullmatch(r"[a-z]{0,12}[ _-]?\d+([ _.-]\d+)*", name, re.IGNORECASE))


def is_generic(name: str) -> bool:
    """Say whether a folder's name is no class: images, part_2, masks, train_images, archive (1)."""
    words = _words(name)
    if split_of(name) or CAMERA_FOLDER.fullmatch(name):
        return True
    return bool(words) and all(word in GENERIC or word in WORDS for word in words)


def is_mask_folder(name: str) -> bool:
    """Say whether a folder's name says that its pictures are drawn over others: masks, Ground_Truth,
    trimaps."""
    words = _words(name)
    return any(word in MASKS for word in words) or "".join(words) in {"groundtruth", "groundtruths"}


def is_unlabelled(name: str) -> bool:
    """Say whether a folder's name says that its images have no labels: unlabeled, seg_pred."""
    words = _words(name)
    return any(word in UNLABELLED for word in words) and all(word in UNLABELLED | COMPANIONS for word in words)


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", name.lower()) if word]
