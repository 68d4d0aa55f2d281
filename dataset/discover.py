"""What did the person give? Layouts are detected, not asked for; ambiguity is an error that lists what was found."""

import os
import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from dataset.archive import is_archive, unpack
from dataset.label_table import SUFFIXES, read_table, table_listing
from dataset.listing import Listing, Sample
from dataset.torchvision_sets import TORCHVISION, from_torchvision
from schema.dataset import SetAside, Split
from schema.errors import DatasetError

SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
IGNORED = re.compile(r"^(\.|__MACOSX$|thumbs\.db$|desktop\.ini$|readme|licen[cs]e)", re.IGNORECASE)


def discover(
    source: str,
    *,
    labels: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    workdir: Path,
) -> Listing:
    """Find every labelled image of a folder, an archive, an .npz, a CSV or a known name. Decodes nothing. Raises DatasetError."""
    path = Path(source).expanduser()
    if not path.exists():
        if source.lower() == "digits":
            return digits()
        if source.lower() in TORCHVISION:
            return from_torchvision(source.lower(), workdir)
        raise DatasetError(_absent(path))
    name = re.sub(r"(\.tar)?\.\w+$", "", path.name) if path.is_file() else path.resolve().name
    if path.suffix.lower() == ".csv":
        labels, path = labels or str(path), path.parent
    root = unpack(path, workdir) if path.is_file() and is_archive(path) else path
    if root.is_file():
        listing = _from_arrays(root)
    else:
        root = _look_through(root)
        listing = replace(_from_folder(root, labels, file_column, label_column), root=root)
    _check_classes(source, listing)
    return replace(listing, name=name)


