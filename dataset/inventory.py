"""What lies in the given folder: every file once, as an image, a table, or something else that is counted."""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dataset.decode import SUFFIXES, looks_like_image, open_regular
from schema.errors import DatasetError

TABLES = frozenset({".csv", ".tsv", ".tab", ".txt", ".xlsx", ".jsonl", ".ndjson", ".json"})
SYSTEM_FILES = frozenset(
    [
        "proc",
        "sysfs",
        "tracefs",
        "debugfs",
        "securityfs",
        "cgroup",
        "cgroup2",
        "bpf",
        "configfs",
        "pstore",
        "efivarfs",
        "mqueue",
        "devpts",
        "fusectl",
        "binfmt_misc",
        "selinuxfs",
        "autofs",
    ]
)
LEFTOVERS = re.compile(
    r"\.|__MACOSX$|@eaDir$|#recycle$|\$RECYCLE\.BIN$|RECYCLER$|System Volume"
    r" Information$|lost\+found$|found\.\d{3}$"
    r"|(eh)?thumbs(_vista)?\.db$|desktop\.ini$|Icon\r?$|~\$|Network Trash Folder$|Temporary"
    r" Items$|__pycache__$",
    re.IGNORECASE,
)
# Pictures and films that no decoder of ours reads: whoever has a class of them has to be told.
FOREIGN = {
    suffix: reason
    for reason, suffixes in {
        "is a camera raw file: export it as JPEG or PNG": (
            ".cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .dng .orf .rw2 .raf .pef .srw .x3f .raw .3fr"
        ),
        "is a vector drawing or a document, not a raster image: export it as PNG": (
            ".svg .svgz .eps .ai .pdf .wmf .emf .cdr .ps"
        ),
        "is a medical image: export it as PNG": ".dcm .dicom .nii .nrrd .mha .mhd .img .hdr .minc",
        "is a whole-slide or microscope file: export it as PNG or TIFF": (
            ".svs .ndpi .czi .lif .nd2 .vsi .mrxs .oib .oif .lsm"
        ),
        "is an array of numbers: export it as PNG, or give an .npz of images and labels": (
            ".npy .mat .exr .fts .h5 .hdf5 .zarr"
        ),
        "is a film: export its frames as images": ".mp4 .mov .avi .mkv .webm .wmv .m4v .mpg .mpeg .3gp",
        "is an image format that is not read: save it as JPEG or PNG": (".jxl .jxr .wdp .flif .xcf .kra .jp3d .heics"),
    }.items()
    for suffix in suffixes.split()
}
SHORT_NUMBER = 18  # digits
ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"})
SILENT = (
    TABLES
    | ARCHIVES
    | frozenset(
        [
            ".xml",
            ".html",
            ".htm",
            ".md",
            ".py",
            ".yaml",
            ".yml",
            ".log",
            ".ini",
            ".cfg",
            ".sh",
            ".pth",
            ".pt",
            ".db",
            ".ipynb",
            ".doc",
            ".docx",
            ".xls",
            ".ods",
        ]
    )
)


@dataclass(slots=True)
class Folder:
    """A folder of the source.

    Paths are relative to the source, with slashes; the source itself has the path ''.
    """

    name: str
    path: str
    images: list[str] = field(default_factory=list)  # names of image files that lie directly in it
    foreign: list[tuple[str, str]] = field(default_factory=list)  # pictures that are not read, with the reason
    tables: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    tables_outside: list[str] = field(default_factory=list)  # reached by a link that leads out: never opened
    leftovers: int = 0  # of file managers, archives and network drives
    folders: list["Folder"] = field(default_factory=list)
    total: int = 0  # images here and below, those that are not read included

    def inside(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def take_inventory(root: Path) -> Folder:
    """Walk the source.

    Each real folder is entered once, so loops of links end. Raises DatasetError if a folder cannot be read.
    """
    tree = Folder(root.name, "")
    order, seen, outside = [tree], {_identity(os.stat(root))}, set[str]()  # noqa: PTH116
    inside = f"{os.path.realpath(root)}{os.sep}"
    for folder in order:  # it grows while it is walked
        for entry in _entries(root / folder.path):
            leads_out = folder.path in outside or (
                entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside)
            )
            if LEFTOVERS.match(entry.name):
                folder.leftovers += _files_in(entry)
            elif _is_folder(entry):
                if _is_of_the_system(entry):
                    folder.others.append(entry.name)
                elif (identity := _identity(entry.stat())) not in seen:
                    seen.add(identity)
                    outside.update([folder.inside(entry.name)] if leads_out else [])
                    folder.folders.append(Folder(entry.name, folder.inside(entry.name)))
            else:
                _file_away(folder, entry, leads_out=leads_out)
        order += folder.folders
    for folder in reversed(order):
        folder.total = len(folder.images) + len(folder.foreign) + sum(inner.total for inner in folder.folders)
    return tree


