# ruff: noqa: TID251 - measures what runs inside a job
"""Images per second of our loaders beside torchvision's usual path, on the same images, side by side in one run.

    python -m benchmarks.data_path        writes benchmarks/data_path/RESULTS.md

Each side runs in a process of its own: ours with the environment of a job (sandbox/environment.py), torchvision's with the plain one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from checkpoints.home import prepare_home
from dataset.decoders import Shape
from dataset.image_reader import pixels
from dataset.listing import Sample
from nodes.decoding import decoders_in
from sandbox.environment import environment
from sandbox.isolation.tiers import choose

OUT = Path(__file__).with_name("RESULTS.md")
CASES = {"small": (32, 8000, "png"), "photos": (300, 1200, "jpg")}
ROUNDS = 3


def make_images(root: Path, case: str) -> None:
    """Smooth random pictures: they compress about as photographs do."""
    side, count, suffix = CASES[case]
    random = np.random.default_rng(0)
    for i in range(count):
        folder = root / str(i % 10)
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (side // 6, side // 6, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i}.{suffix}", quality=90)


def rate(epoch: Callable[[], Iterable[object]], count: int) -> float:
    """The best of a few epochs, after one to warm up."""
    best = 0.0
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        for _batch in epoch():
            pass
        best = max(best, count / (time.perf_counter() - began))
    return best


def theirs(root: Path, case: str) -> float:
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    steps = (
        [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        if case == "small"
        else [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    )
    normalise = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
    data = datasets.ImageFolder(str(root), transforms.Compose([*steps, *normalise]))
    loader = DataLoader(data, batch_size=64, shuffle=True, num_workers=2, persistent_workers=True)
    return rate(lambda: loader, len(data))


def decoded(root: Path, case: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Images, labels and the seconds that this took: paid once for a data set, by all iterations and runs together."""
    side = min(256, CASES[case][0])
    files = sorted(root.rglob(f"*.{CASES[case][2]}"))
    samples = [Sample(name=file.name, label=file.parent.name, split=None, path=file) for file in files]
    began = time.perf_counter()
    with decoders_in(choose("auto", prepare_home())) as decoders:
        found = pixels(samples, Shape(3, side, side), decoders)
        images = np.stack([one for one in found if isinstance(one, np.ndarray)])
    return images, np.array([int(sample.label) for sample in samples]), time.perf_counter() - began


def ours(root: Path, case: str) -> float:
    """The array is decoded before the clock starts; that cost has a column of its own."""
    import torch

    from sandbox.script import augment
    from sandbox.script.info import Info, Transforms
    from sandbox.script.loaders import make_loaders

    images, labels, seconds = decoded(root, case)
    side = images.shape[-1]
    info = Info(
        classes=[str(i) for i in range(10)], channels=3, height=side, width=side, mean=[0.5] * 3, std=[0.25] * 3, counts=[1] * 10,
        seed=0, device=torch.device("cpu"), threads=2, seconds=1e9, epochs=1,
    )  # fmt: skip
    torch.set_num_threads(2)

    def small(batch: torch.Tensor) -> torch.Tensor:
        return augment.normalize(augment.random_flip(augment.random_translate(batch, 4, "constant")), info)

    def photos(batch: torch.Tensor) -> torch.Tensor:
        return augment.normalize(augment.random_flip(augment.random_resized_crop(batch, 224, 224, (0.08, 1.0))), info)

    train = small if case == "small" else photos
    inner = torch.zeros(len(labels), dtype=torch.bool)
    loaders = make_loaders(
        torch.from_numpy(images), torch.from_numpy(labels), inner, Transforms(train, train), info, batch_size=64
    )
    print(f"decoded in {seconds:.2f}")
    return rate(lambda: loaders.train, len(labels))


def side_by_side(folder: Path, case: str) -> tuple[float, float, float]:
    """Images per second of torchvision and of ours, and the seconds of our decoding."""
    make_images(folder / case, case)
    found, seconds = {}, 0.0
    for side in ("theirs", "ours"):
        env = environment(folder, 2) if side == "ours" else dict(os.environ)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.data_path", side, str(folder / case), case],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        found[side] = float(json.loads(done.stdout.splitlines()[-1]))
        seconds += sum(float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("decoded in"))
    return found["theirs"], found["ours"], seconds


def main() -> None:
    lines = [
        "# Images per second: our loaders beside torchvision's",
        "",
        "`python -m benchmarks.data_path` writes this file: pictures made by the benchmark, batch 64, two cores, best of three epochs, both sides in one run.",
        "torchvision: ImageFolder, PIL transforms, DataLoader with 2 workers. Ours: the decode-once array (longer sides than 256 are made 256), one draw of",
        "augmentation per image, no workers. Decoding is paid once for a data set: iterations and runs share the array.",
        "",
        "| images | augmentation | torchvision | ours | ratio | decoded once in |",
        "|---|---|---|---|---|---|",
    ]
    named = {
        "small": ("8,000 PNG of 32 px", "shift by 4, flip"),
        "photos": ("1,200 JPEG of 300 px", "random resized crop to 224, flip"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for case, (images, augmentation) in named.items():
            a, b, seconds = side_by_side(Path(folder), case)
            lines.append(f"| {images} | {augmentation} | {a:,.0f} | {b:,.0f} | {b / a:.1f} | {seconds:.1f} s |")
            print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps({"theirs": theirs, "ours": ours}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])))
    else:
        main()
