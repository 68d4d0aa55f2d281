# ruff: noqa: TID251 - runs inside a job
"""What the components are given, and what can go wrong between them and the script."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch


class OutOfTime(BaseException):
    """The deadline has come: the best weights so far are kept and scored. Not an Exception, so `except Exception` lets it through."""


class WeightsMissing(LookupError):
    """Pretrained weights were asked for that are not on disk."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.weights = name


class NonFiniteLoss(FloatingPointError):
    """The loss became NaN or infinite."""


class ContractError(Exception):
    """A component gave something that the others cannot use."""

    def __init__(self, component: str, message: str) -> None:
        super().__init__(message)
        self.component = component


@dataclass(frozen=True)
class Info:
    """What is known and legal to know about the task."""

    classes: list[str]
    channels: int  # 1 grey, 3 colour
    height: int  # pixels of the stored images
    width: int
    mean: list[float]  # per channel, of pixels scaled to 0..1
    std: list[float]
    counts: list[int]  # training images per class
    seed: int
    device: torch.device
    threads: int
    seconds: float  # wall clock of this training
    epochs: int  # passes over the training images that the time buys; the same for all candidates of a run
    images_per_second: float | None = None  # measured by the smoke step
    precision: str = "float32"  # the fastest here: float32, bfloat16 or float16
    channels_last: bool = False
    weights: dict[str, str] = field(default_factory=dict)  # timm name -> safetensors file on disk
    restoring: bool = False  # trained weights will be loaded next, so pretrained ones are not needed
    value_range: tuple[float, float] | None = None  # source values that became 0 and 255, of images of more than 8 bits

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def train_size(self) -> int:
        return sum(self.counts)

    def pretrained(self, name: str) -> str:
        """File of the pretrained weights of a timm model. Raises WeightsMissing."""
        if name not in self.weights:
            there = ", ".join(sorted(self.weights)) or "none"
            raise WeightsMissing(name, f"no pretrained weights for {name!r} on disk; there are: {there}")
        return self.weights[name]


ImageFunction = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Transforms:
    """The data component's answer."""

    train: ImageFunction  # uint8 [B, C, H, W] -> float32 [B, C, H', W'], one random draw per image
    eval: ImageFunction  # the same face, without randomness
    batch: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = (
        None  # images, labels -> images, soft targets
    )
    views: list[ImageFunction] | None = None  # test-time augmentation: predictions are averaged over these
    per_image: bool = False  # train and eval take one uint8 [C, H, W] image
