"""A listing becomes arrays on disk: read once and judged, decoded once more into its splits, shared by all
runs, keyed by content."""

import hmac
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dataset.arrays import IMAGES, INNER, labels_file, write_arrays
from dataset.decoders import Decoders
from dataset.file_lock import locked
from dataset.folds import fold_directory
from dataset.listing import Listing
from dataset.manifest import FileRow, file_of, fingerprint, write_files
from dataset.plan import Plan, make_plan
from dataset.stored_size import USUAL, choose_size
from dataset.survey import Progress, Survey, survey
from schema.dataset import DatasetProfile, ImageSizes, Split
from schema.errors import HomeError

VERSION = 7  # of the layout on disk: a new one makes new keys
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MOST_SET_ASIDE = 200  # in the profile; the list of images has all


def prepare(
    listing: Listing,
    datasets_dir: Path,
    *,
    secret: bytes,
    decoders: Decoders,
    image_size: int | None = None,
    largest: int = USUAL,
    drop_rare_classes: bool = False,
    on_progress: Progress | None = None,
) -> DatasetProfile:
    """Find the prepared data set, or make it.

    Args:
        secret: Draws the splits and the order of the held-out images: the same secret, the same split.
        decoders: Read the image files; not asked if the source holds arrays.
        image_size: Longer side of the stored images; chosen from the data if None, then at most `largest`.
        drop_rare_classes: Leave out classes with too few images, instead of refusing the data.
        on_progress: Told stage, images done, and images in all.

    Raises DatasetError for unusable data, HomeError if the disk refuses.
    """
    began = time.monotonic()
    tell = on_progress or (lambda *_: None)
    read = survey(listing, decoders, tell)
    shape, warnings = choose_size(read, datasets_dir, image_size, largest)
    read.warnings.extend(warnings)
    found = fingerprint(listing.classes, read.samples, (digest.decode() for digest in read.digests.tolist()))
    key = _key(secret, found, shape, read, drop_rare_classes=drop_rare_classes)
    folder = datasets_dir / key
    seconds = 0.0
    try:
        datasets_dir.mkdir(parents=True, exist_ok=True)
        with locked(datasets_dir / f".{key}.lock"):
            if not is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                plan = make_plan(listing, read, secret, drop_rare_classes=drop_rare_classes)
                with _written_whole(folder) as partial:
                    profile = _write(partial, listing, read, plan, shape, decoders, tell)
                    seconds = round(time.monotonic() - began, 2)
                    profile = profile.model_copy(update={"key": key, "fingerprint": found, "seconds": seconds})
                    (partial / "profile.json").write_text(profile.model_dump_json(indent=1), encoding="utf-8")
    except OSError as error:
        raise HomeError(
            f"{datasets_dir} cannot take the decoded images: {error.strerror}. Make room or set IMPROVE_HOME elsewhere."
        ) from None
    profile = DatasetProfile.model_validate_json((folder / "profile.json").read_bytes())
    told = {
        "name": listing.name,
        "reading": listing.reading,
        "unused": listing.unused,
    }  # may differ for equal images
    told |= {"warnings": read.warnings + profile.warnings}
    return profile.model_copy(update={"directory": str(folder), "seconds": seconds} | told)


def load_labels(profile: DatasetProfile, split: Split, fold: int = 0) -> np.ndarray:
    """int64 [images], in the order of the held-out array; of the validation part also those of a further fold.

    Trusted side only.
    """
    folder = fold_directory(profile, fold if split == "validation" else 0)
    return np.asarray(np.load(folder / labels_file(split)))


def load_inner_images(profile: DatasetProfile) -> np.ndarray:
    """uint8 [inner validation images, channels, height, width], mapped from the disk."""
    return np.asarray(np.load(Path(profile.directory) / INNER, mmap_mode="r"))


def load_inner_labels(profile: DatasetProfile) -> np.ndarray:
    """int64 [inner validation images], in the order of their array."""
    folder = Path(profile.directory) / "train"
    return np.asarray(np.load(folder / "labels.npy")[np.load(folder / "inner.npy")])


def is_whole(folder: Path) -> bool:
    """The profile is written last; a missing or short array means damage."""
    try:
        profile = DatasetProfile.model_validate_json((folder / "profile.json").read_bytes())
        image = profile.channels * profile.height * profile.width
        labels = all((folder / labels_file(split)).exists() for split in ("validation", "test"))
        labels = labels and (not profile.inner or (folder / INNER).exists())  # none in a set of an earlier version
        return labels and all(
            (folder / IMAGES[split]).stat().st_size >= profile.size(split) * image for split in SPLITS
        )
    except (OSError, ValueError):
        return False


