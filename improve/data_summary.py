"""What is known about the images before anything trains: the same facts at the start of `run`, in `inspect`,
and for scripts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from checkpoints.home import prepare_home
from dataset.manifest import read_files
from nodes.data import discovered, located, prepared, preparing
from nodes.decoding import UNCONFINED, tier_to_look
from nodes.score_notes import IMBALANCED, baseline
from sandbox.device import find_device
from sandbox.hardware import hardware
from schema.dataset import DatasetProfile, ImageSizes, Split
from schema.events import Preparing
from schema.settings import Settings, Tier
from schema.text import one_line

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MOST_CLASSES = 24  # rows of a table on a terminal: all, or the largest and the smallest
CLASSES_ON_A_LINE = 10
MOST_ON_A_LINE, MOST_LISTED = 3, 5  # files that were set aside


class Look(NamedTuple):
    """Prepared images, the folder that they lie in, and the tier that they were decoded in."""

    profile: DatasetProfile
    root: Path | None
    tier: Tier


def look_at_data(settings: Settings, show: Callable[[Preparing], None] = lambda _: None) -> Look:
    """Read and prepare the images as a run with these settings does.

    Raises InputError for what a run would refuse; but if no sandbox works here, the images can be looked at.
    """
    settings = located(settings)
    machine = hardware(settings.device, settings.gpus)
    tier = tier_to_look(settings.tier)
    if machine.device == "cuda":  # images for a GPU are larger, so it has to be one that a run would use
        machine = find_device(settings.device, settings.gpus, tier, prepare_home()).machine
    listing = discovered(settings)
    profile = prepared(listing, settings, machine, tier, preparing(show))
    if tier == "none" and settings.tier == "auto" and listing.root:
        profile = profile.model_copy(update={"warnings": [*profile.warnings, UNCONFINED]})
    return Look(profile, listing.root, tier)


def summary_lines(profile: DatasetProfile) -> list[str]:
    """Say in about ten lines how the data was read, what is in it, and what is not used."""
    lines = [*_told_first(profile), _class_line(profile)]
    if profile.set_aside_total:
        files = [f"{one_line(one.file, 80)} {one_line(one.reason, 120)}" for one in profile.set_aside[:MOST_ON_A_LINE]]
        more = " …" if profile.set_aside_total > MOST_ON_A_LINE else ""
        lines.append(f"set aside: {profile.set_aside_total:,} ({'; '.join(files)}{more})")
    if profile.unused:
        lines.append(f"not used: {'; '.join(_unused(profile))}")
    return lines + _notes(profile)


def full_lines(profile: DatasetProfile) -> list[str]:
    """Say the same with a line for each file that was set aside, up to MOST_LISTED; the classes stand in
    `class_table`."""
    lines = _told_first(profile)
    if profile.set_aside_total:
        lines.append(f"set aside: {profile.set_aside_total:,}")
        lines += [f"  {one_line(one.file, 120)} {one_line(one.reason, 200)}" for one in profile.set_aside[:MOST_LISTED]]
        if profile.set_aside_total > MOST_LISTED:
            lines.append(f"  and {profile.set_aside_total - MOST_LISTED:,} more (--json lists all)")
    if profile.unused:
        lines += ["not used:", *(f"  {line}" for line in _unused(profile))]
    return lines + _notes(profile)


def _told_first(profile: DatasetProfile) -> list[str]:
    lines = [f"read as: {one_line(profile.reading, 1000)}"] if profile.reading else []
    lines += [_first_line(profile), f"images: {sizes_text(profile.sizes)}{_formats(profile)}"]
    if profile.groups is not None:
        lines.append(f"groups: {profile.groups:,}, each kept on one side of every split")
    if profile.imbalance >= IMBALANCED:
        lines.append(
            f"imbalance: the largest class has {profile.imbalance:g} times the training images of the"
            f" smallest; naming the largest every time is right for {baseline('test', profile):.1%} of the"
            " test images"
        )
    found = profile.duplicates
    if found.exact or found.near:
        lines.append(
            f"duplicates: {found.exact:,} exact, {found.near:,} near, {found.across_splits:,} across splits,"
            f" {found.contradicting:,} with contradicting labels"
        )
    return lines


def _unused(profile: DatasetProfile) -> list[str]:
    return [f"{number:,} × {one_line(what, 120)}" for what, number in profile.unused.items()]


def _notes(profile: DatasetProfile) -> list[str]:
    return [f"note: {one_line(warning, 400)}" for warning in profile.warnings]


def _first_line(profile: DatasetProfile) -> str:
    parts = [
        f"{split} {profile.size(split):,}{' (yours)' if split != 'train' and split in profile.given_splits else ''}"
        for split in SPLITS
    ]
    return f"data {one_line(profile.name, 80)}: {len(profile.classes):,} classes · {' · '.join(parts)}"


def _class_line(profile: DatasetProfile) -> str:
    """Name the classes with their training images: all in their order, or the largest and the smallest."""
    shown, more = _chosen_classes(profile, CLASSES_ON_A_LINE)
    counts = profile.counts["train"]
    names = [f"{one_line(profile.classes[i], 40)} {counts[i]:,}" for i in shown]
    if more:
        names.insert(len(shown) // 2, f"{more:,} more")
    return f"training images by class: {' · '.join(names)}"


def _chosen_classes(profile: DatasetProfile, most: int) -> tuple[list[int], int]:
    """Choose all classes in their order; of more than `most` the largest and the smallest.

    Returns also how many are left off.
    """
    number = len(profile.classes)
    if number <= most + 2:
        return list(range(number)), 0
    ranked = sorted(range(number), key=lambda i: -profile.counts["train"][i])
    return ranked[: most // 2] + ranked[-(most // 2) :], number - most // 2 * 2


def sizes_text(sizes: ImageSizes) -> str:
    """Say how large the source images are."""
    if sizes.uniform:
        return f"all {sizes.width_max} x {sizes.height_max}"
    return (
        f"{sizes.width_min} to {sizes.width_max} wide, {sizes.height_min} to {sizes.height_max} high, "
        f"typically {sizes.width_median} x {sizes.height_median}"
    )


def _formats(profile: DatasetProfile) -> str:
    """Say what kinds of files the images are, and as what they are stored."""
    kinds = ", ".join(f"{one_line(kind, 20)} {n:,}" for kind, n in list(profile.formats.items())[:4])
    colour = "grey" if profile.channels == 1 else "colour"
    return f" ({kinds}); stored at {profile.width} x {profile.height} {colour}"


def class_table(profile: DatasetProfile) -> Table:
    """Count images by class and split."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for split in SPLITS:
        table.add_column(split, justify="right")
    shown, more = _chosen_classes(profile, MOST_CLASSES)
    for place, i in enumerate(shown):
        if more and place == len(shown) // 2:
            table.add_row(f"... {more:,} classes between", "", "", "")
        counts = [f"{profile.counts[split][i]:,}" for split in SPLITS]
        table.add_row(one_line(profile.classes[i], 40), *counts)
    return table


def as_json(profile: DatasetProfile) -> dict[str, Any]:
    """Everything that is known, for scripts: also each file that was set aside, and each copy.

    Names are exact.
    """
    rows = read_files(profile) or []
    copies = [{"file": row.file, "copy_of": row.copy_of, "kind": row.copy} for row in rows if row.copy_of]
    found = profile.duplicates.model_dump(exclude={"examples"})
    return {
        "name": profile.name,
        "layout": profile.layout,
        "reading": profile.reading,
        "classes": profile.classes,
        "counts": {split: dict(zip(profile.classes, profile.counts[split], strict=True)) for split in SPLITS},
        "given_splits": profile.given_splits,
        "set_aside": [{"file": row.file, "reason": row.reason} for row in rows if row.reason],
        "unused": profile.unused,
        "notes": profile.warnings,
        "groups": profile.groups,
        "imbalance": profile.imbalance,
        "duplicates": found | {"copies": copies},
        "size": [profile.height, profile.width],
        "channels": profile.channels,
        "mean": profile.mean,
        "std": profile.std,
        "value_range": profile.value_range,
        "sizes": profile.sizes.model_dump(),
        "formats": profile.formats,
    }
