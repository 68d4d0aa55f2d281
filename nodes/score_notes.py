"""What a score does not say by itself: what guessing would give, which classes are missed, and whether validation and test agree."""

import math
from dataclasses import dataclass

from schema.dataset import DatasetProfile, Split
from schema.race import RaceEntry
from schema.run import Final, RunRow
from schema.score import Score
from schema.settings import Metric
from schema.team import LedgerRow
from schema.text import one_line

IMBALANCED = 3.0  # largest class over smallest, from where on accuracy alone misleads
BY_CHANCE = 0.01  # validation and test that differ less often than this by chance are said to differ
NORMAL_95 = 1.96
SUPPORTED = 0.05  # p below which an improvement is said to be supported
LONGEST_NAME = 40  # of a class in a line of text


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """Of the images of a class, the share that was recognised."""

    name: str
    n: int
    recall: float


def shown_score(run: RunRow) -> tuple[Score, Split] | None:
    """Return the score that speaks for the winner: that of the test part if there is one."""
    if run.best is None:
        return None
    return (run.best.test, "test") if run.best.test else (run.best.validation, run.settings.select_on)


def class_recalls(score: Score, split: Split, profile: DatasetProfile) -> list[ClassRecall]:
    """List the classes that the split has images of, the most missed first."""
    rows = zip(profile.classes, score.counts or profile.counts[split], score.per_class, strict=True)
    found = [ClassRecall(name, n, recall) for name, n, recall in rows if n]
    return sorted(found, key=lambda one: (one.recall, one.name))


def baseline(split: Split, profile: DatasetProfile) -> float:
    """Return the accuracy of naming the split's largest class every time."""
    return max(profile.counts[split]) / profile.size(split)


def accuracy_misleads(run: RunRow) -> bool:
    return run.settings.metric == "accuracy" and run.profile is not None and run.profile.imbalance >= IMBALANCED


def score_notes(run: RunRow) -> list[str]:
    """Say in whole sentences what the reader of the final score should know besides."""
    shown = shown_score(run)
    if shown is None or run.best is None or run.profile is None:
        return []
    notes = []
    if accuracy_misleads(run):
        recalls = recall_text(class_recalls(*shown, run.profile), most=5)
        notes.append(
            f"Some classes are rare: the largest one alone would give an accuracy of {baseline(shown[1], run.profile):.4f}. "
            f"Share recognised of each class ({shown[1]}): {recalls}. "
            "A score that weighs all classes alike: --metric balanced_accuracy"
        )
    return notes + ([] if run.settings.select_on == "test" else _gap(run.best, run.profile))


def what_happened(run: RunRow, ledger: list[LedgerRow]) -> str:
    """Say in one sentence what became of the changes; empty where no pipeline ran."""
    if run.first is None or run.best is None:
        return ""
    tried = [row for row in ledger if row.verdict not in {"first", "cut", "skipped"}]
    cut = sum(row.verdict == "cut" for row in ledger)
    kept = [row.iteration for row in tried if row.verdict == "accepted"]
    changes = f"{len(tried)} {'change' if len(tried) == 1 else 'changes'} tried"
    if not tried:
        found = "No change was tried: you have the first pipeline"
    elif run.best.iteration == run.first.iteration:
        none = "none better" if not kept else f"{len(kept)} kept, and none of them is believed better in the end"
        found = f"{changes}, {none}: you have the first pipeline"
    else:
        found = f"{changes}, {len(kept)} kept: you have that of iteration {run.best.iteration}"
        if run.best.iteration != max(kept):
            found += f", which is believed better than the last one kept (iteration {max(kept)})"
    lost = "" if not cut else f". {cut} more {'was' if cut == 1 else 'were'} cut by the time and not judged"
    return f"{found}{lost}."


def verdict_text(row: LedgerRow) -> str:
    """Spell the verdict of a change; of one that was cut, with how far it came."""
    return f"cut: {row.epochs or 0} of {row.planned or '?'} epochs" if row.verdict == "cut" else row.verdict


def race_text(entry: RaceEntry) -> str:
    """Spell what an entry of the race has come to."""
    size = f"{entry.width} x {entry.height}"
    if not entry.pretrained:
        return f"from scratch at {size} {entry.accuracy:.3f} after {entry.seconds:.0f} s"
    return f"{entry.name}{' (same padding)' if entry.pad_type else ''} at {size} {entry.accuracy:.3f}"


def weights_text(final: Final) -> str:
    """Name the pretrained weights that a pipeline was fine-tuned from, with their licences; empty if there are none."""
    return "; ".join(f"{name} (licence: {licence})" for name, licence in final.weights.items())


