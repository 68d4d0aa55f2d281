"""What passes between the graph and a team of experts: typed in, typed out (DESIGN.md section 8)."""

from typing import Literal

from pydantic import Field

from schema.dataset import DatasetProfile
from schema.job import Plan
from schema.pipeline import Component, Fault, Pipeline
from schema.race import Race
from schema.record import Record
from schema.score import Score, Verdict
from schema.settings import Init, Metric, Role, Strategy


class Hardware(Record):
    device: Literal["cpu", "cuda"]
    name: str
    cores: int
    memory_bytes: int
    gpu_memory_bytes: int = 0


class Brief(Record):
    """What every role knows about the task; the same for the whole run."""

    profile: DatasetProfile
    description: str
    orders: dict[Role, str] = Field(default_factory=dict, description="What the person orders each role to do")
    hardware: Hardware
    weights: dict[str, str] = Field(description="Pretrained weights on disk: timm name -> file")
    hub: bool = Field(default=False, description="Others of timm's can be fetched")
    race: Race | None = Field(default=None, description="How the pretrained networks at hand did on a sample")
    toolbox: tuple[str, ...] = Field(
        default=(), description="What a component may call without importing it: `signature: what it does`"
    )
    metric: Metric
    strategy: Strategy
    init: Init
    train_seconds: float
    iterations: int


class Design(Record):
    """The Project Architect's answer. With `bottom-up` there is no component yet, and each engineer writes in turn."""

    text: str
    components: dict[Component, str] = Field(default_factory=dict)


class Proposal(Record):
    """The Performance Analyst's answer: one component, why, and what to do."""

    action: Literal["change", "revisit", "stop"]
    component: Component | Literal["all"] | None = None
    move: str = Field(default="", description="Short stable name of the change, e.g. `label-smoothing`")
    diagnosis: str = ""
    hypothesis: str = ""
    instruction: str = ""
    longer: bool = Field(
        default=False, description="The change is to train longer: `info.epochs` is measured anew instead of inherited"
    )
    revisit: int | None = Field(default=None, description="The inconclusive iteration to try once more")


class Review(Record):
    """A person's answer before a training (`--review`)."""

    action: Literal["approve", "edit", "skip"] = Field(
        description="approve: train it. edit: the engineer writes it anew, after your instruction. skip: leave this change untried."
    )
    component: Component | None = Field(
        default=None, description="With edit: the component to change, where it is another one"
    )
    instruction: str = Field(
        default="", max_length=4000, description="With edit: what the engineer is to do; replaces the proposal's"
    )
    reason: str = Field(default="", max_length=1000, description="With skip: why, for the ledger and the analyst")


class ReviewAsked(Record):
    """What the person is shown before a training."""

    question: str
    iteration: int
    attempt: int
    proposal: Proposal | None = Field(description="None for the first pipeline")
    changes: str = Field(description="Unified diff to the incumbent, bounded; of the first pipeline all of it")
    train_seconds: float = Field(description="The most that the training may take")


class Written(Record):
    """An engineer's answer: the whole source text of one component."""

    code: str
    note: str = ""


class EpochRow(Record):
    epoch: int
    seconds: float
    metrics: dict[str, float] = Field(
        description="As logged: train_loss, train_accuracy, validation_loss, validation_accuracy, learning_rate ..."
    )


class TrainingEvidence(Record):
    """What one training showed."""

    curve: list[EpochRow] = Field(description="Thinned to at most 40 rows, first and last kept")
    seconds: float
    alone: float = Field(default=0.0, description="Of these, without what other programs took; 0: not known")
    cut: bool = Field(description="It ended at its time limit, before its planned work was done")
    planned: int | None = Field(default=None, description="Epochs that the training set out to run, in its own words")
    plan: Plan | None = None
    score: Score = Field(description="On the held-out images that decide")
    inner: Score | None = Field(
        default=None, description="On the inner validation images, which decide nothing: what is told of mistakes"
    )


class Mistake(Record):
    truth: str
    predicted: str
    confidence: float = Field(description="Probability of the predicted class, 0 to 1")


