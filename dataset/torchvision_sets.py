"""Data sets that torchvision knows by name, fetched by a process of their own: torchvision imports torch, and
we do not."""

import subprocess
import sys
from pathlib import Path

from dataset.listing import Listing, Sample
from schema.dataset import Split
from schema.errors import DatasetError

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "svhn": "SVHN",
}

_FETCH = """
import sys
import numpy as np
from torchvision import datasets
name, folder = sys.argv[1:]
parts = {}
for split in ("train", "test"):
    choice = {"split": split} if name == "SVHN" else {"train": split == "train"}
    data = getattr(datasets, name)(folder, download=True, **choice)
    images = np.asarray(data.data)
    parts[f"{split}_images"] = images.transpose(0, 2, 3, 1) if name == "SVHN" else images
    parts[f"{split}_labels"] = np.asarray(getattr(data, "targets", getattr(data, "labels", None)))
    parts["classes"] = np.asarray(getattr(data, "classes", [str(i) for i in range(10)]))
np.savez(f"{folder}/fetched.partial.npz", **parts)
"""


def from_torchvision(name: str, workdir: Path) -> Listing:
    """Raises DatasetError where it cannot be downloaded."""
    import numpy as np  # noqa: PLC0415 - only here

    folder = workdir / "torchvision" / name
    fetched = folder / "fetched.npz"
    if not fetched.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", _FETCH, TORCHVISION[name], str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = done.stderr.strip().split("\n")[-1][:200]
            raise DatasetError(
                f"{name} could not be downloaded ({reason}). With a network try again, or give a folder of images."
            )
        (folder / "fetched.partial.npz").rename(fetched)
    with np.load(fetched, allow_pickle=False) as arrays:
        classes = [str(c) for c in arrays["classes"]]
        splits: tuple[Split, ...] = ("train", "test")
        samples = tuple(
            Sample(f"{split}/{i}", classes[int(label)], split, None, image)
            for split in splits
            for i, (image, label) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True))
        )
    text = f"torchvision's {name}: {len(samples):,} images; its test part is used as given"
    return Listing(name, "torchvision", tuple(classes), samples, reading=text)
