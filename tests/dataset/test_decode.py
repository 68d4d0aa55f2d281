"""Any raster image becomes the same 8-bit pixels wherever it is decoded; anything else is refused in words."""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset.decode import (
    FORMATS,
    SUFFIXES,
    decode,
    file_extent,
    looks_like_image,
    scaled_pixels,
    shared_range,
    value_extent,
)
from sandbox.assemble import toolbox_names

RAMP = np.linspace(0, 1, 24 * 16).reshape(16, 24)
COLOUR = Image.fromarray((np.stack([RAMP, 1 - RAMP, RAMP**2], -1) * 255).astype(np.uint8))


def tiff(values: np.ndarray, *more: tuple[int, int, int, int], next_page: int = 0) -> bytes:
    """A TIFF as other programs write it: numbers of any type and byte order, and any further tags."""
    big = values.dtype.byteorder == ">"
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    height, width = values.shape
    own = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, 8 * values.itemsize), (259, 3, 1, 1), (262, 3, 1, 1)]
    own += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, height), (279, 4, 1, values.nbytes), (339, 3, 1, kind)]
    order, tags = "><"[not big], sorted([*own, *more])
    found = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", 8 + values.nbytes) + values.tobytes()
    found += struct.pack(order + "H", len(tags))
    for tag, form, count, value in tags:
        found += struct.pack(
            order + ("HHIHH" if form == 3 else "HHII"), tag, form, count, *([value, 0] if form == 3 else [value])
        )
    return found + struct.pack(order + "I", next_page)


def jpeg(exif: bytes | None = None) -> bytes:
    stream = io.BytesIO()
    COLOUR.save(stream, "JPEG")
    whole = stream.getvalue()
    if exif is None:
        return whole
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif + whole[2:]


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    packed = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"MM\0*" + struct.pack(">IH", 8, len(entries)) + packed + bytes(4)


def plain(content: bytes, channels: int = 1, value_range: tuple[float, float] | None = None) -> np.ndarray:
    return decode(io.BytesIO(content), channels, None, None, value_range)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "RGBX", "I;16", "I", "F"])
def test_every_mode_becomes_eight_bit_colour(mode: str, tmp_path: Path) -> None:
    deep = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    image = Image.fromarray((RAMP * 900).astype(deep[mode])) if mode in deep else COLOUR.convert(mode)
    image.save(tmp_path / "a", "PNG" if mode in {"LA", "P", "RGBA"} else "TIFF")
    pixels = decode(tmp_path / "a", 3, None, None)
    assert (pixels.shape, pixels.dtype) == ((3, 16, 24), np.uint8)
    assert int(pixels.max()) - int(pixels.min()) >= 40


SAVED = [
    "JPEG",
    "PNG",
    "GIF",
    "WEBP",
    "TIFF",
    "BMP",
    "DIB",
    "PPM",
    "JPEG2000",
    "ICO",
    "TGA",
    "DDS",
    "QOI",
    "PCX",
    "SGI",
]


@pytest.mark.parametrize("name", SAVED)
def test_a_format_is_known_by_its_content_whatever_the_suffix(name: str, tmp_path: Path) -> None:
    COLOUR.resize((16, 16)).save(tmp_path / "a.txt", name)
    assert decode(tmp_path / "a.txt", 3, 16, 16).std() > 30


def test_no_format_starts_another_program_and_none_is_only_recognised() -> None:
    assert not set(FORMATS) & {"EPS", "WMF", "PDF", "FPX", "MIC", "GRIB", "HDF5", "BUFR", "IPTC", "MPEG"}


def test_the_suffixes_are_those_of_the_formats() -> None:
    Image.init()
    known = {suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS}
    assert known <= SUFFIXES
    assert {".jfif", ".jpe", ".apng", ".heic", ".avif"} <= SUFFIXES
    assert not {".eps", ".ps", ".pdf", ".svg", ".txt", ".mpg"} & SUFFIXES


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "ICO", "DDS", "QOI"])
def test_an_image_is_told_by_its_first_bytes(name: str) -> None:
    stream = io.BytesIO()
    COLOUR.resize((16, 16)).save(stream, name)
    assert looks_like_image(stream.getvalue()[:32])


