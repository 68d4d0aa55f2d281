"""A listing becomes arrays on disk: decoded once, audited, split, shared by all iterations and runs, keyed by content."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset import splits as splitting
from dataset.duplicates import content_digest, groups, thumbnail
from dataset.image_reader import Header, Unreadable, headers, pixels
from dataset.listing import Listing, Sample
from dataset.manifest import FileRow, file_of, fingerprint, write_files
from schema.dataset import DatasetProfile, Duplicates, ImageSizes, SetAside, Split
from schema.errors import DatasetError, HomeError

VERSION = 3  # of the layout on disk: a new one makes new keys
LONGEST = 256  # pixels: 224-pixel crops with a margin
SHARE_OF_DISK = 0.25
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(slots=True)
class Audit:
    """The usable samples with what was learned of them; arrays are parallel to `samples`."""

    samples: list[Sample]
    headers: list[Header]
    set_aside: list[SetAside]
    warnings: list[str]


def prepare(listing: Listing, datasets_dir: Path) -> DatasetProfile:
    """Find the prepared data set, or make it. Raises DatasetError for unusable data, HomeError where the disk refuses."""
    began = time.monotonic()
    audit = _audit(listing)
    _check_classes(listing.classes, audit, [])
    shape = _stored_shape(audit, datasets_dir)
    key = _key(listing, audit, shape)
    folder = datasets_dir / key
    try:
        datasets_dir.mkdir(parents=True, exist_ok=True)
        with _locked(datasets_dir / f".{key}.lock"):
            if not is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _build(listing, audit, shape, folder, began)
    except OSError as error:
        raise HomeError(
            f"{datasets_dir} cannot take the decoded images: {error.strerror}. Make room or set IMPROVE_HOME elsewhere."
        ) from None
    profile = DatasetProfile.model_validate_json((folder / "profile.json").read_bytes())
    return profile.model_copy(update={"directory": str(folder), "name": listing.name})


def load_labels(profile: DatasetProfile, split: Split) -> np.ndarray:
    """int64 [images], in the order of the held-out array. Trusted side only."""
    return np.asarray(np.load(Path(profile.directory) / "private" / f"{split}_labels.npy"))


def load_names(profile: DatasetProfile, split: Split) -> list[str]:
    """File names in the order of the held-out array. Trusted side only."""
    return [
        str(name)
        for name in json.loads((Path(profile.directory) / "private" / f"{split}_names.json").read_text("utf-8"))
    ]


def _audit(listing: Listing) -> Audit:
    audit = Audit([], [], list(listing.set_aside), list(listing.warnings))
    for sample, header in zip(listing.samples, headers(listing.samples), strict=True):
        if isinstance(header, Unreadable):
            audit.set_aside.append(SetAside(file=sample.name, reason=header.reason))
        else:
            audit.samples.append(sample)
            audit.headers.append(header)
    return audit


def _check_classes(classes: tuple[str, ...], audit: Audit, removed: list[int]) -> None:
    """Every class needs enough images for training and for what is carved from it."""
    if not audit.samples:
        shown = "; ".join(f"{a.file} {a.reason}" for a in audit.set_aside[:3])
        raise DatasetError(f"None of the images can be read: {shown}")
    gone = set(removed)
    counts = Counter(s.label for i, s in enumerate(audit.samples) if i not in gone and s.split in {None, "train"})
    given = {sample.split for sample in audit.samples}
    smallest = splitting.SMALLEST_CLASS if "test" not in given or "validation" not in given else 2
    few = [f"{name!r} has {counts[name]}" for name in classes if counts[name] < smallest]
    if few:
        raise DatasetError(
            f"Too few usable images to split and learn from: {', '.join(few[:5])}; at least {smallest} per class are needed"
            + (
                f" ({len(audit.set_aside)} files were set aside, e.g. {audit.set_aside[0].file} {audit.set_aside[0].reason})"
                if audit.set_aside
                else ""
            )
            + ". Add images, or move that class's folder elsewhere."
        )


def _stored_shape(audit: Audit, datasets_dir: Path) -> tuple[int, int, int]:
    """channels, height, width: as they are when all are alike and small, else one size of the median shape, bounded by the disk."""
    widths = np.array([h.width for h in audit.headers])
    heights = np.array([h.height for h in audit.headers])
    channels = 1 if all(h.grey for h in audit.headers) else 3
    uniform = len(set(zip(widths.tolist(), heights.tolist(), strict=True))) == 1
    longest = int(min(LONGEST, np.median(np.maximum(widths, heights))))
    aspect = float(np.exp(np.median(np.log(widths / heights))))
    if uniform and max(widths[0], heights[0]) <= LONGEST:
        height, width = int(heights[0]), int(widths[0])
    else:
        width = longest if aspect >= 1 else max(8, round(longest * aspect))
        height = longest if aspect < 1 else max(8, round(longest / aspect))
    existing = next(parent for parent in [datasets_dir, *datasets_dir.parents] if parent.exists())
    room = shutil.disk_usage(existing).free * SHARE_OF_DISK
    while 2 * len(audit.samples) * channels * height * width > room and max(height, width) > 32:
        height, width = int(height * 0.8), int(width * 0.8)
        audit.warnings[:] = [w for w in audit.warnings if not w.startswith("stored at")]
        audit.warnings.append(f"stored at {width}x{height} only, since a quarter of the free disk holds no more")
    return channels, height, width


def _key(listing: Listing, audit: Audit, shape: tuple[int, int, int]) -> str:
    found = fingerprint(listing.classes, audit.samples, audit.headers)
    return hashlib.sha256(f"{VERSION} {shape} {found}".encode()).hexdigest()[:24]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two runs that prepare the same data do it once."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_whole(folder: Path) -> bool:
    """The profile is written last; a missing or short array means damage."""
    try:
        profile = DatasetProfile.model_validate_json((folder / "profile.json").read_bytes())
        image = profile.channels * profile.height * profile.width
        files = {
            "train": folder / "train/images.npy",
            "validation": folder / "heldout/validation.npy",
            "test": folder / "heldout/test.npy",
        }
        labels = all((folder / "private" / f"{split}_labels.npy").exists() for split in ("validation", "test"))
        return labels and all(files[split].stat().st_size >= profile.size(split) * image for split in SPLITS)
    except (OSError, ValueError):
        return False


def _build(listing: Listing, audit: Audit, shape: tuple[int, int, int], folder: Path, began: float) -> None:
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        staged = np.lib.format.open_memmap(partial / "staged.npy", "w+", np.uint8, (len(audit.samples), *shape))
        digests, thumbnails, kept = _decode_all(audit, staged, shape)
        arrays = _Decoded(staged, digests, thumbnails, kept)
        _write_splits(listing, audit, arrays, shape, partial, began)
        del staged, arrays
        (partial / "staged.npy").unlink()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(slots=True)
class _Decoded:
    pixels: np.ndarray  # uint8 [N, C, H, W], on disk
    digests: list[str]
    thumbnails: np.ndarray
    readable: np.ndarray  # bool [N]


def _decode_all(
    audit: Audit, staged: np.ndarray, shape: tuple[int, int, int]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    digests, readable = [""] * len(audit.samples), np.ones(len(audit.samples), dtype=bool)
    thumbnails = np.zeros((len(audit.samples), 256), dtype=np.float32)
    for i, image in enumerate(pixels(audit.samples, *shape)):
        if isinstance(image, Unreadable):
            readable[i] = False
            audit.set_aside.append(SetAside(file=audit.samples[i].name, reason=image.reason))
            continue
        staged[i] = image
        digests[i], thumbnails[i] = content_digest(image), thumbnail(image)
    return digests, thumbnails, readable


def _write_splits(  # noqa: PLR0917 - the one place where everything comes together
    listing: Listing, audit: Audit, arrays: _Decoded, shape: tuple[int, int, int], partial: Path, began: float
) -> None:
    hashes = {s.name: h.digest for s, h in zip(audit.samples, audit.headers, strict=True)}
    use = np.nonzero(arrays.readable)[0]
    samples = [audit.samples[i] for i in use]
    labels = np.array([listing.classes.index(s.label) for s in samples], dtype=np.int64)
    digests = [arrays.digests[i] for i in use]
    leaders, exact = groups(digests, arrays.thumbnails[use], near=min(shape[1:]) >= 16)
    secret = _secret(audit)
    lots = _lots(digests, f"{secret} split")
    parts, removed, found = _assign(samples, labels, leaders, exact, lots)
    for i, reason in removed.items():
        audit.set_aside.append(SetAside(file=samples[i].name, reason=reason))
    audit.samples, audit.headers = samples, [audit.headers[i] for i in use]
    _check_classes(listing.classes, audit, list(removed))
    inner = splitting.carve(
        labels[parts["train"]],
        _regrouped(leaders[parts["train"]]),
        [lots[i] for i in parts["train"]],
        splitting.INNER_SHARE,
        splitting.INNER_MOST,
    )
    facts = _write_train(partial / "train", arrays.pixels, use, labels, parts["train"], inner, listing, shape)
    for split in SPLITS[1:]:
        by_lot = np.argsort(np.array(_lots([digests[i] for i in parts[split]], f"{secret} order")), kind="stable")
        parts[split] = parts[split][by_lot]
        _write_heldout(partial, split, arrays.pixels, use, labels, parts[split], samples)
    files = write_files(partial, _file_rows(listing, audit, parts, inner, hashes))
    profile = _profile(listing, audit, shape, parts, labels, facts, found, files, partial.parent, began)
    (partial / "profile.json").write_text(profile.model_dump_json(indent=1), encoding="utf-8")


def _file_rows(
    listing: Listing, audit: Audit, parts: dict[Split, np.ndarray], inner: np.ndarray, hashes: dict[str, str]
) -> Iterator[FileRow]:
    """Every image that was found: those of each split in the order of its array, then those that were set aside."""
    within = dict(zip(parts["train"].tolist(), inner.tolist(), strict=True))
    for split in SPLITS:
        for i in parts[split].tolist():
            sample, held = audit.samples[i], "yes" if within.get(i) else ""
            yield FileRow(file_of(sample, listing.root), sample.label, split, held, hashes[sample.name], "")
    given = {sample.name: sample for sample in listing.samples}
    for aside in audit.set_aside:
        known = given.get(aside.file)
        file, label = (file_of(known, listing.root), known.label) if known else (aside.file, "")
        yield FileRow(file, label, "", "", hashes.get(aside.file, ""), aside.reason)


def _secret(audit: Audit) -> str:
    """The same for the same labelled files, whatever their names; nobody knows it who does not know all labels and all files.

    From the images alone a job could work out which of them the split takes first, per class: an image that comes later than the last one
    taken of a class is none of that class.
    """
    rows = sorted(f"{s.label}\0{h.digest}" for s, h in zip(audit.samples, audit.headers, strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _lots(digests: list[str], secret: str) -> list[str]:
    """Drawn from the content, equal for equal images."""
    return [hashlib.sha256(f"{secret} {digest}".encode()).hexdigest() for digest in digests]


def _regrouped(leaders: np.ndarray) -> np.ndarray:
    """Group numbers as positions within a subset: the first member of each group."""
    first: dict[int, int] = {}
    return np.array([first.setdefault(int(g), i) for i, g in enumerate(leaders)], dtype=np.int64)


def _assign(
    samples: list[Sample], labels: np.ndarray, leaders: np.ndarray, exact: np.ndarray, lots: list[str]
) -> tuple[dict[Split, np.ndarray], dict[int, str], Duplicates]:
    """Indices per split. Training images that recur in a given held-out part leave the training part: the held-out side stays as given."""
    given = np.array([s.split or "" for s in samples])
    removed: dict[int, str] = {}
    heldout_of = {int(leaders[i]): i for i in np.nonzero((given == "test") | (given == "validation"))[0]}
    for i in np.nonzero((given == "train") | (given == ""))[0]:
        twin = heldout_of.get(int(leaders[i]))
        if twin is not None:
            removed[int(i)] = f"is the same picture as {samples[twin].name} of the {given[twin]} part"
    free = np.array([i for i in range(len(samples)) if i not in removed and given[i] in {"", "train"}], dtype=np.int64)
    parts: dict[Split, np.ndarray] = {split: np.nonzero(given == split)[0] for split in ("validation", "test")}
    for split, share, most in (
        ("test", splitting.TEST_SHARE, None),
        ("validation", splitting.VALIDATION_SHARE, splitting.VALIDATION_MOST),
    ):
        if not len(parts[split]):  # type: ignore[index]
            taken = splitting.carve(labels[free], _regrouped(leaders[free]), [lots[i] for i in free], share, most)
            parts[split], free = free[taken], free[~taken]  # type: ignore[index]
    parts["train"] = free
    return parts, removed, _count(samples, labels, leaders, exact, len(removed))


def _count(
    samples: list[Sample], labels: np.ndarray, leaders: np.ndarray, exact: np.ndarray, across: int
) -> Duplicates:
    copies = np.nonzero(leaders != np.arange(len(leaders)))[0]
    contradicting = [i for i in copies if labels[i] != labels[leaders[i]]]
    shown = [f"{samples[i].name} = {samples[leaders[i]].name} ({'exact' if exact[i] else 'near'})" for i in copies[:20]]
    return Duplicates(
        exact=int(exact.sum()),
        near=int(len(copies) - exact.sum()),
        across_splits=across,
        contradicting=len(contradicting),
        examples=shown,
    )


def _write_train(  # noqa: PLR0917 - the arrays of one split
    folder: Path,
    source: np.ndarray,
    use: np.ndarray,
    labels: np.ndarray,
    part: np.ndarray,
    inner: np.ndarray,
    listing: Listing,
    shape: tuple[int, int, int],
) -> dict[str, object]:
    folder.mkdir(parents=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(part), *shape))
    total, squares, count = np.zeros(shape[0]), np.zeros(shape[0]), 0
    for start in range(0, len(part), 1024):
        block = source[use[part[start : start + 1024]]]
        images[start : start + len(block)] = block
        scaled = block.astype(np.float32) / 255
        total += scaled.sum((0, 2, 3), dtype=np.float64)
        squares += np.square(scaled).sum((0, 2, 3), dtype=np.float64)
        count += block[:, 0].size
    images.flush()
    mean = total / count
    facts: dict[str, object] = {
        "classes": list(listing.classes),
        "channels": shape[0],
        "height": shape[1],
        "width": shape[2],
        "mean": mean.round(6).tolist(),
        "std": np.sqrt(np.maximum(squares / count - mean**2, 1e-6)).round(6).tolist(),
        "counts": np.bincount(labels[part][~inner], minlength=len(listing.classes)).tolist(),
    }
    np.save(folder / "labels.npy", labels[part])
    np.save(folder / "inner.npy", inner)
    (folder / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts


def _write_heldout(  # noqa: PLR0917 - the arrays of one split
    partial: Path,
    split: str,
    source: np.ndarray,
    use: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    samples: list[Sample],
) -> None:
    """Unlabelled images in the order of lots that are not those of the split: it tells nothing, and an array that is made again is the same one, so that
    earlier predictions still fit. Labels and names lie where no job can read."""
    for name in ("heldout", "private"):
        (partial / name).mkdir(exist_ok=True)
    images = np.lib.format.open_memmap(
        partial / "heldout" / f"{split}.npy", "w+", np.uint8, (len(order), *source.shape[1:])
    )
    for start in range(0, len(order), 1024):
        images[start : start + 1024] = source[use[order[start : start + 1024]]]
    images.flush()
    os.utime(partial / "heldout" / f"{split}.npy", (0, 0))
    np.save(partial / "private" / f"{split}_labels.npy", labels[order])
    (partial / "private" / f"{split}_names.json").write_text(
        json.dumps([samples[i].name for i in order]), encoding="utf-8"
    )
    (partial / "private").chmod(0o700)


def _profile(  # noqa: PLR0917 - what is known of a data set
    listing: Listing,
    audit: Audit,
    shape: tuple[int, int, int],
    parts: dict[Split, np.ndarray],
    labels: np.ndarray,
    facts: dict[str, object],
    duplicates: Duplicates,
    files: str,
    folder: Path,
    began: float,
) -> DatasetProfile:
    counts = {split: np.bincount(labels[parts[split]], minlength=len(listing.classes)).tolist() for split in SPLITS}
    widths, heights = [h.width for h in audit.headers], [h.height for h in audit.headers]
    return DatasetProfile(
        name=listing.name,
        key=_key(listing, audit, shape),
        fingerprint=fingerprint(listing.classes, audit.samples, audit.headers),
        files=files,
        layout=listing.layout,
        directory=str(folder),
        classes=list(listing.classes),
        counts=counts,
        given_splits=[split for split in SPLITS if any(s.split == split for s in audit.samples)],
        channels=1 if shape[0] == 1 else 3,
        height=shape[1],
        width=shape[2],
        mean=facts["mean"],
        std=facts["std"],
        sizes=ImageSizes(
            width_min=min(widths),
            width_median=int(np.median(widths)),
            width_max=max(widths),
            height_min=min(heights),
            height_median=int(np.median(heights)),
            height_max=max(heights),
            uniform=len(set(zip(widths, heights, strict=True))) == 1,
        ),
        formats=dict(Counter(h.kind for h in audit.headers).most_common(20)),
        imbalance=round(max(counts["train"]) / max(1, min(counts["train"])), 2),
        duplicates=duplicates,
        set_aside=audit.set_aside[:200],
        set_aside_total=len(audit.set_aside),
        warnings=audit.warnings,
        seconds=round(time.monotonic() - began, 2),
    )
