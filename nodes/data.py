"""The images of a run that goes on, or is repeated: its arrays as they were, and what has become of the files that they were made from."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from checkpoints.home import datasets_dir, split_secret, split_secret_path, unpacked_dir
from dataset.discover import discover, labels_in
from dataset.listing import Listing, ReadingOptions
from dataset.manifest import content_changes, stamp
from dataset.prepare import is_whole, prepare
from dataset.stored_size import USUAL
from dataset.survey import Progress
from dataset.torchvision_sets import TORCHVISION
from nodes.decoding import decoders_in, tier_to_look
from schema.dataset import DatasetProfile
from schema.errors import DatasetError, RunStopped
from schema.events import Preparing
from schema.settings import Settings, Tier
from schema.team import Hardware
from schema.text import one_line

LARGEST_ON_GPU = 512  # pixels of the longer side; on a CPU no training has time for more than USUAL
TOLD_EVERY = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class Source:
    """What was found where the images were: `changes` as `what: was -> is`, and a note where they cannot be looked at."""

    stamp: str | None
    changes: list[str] = field(default_factory=list)
    note: str = ""


def discovered(settings: Settings) -> Listing:
    options = ReadingOptions(
        labels=settings.labels,
        file_column=settings.file_column,
        label_column=settings.label_column,
        layout=settings.layout,
        label_pattern=settings.label_pattern,
        group_column=settings.group_column,
        group_pattern=settings.group_pattern,
    )
    return discover(settings.dataset, options, workdir=unpacked_dir())


def prepared(
    listing: Listing, settings: Settings, machine: Hardware, tier: Tier, on_progress: Progress
) -> DatasetProfile:
    """Prepare the images as a run on this machine has them, unless that was done before; decode them in `tier`."""
    with decoders_in(tier) as decoders:
        return prepare(
            listing,
            datasets_dir(),
            secret=split_secret(),
            decoders=decoders,
            image_size=settings.image_size,
            largest=LARGEST_ON_GPU if machine.device == "cuda" else USUAL,
            drop_rare_classes=settings.drop_rare_classes,
            on_progress=on_progress,
        )


def preparing(tell_event: Callable[[Preparing], None], stop: Callable[[], bool] = lambda: False) -> Progress:
    """Tell how far the images are, a few times a second; nothing of what is done at once. Raises RunStopped if `stop` says so."""
    stage, began, told = "", 0.0, 0.0

    def show(now_in: str, done: int, total: int) -> None:
        nonlocal stage, began, told
        if stop():
            raise RunStopped("stopped while the images were read")
        now = time.monotonic()
        if now_in != stage:
            stage, began, told = now_in, now, now
        if now - told >= TOLD_EVERY:
            told = now
            left = (now - began) / done * (total - done)
            tell_event(Preparing(stage=stage, done=done, total=total, seconds_left=left))

    return show


def located(settings: Settings) -> Settings:
    """With paths that hold wherever it is resumed from. The name of a known data set stays one."""
    labels = labels_in(Path(settings.dataset).expanduser(), settings.labels)
    return settings.model_copy(update={"dataset": _absolute(settings.dataset), "labels": labels and _absolute(labels)})


def arrays_at(profile: DatasetProfile) -> Path | None:
    """Where they are whole; the whole of $IMPROVE_HOME may have been moved."""
    known = Path(profile.directory)
    return next((folder for folder in (known, datasets_dir() / known.name) if is_whole(folder)), None)


def arrays_of(run: str, settings: Settings, profile: DatasetProfile) -> DatasetProfile:
    """With the directory of its arrays, which are made again where they were deleted or damaged: the same images give the same arrays in the same order.

    Raises DatasetError where the images are others by now, or are not there.
    """
    if there := arrays_at(profile):
        return profile.model_copy(update={"directory": str(there)})
    gone = f"The prepared images of run {run!r} are gone from {profile.directory}"
    if not _reachable(settings.dataset):
        raise DatasetError(
            f"{gone}, and {settings.dataset} is not there any more. Say where the images are now: --data PLACE"
        )
    # By the stored size, not by the rule that chose it: this machine may have another disk or no GPU.
    with decoders_in(tier_to_look(settings.tier)) as decoders:
        again = prepare(
            discovered(settings),
            datasets_dir(),
            secret=split_secret(),
            decoders=decoders,
            image_size=max(profile.height, profile.width),
            drop_rare_classes=settings.drop_rare_classes,
        )
    if again.key != profile.key and again.fingerprint == profile.fingerprint:
        raise DatasetError(
            f"{gone}. Made again from the same files they are split in another way, by another version of IMPROVE or another {split_secret_path()}: "
            "scores of before and after could not be compared. Put that file back as it was when the run began, or begin a new run."
        )
    if again.key != profile.key:
        raise DatasetError(
            f"{gone}, and {settings.dataset} has changed since: scores of before and after could not be compared. "
            "Restore the images, say where they are with --data PLACE, or begin a new run."
        )
    if profile.files and again.files != profile.files:
        raise DatasetError(
            f"{gone}. Made again from the same files they are split in another way, as another version of Pillow decodes them: "
            "scores of before and after could not be compared. Install the version that the run had (improve show), or begin a new run."
        )
    return profile.model_copy(update={"directory": again.directory})


def source_of(settings: Settings, profile: DatasetProfile) -> Source:
    """Images are read only where names, sizes or times are not what they were. What was prepared is what a run uses: a source that is gone is no fault."""
    now = stamp(settings.dataset, settings.labels)
    if profile.stamp is None or now == profile.stamp:  # None: from a library, or prepared by an older version
        return Source(profile.stamp)
    way = "The run goes on with the images as they were prepared. Say where they are now with --data PLACE"
    if now is None:
        return Source(profile.stamp, note=f"{settings.dataset} is not there any more. {way}")
    try:
        changes = _changes(profile, settings)
    except DatasetError as error:
        return Source(profile.stamp, note=f"{one_line(str(error), 300)} {way}")
    return Source(now, [one_line(line, 200) for line in changes])


def moved(run: str, settings: Settings, profile: DatasetProfile | None, place: str) -> Settings:
    """The same images, elsewhere. Raises DatasetError where they are others: all are read."""
    old = Path(settings.dataset)
    labels = settings.labels
    if labels and Path(labels).is_relative_to(old):
        labels = str(Path(place) / Path(labels).relative_to(old))
    found = located(settings.model_copy(update={"dataset": place, "labels": labels}))
    changes = _changes(profile, found) if profile else []
    if changes:
        told = "\n".join(f"  {one_line(line, 200)}" for line in changes)
        raise DatasetError(f"--data {place}: these are not the images of run {run!r}:\n{told}")
    return found


def _changes(profile: DatasetProfile, settings: Settings) -> list[str]:
    with decoders_in(tier_to_look(settings.tier)) as decoders:
        return content_changes(profile, discovered(settings), decoders)


def _absolute(source: str) -> str:
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() else source


def _reachable(source: str) -> bool:
    return Path(source).expanduser().exists() or source.lower() in {"digits", *TORCHVISION}