@pytest.mark.parametrize(
    "head", [b"", b"B", b"BM is short", b"P5", b"\0\0\1\0", b"Photos of cats", b"%!PS-Adobe", b"PK\3\4"]
)
def test_other_files_do_not_look_like_images(head: bytes) -> None:
    assert not looks_like_image(head)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 3, None, None).min() == 255


def test_of_several_pages_or_frames_the_first_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for name in ("GIF", "TIFF", "WEBP", "PNG"):
        frames[0].save(tmp_path / name, name, save_all=True, append_images=frames[1:])
        red, _, blue = decode(tmp_path / name, 3, None, None)
        assert (red.min() > 200, blue.max() < 60) == (True, True), name


DEEP = {
    "ten bits": (RAMP * 1023, "<u2"),
    "twelve bits, big-endian": (RAMP * 4095, ">u2"),
    "sixteen bits": (RAMP * 65535, "<u2"),
    "signed": (RAMP * 4000 - 1000, "<i2"),
    "32 bits": (RAMP * 1e6, "<i4"),
    "32 bits without sign": (RAMP * 4e9, "<u4"),
    "floats to 1": (RAMP, "<f4"),
    "floats to 255": (RAMP * 255, "<f4"),
    "negative floats": (RAMP * 2 - 1, ">f4"),
}


@pytest.mark.parametrize(("values", "kind"), DEEP.values(), ids=DEEP)
def test_deep_images_keep_their_contrast(values: np.ndarray, kind: str) -> None:
    expected = np.rint(RAMP * 255)
    found = plain(tiff(values.astype(kind)))[0]
    assert np.abs(found - expected).max() <= 3  # percentiles clip a little where no full scale fits


