"""Which image goes into which part, decided from the survey alone: duplicates, classes, groups, splits, and
what the user should know."""

import hmac
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from dataset import splits
from dataset.duplicates import SIDE, find_duplicates
from dataset.groups import join_groups, number_groups, suggest_groups
from dataset.listing import Listing
from dataset.manifest import file_of
from dataset.survey import Survey
from schema.dataset import Duplicates, SetAside, Split
from schema.errors import DatasetError

SHOWN = 5  # names in a sentence
COPIED, LEAST_COPIED = 0.8, 3  # share and number of the pictures of a class that lie in another one as well
FEW = 20  # images of a part, if there are ten times as many to learn from


@dataclass(frozen=True, slots=True)
class Plan:
    """Indices into the samples of the survey, in the order of the arrays."""

    classes: tuple[str, ...]
    labels: np.ndarray  # int64 [N]; -1 if its class was left out
    parts: dict[Split, np.ndarray]
    inner: np.ndarray  # bool, parallel to the training part: its inner validation images
    # int64, parallel to the training part: in which fold each is held out, 0: in none; empty: not folded.
    folds: np.ndarray
    # Per further fold, bool: which of its training images (those that stay, then the validation part) are its inner validation.
    fold_inner: tuple[np.ndarray, ...]
    order: np.ndarray  # uint64 [N], drawn: by it the held-out images lie
    pictures: np.ndarray  # int64 [N], the first image of the same picture
    exact: np.ndarray  # bool [N], whether an earlier image has equal pixels
    duplicates: Duplicates
    groups: int | None
    set_aside: list[SetAside]
    warnings: list[str]


def make_plan(listing: Listing, survey: Survey, secret: bytes, *, drop_rare_classes: bool) -> Plan:
    """Decide on everything before a pixel is stored.

    `secret` draws the splits and the order of the held-out images. Raises DatasetError for what cannot be split
    and learned from.
    """
    samples = survey.samples
    number = {name: i for i, name in enumerate(listing.classes)}
    labels = np.array([number[sample.label] for sample in samples], dtype=np.int64)
    given = np.array([sample.split or "" for sample in samples], dtype="U10")
    comparable = np.minimum(survey.widths, survey.heights) >= SIDE
    pictures, exact = find_duplicates(survey.contents, survey.thumbnails, comparable)
    if len(samples) > 1 and not pictures.any():
        raise DatasetError(
            f"All {len(samples)} images are the same picture as {samples[0].name}: nothing can be learned"
            " from them. Look at some of the files: were they exported or converted wrongly?"
        )
    free = (given == "") | (given == "train")
    recurring, aside = _recurring(survey, given, pictures, free)
    free[recurring] = False
    equal = np.unique(survey.contents, return_inverse=True)[1]
    _refuse_copied_classes(listing.classes, labels[free], equal[free])
    classes, labels, left_out, warnings = _choose_classes(listing, survey, labels, given, free, drop_rare_classes)
    aside += left_out
    free &= labels >= 0
    given[labels < 0] = "none"

    numbers = number_groups(samples)
    groups = join_groups(pictures, numbers)
    lots = _draw(secret, "split", survey.digests.tolist())
    parts = splits.assign(labels, groups, lots, given, free)
    _check_parts(parts, groups)
    train = parts["train"]
    inner = splits.carve(labels[train], groups[train], lots[train], splits.INNER_SHARE, splits.INNER_MOST)
    folded = len(train) <= splits.FOLDED_MOST and "validation" not in given
    folds = splits.folds(labels[train], groups[train], lots[train]) if folded else np.zeros(0, dtype=np.int64)
    order = _draw_order(secret, survey)
    for split in ("validation", "test"):
        parts[split] = parts[split][np.argsort(order[parts[split]], kind="stable")]
    fold_inner = []
    for fold in range(1, splits.FOLDS) if folded else ():
        learned = np.concatenate([train[folds != fold], parts["validation"]])
        fold_inner.append(
            splits.carve(labels[learned], groups[learned], lots[learned], splits.INNER_SHARE, splits.INNER_MOST)
        )
    warnings += _size_warnings(parts, given, len(classes))
    warnings += _class_warnings(classes, labels, parts, given, pictures, groups)
    warnings += _contradiction_warnings(survey, labels, equal)
    warnings += _group_warnings(listing, survey, labels, given, numbers, pictures, free)
    return Plan(
        classes=classes,
        labels=labels,
        parts=parts,
        inner=inner,
        folds=folds,
        fold_inner=tuple(fold_inner),
        order=order,
        pictures=pictures,
        exact=exact,
        duplicates=_count(survey, labels, pictures, exact, len(recurring)),
        groups=len(np.unique(numbers[numbers >= 0])) if (numbers >= 0).any() else None,
        set_aside=aside,
        warnings=warnings,
    )


