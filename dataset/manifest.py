"""Which images a data set was made of: the list that is kept beside its arrays, and what of it is not as it
was."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from dataset.decoders import Decoders, Unreadable
from dataset.image_reader import headers
from dataset.inventory import TABLES, files_below
from dataset.listing import Listing, Sample
from schema.dataset import DatasetProfile

FILES = "private/files.csv"
MOST_TOLD = 10


class FileRow(NamedTuple):
    """An image of the source.

    The rows of a split are in the order of its array; an image that was set aside has a reason and no split.
    """

    file: str  # relative to the folder of images; `images/17` is row 17 of the array `images`
    label: str
    split: str
    inner: str  # `yes`: a training image of the inner validation part
    sha256: str  # of the file, or of the pixels of an array
    reason: str
    copy_of: str = ""  # the first image of the same picture
    copy: str = ""  # `exact`: equal pixels, `near`: looks the same


def write_files(folder: Path, rows: Iterable[FileRow]) -> str:
    """The SHA-256 of what was written: the same images, split and order."""
    with (folder / FILES).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(FileRow._fields)
        writer.writerows(rows)
    return hashlib.sha256((folder / FILES).read_bytes()).hexdigest()


def read_files(profile: DatasetProfile) -> list[FileRow] | None:
    """None where the arrays are gone, or were prepared before the list was kept.

    Trusted side only.
    """
    try:
        with (Path(profile.directory) / FILES).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [FileRow(*row) for row in csv.reader(file)][1:]
    except FileNotFoundError:
        return None


def file_of(sample: Sample, root: Path | None) -> str:
    """Its name in the list.

    A table may name an image otherwise than its file.
    """
    if sample.path is None or root is None or not sample.path.is_relative_to(root):
        return sample.name
    return sample.path.relative_to(root).as_posix()


def fingerprint(classes: Sequence[str], samples: Sequence[Sample], digests: Iterable[str]) -> str:
    rows = sorted(
        f"{s.name}\0{s.label}\0{s.split}\0{digest}" + ("" if s.group is None else f"\0{s.group}")
        for s, digest in zip(samples, digests, strict=True)
    )
    return hashlib.sha256("\n".join([*classes, *rows]).encode(errors="surrogateescape")).hexdigest()


def stamp(source: str, labels: str | None) -> str | None:
    """Of names, sizes and times of what was given: while it stays, no image need be read to know that all are
    as they were.

    None where nothing of it is there: a data set that comes with a library, or one that was moved.
    """
    path = Path(source).expanduser()
    if not path.exists():
        return None
    root = path.parent if path.suffix.lower() in TABLES else path
    files = files_below(root) if root.is_dir() else [root]
    found = hashlib.sha256()
    for file in chain(files, [Path(labels).expanduser()] if labels else []):
        if file.exists():  # a broken link is set aside
            told = file.stat()
            name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
            found.update(f"{name}\0{told.st_size}\0{told.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def content_changes(profile: DatasetProfile, listing: Listing, decoders: Decoders) -> list[str]:
    """`file: was -> is`, one line each and few in all; none where the images and labels are those that were prepared. Reads every image."""
    pairs = [
        (sample, header.digest)
        for sample, header in zip(listing.samples, headers(listing.samples, decoders), strict=True)
        if not isinstance(header, Unreadable)
    ]
    rows = read_files(profile)
    if rows is None:
        now = fingerprint(listing.classes, [s for s, _ in pairs], [digest for _, digest in pairs])
        return [] if now == profile.fingerprint else [f"images: {profile.fingerprint[:12]} -> {now[:12]}"]
    was = {row.file: (row.label, row.sha256) for row in rows if row.sha256}
    is_ = {file_of(s, listing.root): (s.label, digest) for s, digest in pairs}
    lines = [line for file in sorted(was.keys() | is_.keys()) if (line := _change(file, was.get(file), is_.get(file)))]
    more = [f"and {len(lines) - MOST_TOLD} more images"] if len(lines) > MOST_TOLD else []
    return lines[:MOST_TOLD] + more


def _change(file: str, was: tuple[str, str] | None, now: tuple[str, str] | None) -> str:
    if was == now:
        return ""
    if was is None or now is None:
        return f"{file}: {'was not there -> is there' if was is None else 'was there -> is gone or cannot be read'}"
    if was[0] != now[0]:
        return f"{file}: label {was[0]} -> {now[0]}"
    return f"{file}: content {was[1][:12]} -> {now[1][:12]}"
