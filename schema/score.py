"""Scores and comparisons, computed outside the generated code (DESIGN.md section 6)."""

from typing import Literal

from pydantic import Field

from schema.record import Record
from schema.settings import Metric, Rule

Verdict = Literal["first", "accepted", "rejected", "failed", "inconclusive", "skipped", "cut"]


class Confusion(Record):
    truth: str
    predicted: str
    count: int


class Score(Record):
    metric: Metric
    value: float
    n: int = Field(description="Images scored")
    low: float = Field(description="95 % interval: Wilson for accuracy, bootstrap for the others")
    high: float
    accuracy: float
    counts: list[int] = Field(default=[], description="Images per class")
    per_class: list[float] = Field(description="Recall per class, in the order of the classes; 0..1")
    confusions: list[Confusion] = Field(description="The ten most frequent mistakes")


class Comparison(Record):
    """Candidate minus incumbent on the same images, averaged over seeds. Positive is better for every metric."""

    metric: Metric
    n: int
    seeds: int = Field(description="Trainings of the candidate")
    incumbent_seeds: int = Field(default=1, description="Trainings of the incumbent")
    folds: int = Field(default=1, description="Parts that were held out in turn: so many trainings count as one")
    incumbent: float | None = Field(default=None, description="Its score, the mean over its trainings")
    candidate: float | None = Field(default=None, description="Likewise; they differ by `delta`")
    gained: int | None = Field(
        default=None,
        description="Images that only the candidate has right, mean over trainings; None for metrics of probabilities",
    )
    lost: int | None = Field(default=None, description="Images that only the incumbent has right")
    delta: float
    standard_error: float
    p_value: float = Field(
        description="Two-sided: McNemar (exact where few disagree) for accuracy, bootstrap for the others"
    )
    expected: float = Field(description="Shrunken estimate of the true gain")
    low: float = Field(description="95 % interval of the shrunken estimate")
    high: float


class Decision(Record):
    verdict: Literal["accepted", "rejected", "undecided", "inconclusive"]
    rule: Rule
    reason: str = Field(description="One line with the numbers that decided")
