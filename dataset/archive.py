"""Archives are unpacked once, beneath one folder, and nothing in them may leave it."""

import bz2
import gzip
import hashlib
import io
import lzma
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from dataset.file_lock import locked
from schema.errors import DatasetError
from schema.text import one_line

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
OTHER_ARCHIVES = (".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".tar.zst", ".lz4", ".cab", ".iso", ".dmg")
LARGEST = 200 * 2**30
MOST_FILES = 5_000_000
RATIO = 200  # unpacked over packed bytes; image formats do not shrink
LEAST_PACKED = 40  # bytes that a file takes in an archive, at least: its name and size
FEW_FILES = 20_000
DEEPEST = 100  # folders in one another
LARGEST_READ = 16 * 2**20  # bytes at one go


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, workdir: Path) -> Path:
    """The folder with the archive's content; reused when it is there.

    Raises DatasetError.
    """
    info = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\0{info.st_size}\0{info.st_mtime_ns}".encode()).hexdigest()[:16]
    target = workdir / key
    if target.is_dir():
        return target
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir / f".{key}.lock"):
        if not target.is_dir():
            for left in workdir.glob(f"{key}.*"):  # of those that were killed: none is at work under this lock
                shutil.rmtree(left, ignore_errors=True)
            _unpack_whole(path, target)
    return target


def _unpack_whole(path: Path, target: Path) -> None:
    """Unpack beside the target, and give it the target's name at the end."""
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    content = partial / "content"  # with the rights of any new folder, which those of mkdtemp are not
    try:
        content.mkdir()
        _extract(path, content)
        content.rename(target)
    except DatasetError:
        raise
    except Exception as error:  # a damaged archive raises whatever zipfile, tarfile and their decompressors do
        why = one_line(str(error), 200) or type(error).__name__
        raise DatasetError(
            f"{path} cannot be unpacked: {why}. Is the download complete? Unpack it yourself and give the folder."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract(path: Path, target: Path) -> None:
    if path.suffix.lower() == ".zip" and not zipfile.is_zipfile(path):
        raise DatasetError(
            f"{path} is no whole zip archive: its end is missing. Was the download or the copy stopped early?"
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_bounds(path, len(members), sum(m.file_size for m in members))
            for member in members:
                if "/" not in member.filename:  # as PowerShell 5 writes them
                    member.filename = member.filename.replace("\\", "/")
                _safe(path, member.filename)
                if member.flag_bits & 1:
                    raise DatasetError(f"{path} is protected by a password. Unpack it yourself and give the folder.")
                if (member.external_attr >> 16) & 0o170000 == 0o120000:
                    raise DatasetError(
                        f"{path} holds a link, {member.filename!r}. Unpack it yourself and give the folder."
                    )
            for member in members:
                archive.extract(member, target)
    else:
        with _opened(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            entries, size = [], 0
            for entry in archive:  # one by one: what is too large is never unpacked, not even to pass over it
                entries.append(entry)
                size += entry.size
                _check_bounds(path, len(entries), size)
                if entry.size < 0 or archive.offset <= entry.offset:  # each way back would be unpacked again
                    raise DatasetError(
                        f"{path} is damaged or made to be read without end: after {one_line(entry.name, 80)!r}, of"
                        f" {entry.size:,} bytes, it leads back. It is not a data set to trust."
                    )
            for entry in entries:
                _safe(path, entry.name)
                if not (entry.isfile() or entry.isdir()):
                    raise DatasetError(
                        f"{path} holds a link or device, {entry.name!r}. Unpack it yourself and give the folder."
                    )
            archive.extractall(target, filter="data")


class _Stream(io.BufferedReader):
    """A tar file as tarfile reads it, which takes the whole of a header's extension at one go, however long it says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LARGEST_READ:
            raise tarfile.ReadError(f"a header of {size or 0:,} bytes")
        return super().read(size)


def _opened(path: Path) -> _Stream:
    with path.open("rb") as file:
        head = file.read(6)
    openers: dict[bytes, Callable[[Path], Any]] = {
        b"\x1f\x8b": gzip.GzipFile,
        b"BZh": bz2.BZ2File,
        b"\xfd7zXZ\0": lzma.LZMAFile,
    }
    opener = next((opener for magic, opener in openers.items() if head.startswith(magic)), io.FileIO)
    return _Stream(opener(path))


def _check_bounds(path: Path, count: int, size: int) -> None:
    packed = path.stat().st_size
    most_files = min(MOST_FILES, max(FEW_FILES, packed // LEAST_PACKED))
    if count > most_files or size > LARGEST or size > max(RATIO * packed, 2**30):
        raise DatasetError(
            f"{path} would unpack to {size / 2**30:.1f} GB in {count:,} files or more, which no image set of its size"
            " does. Unpack it yourself if you trust it."
        )


def _safe(path: Path, name: str) -> None:
    pure = PurePosixPath(name.replace("\\", "/"))
    if len(pure.parts) > DEEPEST:
        raise DatasetError(
            f"{path} holds folders in {len(pure.parts):,} levels, which no image set does. It is not a data set to trust."
        )
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise DatasetError(
            f"{path} holds the name {name!r}, which would land outside its folder. It is not a data set to trust."
        )
