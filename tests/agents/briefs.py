"""Tasks and evidence for tests: described by class names, sizes and accuracies, with nothing on disk."""

from collections.abc import Sequence

from schema.dataset import DatasetProfile, Duplicates, ImageSizes
from schema.pipeline import Pipeline
from schema.score import Score, Verdict
from schema.settings import Init, Metric, Strategy
from schema.team import Brief, EpochRow, Evidence, Hardware, LedgerRow, Proposal, TrainingEvidence

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


def make_evidence(
    brief: Brief,
    pipeline: Pipeline,
    *,
    ledger: Sequence[LedgerRow] = (),
    best: int = 0,
    train_accuracy: float = 0.9,
    validation_accuracy: float = 0.8,
    epochs: int = 20,
    seconds: float = 60.0,
    cut: bool = False,
    recalls: Sequence[float] | None = None,
    seconds_left: float | None = None,
) -> Evidence:
    """What the analyst sees after a training with these accuracies; the curve rises to them in equal steps."""
    curve = [
        EpochRow(
            epoch=epoch,
            seconds=seconds * epoch / epochs,
            metrics={
                "train_accuracy": train_accuracy * epoch / epochs,
                "validation_accuracy": validation_accuracy * epoch / epochs,
                "validation_loss": 1.0,
            },
        )
        for epoch in range(1, epochs + 1)
    ]
    score = Score(
        metric=brief.metric,
        value=validation_accuracy,
        n=200,
        low=validation_accuracy - 0.05,
        high=validation_accuracy + 0.05,
        accuracy=validation_accuracy,
        counts=[200 // brief.profile.num_classes] * brief.profile.num_classes,
        per_class=list(recalls or [validation_accuracy] * brief.profile.num_classes),
        confusions=[],
    )
    return Evidence(
        brief=brief,
        iteration=1 + max((row.iteration for row in ledger), default=0),
        best_iteration=best,
        pipeline=pipeline,
        training=TrainingEvidence(curve=curve, seconds=seconds, cut=cut, score=score, inner=score),
        ledger=list(ledger),
        seconds_left=seconds_left,
    )


def make_row(proposal: Proposal, iteration: int, base: int, verdict: Verdict, seconds: float = 60.0) -> LedgerRow:
    return LedgerRow(
        iteration=iteration,
        base=base,
        component=proposal.component or "all",
        move=proposal.move,
        verdict=verdict,
        seconds=seconds,
        training_seconds=0.8 * seconds,
    )