def _recurring(
    survey: Survey, given: np.ndarray, pictures: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, list[SetAside]]:
    """Training images that recur in a given held-out part leave the training part: the held-out side stays as
    given."""
    heldout = np.nonzero(~free)[0]
    recurring = np.nonzero(free & np.isin(pictures, pictures[heldout]))[0]
    twins = dict(zip(pictures[heldout].tolist(), heldout.tolist(), strict=True))
    aside = []
    for i in recurring.tolist():
        twin = twins[int(pictures[i])]
        reason = f"is the same picture as {survey.samples[twin].name} of the {given[twin]} part"
        aside.append(SetAside(file=survey.samples[i].name, reason=reason))
    return recurring, aside


def _refuse_copied_classes(classes: Sequence[str], labels: np.ndarray, equal: np.ndarray) -> None:
    """Raise DatasetError if nearly all pictures of a class are those of another one too: `cat - Copy` beside `cat`."""
    pairs = np.unique(equal * len(classes) + labels)  # each picture of a class once
    own, label = np.divmod(pairs, len(classes))
    sizes = np.bincount(label, minlength=len(classes))
    shared: Counter[tuple[int, int]] = Counter()
    for place in np.nonzero(own[1:] == own[:-1])[0].tolist():  # the classes of a picture lie beside each other
        a, b = int(label[place]), int(label[place + 1])
        shared.update([(a, b), (b, a)])
    for (copy, other), number in shared.items():
        if number >= LEAST_COPIED and number >= COPIED * sizes[copy] and sizes[other] >= sizes[copy]:
            raise DatasetError(
                f"Classes {classes[copy]!r} and {classes[other]!r} hold the same pictures ({number:,} of {sizes[copy]:,} are"
                " equal): no classifier can tell them apart. If one is a copy of the other, move it elsewhere."
            )


def _choose_classes(  # noqa: PLR0917 - the classes depend on all that is known so far
    listing: Listing, survey: Survey, labels: np.ndarray, given: np.ndarray, free: np.ndarray, drop: bool
) -> tuple[tuple[str, ...], np.ndarray, list[SetAside], list[str]]:
    """Every class needs enough images for training and for what is carved from it: those that stay, with new
    labels."""
    counts = np.bincount(labels[free], minlength=len(listing.classes))
    both_given = (given == "test").any() and (given == "validation").any()
    least = 2 if both_given else splits.SMALLEST_CLASS
    rare = counts < least
    if not rare.any():
        return listing.classes, labels, [], []
    names = [f"{listing.classes[i]!r} has {counts[i]}" for i in np.nonzero(rare)[0]]
    shown = _some(names)
    stay = tuple(name for name, is_rare in zip(listing.classes, rare, strict=True) if not is_rare)
    if not drop or len(stay) < 2:
        aside = survey.set_aside
        hint = f" ({len(aside)} files were set aside, e.g. {aside[0].file} {aside[0].reason})" if aside else ""
        way = (
            "Add images, or leave these classes out with --drop-rare-classes."
            if len(stay) >= 2
            else f"Add images: without these classes {len(stay)} would be left, and a classifier needs two."
        )
        raise DatasetError(
            f"{len(names)} of {len(rare)} classes {'has' if len(names) == 1 else 'have'} too few usable"
            f" images to split and learn from: {shown}; at least {least} per class are needed{hint}. {way}"
        )
    gone = np.nonzero(rare[labels])[0].tolist()
    reason = f"its class has fewer than {least} images to learn from and was left out (--drop-rare-classes)"
    left_out = [SetAside(file=survey.samples[i].name, reason=reason) for i in gone]
    warning = f"{len(names)} of {len(rare)} classes were left out as too rare, with {len(gone)} images: {shown}"
    return stay, np.where(rare, -1, np.cumsum(~rare) - 1)[labels], left_out, [warning]


