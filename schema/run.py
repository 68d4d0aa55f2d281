"""What the experiment store knows about a run as a whole."""

from typing import Literal

from pydantic import Field

from schema.dataset import DatasetProfile
from schema.job import JobResult
from schema.race import Race
from schema.record import Record
from schema.score import Comparison, Score
from schema.settings import Settings
from schema.team import Usage

Status = Literal["running", "finished", "stopped", "failed"]


class Final(Record):
    """A pipeline that the report names: its score on the split that decided, and on the sealed one."""

    iteration: int
    validation: Score
    test: Score | None = None
    over_first: Comparison | None = Field(
        default=None,
        description="Of the winner: the paired difference to the first pipeline on the sealed images (those that decided, if there are none)",
    )
    shown: float | None = Field(
        default=None,
        description="Its validation score over all its trainings, of which the model to take home is the first",
    )
    weights: dict[str, str] = Field(
        default_factory=dict,
        description="Pretrained weights that its code names -> their licence, as far as it is known",
    )
    believed: float | None = Field(
        default=None,
        description="Its validation score without what is thought to be luck; None if nothing was compared",
    )


class Environment(Record):
    """What a run began with: scores are comparable, and trainings repeatable, as long as it stays."""

    improve: str = Field(description="Version, and a digest of the sources that decide scores")
    python: str
    packages: dict[str, str] = Field(description="Installed version of each package that a pipeline can use")
    platform: str
    device: str = Field(description="Name of the processor or of the card")
    driver: str | None = Field(default=None, description="Of an NVIDIA card")
    threads: int
    dataset: str = Field(description="Fingerprint of images, labels and splits")
    changes: list["Change"] = Field(default_factory=list, description="Since the run began, in their order")

    def at(self, iteration: int) -> "Environment":
        """The one that this iteration ran in."""
        return next((change.before for change in self.changes if iteration < change.iteration), self)


class Change(Record):
    """A run went on although something had changed: the person said `--force`."""

    iteration: int = Field(description="The first that ran after it")
    lines: list[str] = Field(description="`what: was -> is`")
    before: Environment = Field(description="As it was until then")


class RunRow(Record):
    name: str
    status: Status
    reason: str = ""
    sandbox: str
    settings: Settings
    created: str = Field(description="ISO 8601, UTC")
    seconds: float = Field(default=0.0, description="Time spent inside nodes, over all resumes")
    profile: DatasetProfile | None = None
    design: str = ""
    first: Final | None = None
    best: Final | None = None
    thread: str | None = Field(default=None, description="LangGraph's name of it, where that is not the run's")
    environment: Environment | None = Field(default=None, description="None for runs of before it was kept")
    race: Race | None = Field(default=None, description="None if no pretrained network could run")


class JobRow(Record):
    iteration: int
    attempt: int
    seed: int
    result: JobResult


class CallRow(Record):
    """One call of a language model, and what it was made for."""

    iteration: int
    node: str
    usage: Usage


class Totals(Record):
    seconds: float
    training_seconds: float
    jobs: int
    tokens: int
    cost: float | None = Field(description="None where a call's price is unknown")