class MistakesShown(Record):
    """Inner validation images that the best pipeline is wrong about, as one picture."""

    png: bytes
    mistakes: list[Mistake] = Field(description="In the order of the picture: row by row, numbered from 1")


class LedgerRow(Record):
    """One iteration as the store knows it: numbers are never retold by a model."""

    iteration: int
    base: int | None = Field(description="The incumbent it was compared with; None for the first pipeline")
    component: Component | Literal["all"]
    move: str
    verdict: Verdict
    validation: float | None = Field(default=None, description="Mean over its trainings")
    against: float | None = Field(
        default=None, description="The incumbent's in this comparison, mean over its trainings"
    )
    delta: float | None = Field(default=None, description="Paired difference of the two, positive is better")
    gained: int | None = Field(default=None, description="Held-out images that only the candidate has right")
    lost: int | None = Field(default=None, description="Held-out images that only the incumbent has right")
    standard_error: float | None = Field(default=None, description="Of `delta`")
    expected: float | None = Field(default=None, description="Shrunken estimate of the true gain")
    low: float | None = None
    high: float | None = None
    attempts: int = 1
    epochs: int | None = Field(default=None, description="That its first training ran")
    planned: int | None = Field(default=None, description="That it set out to run")
    cut: bool = Field(default=False, description="The time limit ended that training before its work was done")
    images_per_second: float | None = Field(default=None, description="Of that training, as planned")
    train_loss: float | None = Field(default=None, description="At its end")
    train_accuracy: float | None = None
    seconds: float = 0.0
    training_seconds: float = 0.0
    summary: str = ""


LONGER = 2.0  # times as long as the incumbent a training may take that is to be longer


class Evidence(Record):
    """What the Performance Analyst sees."""

    brief: Brief
    iteration: int
    best_iteration: int
    pipeline: Pipeline
    training: TrainingEvidence
    shown: MistakesShown | None = Field(default=None, description="Where the person allows images to be shown")
    ledger: list[LedgerRow]
    seconds_left: float | None = None
    smallest_kept: int | None = Field(
        default=None,
        description="Held-out images, net, from which a change would be kept; None: not known, or none would be",
    )
    at_ceiling: bool = Field(default=False, description="Not even a candidate without a mistake would be kept")


class WriteTask(Record):
    brief: Brief
    component: Component
    design: str
    pipeline: dict[Component, str] = Field(
        description="Components that exist: the incumbent's, or what was written so far"
    )
    proposal: Proposal | None = Field(default=None, description="None while the first pipeline is written")
    training: TrainingEvidence | None = Field(default=None, description="The incumbent's, where there is one")
    earlier: dict[int, str] = Field(
        default_factory=dict,
        description="This component as earlier iterations had it, those that the instruction names",
    )


class RepairTask(Record):
    write: WriteTask
    code: str = Field(description="The component that failed")
    fault: Fault
    attempt: int = Field(description="Attempts made so far, from 1")
    earlier: list[Fault] = Field(default_factory=list)


class Outcome(Record):
    """What the summariser puts into one line."""

    row: LedgerRow
    proposal: Proposal | None
    fault: Fault | None
    reason: str = ""


class Usage(Record):
    """One call of a language model."""

    role: Role
    model: str
    tokens_in: int = 0
    tokens_cached: int = Field(default=0, description="Of `tokens_in`, those read from the provider's cache")
    tokens_out: int = 0
    tokens_reasoning: int = Field(default=0, description="Of `tokens_out`, those that are not shown")
    estimated: bool = Field(
        default=False, description="The server counts nothing: a token is taken for four characters"
    )
    seconds: float = 0.0
    attempts: int = Field(default=1, description="Requests that it took: the others met rate limits or outages")
    cost: float | None = Field(default=None, description="US dollars; None where no price is known")
    problem: str = Field(default="", description="Why the answer could not be used; empty where it could")


class Spent(Record):
    """What the calls of a run have come to."""

    tokens: int = 0
    cost: float | None = Field(default=0.0, description="None where a call's price is unknown")