def _draw(secret: bytes, purpose: str, items: Iterable[bytes]) -> np.ndarray:
    """uint64 [N]: equal for equal items, and for nobody to foresee who does not know the secret.

    A plain hash would do harm: a job that can guess labels could check the guess against the order of what it is
    shown, and see from its own images which ones the split must have taken.
    """
    key = f"{purpose} ".encode()
    drawn = b"".join(hmac.digest(secret, key + item, "sha256")[:8] for item in items)
    return np.frombuffer(drawn, dtype=">u8").astype(np.uint64)


def _draw_order(secret: bytes, survey: Survey) -> np.ndarray:
    """uint64 [N]: unlike the lots of the split, so that the place of an image tells nothing.

    Copies with different labels are drawn apart: in the order of the source, the first would be of the first class.
    """
    labelled = zip(survey.samples, survey.digests.tolist(), strict=True)
    return _draw(secret, "order", (d + s.label.encode(errors="surrogateescape") for s, d in labelled))


def _check_parts(parts: dict[Split, np.ndarray], groups: np.ndarray) -> None:
    """Each part needs an image, which whole groups may not allow."""
    for split, part in parts.items():
        if not len(part):
            everything = np.concatenate(list(parts.values()))
            kept = len(np.unique(groups[everything]))
            raise DatasetError(
                f"No image is left for the {split} part: the {len(everything)} images are {kept} different"
                " pictures or groups, and copies and groups stay on one side. Add images that are no copies,"
                " or give a test part of your own."
            )


def _size_warnings(parts: dict[Split, np.ndarray], given: np.ndarray, classes: int) -> list[str]:
    """Question a part of the user's that is too small to measure anything."""
    warnings = []
    rests_on: tuple[tuple[Split, str], ...] = (
        ("validation", "which changes are kept"),
        ("test", "the final score"),
    )
    for split, rests in rests_on:
        images = len(parts[split])
        few = images < classes or (images < FEW and images < len(parts["train"]) / 10)
        if few and (given == split).any():
            warnings.append(
                f"your {split} part has {images} of {sum(map(len, parts.values()))} images, and {rests} rests"
                " on them alone. Move it elsewhere, and a fifth of the other images is taken instead"
            )
    return warnings


