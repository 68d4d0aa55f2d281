"""One image file to pixels, always the same way.

The exported script contains this source, so it imports nothing of ours.
"""

import importlib
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

# What Pillow decodes by itself. Never EPS, WMF or PDF, which start another program, nor formats that are only recognised.
# Those without a magic number come last: they are tried when nothing else fits.
FORMATS: tuple[str, ...] = (
    *(
        "JPEG",
        "MPO",
        "PNG",
        "GIF",
        "WEBP",
        "TIFF",
        "BMP",
        "DIB",
        "PPM",
        "AVIF",
        "HEIF",
        "JPEG2000",
        "ICO",
        "CUR",
    ),
    *(
        "ICNS",
        "DDS",
        "QOI",
        "PSD",
        "PCX",
        "DCX",
        "SGI",
        "SUN",
        "XBM",
        "XPM",
        "FITS",
        "FLI",
        "MSP",
        "BLP",
        "FTEX",
    ),
    *("GBR", "IM", "MCIDAS", "PCD", "PIXAR", "XVTHUMB", "TGA", "SPIDER", "IMT"),
)
_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .gif .webp .tif .tiff .bmp .dib .ppm .pgm .pbm .pnm .pfm .avif"
    " .avifs .heic .heif .hif .heics .heifs .jp2 .j2k .j2c .jpc .jpf .jpx .ico .cur .icns .dds .qoi .psd .pcx"
    " .dcx .sgi .rgb .rgba .bw .ras .xbm .xpm .fit .fits .fli .flc .msp .blp .ftc .ftu .gbr .im .pcd .pxr"
    " .tga .icb .vda .vst"
)
SUFFIXES: frozenset[str] = frozenset(_SUFFIXES.split())
LARGEST_PIXELS = 178_956_970  # where Pillow speaks of a bomb: beyond it a small file can fill the memory
HEAD_BYTES = 512
SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
FULL_SCALES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
NO_DATA = 1e30  # values beyond it, such as 3.4e38, mark pixels without a measurement
MOST_MEASURED = 1_000_000  # pixels of an image that its percentiles are taken of

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II[*+]\0|MM\0[*+]|8BPS\0|qoif|DDS \||icns|SIMPLE"
    rb"  =|/\* XPM"
    rb"|\0\0\0\x0cjP "
    rb" \r\n\x87\n|\xff\x4f\xff\x51|\x59\xa6\x6a\x95|\x01\xda[\0\x01][\x01\x02]|P[1-6fF]\s[\d#-]"
    rb"|\n[\0\x02\x03\x05]\x01[\x01\x02\x04\x08]|\0\0[\x01\x02]\0[\x01-\x3f]\0..[^\xff]\0|BM....\0\0\0\0....[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    re.DOTALL,
)
_NO_PICTURE = {
    b"%PDF": "is a PDF document, not an image",
    b"%!PS": ("is a PostScript drawing, which is not opened since that would start another program: save it as PNG"),
    b"\xc5\xd0\xd3\xc6": (
        "is an EPS drawing, which is not opened since that would start another program: save it as PNG"
    ),
    b"version https://git-lfs": "is a Git LFS pointer, not the image itself: run git lfs pull",
    b"PK\x03\x04": "is a zip archive, not an image",
}
_HEIC_BRANDS = {
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"hevm",
    b"hevs",
    b"mif1",
    b"msf1",
    b"heif",
}


