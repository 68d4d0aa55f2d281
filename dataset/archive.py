"""Archives are unpacked once, beneath one folder, and nothing in them may leave it."""

import hashlib
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from schema.errors import DatasetError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
OTHER_ARCHIVES = (".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".tar.zst", ".lz4", ".cab", ".iso", ".dmg")
LARGEST = 200 * 2**30
MOST_FILES = 5_000_000
RATIO = 200  # unpacked over packed bytes; image formats do not shrink


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, workdir: Path) -> Path:
    """The folder with the archive's content; reused when it is there.

    Raises DatasetError.
    """
    info = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\0{info.st_size}\0{info.st_mtime_ns}".encode()).hexdigest()[:16]
    target, partial = workdir / key, workdir / f"{key}.partial"
    if target.is_dir():
        return target
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _extract(path, partial)
        partial.rename(target)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        OSError,
    ) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{path} cannot be unpacked: {error}. Is the download complete? Unpack it yourself and give the folder."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _extract(path: Path, target: Path) -> None:
    if path.suffix.lower() == ".zip" and not zipfile.is_zipfile(path):
        raise DatasetError(
            f"{path} is no whole zip archive: its end is missing. Was the download or the copy stopped early?"
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _bounded(path, len(members), sum(m.file_size for m in members))
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
        with tarfile.open(path) as archive:
            entries = archive.getmembers()
            _bounded(path, len(entries), sum(m.size for m in entries))
            for entry in entries:
                _safe(path, entry.name)
                if not (entry.isfile() or entry.isdir()):
                    raise DatasetError(
                        f"{path} holds a link or device, {entry.name!r}. Unpack it yourself and give the folder."
                    )
            archive.extractall(target, filter="data")


def _bounded(path: Path, count: int, size: int) -> None:
    if count > MOST_FILES or size > LARGEST or size > max(RATIO * path.stat().st_size, 2**30):
        raise DatasetError(
            f"{path} would unpack to {size / 2**30:.1f} GB in {count} files, which no image set of its size"
            " does. Unpack it yourself if you trust it."
        )


def _safe(path: Path, name: str) -> None:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise DatasetError(
            f"{path} holds the name {name!r}, which would land outside its folder. It is not a data set to trust."
        )
