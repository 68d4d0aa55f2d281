"""A pipeline is three components of source text; a fault says which of them broke, where and how."""

import hashlib
from typing import Literal

from pydantic import Field

from schema.record import Record

Component = Literal["data", "model", "training"]
COMPONENTS: tuple[Component, ...] = ("data", "model", "training")

# Why it cannot be scored, as our side saw it. A job cannot choose one: `code` is all that its own account can bring about.
Cause = Literal[
    "code", "died", "time", "memory", "output", "disk", "processes", "stopped", "sandbox", "device", "spent", "skipped"
]

Stage = Literal["parse", "contract", "race", "smoke", "train", "predict", "score"]


class Pipeline(Record):
    """The source text of the three components (DESIGN.md section 3)."""

    data: str
    model: str
    training: str

    def code(self, component: Component) -> str:
        return {"data": self.data, "model": self.model, "training": self.training}[component]

    def with_code(self, component: Component, code: str) -> "Pipeline":
        return self.model_copy(update={component: code})

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of SHA-256 over the three sources; equal pipelines have equal fingerprints."""
        text = "\0".join((self.data, self.model, self.training))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Fault(Record):
    """Why a candidate cannot be scored, written for the engineer who has to mend it."""

    stage: Stage
    kind: str = Field(
        description="Exception class, rule code, or limit: TypeError, F821, time, memory, output, disk, processes, interrupted ..."
    )
    cause: Cause = Field(
        default="code",
        description="What our side saw; every decision goes by it, and `kind` is for reading: a job can name its exceptions as it likes",
    )
    component: Component | None = Field(default=None, description="The component at fault, where it could be found")
    line: int | None = Field(default=None, description="Line inside that component, from 1")
    message: str = Field(description="One or two sentences: what was found, what was expected, what to do")
    excerpt: str = Field(
        default="", description="The traceback's own lines or the linter's, bounded, without our frames"
    )

    wants: str | None = Field(
        default=None, description="Pretrained weights that were asked for while it ran, as a person would look them up"
    )

    def __str__(self) -> str:
        where = f"{self.component}:{self.line}" if self.component and self.line else (self.component or "pipeline")
        return f"{self.stage} · {where} · {self.kind}: {self.message}"