def decode(
    file: Path | BinaryIO,
    channels: int,
    height: int | None,
    width: int | None,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Decode to uint8 [channels, height, width]; sizes None keep the file's own.

    EXIF orientation is applied, transparency laid over white, of several pages or frames the first taken.
    `value_range` are the source values that become 0 and 255 if pixels have more than 8 bits; None takes them
    from this image. Raises ValueError, with what the file is or has, or OSError if the file cannot be opened.
    """
    with opened_image(file) as image:
        if height and width and image.format in {"JPEG", "MPO"}:
            sideways = exif_orientation(image) in SIDEWAYS
            image.draft(None, (2 * height, 2 * width) if sideways else (2 * width, 2 * height))
        pixels = upright_pixels(image)
    return fitted_pixels(pixels, channels, height, width, value_range)


def looks_like_image(head: bytes) -> bool:
    """Tell an image by the first 32 bytes, for files whose suffix says nothing."""
    return bool(_MAGIC.match(head)) or _container(head) in {"AVIF", "HEIC"}


@contextmanager
def opened_image(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open an image of one of FORMATS; whatever goes wrong inside with its content becomes a ValueError that
    says what."""
    with (
        open_regular(file) if isinstance(file, Path) else nullcontext(file) as stream,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        stream.seek(0)
        head = stream.read(HEAD_BYTES)
        refused = _refusal(head)
        if refused:
            raise ValueError(refused)
        try:
            with Image.open(stream, formats=_formats_here()) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise Image.DecompressionBombError
                yield image
        except UnidentifiedImageError:
            raise ValueError(_unknown(head)) from None
        except Image.DecompressionBombError:
            raise ValueError(
                f"has more pixels than is decoded ({LARGEST_PIXELS:,}): a decompression bomb, or too large"
            ) from None
        except MemoryError:
            raise ValueError("needs more memory to decode than there is") from None
        except Exception as error:
            raise ValueError(_told(error)) from error


def open_regular(path: Path | str) -> BufferedReader:
    """Open a file for reading, but no device or pipe: opening one could block, or do something.

    Raises OSError, or ValueError for what is no file or empty.
    """
    _check_regular(os.stat(path))  # noqa: PTH116 - a Path for each of a million files costs more than the file
    stream = open(path, "rb", opener=_without_blocking)  # noqa: SIM115 - whoever reads it closes it
    try:
        _check_regular(os.fstat(stream.fileno()))  # it may have been exchanged since
    except ValueError:
        stream.close()
        raise
    return stream


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        raise ValueError(f"is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')}, not a file")
    if not status.st_size:
        raise ValueError("is empty (zero bytes)")


def _without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def exif_orientation(image: Image.Image) -> int:
    """1 to 8.

    Nothing odd in the EXIF makes a good picture unreadable.
    """
    try:
        found = image.getexif().get(0x0112)
    except Exception:
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def upright_pixels(image: Image.Image) -> np.ndarray:
    """Flatten and turn an opened image: uint8 or, in source units if it has more than 8 bits, float32; [H, W]
    or [H, W, 3]."""
    dropped = _dropped_bytes(image)
    try:
        image.load()
    except OSError:
        whole = _ended_jpeg(image) if image.format in {"JPEG", "MPO"} else None
        if whole is None:
            raise
        image = whole
    except Exception:
        if getattr(image, "tile", None) or image.format != "TIFF":
            raise
        # All pixels of a TIFF are there: what failed is the EXIF that Pillow reads after them.
    flat = _flattened(image)
    turn = _TURNS.get(exif_orientation(image))  # of a TIFF only now: Pillow turns it when it loads it
    pixels = np.asarray(flat if turn is None else flat.transpose(turn))
    if dropped is None:
        return pixels
    low = np.asarray(dropped if turn is None else dropped.transpose(turn))
    return np.asarray(pixels * np.float32(256) + low)


def fitted_pixels(
    pixels: np.ndarray,
    channels: int,
    height: int | None,
    width: int | None,
    value_range: tuple[float, float] | None,
) -> np.ndarray:
    """Bring uint8 or deep [H, W] or [H, W, 3] to uint8 [channels, height, width]."""
    if pixels.dtype != np.uint8:
        pixels = scaled_pixels(pixels, value_range or shared_range([value_extent(pixels)]) or (0.0, 255.0))
    image = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    if height and width and image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    fitted = np.asarray(image)
    return fitted[None] if channels == 1 else np.ascontiguousarray(fitted.transpose(2, 0, 1))


def scaled_pixels(values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Clip to the range and scale it to 0..255, uint8; NaN becomes the low end."""
    low, high = value_range
    scaled = np.nan_to_num(values.astype(np.float32), nan=low, posinf=high, neginf=low)
    np.clip(scaled, low, high, out=scaled)
    scaled -= np.float32(low)
    scaled /= np.float32(high) - np.float32(low)
    return np.asarray(np.rint(scaled * np.float32(255)).astype(np.uint8))


def value_extent(values: np.ndarray) -> tuple[float, float, float]:
    """Measure deep pixels: their 0.5 and 99.5 percentile, and the largest.

    Values that mark missing data do not count.
    """
    sound = values[np.isfinite(values) & (np.abs(values) < NO_DATA)]
    if not sound.size:
        raise ValueError("has no pixel with a finite value")
    lowest = sound.min()
    if lowest < 0:
        rest = sound[sound > lowest]
        # A mark such as -9999 lies further below the measurements than they are apart.
        if rest.size and rest.min() - lowest > rest.max() - rest.min() > 0:
            sound = rest
    top = float(sound.max())
    some = sound[:: max(1, sound.size // MOST_MEASURED)]
    low, high = (float(value) for value in np.percentile(some, (0.5, 99.5)))
    return low, high if high > low else top, top


def shared_range(extents: Iterable[tuple[float, float, float]]) -> tuple[float, float] | None:
    """Find one range for a set of deep images from their extents; None if there are none.

    It begins at 0 unless something is negative, and ends at the full scale of 8, 10, 12, 14 or 16 bits, or
    1.0, if the values fill more than half of that scale and none exceeds it. Otherwise it is what the
    percentiles span.
    """
    lows, highs, tops = zip(*extents, strict=True) if (extents := list(extents)) else ((), (), ())
    if not lows:
        return None
    low, high = min(lows), max(highs)
    if low >= 0:
        low = 0.0
        full = next((scale for scale in FULL_SCALES if scale >= max(tops)), None)
        if full and high > full / 2:
            high = full
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-30):  # all pixels are alike
        high = low + max(1.0, abs(low))
    return low, high


def file_extent(file: Path | BinaryIO) -> tuple[float, float, float] | None:
    """Measure a deep image; None, without decoding it, for one of 8 bits.

    Raises as `decode`.
    """
    with opened_image(file) as image:
        return value_extent(upright_pixels(image)) if _is_deep(image) or _is_deep_colour(image) else None


@cache
def _formats_here() -> tuple[str, ...]:
    """FORMATS that this installation knows; HEIF comes with the package pi-heif."""
    Image.init()
    with suppress(ImportError):
        importlib.import_module("pi_heif").register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _ended_jpeg(image: Image.Image) -> Image.Image | None:
    """A JPEG of which only the end mark is missing, with one; None if pixels are missing.

    If what follows makes no difference, nothing is missing before it.
    """
    stream = getattr(image, "fp", None)
    if stream is None:
        return None
    stream.seek(0)
    known, found = stream.read(), []
    for tail in (b"\xff\xd9", b"\x5a\xa5\x3c\x96" * 64 + b"\xff\xd9"):
        ended = Image.open(BytesIO(known + tail), formats=("JPEG",))
        ended.draft(None, image.size)
        ended.load()
        found.append(ended)
    return found[0] if found[0].tobytes() == found[1].tobytes() else None


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _dropped_bytes(image: Image.Image) -> Image.Image | None:
    """Of 16 bits per colour Pillow keeps the upper byte: read the lower one, by the name of the opposite byte
    order.

    None for other images.
    """
    stream = getattr(image, "fp", None)
    if stream is None or not _is_deep_colour(image):
        return None
    position = stream.tell()
    try:
        again = Image.open(stream, formats=(str(image.format),))
        again.tile = [tile._replace(args=_raw_mode_changed(tile.args)) for tile in again.tile]
        again.load()
    except Exception:  # a codec that knows no such order: the upper byte remains
        return None
    finally:
        stream.seek(position)
    return again


def _is_deep_colour(image: Image.Image) -> bool:
    args = [tile[3] for tile in getattr(image, "tile", ())]
    return image.mode == "RGB" and bool(args) and all(_raw_mode(one) in _OTHER_BYTE for one in args)


def _raw_mode(args: Any) -> Any:
    return args[0] if isinstance(args, tuple) and args else args


def _raw_mode_changed(args: Any) -> Any:
    other = _OTHER_BYTE[str(_raw_mode(args))]
    return (other, *args[1:]) if isinstance(args, tuple) else other


def _flattened(image: Image.Image) -> Image.Image:
    """Any mode to L or RGB without losing what a person would see, or to F if it is deep."""
    if _is_deep(image):
        return Image.fromarray(_deep_values(image))
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        solid = image.convert("LA" if image.mode == "La" else image.mode).convert("RGBA")
        white = Image.new("RGBA", solid.size, "white")
        return Image.alpha_composite(white, solid).convert("RGB")
    if image.mode in {"L", "RGB"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _deep_values(image: Image.Image) -> np.ndarray:
    """float32 [H, W], with one kind of NaN: the same picture has the same bytes."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,):
        values = values.view(np.uint32)  # Pillow takes unsigned values from 2^31 on for negative ones
    values = values.astype(np.float32)
    values[np.isnan(values)] = np.nan
    return values


def _container(head: bytes) -> str | None:
    """AVIF, HEIC or another name of an ISO media file; None if the file is none."""
    if head[4:8] != b"ftyp":
        return None
    size = min(max(int.from_bytes(head[:4], "big"), 16), len(head))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, size - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else ascii(head[8:12].decode("latin-1").strip())


def _refusal(head: bytes) -> str | None:
    """Say what a file is that no decoder need see, by its first bytes."""
    container = _container(head)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    newer_pillow = "install a newer Pillow (pip install -U pillow), or save it as JPEG"
    cases = (
        *((head.startswith(magic), told) for magic, told in _NO_PICTURE.items()),
        (head[128:132] == b"DICM", "is a DICOM file: export it as PNG or TIFF"),
        (text[:1] == b"<" and b"<svg" in text, "is an SVG drawing, not an image of pixels: save it as PNG"),
        (text.startswith((b"<!doctype html", b"<html")), "is a web page (HTML), not an image"),
        (
            container == "HEIC" and "HEIF" not in _formats_here(),
            "is a HEIC photo: install pi-heif (pip install pi-heif), or save it as JPEG",
        ),
        (container == "AVIF" and "AVIF" not in _formats_here(), f"is an AVIF picture: {newer_pillow}"),
        (
            container not in {None, "HEIC", "AVIF"},
            f"is a video or another container ({container}), not an image",
        ),
    )
    return next((told for found, told in cases if found), None)


def _unknown(head: bytes) -> str:
    """Say why nothing could open a file."""
    if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "is a TIFF that is damaged or that Pillow cannot read, such as 64-bit floats or more than 4 channels"
    if looks_like_image(head):
        return "begins like an image, but is damaged or of a kind that Pillow cannot read"
    return "is not an image that can be read"


def _told(error: Exception) -> str:
    """A decoder's fault in words that follow a file's name."""
    text = (str(error) or type(error).__name__).split("\n")[0][:120]
    if "truncated" in text.lower():
        return (
            text.replace("image file is truncated", "is truncated") if "image file" in text else f"is truncated: {text}"
        )
    if isinstance(error, ValueError) and text.startswith(("is ", "has ", "holds ")):
        return text
    return f"cannot be decoded: {text}"


SOURCE = Path(__file__).read_text(encoding="utf-8").split("\n\n\nSOURCE = ", maxsplit=1)[0]
