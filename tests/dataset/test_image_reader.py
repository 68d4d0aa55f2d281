"""One pass over a file tells all that is known of it; one bad file costs no other."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset.decode import shared_range
from dataset.decoders import Shape, Unreadable
from dataset.image_header import MOST_FRAMES, MOST_PAGES, Header
from dataset.image_reader import describe_range, find_value_range, headers, pixels
from dataset.listing import Sample
from tests.dataset.decoding import shared_decoders

RAMP = np.linspace(0, 1, 40 * 32).reshape(32, 40)


def sample(source: Path | np.ndarray) -> Sample:
    if isinstance(source, Path):
        return Sample(source.name, "a", None, path=source)
    return Sample("x/0", "a", None, pixels=source)


def header(source: Path | np.ndarray) -> Header:
    found = next(headers([sample(source)], shared_decoders()))
    assert isinstance(found, Header), found
    return found


def saved(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def refusal(source: Path | np.ndarray) -> str:
    found = next(headers([sample(source)], shared_decoders()))
    assert isinstance(found, Unreadable)
    assert next(pixels([sample(source)], Shape(3, 8, 8), shared_decoders())) == found
    return found.reason


def test_the_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (800, 600), "red").save(tmp_path / "a.jpg", exif=tags)
    found = header(tmp_path / "a.jpg")
    assert (found.width, found.height, found.kind, found.grey) == (600, 800, "JPEG/RGB", False)


def test_pages_and_frames_are_counted(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "green")]
    for name in ("TIFF", "GIF", "WEBP", "PNG"):
        frames[0].save(tmp_path / name, name, save_all=True, append_images=frames[1:])
        assert header(tmp_path / name).frames == 3, name
    frames[0].save(tmp_path / "one.png")
    assert header(tmp_path / "one.png").frames == 1


def test_frames_without_end_are_not_counted(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    plain = (tmp_path / "a.png").read_bytes()
    frames = struct.pack(">I4sII", 8, b"acTL", 2**31 - 1, 0)
    control = frames + struct.pack(">I", zlib.crc32(frames[4:]))
    (tmp_path / "a.png").write_bytes(plain[:33] + control + plain[33:])
    assert header(tmp_path / "a.png").frames in {1, MOST_FRAMES}
    pages = 3 * MOST_PAGES
    tag = struct.pack("<HHII", 256, 4, 1, 1) + struct.pack("<HHII", 257, 4, 1, 1) + struct.pack("<HHII", 262, 3, 1, 1)
    tag += struct.pack("<HHII", 273, 4, 1, 8) + struct.pack("<HHII", 279, 4, 1, 1)
    size = 2 + len(tag) + 4
    chain = b"".join(struct.pack("<H", 5) + tag + struct.pack("<I", 12 + (i + 1) * size) for i in range(pages))
    (tmp_path / "a.tif").write_bytes(struct.pack("<2sHI4x", b"II", 42, 12) + chain)
    assert header(tmp_path / "a.tif").frames in {1, MOST_PAGES}


def test_deep_images_tell_their_values_and_others_do_not(tmp_path: Path) -> None:
    found = header(saved(tmp_path / "a.png", (RAMP * 4000).astype(np.uint16)))
    assert (found.low, found.high, found.top) == pytest.approx((20, 3980, 4000), abs=5)
    assert found.grey
    assert found.thumbnail.max() > 3500
    plain = header(saved(tmp_path / "b.png", (RAMP * 255).astype(np.uint8)))
    assert (plain.low, plain.high, plain.top) == (None, None, None)


def test_the_thumbnail_holds_the_means_of_blocks(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    found = header(saved(tmp_path / "a.png", values)).thumbnail
    assert (found.shape, found.dtype) == ((256,), np.float32)
    assert np.allclose(found, values.reshape(16, 2, 16, 3, 3).mean((1, 3, 4)).reshape(-1), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (3, 5), (1, 1)])
def test_tiny_images_have_a_thumbnail_too(shape: tuple[int, int], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = header(saved(tmp_path / "a.png", values)).thumbnail
    assert found.mean() == pytest.approx(values.mean(), abs=40)


def test_the_same_picture_in_two_lossless_files_has_the_same_content(tmp_path: Path) -> None:
    values = (np.stack([RAMP, RAMP**2, 1 - RAMP], -1) * 255).astype(np.uint8)
    files = [saved(tmp_path / f"a.{suffix}", values) for suffix in ("png", "bmp", "tif", "ppm", "webp")]
    Image.fromarray(values).save(files[-1], lossless=True)
    found = [header(file) for file in files]
    assert len({one.content for one in found}) == 1
    assert len({one.digest for one in found}) == len(files)
    deep = (RAMP * 4000).astype(np.uint16)
    assert header(saved(tmp_path / "d.png", deep)).content == header(saved(tmp_path / "d.tif", deep)).content
    assert header(values[..., 0]).content == header(np.repeat(values[..., :1], 3, 2)).content
    assert header(values).content != header(values[::-1]).content


def test_grey_is_what_looks_grey(tmp_path: Path) -> None:
    grey = np.repeat((RAMP * 255).astype(np.uint8)[..., None], 3, 2)
    assert header(saved(tmp_path / "a.jpg", grey)).grey
    tinted = grey.copy()
    tinted[..., 0] //= 2
    assert not header(saved(tmp_path / "b.jpg", tinted)).grey


def test_bad_files_are_set_aside_with_a_reason_and_nothing_hangs(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.png", (RAMP * 255).astype(np.uint8)).read_bytes()
    grey = saved(tmp_path / "a.jpg", (RAMP * 255).astype(np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.jpg").write_bytes(grey[: len(grey) * 7 // 10])
    (tmp_path / "crc.png").write_bytes(whole[:60] + bytes([whole[60] ^ 255]) + whole[61:])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "truncated" in refusal(tmp_path / "cut.png")
    assert "truncated" in refusal(tmp_path / "cut.jpg")
    assert "cannot be decoded" in refusal(tmp_path / "crc.png")
    assert refusal(tmp_path / "empty.jpg") == "is empty (zero bytes)"
    assert refusal(tmp_path / "broken.png") == "is a link to nothing"
    assert refusal(tmp_path / "pipe.jpg") == "is a named pipe, not a file"
    assert refusal(tmp_path) == "is a folder, not a file"


ARRAYS = {
    "bytes": (RAMP * 255).astype(np.uint8),
    "truth values": RAMP > 0.5,
    "16 bits": (RAMP * 65535).astype(np.uint16),
    "whole numbers": (RAMP * 255).astype(np.int64),
    "floats": RAMP,
    "half floats in colour": np.repeat(RAMP[..., None], 3, 2).astype(np.float16),
    "one channel": RAMP[..., None],
    "grey and alpha": np.dstack([RAMP, np.ones_like(RAMP)]),
    "colour and alpha of 16 bits": (np.dstack([RAMP, RAMP, RAMP, np.ones_like(RAMP)]) * 65535).astype(np.uint16),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_any_type_become_eight_bits(array: np.ndarray) -> None:
    found = header(array)
    image = next(pixels([sample(array)], Shape(1, 32, 40, find_value_range([found])), shared_decoders()))
    assert isinstance(image, np.ndarray)
    expected = (RAMP > 0.5) * 255.0 if array.dtype == np.bool_ else RAMP * 255
    assert np.abs(image[0] - expected).max() <= 3
    assert (found.width, found.height, found.grey) == (40, 32, True)


def test_what_is_transparent_in_an_array_is_white() -> None:
    for array in (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 2), np.float32)):
        assert next(pixels([sample(array)], Shape(3, 4, 4, (0.0, 1.0)), shared_decoders())).min() == 255  # type: ignore[union-attr]


def test_an_array_that_is_no_image_is_set_aside() -> None:
    assert "has 5 channels; expected 1" in refusal(np.zeros((4, 4, 5), np.uint8))
    assert "values of type complex128" in refusal(np.zeros((4, 4), complex))
    assert "shape (4,)" in refusal(np.zeros(4, np.uint8))


RANGES = {
    "8 bits": ([(0, 250, 255)], (0, 255)),
    "10 bits": ([(0, 900, 1023)], (0, 1023)),
    "12 bits, over all images": ([(0, 300, 400), (5, 3000, 4095)], (0, 4095)),
    "14 bits": ([(0, 9000, 16000)], (0, 16383)),
    "16 bits": ([(0, 60000, 65535)], (0, 65535)),
    "to one": ([(0.1, 0.7, 0.9)], (0, 1)),
    "a small part of a scale": ([(0, 300, 310)], (0, 300)),
    "outliers do not set the scale": ([(0, 4000, 65535)], (0, 4000)),
    "negative values": ([(-990, 2900, 3000)], (-990, 2900)),
    "no scale is that large": ([(0, 90000, 100000)], (0, 90000)),
    "all alike": ([(7, 7, 7)], (0, 7)),
    "all zero": ([(0, 0, 0)], (0, 1)),
    "no deep image": ([], None),
}


@pytest.mark.parametrize(("extents", "expected"), RANGES.values(), ids=RANGES)
def test_the_range_is_found_once_for_the_set(
    extents: list[tuple[float, float, float]], expected: tuple[float, float] | None
) -> None:
    assert shared_range(extents) == expected


numbers = st.floats(-1e6, 1e6) | st.integers(-70_000, 70_000).map(float)


@given(st.lists(st.tuples(numbers, numbers, numbers).map(sorted), min_size=1, max_size=6))
def test_every_image_lies_in_the_range_by_its_middle(extents: list[list[float]]) -> None:
    found = shared_range([(low, high, top) for low, high, top in extents])
    assert found
    assert found[0] < found[1]
    assert np.float32(found[0]) < np.float32(found[1])
    for low, high, _ in extents:
        assert found[0] <= (low + high) / 2 <= found[1]


def test_the_range_is_told() -> None:
    assert describe_range((0, 4095)) == "images of more than 8 bits: values 0 to 4095 became 0 to 255"


def test_a_set_of_images_is_scaled_alike(tmp_path: Path) -> None:
    files = [saved(tmp_path / f"{top}.png", (RAMP * top).astype(np.uint16)) for top in (1000, 4000)]
    found = [header(file) for file in files]
    dark, bright = pixels(
        [sample(file) for file in files], Shape(1, 32, 40, find_value_range(found)), shared_decoders()
    )
    assert isinstance(dark, np.ndarray)
    assert isinstance(bright, np.ndarray)
    assert (int(dark.max()), int(bright.max())) == (62, 249)
