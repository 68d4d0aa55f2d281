"""What is known about a prepared data set. The Project Architect and the Performance Analyst read it."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from schema.record import Record
from schema.text import readable

Split = Literal["train", "validation", "test"]


class SetAside(Record):
    """A file that was not used, and why. Never silently dropped."""

    file: Annotated[str, BeforeValidator(readable)] = Field(description="Name relative to what the person gave")
    reason: Annotated[str, BeforeValidator(readable)]


class Duplicates(Record):
    exact: int = Field(default=0, description="Images whose pixels equal those of an earlier image")
    near: int = Field(default=0, description="Further images that look the same as an earlier one")
    across_splits: int = Field(
        default=0, description="Images of the person's own train part that recur in their validation or test part"
    )
    contradicting: int = Field(default=0, description="Duplicates that carry different labels")
    examples: list[str] = Field(
        default_factory=list, description="At most 20 lines `a.jpg = b.jpg (exact, across splits)`"
    )


class ImageSizes(Record):
    """Pixels of the source files, after EXIF orientation."""

    width_min: int
    width_median: int
    width_max: int
    height_min: int
    height_median: int
    height_max: int
    uniform: bool = Field(description="All sources have one size")


class DatasetProfile(Record):
    """A checked, split, decoded data set. `directory` holds the arrays (docs/dataset.md)."""

    name: str
    key: str = Field(description="Name of the cache directory: content, split and stored size")
    fingerprint: str = Field(
        description="SHA-256 over the sorted (name, label, split, content hash) of all usable files"
    )
    files: str = Field(
        default="", description="SHA-256 of the list of images, splits and order (empty: an older version's)"
    )
    stamp: str | None = Field(default=None, description="Of names, sizes and times of the source when this run read it")
    layout: str = Field(
        description="How it was read: class-folders, inner-folders, split-folders, table, file-names, arrays, pixel-table, torchvision, scikit-learn"
    )
    reading: str = Field(default="", description="A sentence that says what was taken for what")
    unused: dict[str, int] = Field(
        default_factory=dict, description="Files of the source that are no labelled images, counted by reason"
    )
    groups: int | None = Field(default=None, description="Groups that the split keeps whole, if the user gave any")
    value_range: tuple[float, float] | None = Field(
        default=None, description="Source values that became 0 and 255, if images hold more than 8 bits"
    )
    directory: str
    classes: list[str]
    counts: dict[Split, list[int]] = Field(description="Images per class, in the order of `classes`")
    inner: int = Field(default=0, description="Of the training images, those of the inner validation; 0: not recorded")
    given_splits: list[Split] = Field(description="Splits that the person gave; the others were carved")
    channels: Literal[1, 3]
    height: int = Field(description="Stored height in pixels")
    width: int
    mean: list[float] = Field(description="Per channel over the training images, of pixels scaled to 0..1")
    std: list[float]
    sizes: ImageSizes
    formats: dict[str, int] = Field(description="`JPEG/RGB` -> number of files")
    imbalance: float = Field(description="Largest class over smallest class in the training part")
    duplicates: Duplicates
    set_aside: list[SetAside] = Field(description="At most 200; `set_aside_total` counts all")
    set_aside_total: int
    warnings: list[str] = Field(default_factory=list)
    seconds: float = Field(description="Wall time of the preparation; 0 when the cache was there")

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def size(self, split: Split) -> int:
        return sum(self.counts[split])
