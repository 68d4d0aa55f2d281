"""What came of a repetition: predictions and scores then and now, the verdict, and how it is told."""

from typing import Literal

import numpy as np
from pydantic import Field

from sandbox.acceptance import compare, prior_from
from sandbox.scoring import NORMAL_95, score
from schema.dataset import Split
from schema.record import Record
from schema.score import Score
from schema.settings import Metric


class SplitReplay(Record):
    """The predictions for one split, then and now. There are no scores where the run has not opened its labels for this iteration."""

    split: Split
    n: int
    identical: bool
    largest: float = Field(description="Largest difference of a probability")
    decisions: int = Field(description="Images that are given another class now")
    then: float | None = None
    now: float | None = None
    difference: float = Field(default=0.0, description="Of the scores: positive is better now")
    standard_error: float = Field(default=0.0, description="Of the difference between two trainings of one script")

    @property
    def within_noise(self) -> bool:
        return abs(self.difference) <= NORMAL_95 * self.standard_error


class Replay(Record):
    run: str
    iteration: int
    verdict: Literal["identical", "within noise", "differs"]
    confirmed: bool = Field(description="It came out as well as it can where it was run")
    metric: Metric
    device: str
    splits: list[SplitReplay]
    changes: list[str] = Field(description="`what: was -> is`, since that training")
    notes: list[str]
    seconds_then: float = Field(description="Of the training")
    seconds_now: float


def compared(  # noqa: PLR0917 - both sides of a comparison, and what they are held against
    split: Split, then: np.ndarray, now: np.ndarray, labels: np.ndarray, classes: list[str], known: Score | None
) -> SplitReplay:
    """Class probabilities [images, classes] of both trainings; `known` is the score then."""
    found = SplitReplay(
        split=split,
        n=len(then),
        identical=bool(np.array_equal(then, now)),
        largest=float(np.abs(then - now).max(initial=0.0)),
        decisions=int((then.argmax(1) != now.argmax(1)).sum()),
    )
    if known is None:
        return found
    paired = compare(known.metric, labels, [then], [now], prior_from([], known.metric))
    value = score(known.metric, now, labels, classes).value
    return found.model_copy(
        update={"then": known.value, "now": value, "difference": paired.delta, "standard_error": paired.standard_error}
    )


def replay_lines(found: Replay) -> list[str]:
    """For people: what came out, and where it is not the same, what could be the reason."""
    times = f"trained in {found.seconds_now:.0f} s (then {found.seconds_then:.0f} s) on {found.device}"
    lines = [f"iteration {found.iteration} of run {found.run}, once more: {times}"]
    lines += [_split_line(split, found.metric) for split in found.splits]
    lines += [f"note: {note}" for note in found.notes]
    if found.verdict != "identical":
        lines += ["changed since then:", *(f"  {change}" for change in found.changes)] if found.changes else []
    lines.append(f"{found.verdict}: {_meaning(found)}")
    return lines


def _split_line(split: SplitReplay, metric: Metric) -> str:
    if split.identical:
        told = f"all {split.n} predictions are identical"
    else:
        told = f"{split.decisions} of {split.n} images are given another class, probabilities differ by up to {split.largest:.2g}"
    if split.then is None:
        return f"{split.split}: {told} · its labels were not opened for this iteration"
    noise = (
        "" if split.identical else f" (difference {split.difference:+.4f}, standard error {split.standard_error:.4f})"
    )
    return f"{split.split}: {told} · {metric} {split.then:.4f} then, {split.now:.4f} now{noise}"


def _meaning(found: Replay) -> str:
    if found.verdict == "identical":
        return "the script gives the run's result, to the last digit"
    if found.confirmed:
        return "the scores are no further apart than two trainings of one script are (two standard errors)"
    reason = "what changed may be why" if found.changes else "nothing that is known of the environment has changed"
    if found.verdict == "within noise":
        return f"the scores are no further apart than two trainings of one script are, but on a CPU they would be the same; {reason}"
    return f"this is not the run's result; {reason}"