def _key(secret: bytes, found: str, shape: tuple[int, int, int], read: Survey, *, drop_rare_classes: bool) -> str:
    """Name the folder, for which jobs are told the path: a plain hash of all labels would confirm a guess.

    Files that were set aside count: a cached list of them would pass over one that has come since.
    """
    rest = " without rare classes" if drop_rare_classes else ""
    aside = "".join(sorted(f"\0{one.file}" for one in read.set_aside))
    told = f"{VERSION} {shape} {read.value_range} {found}{rest}{aside}"
    return hmac.new(secret, told.encode(errors="surrogateescape"), "sha256").hexdigest()[:24]


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder` at the end, or is gone."""
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(  # noqa: PLR0917 - everything comes together
    folder: Path,
    listing: Listing,
    read: Survey,
    plan: Plan,
    shape: tuple[int, int, int],
    decoders: Decoders,
    tell: Progress,
) -> DatasetProfile:
    total = sum(len(part) for part in plan.parts.values())
    facts = write_arrays(
        folder, read, plan, shape, decoders, on_progress=lambda done: tell("storing images", done, total)
    )
    files = write_files(folder, _file_rows(listing, read, plan))
    counts = {split: np.bincount(plan.labels[plan.parts[split]], minlength=len(plan.classes)) for split in SPLITS}
    aside = read.set_aside + plan.set_aside
    return DatasetProfile(
        name=listing.name,
        key="",
        fingerprint="",
        files=files,
        layout=listing.layout,
        reading=listing.reading,
        unused=listing.unused,
        groups=plan.groups,
        value_range=read.value_range,
        directory=str(folder),
        classes=list(plan.classes),
        counts={split: found.tolist() for split, found in counts.items()},
        inner=int(np.count_nonzero(plan.inner)),
        given_splits=[split for split in SPLITS if any(sample.split == split for sample in read.samples)],
        channels=1 if shape[0] == 1 else 3,
        height=shape[1],
        width=shape[2],
        mean=facts["mean"],
        std=facts["std"],
        sizes=_sizes(read.widths, read.heights),
        formats=dict(read.kinds.most_common(20)),
        imbalance=round(int(counts["train"].max()) / max(1, int(counts["train"].min())), 2),
        duplicates=plan.duplicates,
        set_aside=aside[:MOST_SET_ASIDE],
        set_aside_total=len(aside),
        warnings=plan.warnings,  # those of the survey are told by whoever reads the source
        seconds=0.0,
    )


def _sizes(widths: np.ndarray, heights: np.ndarray) -> ImageSizes:
    return ImageSizes(
        width_min=int(widths.min()),
        width_median=int(np.median(widths)),
        width_max=int(widths.max()),
        height_min=int(heights.min()),
        height_median=int(np.median(heights)),
        height_max=int(heights.max()),
        uniform=bool((widths == widths[0]).all() and (heights == heights[0]).all()),
    )


def _file_rows(listing: Listing, read: Survey, plan: Plan) -> Iterator[FileRow]:
    """Every image that was found: those of each split in the order of its array, then those that were set
    aside."""
    for split in SPLITS:
        inner = plan.inner if split == "train" else np.zeros(len(plan.parts[split]), dtype=bool)
        for i, held in zip(plan.parts[split].tolist(), inner.tolist(), strict=True):
            sample, first = read.samples[i], int(plan.pictures[i])
            row = FileRow(
                file_of(sample, listing.root),
                sample.label,
                split,
                "yes" if held else "",
                read.digests[i].decode(),
                "",
            )
            if first != i:
                copy_of, kind = file_of(read.samples[first], listing.root), ("exact" if plan.exact[i] else "near")
                row = row._replace(copy_of=copy_of, copy=kind)
            yield row
    aside = read.set_aside + plan.set_aside
    names = {one.file for one in aside}
    known = {sample.name: sample for sample in listing.samples if sample.name in names}
    digests = {s.name: digest for s, digest in zip(read.samples, read.digests, strict=True) if s.name in names}
    for one in aside:
        sample, digest = known.get(one.file), digests.get(one.file, b"").decode()
        file, label = (file_of(sample, listing.root), sample.label) if sample else (one.file, "")
        yield FileRow(file, label, "", "", digest, one.reason)
