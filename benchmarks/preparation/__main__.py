"""Seconds and memory from a folder of images to arrays on disk, for growing numbers of images, one process per number.

    python -m benchmarks.preparation 10000 100000 1000000

The images are 16 x 16 PNGs of ten classes, all different, made beneath a temporary folder (set TMPDIR to choose the disk;
a million take about 6 GB for as long as it runs). Two of a hundred are copies of another one, a little brighter.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SIDE, CLASSES, COPIED = 16, 10, 50  # every 50th image is a near copy of the one before
BLOCK = 10_000


def make_images(root: Path, count: int) -> None:
    """Smooth random pictures, each with the light of its class."""
    for label in range(CLASSES):
        (root / f"class{label}").mkdir(parents=True)
    random = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        coarse = random.integers(0, 200, (min(BLOCK, count - start), SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
        images = coarse.repeat(4, 1).repeat(4, 2) + random.integers(0, 40, (len(coarse), SIDE, SIDE, 3), dtype=np.uint8)
        for i, image in enumerate(images):
            number = start + i
            if number % COPIED == COPIED - 1:
                image = images[i - 1] + 1  # noqa: PLW2901 - the copy takes the place of the image
            label = (number - (number % COPIED == COPIED - 1)) % CLASSES
            Image.fromarray(image).save(root / f"class{label}" / f"{number:07d}.png", compress_level=1)


def measure(folder: Path) -> dict[str, float]:
    """Prepare the images of `folder`, in this process."""
    from checkpoints.home import datasets_dir, prepare_home, split_secret
    from dataset.prepare import prepare
    from nodes.data import discovered
    from nodes.decoding import decoders_in
    from sandbox.isolation.tiers import choose
    from schema.settings import Settings

    peak, ended = [0], threading.Event()
    watch = threading.Thread(target=watch_memory, args=(peak, ended), daemon=True)
    watch.start()
    began = time.monotonic()
    listing = discovered(Settings(dataset=str(folder)))
    listed = time.monotonic()
    with decoders_in(choose("auto", prepare_home())) as decoders:
        profile = prepare(listing, datasets_dir(), secret=split_secret(), decoders=decoders)
    seconds = time.monotonic() - began
    ended.set()
    watch.join()
    return {
        "listing": listed - began,
        "seconds": seconds,
        "peak": peak[0],
        "near": profile.duplicates.near,
        "test": profile.size("test"),
        "disk": sum(file.stat().st_size for file in Path(profile.directory).rglob("*") if file.is_file()),
    }


def watch_memory(peak: list[int], ended: threading.Event) -> None:
    """Keep the highest resident memory of this process and its children, seen five times a second."""
    own = psutil.Process()
    while not ended.wait(0.2):
        total = 0
        for process in [own, *own.children(recursive=True)]:
            try:
                total += process.memory_full_info().uss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return
    print("| images | making them | seconds | of these listing | images/s | peak memory | arrays | near copies found |")
    print("|---|---|---|---|---|---|---|---|")
    for count in [int(text) for text in sys.argv[1:]] or [10_000, 100_000]:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            make_images(Path(folder) / "images", count)
            making = time.monotonic() - began
            found = json.loads(
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.preparation", "--measure", f"{folder}/images"],
                    env=os.environ | {"IMPROVE_HOME": f"{folder}/home"},
                    stdout=subprocess.PIPE,
                    check=True,
                ).stdout.splitlines()[-1]
            )
            print(
                f"| {count:,} | {making:.0f} s | {found['seconds']:.1f} | {found['listing']:.1f} | "
                f"{count / found['seconds']:,.0f} | {found['peak'] / 1e6:,.0f} MB | {found['disk'] / 1e6:,.0f} MB | "
                f"{found['near']:,.0f} of {count // COPIED:,} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
