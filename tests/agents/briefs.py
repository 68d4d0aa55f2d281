"""Briefs for tests: a task described by its class names and sizes, with nothing on disk."""

from collections.abc import Sequence

from schema.dataset import DatasetProfile, Duplicates, ImageSizes
from schema.settings import Init, Metric, Strategy
from schema.team import Brief, Hardware

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def make_profile(
    classes: Sequence[str] = CIFAR,
    *,
    name: str = "photos",
    images: int = 1000,
    side: int | tuple[int, int] = 32,
    channels: int = 3,
    imbalance: float = 1.0,
) -> DatasetProfile:
    height, width = (side, side) if isinstance(side, int) else side
    each = max(1, images // len(classes))
    counts = [max(1, round(each / imbalance ** (i / max(1, len(classes) - 1)))) for i in range(len(classes))]
    few = [max(1, c // 5) for c in counts]
    return DatasetProfile(
        name=name,
        key="key",
        fingerprint="0" * 64,
        layout="class folders",
        directory="/nowhere",
        classes=list(classes),
        counts={"train": counts, "validation": few, "test": few},
        given_splits=[],
        channels=3 if channels == 3 else 1,
        height=height,
        width=width,
        mean=[0.5] * channels,
        std=[0.25] * channels,
        sizes=ImageSizes(
            width_min=width,
            width_median=width,
            width_max=width,
            height_min=height,
            height_median=height,
            height_max=height,
            uniform=True,
        ),
        formats={"JPEG/RGB" if channels == 3 else "PNG/L": images},
        imbalance=imbalance,
        duplicates=Duplicates(),
        set_aside=[],
        set_aside_total=0,
        seconds=0.0,
    )


def make_brief(
    classes: Sequence[str] = CIFAR,
    *,
    name: str = "photos",
    description: str = "",
    images: int = 1000,
    side: int | tuple[int, int] = 32,
    channels: int = 3,
    imbalance: float = 1.0,
    weights: Sequence[str] = (),
    cuda: bool = False,
    cores: int = 2,
    train_seconds: float = 120.0,
    metric: Metric = "accuracy",
    strategy: Strategy = "iterative",
    init: Init = "unified",
) -> Brief:
    profile = make_profile(classes, name=name, images=images, side=side, channels=channels, imbalance=imbalance)
    hardware = Hardware(device="cuda" if cuda else "cpu", name="test", cores=cores, memory_bytes=16 * 2**30)
    return Brief(
        profile=profile,
        description=description,
        hardware=hardware,
        weights={weight: f"/weights/{weight}.safetensors" for weight in weights},
        metric=metric,
        strategy=strategy,
        init=init,
        train_seconds=train_seconds,
        iterations=20,
    )