def claim(run: RunRow) -> str:
    """Say what the winner is better than the first pipeline by, and whether that is supported; empty if it is the first."""
    found = run.best.over_first if run.best else None
    if found is None or run.profile is None:
        return ""
    images = (
        "test images"
        if run.profile.size("test") and run.settings.select_on != "test"
        else f"{run.settings.select_on} images that decided"
    )
    low, high = (
        difference_text(found.metric, found.delta + side * NORMAL_95 * found.standard_error) for side in (-1, 1)
    )
    told = f"{difference_text(found.metric, found.delta)} [{low}, {high}] (95 %, p = {found.p_value:.2g})"
    if found.delta <= 0:
        verdict = "These images, which decided nothing, show no improvement."
    elif found.p_value < SUPPORTED:
        verdict = "The improvement is supported by these images."
    else:
        verdict = "That may be chance: the improvement is not supported by these images."
    if run.settings.select_on == "test":
        verdict = verdict.replace(", which decided nothing,", "")
    trainings = (
        f", means over {found.seeds} and {found.incumbent_seeds} trainings"
        if found.seeds + found.incumbent_seeds > 2
        else ""
    )
    return f"Winner over first pipeline on the same {found.n:,} {images}{trainings}: {told}. {verdict}"


def difference_text(metric: Metric, value: float) -> str:
    """Spell a difference of scores, positive is better: `+1.20 points`, or nats."""
    return f"{value:+.4f} nats" if metric == "log_loss" else f"{100 * value:+.2f} points"


def gain_shares(ledger: list[LedgerRow], winner: int) -> dict[int, float]:
    """Return for each change on the way to the winner the share of the gain that it is thought to have brought, together 1; empty if none.

    Single steps are never added up: each was measured against an incumbent that was thought lucky later.
    """
    rows = {row.iteration: row for row in ledger}
    path, at = [], rows.get(winner)
    while at is not None and at.base is not None:
        path.append(at)
        at = rows.get(at.base)
    weights = {row.iteration: max(0.0, row.expected or 0.0) for row in path}
    total = sum(weights.values())
    return {iteration: weight / total for iteration, weight in weights.items()} if total else {}


def recall_text(recalls: list[ClassRecall], most: int) -> str:
    more = f", and {len(recalls) - most:,} more" if len(recalls) > most else ""
    return ", ".join(f"{one_line(c.name, LONGEST_NAME)}: {c.recall:.2f} of {c.n}" for c in recalls[:most]) + more


def confusion_text(score: Score, most: int) -> str:
    named = [
        f"{one_line(c.truth, LONGEST_NAME)} taken for {one_line(c.predicted, LONGEST_NAME)} ({c.count})"
        for c in score.confusions[:most]
    ]
    return ", ".join(named)


def _gap(best: Final, profile: DatasetProfile) -> list[str]:
    """A sentence if the two scores differ by more than chance allows, with what is likely behind it."""
    validation, test = best.validation, best.test
    p = None if test is None else chance_of_gap(validation, test)
    if test is None or p is None or p >= BY_CHANCE:
        return []
    worse = test.value > validation.value if test.metric == "log_loss" else test.value < validation.value
    causes = []
    if worse and profile.groups is None:
        causes.append(
            "images of one subject, place or video lie both in the training and in the validation part "
            "(keep them together: --group COLUMN or --group-pattern REGEX)"
        )
    if "test" in profile.given_splits:
        causes.append("the test images come from another source than the training images")
    if not causes:
        causes.append("the test part holds other groups or kinds of images than the validation part")
    told = "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"
    return [
        f"Validation {validation.value:.4f} and test {test.value:.4f} differ by more than chance allows ({told}). "
        f"First suspect: {'; then: '.join(causes)}."
    ]


def chance_of_gap(one: Score, other: Score) -> float:
    """Return the two-sided p of equal true scores on two independent sets of images.

    Accuracy: two proportions, with Yates's correction for small sets. Other metrics: a normal test whose errors are
    those of the 95 % intervals.
    """
    if one.metric == "accuracy":
        pooled = (one.value * one.n + other.value * other.n) / (one.n + other.n)
        error = math.sqrt(pooled * (1 - pooled) * (1 / one.n + 1 / other.n))
        difference = max(0.0, abs(one.value - other.value) - (1 / one.n + 1 / other.n) / 2)
    else:
        error = math.hypot(one.high - one.low, other.high - other.low) / (2 * NORMAL_95)
        difference = abs(one.value - other.value)
    return 1.0 if error == 0.0 else math.erfc(difference / error / math.sqrt(2))