def _files_in(entry: os.DirEntry[str]) -> int:
    """Count the files of a folder and below, or the file itself; at least one."""
    count, waiting = 0, [entry]
    while waiting:  # not os.walk: a path that is long enough ends Python's recursion
        one = waiting.pop()
        if _is_folder(one) and not one.is_symlink():
            with suppress(OSError), os.scandir(one.path) as inside:
                waiting += inside
        else:
            count += 1
    return max(1, count)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: natural(entry.name))
    except OSError as error:
        raise DatasetError(f"{os.fspath(folder)} cannot be read: {error.strerror}. Check its permissions.") from None


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which 9 comes before 10."""
    return [_number_key(part) if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _number_key(digits: str) -> tuple[int, str]:
    """Compare numbers too long for int, which refuses more than 4,300 digits, by their length and then as text."""
    if len(digits) > SHORT_NUMBER:
        plain = digits if digits.isascii() else "".join(str(int(digit)) for digit in digits)
        digits = plain.lstrip("0") or "0"
    return (int(digits), "") if len(digits) <= SHORT_NUMBER else (10**SHORT_NUMBER + len(digits), digits)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _file_away(folder: Folder, entry: os.DirEntry[str], *, leads_out: bool) -> None:
    suffix = _suffix(entry.name)
    if not _is_file(entry):
        kind = "is a link to nothing" if entry.is_symlink() else "is a pipe or a device, not a file"
        if suffix in SUFFIXES:
            folder.foreign.append((entry.name, kind))
        else:
            folder.others.append(entry.name)
    elif suffix in SUFFIXES:
        folder.images.append(entry.name)
    elif suffix in FOREIGN:
        if _begins_as_image(entry.path):  # .img, .raw: whatever somebody called it
            folder.images.append(entry.name)
        else:
            folder.foreign.append((entry.name, FOREIGN[suffix]))
    elif suffix in TABLES:  # messages quote tables: a link could make one of any file of the user's
        (folder.tables_outside if leads_out else folder.tables).append(entry.name)
    elif suffix not in SILENT and _begins_as_image(entry.path):
        folder.images.append(entry.name)
    else:
        folder.others.append(entry.name)


def _suffix(name: str) -> str:
    """As Path.suffix: a Path for each of a million files costs more than reading it."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix}".lower() if dot and stem else ""


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(entry.stat().st_mode) and not _is_of_the_system(entry)
    except OSError:
        return False


def _is_of_the_system(entry: os.DirEntry[str]) -> bool:
    """Say whether it lies in /proc, /sys or the like, whose files answer what the kernel likes, or never."""
    return entry.stat().st_dev in _devices_of_the_system()


@cache
def _devices_of_the_system() -> frozenset[int]:
    found = set()
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").split("\n"):
            before, _, after = line.partition(" - ")
            if after.split(" ")[0] in SYSTEM_FILES:
                major, minor = before.split(" ")[2].split(":")
                found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


def _begins_as_image(path: str) -> bool:
    try:
        with open_regular(path) as file:
            return looks_like_image(file.read(32))
    except (OSError, ValueError):
        return False


def folders_below(tree: Folder) -> Iterator[Folder]:
    """Yield the folder itself and all below, each before what it holds."""
    waiting = [tree]
    while waiting:
        folder = waiting.pop()
        yield folder
        waiting += reversed(folder.folders)


def images_below(tree: Folder) -> Iterator[str]:
    """Yield the relative path of every image of the folder and below."""
    for folder in folders_below(tree):
        for name in folder.images:
            yield folder.inside(name)


def foreign_below(tree: Folder) -> Iterator[tuple[str, str]]:
    """Yield the relative path of every picture that is not read, with the reason."""
    for folder in folders_below(tree):
        for name, reason in folder.foreign:
            yield folder.inside(name), reason


def count_others(tree: Folder, used_tables: set[str]) -> dict[str, int]:
    """Count the files that are no images, by reason."""
    found: Counter[str] = Counter()
    for folder in folders_below(tree):
        if folder.leftovers:
            found["hidden files and leftovers of file managers, archives and network drives"] += folder.leftovers
        if folder.tables_outside:
            found["tables behind a link out of the folder (give one with --labels)"] += len(folder.tables_outside)
        for name in [*folder.tables, *folder.others]:
            if folder.inside(name) in used_tables:
                continue
            suffix = _suffix(name)
            archive = suffix in ARCHIVES
            kind = (
                f"archives that were not unpacked ({suffix})"
                if archive
                else f"files that are no images ({suffix or 'no suffix'})"
            )
            found[kind] += 1
    return dict(found)


def files_below(folder: Path) -> list[Path]:
    """List every file of a folder and below, links to nothing too, without leftovers."""
    tree = take_inventory(folder)
    found = []
    for inner in folders_below(tree):
        names = [*inner.images, *inner.tables, *inner.others, *inner.tables_outside]
        names += [name for name, _ in inner.foreign]
        found += [folder / inner.inside(name) for name in names]
    return sorted(found)
