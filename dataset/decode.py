"""One image file to pixels, always the same way. The source of `decode` goes into the exported script too, so it imports nothing of ours."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

LARGEST_PIXELS = 178_956_970  # Pillow's own warning limit; beyond it a small file can fill the memory


def decode(file: Path, channels: int, height: int | None, width: int | None) -> np.ndarray:
    """uint8 [channels, height, width]; sizes None keep the file's own. EXIF orientation is applied, transparency laid over white,
    16 bits scaled to 8, of an animation the first frame taken. Raises ValueError or OSError where the file is no whole image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = Image.open(file)
        except Image.DecompressionBombError as error:
            raise ValueError(f"has more pixels than is decoded ({error})") from None
        with opened as image:
            if image.width * image.height > LARGEST_PIXELS:
                raise ValueError(f"has {image.width} x {image.height} pixels, more than is decoded")
            if height and width and image.format == "JPEG":
                image.draft(None, (2 * width, 2 * height))
            upright = ImageOps.exif_transpose(flattened(image))
    gray_or_color = upright.convert("L" if channels == 1 else "RGB")
    if height and width and gray_or_color.size != (width, height):
        gray_or_color = gray_or_color.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels = np.asarray(gray_or_color)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def flattened(image: Image.Image) -> Image.Image:
    """Any mode to L or RGB without losing what a person would see."""
    exif = image.getexif()
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float64)
        top = 65535.0 if values.max(initial=0.0) > 255 else 255.0
        image = Image.fromarray((values / top * 255).clip(0, 255).round().astype(np.uint8))
    elif image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        solid = image.convert("RGBA")
        white = Image.new("RGBA", solid.size, "white")
        image = Image.alpha_composite(white, solid).convert("RGB")
    elif image.mode not in {"L", "RGB"}:
        image = image.convert("L" if image.mode == "1" else "RGB")
    else:
        image.load()
    image.getexif().update(exif)
    return image


SOURCE = Path(__file__).read_text(encoding="utf-8").split("\n\n\nSOURCE = ", maxsplit=1)[0]
