"""The race of starting points.

Pretrained networks at several image sizes, and a training from scratch, before the first pipeline.
"""

from typing import Literal

from pydantic import Field

from schema.record import Record

Padding = Literal[
    "", "same"
]  # of mobile networks: as timm trains them, or as those were trained that come from TensorFlow

SCRATCH = "from scratch"  # the name of the entry that has no pretrained weights


class Runner(Record):
    """A pretrained network, and an image size at which it is to run."""

    name: str = Field(description="timm name; its weights are on disk")
    height: int = Field(ge=8, le=1024, description="Pixels of the images that it is shown")
    width: int = Field(ge=8, le=1024)
    pad_type: Padding = ""


class RaceEntry(Record):
    """What one runner has shown.

    Of a network from scratch: a short training, judged on the inner validation images.
    """

    name: str
    height: int = Field(ge=8, le=1024)
    width: int = Field(ge=8, le=1024)
    pad_type: Padding = ""
    images: int = Field(ge=1, description="Training images of the sample")
    accuracy: float = Field(
        ge=0,
        le=1,
        description="Of a linear head on the frozen features, on images that it was not solved on",
    )
    images_per_second: float = Field(gt=0, description="Forward pass and resizing, without other programs")
    seconds: float = Field(ge=0, description="That it has taken")

    @property
    def pretrained(self) -> bool:
        return self.name != SCRATCH


class MirrorTest(Record):
    """What a head that has learned from images as they are says of others, and of their mirror images."""

    images: int = Field(ge=1)
    right: int = Field(ge=0, description="Images answered right")
    right_mirrored: int = Field(ge=0, description="Mirrored images answered right")
    least_kept: float = Field(
        ge=0,
        description="Of the class that is hurt most: right answers mirrored, as a share of those before",
    )


class Race(Record):
    """The entries, the most promising first."""

    entries: list[RaceEntry]
    mirror: MirrorTest | None = Field(
        default=None, description="None if no pretrained network ran, or too little is known"
    )
    notes: list[str] = Field(default_factory=list, description="Who did not run, and why")
    one_training: bool = Field(
        default=False, description="The budget holds one training that is long enough, and no change after it"
    )
    seconds: float = 0.0
