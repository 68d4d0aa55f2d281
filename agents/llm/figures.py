"""A training in figures, as an expert would look at it: gap, time, what bounded it, where it errs."""

from schema.score import Score
from schema.team import EpochRow, Evidence, MistakesShown, TrainingEvidence
from schema.text import duration, one_line

CURVE_ROWS, CLASSES = 12, 12
COLUMNS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate")
DATA_BOUND = 0.4  # share of an epoch


def figures(evidence: Evidence) -> str:
    training, brief = evidence.training, evidence.brief
    score = training.score
    mistakes = round((1 - score.accuracy) * score.n)
    lines = [
        f"- Held-out validation {score.metric} {score.value:.4f} (95 % [{score.low:.4f}, {score.high:.4f}]), accuracy {score.accuracy:.4f}: "
        f"{mistakes} mistakes of {score.n} images. This is its first training; a comparison takes the mean over all of its trainings."
    ]
    if evidence.at_ceiling:
        lines.append(
            '- No change could be kept any more: even one without a mistake could not be told from luck on these images. "stop" is the honest answer.'
        )
    elif evidence.smallest_kept:
        points = 100 * evidence.smallest_kept / score.n
        lines.append(
            f"- A change is kept from about {evidence.smallest_kept} images net on ({points:.2f} points), if it loses as many as usual."
        )
    last = training.curve[-1].metrics if training.curve else {}
    if "train_accuracy" in last:
        gap = last["train_accuracy"] - score.accuracy
        lines.append(
            f"- Training accuracy at the end {last['train_accuracy']:.4f}: {gap:+.4f} against held-out (augmentation and mixing of batches pull it down)."
        )
    own = training.alone or training.seconds
    late = (
        f" ({duration(training.seconds)} on the wall, since other programs took part of the machine)"
        if training.seconds > 1.1 * own
        else ""
    )
    lines.append(f"- Time: {duration(own)} of {duration(brief.train_seconds)} planned{late}; {_bound(training)}.")
    if "gpu_bytes" in last and brief.hardware.gpu_memory_bytes:
        used, there = last["gpu_bytes"] / 2**30, brief.hardware.gpu_memory_bytes / 2**30
        lines.append(f"- GPU memory: {used:.1f} of {there:.0f} GB at its peak.")
    if plan := plan_of(training):
        of = f" of {training.planned}" if training.planned else ""
        lines.append(f"- It ran {epochs_of(training)}{of} epochs; measured before the training: {plan}.")
    return "\n".join(lines)


def epochs_of(training: TrainingEvidence) -> int:
    return training.curve[-1].epoch if training.curve else 0


def plan_of(training: TrainingEvidence) -> str:
    plan = training.plan
    if plan is None:
        return ""
    layout = ", channels last" if plan.channels_last else ""
    size = f", {_count(plan.parameters)} parameters" if plan.parameters else ""
    size += f", {_count(plan.multiplications)} multiplications per image" if plan.multiplications else ""
    return f"info.epochs {plan.epochs}, {plan.images_per_second:.0f} images/s, {plan.precision}{layout}{size}"


def _count(number: int) -> str:
    for unit, name in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)


def _bound(training: TrainingEvidence) -> str:
    if training.cut:
        return "the clock ended it before its work was done"
    rows = [row.metrics for row in training.curve if row.metrics.get("epoch_seconds")]
    if not rows:
        return "it did not log the time of its epochs, so that what bounded it is not known"
    share = sum(row.get("data_seconds", 0.0) / row["epoch_seconds"] for row in rows) / len(rows)
    seconds = sum(row["epoch_seconds"] for row in rows) / len(rows)
    by = "the making of batches" if share > DATA_BOUND else "the computation of the network"
    return f"{seconds:.1f} s per epoch, bounded by {by} ({100 * share:.0f} % of an epoch goes into making batches)"


def curve_table(curve: list[EpochRow]) -> str:
    """First, last, and evenly between."""
    if not curve:
        return "It logged no epochs."
    steps = min(CURVE_ROWS, len(curve))
    rows = [curve[round(i * (len(curve) - 1) / max(1, steps - 1))] for i in range(steps)]
    columns = [name for name in COLUMNS if any(name in row.metrics for row in rows)]
    lines = [
        "| epoch | " + " | ".join(name.replace("_", " ") for name in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for row in rows:
        cells = [f"{row.metrics[name]:.4g}" if name in row.metrics else "" for name in columns]
        lines.append(f"| {row.epoch} | " + " | ".join(cells) + " |")
    left_out = len(curve) - len(rows)
    return "\n".join(lines) + (f"\n({left_out} epochs between these are left out.)" if left_out > 0 else "")


def mistakes(score: Score, classes: list[str]) -> str:
    recalls = sorted(
        (recall, name, count)
        for recall, name, count in zip(score.per_class, classes, score.counts, strict=True)
        if count
    )
    worst = "; ".join(f"{one_line(name, 40)!r} {recall:.3f} of {count}" for recall, name, count in recalls[:CLASSES])
    head = "Recall per class" if len(recalls) <= CLASSES else f"Recall of the {CLASSES} worst of {len(recalls)} classes"
    lines = [f"{head}: {worst}."]
    if len(recalls) > CLASSES:
        lines.append(f"Median recall {recalls[len(recalls) // 2][0]:.3f}, best {recalls[-1][0]:.3f}.")
    pairs = "; ".join(
        f"{one_line(c.truth, 40)!r} taken for {one_line(c.predicted, 40)!r}: {c.count}" for c in score.confusions
    )
    lines.append(f"Most frequent: {pairs}." if pairs else "No mistakes.")
    return "\n".join(lines)


def shown(images: MistakesShown) -> str:
    """What the numbers in the picture stand for."""
    told = (
        f"{number}: {one_line(m.truth, 40)!r} taken for {one_line(m.predicted, 40)!r} ({m.confidence:.2f})"
        for number, m in enumerate(images.mistakes, start=1)
    )
    return "; ".join(told)