def colour_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per colour, each row stored as differences to the pixel before, as encoders do."""
    height, width, _ = values.shape
    raw = values.astype(">u2").tobytes()
    rows = [np.frombuffer(raw[i * width * 6 : (i + 1) * width * 6], np.uint8).reshape(width, 6) for i in range(height)]
    stored = b"".join(b"\1" + np.diff(row, axis=0, prepend=np.zeros((1, 6), np.uint8)).tobytes() for row in rows)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(stored)) + chunk(b"IEND", b"")


def colour_tiff(values: np.ndarray, order: str) -> bytes:
    height, width, _ = values.shape
    content = values.astype(order + "u2").tobytes()
    depths = 8 + len(content)
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, depths),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
    ]
    tags += [(277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(content))]
    found = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", depths + 6) + content
    found += struct.pack(order + "HHHH", 16, 16, 16, len(tags))
    for tag, form, count, value in tags:
        small = form == 3 and count == 1
        found += struct.pack(
            order + ("HHIHH" if small else "HHII"), tag, form, count, *([value, 0] if small else [value])
        )
    return found + bytes(4)


DEEP_COLOUR = {
    "PNG": colour_png,
    "TIFF, little-endian": lambda values: colour_tiff(values, "<"),
    "TIFF, big-endian": lambda values: colour_tiff(values, ">"),
}


@pytest.mark.parametrize("encoded", DEEP_COLOUR.values(), ids=DEEP_COLOUR)
def test_twelve_bits_in_sixteen_are_not_black_in_colour_either(encoded: Callable[[np.ndarray], bytes]) -> None:
    """Pillow alone keeps the upper byte of each, which is below 16."""
    values = np.random.default_rng(0).integers(0, 4096, (16, 24, 3))
    found = plain(encoded(values), 3, (0.0, 4095.0))
    assert np.array_equal(found.transpose(1, 2, 0), np.rint(values * np.float32(255 / 4095)).astype(np.uint8))
    assert file_extent(io.BytesIO(encoded(values))) == pytest.approx((20, 4074, 4095), abs=25)


def test_a_colour_of_full_sixteen_bits_looks_as_its_upper_byte() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (16, 24, 3))
    found = plain(colour_png(values), 3).transpose(1, 2, 0).astype(int)
    assert np.abs(found - (values >> 8)).max() <= 1


@pytest.mark.parametrize("mark", [np.nan, -np.inf, -9999, -3.4e38])
def test_missing_data_is_dark_and_costs_no_contrast(mark: float) -> None:
    values = (RAMP * 300).astype("<f4")
    values[0] = mark
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = plain(tiff(values))[0]
    assert found[0].max() == 0
    assert found[-1].min() > 200


def test_a_given_range_scales_all_images_alike() -> None:
    dark = (RAMP * 400).astype("<u2")
    assert plain(tiff(dark), value_range=(0, 4095)).max() == 25
    assert plain(tiff(dark)).max() == 255


@given(
    st.lists(st.floats(allow_nan=True, width=32), min_size=2, max_size=30),
    st.floats(-1e20, 1e20),
    st.floats(1, 1e20),
)
def test_a_brighter_value_is_never_a_darker_pixel(values: list[float], low: float, span: float) -> None:
    numbers = np.array(values, dtype=np.float32)
    numbers = np.sort(numbers[~np.isnan(numbers)])
    pixels = scaled_pixels(numbers[None], (low, low + max(span, abs(low))))[0].astype(int)
    assert (np.diff(pixels) >= 0).all()


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=40), st.floats(1, 1e4))
def test_brighter_images_never_make_the_range_smaller(values: list[float], factor: float) -> None:
    low, high, _ = value_extent(np.array(values))
    before, after = shared_range([(low, high, high)]), shared_range([(low * factor, high * factor, high * factor)])
    assert before
    assert after
    assert high == 0 or high < 1e-20 or after[1] >= before[1] * (1 - 1e-9)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(8, 12), (160, 240)])
def test_a_photo_stands_upright(orientation: int, size: tuple[int, int], tmp_path: Path) -> None:
    upright = COLOUR.resize(size)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    stored = upright if back is None else upright.transpose(Image.Transpose(back))
    tags = stored.getexif()
    tags[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=tags)
    assert np.array_equal(decode(tmp_path / "a.png", 3, None, None), np.asarray(upright).transpose(2, 0, 1))


def test_a_cmyk_photo_taken_sideways_is_upright_colour(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    COLOUR.convert("CMYK").save(tmp_path / "a.jpg", exif=tags)
    assert decode(tmp_path / "a.jpg", 3, None, None).shape == (3, 24, 16)


def test_a_deep_tiff_stands_upright_once() -> None:
    values = (RAMP * 4095).astype("<u2")
    assert np.array_equal(plain(tiff(values, (274, 3, 1, 6)))[0], np.rot90(plain(tiff(values))[0], -1))


ODD_EXIF = {
    "orientation 0": (exif((274, 3, 1, b"\0\0\0\0")), False),
    "orientation 9": (exif((274, 3, 1, b"\0\x09\0\0")), False),
    "orientation as text": (exif((274, 2, 2, b"6\0\0\0")), False),
    "a pointer outside the file": (exif((274, 3, 1, b"\0\6\0\0"), (34665, 4, 1, b"\0\xff\xff\xff")), True),
    "a transfer function as text": (exif((274, 3, 1, b"\0\6\0\0"), (301, 2, 2, b"x\0\0\0")), True),
    "a text outside the file": (exif((270, 2, 500, b"\0\0\xff\xff"), (274, 3, 1, b"\0\6\0\0")), True),
    "junk": (b"\x99" * 100, False),
    "nothing": (b"", False),
}


@pytest.mark.parametrize(("tags", "turned"), ODD_EXIF.values(), ids=ODD_EXIF)
def test_odd_exif_never_makes_a_photo_unreadable(tags: bytes, turned: bool) -> None:
    assert plain(jpeg(tags), 3).shape == ((3, 24, 16) if turned else (3, 16, 24))


@given(st.binary(max_size=120))
def test_no_exif_at_all_makes_a_photo_unreadable(noise: bytes) -> None:
    for tags in (noise, exif() + noise, b"II*\0\x08\0\0\0" + noise):
        assert plain(jpeg(tags), 3).size == 3 * 16 * 24


@pytest.mark.parametrize("tag", [(34665, 4, 1, 99_999_999), (34853, 4, 1, 4), (270, 2, 1, 0)])
def test_odd_tags_never_make_a_tiff_unreadable(tag: tuple[int, int, int, int]) -> None:
    assert plain(tiff((RAMP * 4095).astype("<u2"), tag)).shape == (1, 16, 24)


@pytest.mark.parametrize("page", [8, 99_999_999])
def test_a_damaged_list_of_pages_does_not_matter(page: int) -> None:
    assert plain(tiff((RAMP * 4095).astype("<u2"), next_page=page)).shape == (1, 16, 24)


def test_a_jpeg_without_its_end_mark_or_with_more_after_it_is_whole() -> None:
    assert np.array_equal(plain(jpeg()[:-2], 3), plain(jpeg(), 3))
    assert np.array_equal(plain(jpeg() + b"more" * 1000, 3), plain(jpeg(), 3))


@pytest.mark.parametrize("missing", [5, 20])
def test_a_jpeg_that_lacks_pixels_is_truncated(missing: int) -> None:
    with pytest.raises(ValueError, match="is truncated"):
        plain(jpeg()[:-missing], 3)


NO_IMAGES = {
    "a web page": (b"<!DOCTYPE html><html>404", "web page"),
    "a drawing": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "SVG.*PNG"),
    "DICOM": (bytes(128) + b"DICM", "DICOM.*PNG or TIFF"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "another program"),
    "PDF": (b"%PDF-1.7", "PDF"),
    "a video": (b"\0\0\0\x18ftypisom" + bytes(50), "video"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    "text": (b"hello world\n" * 20, "not an image"),
    "zeros": (bytes(5000), "not an image"),
    "a damaged PNG": (b"\x89PNG\r\n\x1a\n" + b"\xff" * 50, "damaged"),
    "64-bit floats": (tiff(RAMP.astype("<f8")), "64-bit floats"),
    "no finite value": (tiff(np.full((4, 4), np.nan, "<f4")), "finite"),
}


@pytest.mark.parametrize(("content", "told"), NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_named(content: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        plain(content)


def test_a_heic_photo_names_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset.decode._formats_here", lambda: ("JPEG",))
    with pytest.raises(ValueError, match="is a HEIC photo: install pi-heif"):
        plain(b"\0\0\0\x18ftypheic" + bytes(range(200)))


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    for side in (14_000, 20_000):  # Pillow refuses the second by itself
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        with pytest.raises(ValueError, match="more pixels than is decoded.*decompression bomb"):
            decode(tmp_path / "bomb.png", 3, 32, 32)


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ValueError, match="is a named pipe"):
        decode(tmp_path / "pipe.jpg", 3, 32, 32)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "absent.jpg", 3, 32, 32)


@given(st.sampled_from(["PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG", "PPM"]), st.data())
def test_whatever_is_damaged_is_a_value_error(name: str, data: st.DataObject) -> None:
    stream = io.BytesIO()
    COLOUR.save(stream, name)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(8, min(len(content) - 1, 120)))] = data.draw(st.integers(0, 255))
    try:
        plain(bytes(content), 3)
    except ValueError as error:
        assert str(error)


def test_its_names_are_none_of_the_toolbox() -> None:
    assert not {"opened_image", "upright_pixels", "fitted_pixels", "shared_range", "file_extent"} & toolbox_names()
