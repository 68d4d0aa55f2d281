"""An archive that is made to fill the disk, the memory or the day is refused while nothing of it is unpacked."""

import gzip
import io
import lzma
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataset import archive
from dataset.archive import unpack
from schema.errors import DatasetError

ZEROS = bytes(2**20)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    return found.tobuf(tarfile.GNU_FORMAT)


def refused(path: Path, tmp_path: Path, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        unpack(path, tmp_path / "unpacked")
    assert all(left.name.endswith(".lock") for left in (tmp_path / "unpacked").iterdir())


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME], ids=["pax", "global", "name"]
)
def test_a_header_that_never_ends_is_not_read_into_memory(kind: bytes, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as file:
        file.write(header("x", 40 * 2**20, kind))
        for _ in range(40):
            file.write(ZEROS)
        file.write(bytes(1024))
    refused(tmp_path / "a.tar.gz", tmp_path, "cannot be unpacked: a header of 41,943,040 bytes")


def test_a_file_that_is_too_large_is_not_even_passed_over(tmp_path: Path) -> None:
    with lzma.open(tmp_path / "a.tar.xz", "wb", preset=0) as file:
        file.write(header("a/big.png", 8 * 2**30))  # what follows is not there: whoever looks for it meets the end
    refused(tmp_path / "a.tar.xz", tmp_path, "would unpack to 8.0 GB in 1 files or more")


def tar_gz(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name), io.BytesIO())


def zipped(path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "")


@pytest.mark.parametrize(("suffix", "write"), [(".tar.gz", tar_gz), (".zip", zipped)])
def test_more_files_than_its_bytes_can_be_are_refused(
    suffix: str, write: Callable[[Path, list[str]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "FEW_FILES", 100)
    monkeypatch.setattr(archive, "LEAST_PACKED", 400)
    write(tmp_path / f"a{suffix}", [f"a/{i}.png" for i in range(2000)])
    refused(tmp_path / f"a{suffix}", tmp_path, r"in [\d,]+ files or more, which no image set of its size does")


@pytest.mark.parametrize(("suffix", "write"), [(".tar.gz", tar_gz), (".zip", zipped)])
def test_folders_in_folders_without_end_are_refused(
    suffix: str, write: Callable[[Path, list[str]], None], tmp_path: Path
) -> None:
    write(tmp_path / f"a{suffix}", ["d/" * 1200 + "a.png"])
    refused(tmp_path / f"a{suffix}", tmp_path, "holds folders in 1,201 levels")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_of_any_kind_is_unpacked(mode: str, tmp_path: Path) -> None:
    suffix = mode.replace("w", "tar").replace(":", ".")
    with tarfile.open(tmp_path / f"a.{suffix}", mode) as file:  # type: ignore[call-overload]
        found = tarfile.TarInfo("a/" + "n" * 150)  # longer than a plain header holds
        found.size = 3
        file.addfile(found, io.BytesIO(b"abc"))
    assert (unpack(tmp_path / f"a.{suffix}", tmp_path / "unpacked") / found.name).read_bytes() == b"abc"


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip"])
def test_what_is_damaged_says_so(suffix: str, tmp_path: Path) -> None:
    magic = {".tar.gz": b"\x1f\x8b\x08\x00", ".tar.bz2": b"BZh9", ".tar.xz": b"\xfd7zXZ\0"}.get(suffix, b"")
    (tmp_path / f"a{suffix}").write_bytes(magic + bytes(range(256)) * 4)
    refused(tmp_path / f"a{suffix}", tmp_path, "cannot be unpacked|is no whole zip")


def small_zip(**names: bytes) -> bytearray:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in names.items():
            file.writestr(name.replace("__", "/"), content)
    return bytearray(stream.getvalue())


def zip_of_the_future() -> bytes:
    raw = small_zip(a__x=b"abc", b__y=b"abc")
    raw[raw.find(b"PK\1\2") + 6] = 255
    return bytes(raw)


def zip_of_a_broken_name() -> bytes:
    return bytes(small_zip(é__x=b"abc", b__y=b"abc").replace("é".encode(), b"\xff\xfe"))


def zip_without_a_name() -> bytes:
    return bytes(small_zip(X=b"abc", b__y=b"abc").replace(b"X", b"\0"))


def zip_of_a_huge_offset() -> bytes:
    raw = small_zip(X=b"abc", b__y=b"abc")
    entry, end = raw.find(b"PK\1\2"), raw.rfind(b"PK\5\6")
    raw[end + 12 : end + 16] = (int.from_bytes(raw[end + 12 : end + 16], "little") + 12).to_bytes(4, "little")
    raw[entry + 42 : entry + 46] = b"\xff" * 4
    raw[entry + 30 : entry + 32] = (12).to_bytes(2, "little")
    raw[entry + 47 : entry + 47] = struct.pack("<HHQ", 1, 8, 2**63 + 5)
    return bytes(raw)


def pax(data: bytes = b"x" * 512, **headers: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as file:
        entry = tarfile.TarInfo("a/x.png")
        entry.size = len(data)
        entry.pax_headers = {name.replace("_", "."): value for name, value in headers.items()}
        file.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


DAMAGED = {
    "future.zip": zip_of_the_future(),
    "name.zip": zip_of_a_broken_name(),
    "no-name.zip": zip_without_a_name(),
    "offset.zip": zip_of_a_huge_offset(),
    "sparse-size.tar": pax(GNU_sparse_size="x"),
    "sparse-map.tar": pax(GNU_sparse_map="x,y"),
    "sparse-version.tar": pax(GNU_sparse_major="1", GNU_sparse_minor="0"),
    "time-nan.tar": pax(mtime="nan"),
    "time-huge.tar": pax(mtime="1e300"),
    "long-record.tar": pax(comment="y" * 6000).replace(b"6014 comment=" + b"y" * 5000, b"9" * 5004 + b" comment=", 1),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_whatever_the_readers_say_of_a_damaged_archive_is_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(DAMAGED[name])
    refused(tmp_path / name, tmp_path, f"{name} cannot be unpacked: .")


def extended(**records: str) -> bytes:
    text = b""
    for name, value in records.items():
        body = f" {name.replace('_', '.')}={value}\n".encode()
        length = len(body) + len(str(len(body) + 2))
        text += str(length).encode() + body
    return header("pax", len(text), tarfile.XHDTYPE) + text + bytes(-len(text) % 512)


def test_an_archive_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    first = header("a/big.png", 4096) + bytes(4096)
    back = extended(size=f"-{len(first) + 1536}") + header("a/x.png", 0)
    (tmp_path / "a.tar").write_bytes(first + back + bytes(4096))
    refused(tmp_path / "a.tar", tmp_path, "leads back")


def test_two_that_unpack_one_archive_at_a_time_do_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(small_zip(a__x=b"abc", b__y=b"abc")))
    times, slowly = [], archive._extract

    def extract(path: Path, target: Path) -> None:
        times.append(target)
        time.sleep(0.3)
        slowly(path, target)

    monkeypatch.setattr(archive, "_extract", extract)
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: unpack(tmp_path / "a.zip", tmp_path / "unpacked"), range(3)))
    assert len(found) == len(times) == 1
    assert (found.pop() / "a/x").read_bytes() == b"abc"


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(small_zip(a__x=b"abc")))
    target = unpack(tmp_path / "a.zip", tmp_path / "unpacked")
    target.rename(target.with_name(f"{target.name}.abcdefgh"))
    assert unpack(tmp_path / "a.zip", tmp_path / "unpacked") == target
    assert {one.name for one in target.parent.iterdir()} == {target.name, f".{target.name}.lock"}
