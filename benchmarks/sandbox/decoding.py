"""What it costs to decode images in confined processes, beside a pool of processes of our own that open the files themselves.

    python -m benchmarks.sandbox.decoding [IMAGES]

Photographs of 512 x 384 pixels, quality 90, made in a temporary folder (TMPDIR chooses the disk). Each kind does what preparing a data set
does with a file: its SHA-256, a pass for what is known of it, and one for its pixels at 96 x 128. Kinds in turn, in one run.
"""

import hashlib
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from dataset.decode import decode
from dataset.decoders import CHUNK, CORES, PROGRAM, Decoders, Shape
from dataset.image_header import file_header
from sandbox.confined import confined
from sandbox.isolation import tiers
from schema.settings import Tier

SIZE, STORED = (512, 384), Shape(3, 96, 128)
ROUNDS = 3


def make_images(folder: Path, count: int) -> list[Path]:
    """Smooth colours with noise, which compress as photographs do: about 75 KB each."""
    random = np.random.default_rng(0)
    files = []
    for i in range(count):
        colours = Image.fromarray(random.integers(0, 255, (SIZE[1] // 16, SIZE[0] // 16, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize(SIZE, Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = smooth + random.integers(-12, 12, (SIZE[1], SIZE[0], 1), dtype=np.int16)
        files.append(folder / f"{i:06}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def header_of(files: list[Path]) -> list[str]:
    found = []
    for path in files:
        with path.open("rb") as file:
            found.append(file_header(file, hashlib.file_digest(file, "sha256").hexdigest()).content)
    return found


def pixels_of(files: list[Path]) -> list[np.ndarray]:
    return [decode(path, STORED.channels, STORED.height, STORED.width) for path in files]


def in_a_pool(files: list[Path]) -> float:
    began = time.perf_counter()
    for function in (header_of, pixels_of):
        with ProcessPoolExecutor(CORES, get_context("forkserver")) as pool:
            for _ in pool.map(function, [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]):
                pass
    return time.perf_counter() - began


def in_a_tier(tier: Tier, home: Path, files: list[Path]) -> float:
    began = time.perf_counter()
    with confined(tier, home, PROGRAM) as start, Decoders(start) as decoders:
        for found in (decoders.headers(files), decoders.pixels(files, STORED)):
            for _ in found:
                pass
    return time.perf_counter() - began


def decoding(count: int, home: Path) -> list[str]:
    """Lines of a table: seconds of each kind, and of how many that is of the pool's."""
    works = [finding.tier for finding in tiers.survey(home) if finding.works]
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder), count)
        kinds: dict[str, Callable[[list[Path]], float]] = {"pool": in_a_pool}
        for tier in ("none", *reversed(works)):
            kinds[tier] = partial(in_a_tier, tier, home)
        seconds: dict[str, list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            for name, kind in kinds.items():
                seconds[name].append(kind(files))
    pool = np.median(seconds["pool"])
    lines = [f"| | {count:,} JPEGs, s | lowest, highest | of the pool |", "|---|---|---|---|"]
    for name, found in seconds.items():
        middle = np.median(found)
        lines.append(f"| {name} | {middle:.1f} | {min(found):.1f}, {max(found):.1f} | {middle / pool:.2f} |")
    return lines


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        print("\n".join(decoding(int((sys.argv[1:] or ["10000"])[0]), Path(made))))
