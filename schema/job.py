"""A job is one run of generated code: a directory is its identity (DESIGN.md section 5)."""

from typing import Literal

from pydantic import Field

from schema.pipeline import Fault
from schema.race import Runner
from schema.record import Record
from schema.settings import Tier

Step = Literal["race", "smoke", "train", "predict"]
Limit = Literal["time", "memory", "output", "disk", "processes", "stopped"]
Place = Literal["CPU", "GPU"]

PATIENCE = 1.5  # times its planned time a training may take


class Limits(Record):
    """Caps that the supervisor enforces; a training is asked to stop before it is made to."""

    train_seconds: float = Field(description="What a training is planned for, on a machine that does nothing else")
    smoke_seconds: float = 120.0
    predict_seconds: float = 900.0
    grace_seconds: float = 20.0
    memory_bytes: int
    processes: int = 512
    disk_bytes: int = 20 * 2**30
    files: int = 200_000
    output_bytes: int = 64 * 2**20


class Plan(Record):
    """What the smoke step measured; frozen after the first pipeline so that candidates see equal numbers of images."""

    epochs: int = Field(
        ge=1, le=10**6, description="Passes over the training images that fit the time limit: `info.epochs`"
    )
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    threads: int = Field(ge=1, le=4096)
    images_per_second: float = Field(
        gt=0, description="Of the first steps of the training itself, had nothing else run"
    )
    parameters: int | None = Field(default=None, ge=0, le=10**13, description="Of the model")
    multiplications: int | None = Field(
        default=None, ge=0, le=10**18, description="For one image, as the model sees it in evaluation"
    )


class Card(Record):
    """An NVIDIA card, or a slice of one. `uuid` is the name that the driver, CUDA and NVML share; `minor` the number of the device node,
    None on WSL 2, where cards have none."""

    uuid: str
    name: str
    minor: int | None
    memory_bytes: int


class Access(Record):
    """What a sandbox is opened for. A job that needs another one gets a new sandbox."""

    tier: Tier
    read: tuple[str, ...] = Field(description="Files and directories, besides the system and the Python environment")
    gpu: bool = False
    gpus: tuple[str, ...] = Field(
        default=(), description="UUIDs of the cards that it may get one of; none: all of them"
    )
    together: int = Field(default=1, ge=1, description="Trainings at the same time on its card, or on the CPU")
    card: Card | None = Field(default=None, description="The one that it may use; None: whatever there is")
    limits: Limits


class JobSpec(Record):
    """Everything a job needs; written last into its directory, which is the signal to go."""

    name: str = Field(description="`<run>/<iteration>/<attempt>-s<seed>`")
    pipeline: str = Field(description="Source text of the assembled script")
    fingerprint: str = Field(default="", description="Of its three components: what is asked for under this name")
    data: str = Field(description="Directory with the training arrays (read-only)")
    heldout: dict[str, str] = Field(
        description="`validation`, `test` and `inner` -> array of unlabelled images (read-only)"
    )
    weights: dict[str, str] = Field(default_factory=dict, description="timm name -> safetensors file (read-only)")
    cached: dict[str, str] = Field(
        default_factory=dict,
        description="Path below the job's cache, where timm and torchvision look -> file (read-only)",
    )
    steps: tuple[Step, ...] = ("smoke", "train", "predict")
    runners: tuple[Runner, ...] = Field(default=(), description="Of a race, the first size of each network first")
    race_seconds: float = Field(default=0.0, description="That a race is to take")
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: tuple[str, ...] = Field(
        default=(), description="UUIDs of the cards that it may get one of; none: all of them"
    )
    together: int = Field(default=1, ge=1, description="Trainings at the same time on its card, or on the CPU")
    threads: int = Field(ge=1)
    epochs: int | None = Field(
        default=None, description="Planned epochs of the run, None for the first pipeline: it measures"
    )
    least_seconds: float = Field(
        default=0.0,
        description="How long the incumbent trained, as we measured it without what other programs took: `epochs` is its own word, and is raised where it buys less than half of this",
    )
    precision: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="What the incumbent runs with: timed first; None: plain first"
    )
    channels_last: bool | None = None
    settled: bool = Field(
        default=False, description="The model is the incumbent's: precision, layout and threads stand, nothing is timed"
    )
    repeats: bool = Field(
        default=False, description="A further seed of a pipeline: its epochs stand, however fast it seems this time"
    )
    plan: Plan | None = Field(
        default=None, description="Of an earlier job that this one repeats: its training goes by it, and times nothing"
    )
    patience: float = Field(
        default=PATIENCE,
        ge=1,
        description="How many times the seconds that it is planned for a training may take before it is cut",
    )
    weights_file: str | None = Field(default=None, description="Trained weights, for a job that only predicts")
    tier: Tier
    limits: Limits

    @property
    def longest_training(self) -> float:
        return self.patience * self.limits.train_seconds

    @property
    def access(self) -> Access:
        pretrained = {*self.weights.values(), *self.cached.values()}
        named = {self.data, *self.heldout.values(), *pretrained, self.weights_file or ""}
        return Access(
            tier=self.tier,
            read=tuple(sorted(named - {""})),
            gpu=self.device != "cpu",
            gpus=self.gpus,
            together=self.together,
            limits=self.limits,
        )


class StepOutcome(Record):
    step: Step
    seconds: float
    alone: float = Field(default=0.0, description="Of a training: the seconds without those that other programs took")
    exit: int | None = Field(description="Exit status; negative: signal; None: never ended by itself")


class JobResult(Record):
    """Written atomically by the supervisor when the job is over, whatever the end."""

    ok: bool
    fault: Fault | None = None
    steps: list[StepOutcome]
    seconds: float
    waited: float = Field(default=0.0, description="Seconds in line for the CPU or a GPU before; `seconds` are without")
    cut: bool = Field(
        default=False, description="The training ended at its time limit, before its planned work was done"
    )
    peak_memory_bytes: int = 0
    peak_gpu_bytes: int = 0
    peak_disk_bytes: int = 0
    tier: Tier


class JobStatus(Record):
    state: Literal["absent", "waiting", "running", "finished", "interrupted"]
    step: Step | None = None
    waits_for: Place | None = Field(default=None, description="What it stands in line for")
    seconds: float = Field(default=0.0, description="In that step, or in that line")