def _class_warnings(  # noqa: PLR0917 - told of everything
    classes: Sequence[str],
    labels: np.ndarray,
    parts: dict[Split, np.ndarray],
    given: np.ndarray,
    pictures: np.ndarray,
    groups: np.ndarray,
) -> list[str]:
    """Classes that a part cannot measure, and why."""
    warnings = []
    carvable = np.concatenate([parts[split] for split in parts if split == "train" or not (given == split).any()])
    counts = np.bincount(labels[carvable], minlength=len(classes))
    of_pictures, of_groups = (_distinct(labels[carvable], kind[carvable], len(classes)) for kind in (pictures, groups))
    whole = [
        (
            f"{classes[i]!r} has one picture only ({counts[i]} copies of it)"
            if of_pictures[i] == 1
            else f"all {counts[i]} images of class {classes[i]!r} are in one group"
        )
        for i in np.nonzero(of_groups == 1)[0].tolist()
    ]
    carved = [split for split in ("test", "validation") if not (given == split).any()]
    if whole and carved:
        warnings.append(f"class {_some(whole)}: learned from, but not tested, since a group stays on one side")
    for split in ("test", "validation"):
        absent = np.bincount(labels[parts[split]], minlength=len(classes)) == 0
        missing = [i for i in np.nonzero(absent)[0].tolist() if split not in carved or of_groups[i] > 1]
        if missing:
            whose = "carved" if split in carved else "given"
            warnings.append(
                f"{len(missing)} of {len(classes)} classes {'has' if len(missing) == 1 else 'have'} no image"
                f" in the {whose} {split} part, so its scores say nothing of them: "
                + _some([repr(classes[i]) for i in missing])
            )
    return warnings


def _distinct(labels: np.ndarray, groups: np.ndarray, classes: int) -> np.ndarray:
    """int64 [classes]: how many different groups each class has."""
    pairs = np.unique(groups * classes + labels)
    return np.bincount(pairs % classes, minlength=classes)


def _group_warnings(  # noqa: PLR0917 - told of everything
    listing: Listing,
    survey: Survey,
    labels: np.ndarray,
    given: np.ndarray,
    numbers: np.ndarray,
    pictures: np.ndarray,
    free: np.ndarray,
) -> list[str]:
    """Groups of the user that their own split tears apart, or groups that they may want to give."""
    if (numbers >= 0).any():
        warnings = []
        for split in ("test", "validation"):
            both = np.intersect1d(numbers[free], numbers[given == split])
            both = both[both >= 0]
            images = int((np.isin(numbers, both) & free).sum())
            if images:
                warnings.append(
                    f"{len(both)} groups lie in your {split} part and elsewhere: {images} images to learn"
                    f" from belong to groups of the {split} part, so its scores will be too high. Your split"
                    " is used as it is"
                )
        return warnings
    used = np.nonzero(free)[0]
    if any(survey.samples[i].path is None for i in used[:1]):
        return []
    paths = [PurePosixPath(file_of(survey.samples[i], listing.root)).with_suffix("").as_posix() for i in used.tolist()]
    thumbnails = survey.thumbnails.of(used)
    suggestion = suggest_groups(paths, labels[used], pictures[used], thumbnails)
    return [suggestion] if suggestion else []


def _contradiction_warnings(survey: Survey, labels: np.ndarray, equal: np.ndarray) -> list[str]:
    """Name pictures that lie in two classes: one of the labels is wrong. Pictures of one number in `equal` have equal
    pixels."""
    first = np.unique(equal, return_index=True)[1][equal]
    wrong = np.nonzero((labels >= 0) & (labels[first] >= 0) & (labels != labels[first]))[0].tolist()
    if not wrong:
        return []
    shown = _some([f"{survey.samples[i].name} = {survey.samples[int(first[i])].name}" for i in wrong])
    return [
        f"{len(wrong):,} {'image has' if len(wrong) == 1 else 'images have'} another label than an image of equal pixels:"
        f" {shown}. Which is right? A wrong label is learned, and counts as a mistake if it is tested"
    ]


def _count(survey: Survey, labels: np.ndarray, pictures: np.ndarray, exact: np.ndarray, across: int) -> Duplicates:
    copies = np.nonzero(pictures != np.arange(len(pictures)))[0]
    names = [sample.name for sample in survey.samples]
    return Duplicates(
        exact=int(exact.sum()),
        near=int(len(copies) - exact.sum()),
        across_splits=across,
        contradicting=int((labels[copies] != labels[pictures[copies]]).sum()),
        examples=[f"{names[i]} = {names[pictures[i]]} ({'exact' if exact[i] else 'near'})" for i in copies[:20]],
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
