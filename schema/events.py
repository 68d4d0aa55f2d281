"""What a run tells while it goes on: plain records, streamed as LangGraph custom events and shown by the live view."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schema.dataset import DatasetProfile
from schema.job import Place, Step
from schema.pipeline import Component, Fault
from schema.race import Race
from schema.record import Record
from schema.team import LedgerRow, Proposal, Spent, Usage


class RunStarted(Record):
    kind: Literal["run_started"] = "run_started"
    run: str
    resumed: bool
    sandbox: str
    model: str
    seconds: float = Field(default=0.0, description="Wall clock spent before, when resumed")
    spent: Spent = Field(default_factory=Spent, description="On language models before, when resumed")
    notes: list[str] = Field(
        default_factory=list, description="Of the machine, and what is not as it was, when resumed"
    )


class Preparing(Record):
    """How far the images are, at most a few times a second."""

    kind: Literal["preparing"] = "preparing"
    stage: str = Field(description="What is done, e.g. reading images")
    done: int = Field(description="Images")
    total: int
    seconds_left: float | None = Field(description="Of this stage, at the speed so far")


class DatasetReady(Record):
    kind: Literal["dataset_ready"] = "dataset_ready"
    profile: DatasetProfile
    notes: list[str] = Field(default_factory=list, description="What the person should know of the machine")
    estimates: list[str] = Field(
        default_factory=list,
        description="What the held-out images can tell apart, how long it may take, what models may cost",
    )


class NodeEntered(Record):
    kind: Literal["node_entered"] = "node_entered"
    node: str
    iteration: int
    text: str = ""


class Raced(Record):
    """The starting points have been compared."""

    kind: Literal["raced"] = "raced"
    race: Race
    train_seconds: float = Field(description="What a training is planned for from here on")


class Designed(Record):
    kind: Literal["designed"] = "designed"
    text: str


class Proposed(Record):
    kind: Literal["proposed"] = "proposed"
    iteration: int
    proposal: Proposal


class ComponentWritten(Record):
    kind: Literal["component_written"] = "component_written"
    iteration: int
    component: Component
    lines: int
    note: str


class ModelAnswered(Record):
    """One call of a language model is over."""

    kind: Literal["model_answered"] = "model_answered"
    usage: Usage
    spent: Spent = Field(description="By the whole run, this call included")


class ModelWaits(Record):
    """A provider does not answer, or asks us to wait."""

    kind: Literal["model_waits"] = "model_waits"
    model: str
    reason: str
    seconds: float = Field(description="Until the next try")


class WeightsFetched(Record):
    """How much of some pretrained weights has been downloaded; `total` 0 where nobody says."""

    kind: Literal["weights_fetched"] = "weights_fetched"
    name: str
    bytes: int
    total: int


class JobProgress(Record):
    """Where a job is. Seconds count from the start of the step, or of the wait for its turn."""

    kind: Literal["job_progress"] = "job_progress"
    job: str
    step: Step | None
    waits_for: Place | None = Field(default=None, description="What it stands in line for, before its first step")
    seconds: float
    limit_seconds: float
    epoch: int = 0
    epochs: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class FaultFound(Record):
    kind: Literal["fault_found"] = "fault_found"
    iteration: int
    attempt: int
    fault: Fault


class Settled(Record):
    """An iteration has its verdict."""

    kind: Literal["settled"] = "settled"
    row: LedgerRow
    reason: str
    best_iteration: int | None
    best_validation: float | None = Field(description="The incumbent's, mean over its trainings")
    best_believed: float | None = Field(
        default=None, description="Without what is thought to be luck; None before a comparison"
    )


class Finished(Record):
    kind: Literal["finished"] = "finished"
    run: str
    reason: str
    report: str = Field(description="Path of report.md")
    spent: Spent = Field(default_factory=Spent, description="On language models, by the whole run")


Event = Annotated[
    RunStarted
    | Preparing
    | DatasetReady
    | NodeEntered
    | Raced
    | Designed
    | Proposed
    | ComponentWritten
    | ModelAnswered
    | ModelWaits
    | WeightsFetched
    | JobProgress
    | FaultFound
    | Settled
    | Finished,
    Field(discriminator="kind"),
]
EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