def digits() -> Listing:
    """scikit-learn's 1,797 grey 8 x 8 images of handwritten digits: real data without a download."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second

    data = load_digits()
    images = (data.images * (255 / 16)).round().astype(np.uint8)
    samples = (
        Sample(f"digits/{i:04d}", str(t), None, None, image)
        for i, (image, t) in enumerate(zip(images, data.target, strict=True))
    )
    return Listing("digits", "scikit-learn", tuple("0123456789"), tuple(samples))


def _absent(path: Path) -> str:
    parent = path.parent
    beside = [p.name for p in parent.iterdir()] if parent.is_dir() else []
    close = get_close_matches(path.name, beside, n=3)
    hint = f" Did you mean {', '.join(str(parent / name) for name in close)}?" if close else ""
    return f"There is no folder or file {path}.{hint} Give a folder of class folders, an archive, a CSV, an .npz, or a torchvision name such as cifar10."


def _look_through(root: Path) -> Path:
    """Archives often hold one folder that holds everything."""
    for _ in range(3):
        entries = _entries(root)
        if len(entries) != 1 or not entries[0].is_dir():
            return root
        inner = _entries(entries[0])
        if not any(entry.is_dir() or entry.name.lower().endswith(".csv") for entry in inner):
            return root
        root = Path(entries[0].path)
    return root


def _entries(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not IGNORED.match(e.name)), key=lambda e: _natural(e.name))
    except OSError as error:
        raise DatasetError(f"{os.fspath(folder)} cannot be read: {error.strerror}. Check its permissions.") from None


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _from_folder(root: Path, labels: str | None, file_column: str | None, label_column: str | None) -> Listing:
    if labels:
        return table_listing(root, read_table(Path(labels).expanduser(), file_column, label_column))
    entries = _entries(root)
    if not entries:
        raise DatasetError(
            f"{root} is empty. Expected one folder of images per class, or a CSV of file and label beside the images."
        )
    folders = [entry for entry in entries if entry.is_dir()]
    split_folders = [folder for folder in folders if folder.name.lower() in SPLITS]
    class_folders = [folder for folder in folders if folder not in split_folders and _holds_images(folder)]
    with_classes = [folder for folder in split_folders if any(inner.is_dir() for inner in _entries(folder))]
    if with_classes and len(class_folders) > 1:
        raise DatasetError(
            f"{root} is ambiguous: it holds split folders ({_names(with_classes)}) and class folders ({_names(class_folders)}). "
            "Give the folder that holds only the one or only the other."
        )
    if with_classes:
        beside = [
            f"the folder {folder.name!r} beside {_names(with_classes)} is not a split and was not used"
            for folder in class_folders
        ]
        return _from_splits(root, with_classes, beside)
    tables = [Path(entry.path) for entry in entries if entry.name.lower().endswith(".csv")]
    if tables and len(class_folders) < 2:
        return _from_tables(root, tables, file_column, label_column)
    if not class_folders:
        raise DatasetError(_no_classes(root, entries))
    samples, aside = _from_classes(root, class_folders, None)
    return Listing(
        root.name, "class folders", tuple(folder.name for folder in class_folders), tuple(samples), tuple(aside)
    )


def _names(folders: list[os.DirEntry[str]]) -> str:
    shown = ", ".join(repr(folder.name) for folder in folders[:4])
    return f"{shown} and {len(folders) - 4} more" if len(folders) > 4 else shown


def _holds_images(folder: os.DirEntry[str]) -> bool:
    return any(_is_image(entry.name) or entry.is_dir() for entry in _entries(folder))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _no_classes(root: Path, entries: list[os.DirEntry[str]]) -> str:
    images = [entry.name for entry in entries if entry.is_file() and _is_image(entry.name)]
    if images:
        return (
            f"{root} holds {len(images)} images and no class folders, so their labels are unknown. "
            "Sort them into one folder per class, or give a CSV: --labels FILE.csv --file-column NAME --label-column NAME"
        )
    return f"{root} holds no images in class folders (found: {', '.join(e.name for e in entries[:5])}). Expected one folder of images per class."


def _from_splits(root: Path, folders: list[os.DirEntry[str]], warnings: list[str]) -> Listing:
    samples: list[Sample] = []
    aside: list[SetAside] = []
    for folder in folders:
        found, left = _from_classes(root, [e for e in _entries(folder) if e.is_dir()], SPLITS[folder.name.lower()])
        samples += found
        aside += left
    in_train = {sample.label for sample in samples if sample.split == "train"}
    if not in_train:
        raise DatasetError(
            f"{root} has split folders ({_names(folders)}) but no training images. Expected train/<class>/ folders."
        )
    strangers = {sample.label for sample in samples} - in_train
    if strangers:
        aside += [
            SetAside(file=s.name, reason="its class has no training images") for s in samples if s.label in strangers
        ]
        samples = [sample for sample in samples if sample.label not in strangers]
        warnings.append(f"classes without training images were set aside: {', '.join(sorted(strangers)[:5])}")
    classes = tuple(sorted(in_train, key=_natural))
    return Listing(root.name, "split folders", classes, tuple(samples), tuple(aside), tuple(warnings))


def _from_classes(
    root: Path, folders: list[os.DirEntry[str]], split: Split | None
) -> tuple[list[Sample], list[SetAside]]:
    samples, aside = [], []
    for folder in folders:
        for path in files_below(Path(folder.path)):
            name = path.relative_to(root).as_posix()
            if _is_image(path.name):
                samples.append(Sample(name, folder.name, split, path))
            else:
                aside.append(SetAside(file=name, reason="is not an image file"))
    return samples, aside


def files_below(folder: Path) -> list[Path]:
    """Regular files, deeper folders too; each real folder is entered once, so loops of links end."""
    found: list[Path] = []
    waiting, seen = [folder], set()
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(current):
            try:
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                elif entry.is_file() or entry.is_symlink():
                    found.append(Path(entry.path))
            except OSError:
                found.append(Path(entry.path))
    return sorted(found)


def _from_tables(root: Path, paths: list[Path], file_column: str | None, label_column: str | None) -> Listing:
    """One table with files and labels; a second one named after the test part holds its answers."""
    tables = [read_table(path) for path in paths]
    usable = [table for table in tables if (file_column or table.file) and (label_column or table.label)]
    answers = [table for table in usable if "test" in table.path.stem.lower()]
    training = [table for table in usable if table not in answers]
    if len(training) != 1 or len(answers) > 1:
        listed = "; ".join(f"{t.path.name} ({', '.join(t.columns)})" for t in tables)
        raise DatasetError(
            f"{root}: it is not clear which CSV gives the labels. Found: {listed}. Say so: --labels FILE.csv --file-column NAME --label-column NAME"
        )
    chosen = read_table(training[0].path, file_column, label_column)
    return table_listing(root, chosen, answers[0] if answers else None)


def _from_arrays(path: Path) -> Listing:
    """`images` and `labels`, or x_train, y_train, x_test, y_test."""
    if path.suffix.lower() != ".npz":
        raise DatasetError(f"{path} is not a data set that we know. Expected a folder, .zip, .tar, .csv or .npz.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key.lower(): archive[key] for key in archive.files}
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read: {error}. Save it with numpy.savez(images=..., labels=...), without objects."
        ) from None
    pairs: list[tuple[str, str, Split | None]] = [
        ("images", "labels", None),
        ("x_train", "y_train", "train"),
        ("train_images", "train_labels", "train"),
    ]
    pairs += [
        ("x_test", "y_test", "test"),
        ("test_images", "test_labels", "test"),
        ("val_images", "val_labels", "validation"),
    ]
    samples = []
    for image_key, label_key, split in pairs:
        if image_key in arrays and label_key in arrays:
            images, targets = arrays[image_key], arrays[label_key].reshape(-1)
            if images.dtype != np.uint8 or images.ndim not in {3, 4} or len(images) != len(targets):
                raise DatasetError(
                    f"{path}: {image_key} is {images.dtype} {images.shape} beside {len(targets)} labels; expected uint8 [N, H, W] or [N, H, W, C]"
                )
            samples += [
                Sample(f"{image_key}/{i}", str(t), split, None, x)
                for i, (x, t) in enumerate(zip(images, targets, strict=True))
            ]
    if not samples:
        raise DatasetError(f"{path} holds {', '.join(arrays) or 'nothing'}; expected the arrays images and labels.")
    return Listing(path.stem, "npz", tuple(sorted({s.label for s in samples}, key=_natural)), tuple(samples))


def _check_classes(source: str, listing: Listing) -> None:
    if not listing.samples:
        raise DatasetError(f"{source}: no images found. Known are {', '.join(SUFFIXES)}.")
    if len(listing.classes) < 2:
        raise DatasetError(f"{source} has one class only, {listing.classes[0]!r}. A classifier needs at least two.")
