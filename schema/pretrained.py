"""Pretrained weights that a run's jobs may read: they have no network, so the trusted side looks every name up for them."""

from pydantic import Field

from schema.record import Record


class Pretrained(Record):
    """Grows while a run goes on, and never shrinks: what one candidate asked for, the next may use."""

    files: dict[str, str] = Field(
        default_factory=dict,
        description="timm name -> safetensors file: what `info.pretrained` and `load_pretrained` know",
    )
    cached: dict[str, str] = Field(
        default_factory=dict, description="Where timm and torchvision look by themselves, below a job's cache -> file"
    )
    asked: tuple[str, ...] = Field(default=(), description="What has been looked up, e.g. `timm:resnet18`")
    hub: bool = Field(default=False, description="The hub answered when the run began: more can be fetched")
    download: bool = Field(default=True, description="The person allows it (--no-download does not)")
    any_licence: bool = Field(default=False, description="Also weights whose licence does not allow every use")
    licences: dict[str, str] = Field(
        default_factory=dict, description="timm name of what was looked up -> its licence, in small letters"
    )

    def with_all_of(self, other: "Pretrained") -> "Pretrained":
        return Pretrained(
            files=self.files | other.files,
            cached=self.cached | other.cached,
            asked=tuple(dict.fromkeys((*self.asked, *other.asked))),
            hub=self.hub or other.hub,
            download=self.download and other.download,
            any_licence=self.any_licence or other.any_licence,
            licences=self.licences | other.licences,
        )
