"""What the playbook's pipelines vary: one frozen recipe per component. `source.py` writes it as code and reads it back from the code."""

from dataclasses import dataclass
from typing import Literal

Family = Literal["convnet", "resnet", "convnext", "backbone", "plain"]
Pool = Literal["avg", "max", "avgmax", "gem"]
Optimizer = Literal["sgd", "adamw", "muon"]
Schedule = Literal["linear", "cosine", "none"]


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """Augmentation and preparation. Numbers become constants of the component; 0 and False mean: not done."""

    size: tuple[int, int]  # height, width that the model sees
    flip: bool = False
    flip_vertical: bool = False  # and quarter turns, where the picture is square
    shift: int = 0  # pixels
    crop: float = 0.0  # smallest share of the area that a random crop keeps
    rotate: int = 0  # degrees
    zoom: float = 0.0  # share
    jitter: float = 0.0  # brightness, contrast, saturation
    one_of: float = 0.0  # strength of the one operation drawn per image
    cutout: int = 0  # side of the covered square in pixels
    mixup: float = 0.0  # alpha
    cutmix: float = 0.0  # alpha
    view_flip: bool = False  # test-time views
    view_shift: int = 0  # pixels


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """The network. `width` is the number of channels of the first stage, `depth` the number of blocks per stage."""

    family: Family
    width: int = 0
    depth: int = 0
    stages: int = 0
    stem: int = 0  # stride of the first convolution
    whiten: bool = False
    squeeze: bool = False
    pool: Pool = "avg"
    drop_path: float = 0.0
    dropout: float = 0.0
    backbone: str = ""
    pad_same: bool = False
    enlarge: int = 0  # longest side, in pixels, that images are resized to inside the model


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """Loss, optimiser, schedule, and which weights are kept."""

    optimizer: Optimizer
    learning_rate: float
    batch_size: int
    max_epochs: int
    schedule: Schedule = "linear"
    weight_decay: float = 0.0
    warmup: float = 0.0  # share of the steps
    smoothing: float = 0.0
    ema_decay: float = 0.0
    clip: float = 0.0
    class_power: float = 0.0  # rare classes weigh (largest / own count) ** power
    focal: float = 0.0  # gamma
    prior_shift: float = 0.0  # while training, logits carry this much of the log share of each class
    balanced: bool = False
    everything: bool = False  # inner validation images are trained on too
    keep_best: bool = False
    head_first: bool = False  # the last layer is fitted on frozen features before the rest moves
    layer_decay: float = 0.0  # each earlier tenth of the layers learns this many times slower


@dataclass(frozen=True, slots=True)
class Recipe:
    data: DataRecipe
    model: ModelRecipe
    training: TrainingRecipe


ComponentRecipe = DataRecipe | ModelRecipe | TrainingRecipe
