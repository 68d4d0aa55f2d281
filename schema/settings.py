"""What a person asks for: frozen into the run at its start, so that a resume needs no arguments."""

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator

from schema.errors import SettingsError
from schema.record import Record
from schema.text import plain

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "quadratic_kappa"]
Rule = Literal["better", "paired", "expected"]
Strategy = Literal["iterative", "global", "zero-shot"]
Init = Literal["unified", "bottom-up"]
Tier = Literal["bwrap", "landlock", "none"]  # best first
Layout = Literal["class-folders", "inner-folders", "split-folders", "table", "file-names"]
Role = Literal["architect", "data", "model", "training", "analyst", "summariser"]

TRAININGS_IN_BUDGET = 4  # a run that trains less often has nothing to compare


class Settings(Record):
    """The whole of a run's configuration. Times in seconds; sizes in bytes."""

    dataset: str = Field(
        min_length=1,
        description="Folder, archive, .npz or CSV of labelled images, or the name of a torchvision data set",
    )
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of the run: letters, digits, dots, dashes; made from the data where there is none",
    )
    labels: str | None = Field(default=None, description="Table of file and label, if it is not found by itself")
    file_column: str | None = Field(default=None, description="Column of that table with the file names")
    label_column: str | None = Field(default=None, description="Column of that table with the labels")
    layout: Layout | None = Field(
        default=None, description="How to read the folder, if two readings are plausible (docs/dataset.md)"
    )
    label_pattern: str | None = Field(
        default=None, description="Regular expression on file names whose first group is the label, e.g. ^(cat|dog)"
    )
    group_column: str | None = Field(
        default=None, description="Column of the table whose equal values stay on one side of every split, e.g. patient"
    )
    group_pattern: str | None = Field(
        default=None,
        description="Regular expression on file paths; images whose first group is equal stay on one side of every split",
    )
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=2048,
        description="Longer side of the stored images in pixels; found from the data if not given",
    )
    drop_rare_classes: bool = Field(
        default=False, description="Leave out classes with too few images to be split, instead of refusing the data"
    )
    describe: str = Field(
        default="",
        max_length=4000,
        description="What the images show, in your own words: domain, colour, quality, what the classes mean",
    )
    model: str = Field(
        default="playbook",
        description="Who writes the code: playbook (embedded, no key, no network), or a language model: openai:NAME, anthropic:NAME, google:NAME",
    )
    role_models: dict[Role, str] = Field(
        default_factory=dict, description="Another language model for a role, e.g. analyst -> openai:gpt-5.4"
    )
    base_url: str | None = Field(
        default=None, description="Where an OpenAI-compatible server listens, e.g. http://localhost:11434/v1"
    )
    iterations: int = Field(default=20, ge=0, le=10_000, description="Changes to try after the first pipeline")
    budget_seconds: float | None = Field(default=None, gt=0, description="Wall clock of the whole run")
    max_tokens: int | None = Field(
        default=None, gt=0, description="Tokens of language models for the whole run, in and out"
    )
    max_cost: float | None = Field(
        default=None, gt=0, description="US dollars of language models for the whole run (docs/models.md: prices)"
    )
    train_seconds: float = Field(
        default=1200.0,
        gt=0,
        description="Of one training, without what other processes take of it (at most as much again)",
    )
    strategy: Strategy = Field(
        default="iterative", description="One component per iteration, all three, or one naive prompt"
    )
    init: Init = Field(default="unified", description="The first pipeline in one pass, or component after component")
    accept: Rule = Field(default="expected", description="When a change is kept (docs/acceptance.md)")
    metric: Metric = Field(default="accuracy", description="What is maximised (log_loss: minimised)")
    select_on: Literal["validation", "test"] = Field(
        default="validation", description="`test` is the paper's protocol; its score is then optimistic"
    )
    target: float | None = Field(default=None, description="Stop when the validation score reaches this")
    review: bool = Field(
        default=False, description="Ask before each training: approve it, edit the proposal, or skip it"
    )
    max_attempts: int = Field(default=3, ge=1, le=20, description="Tries per iteration before it counts as failed")
    max_seeds: int = Field(default=2, ge=1, le=10, description="Trainings per pipeline when a comparison is undecided")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of training")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to train")
    gpus: tuple[str, ...] = Field(
        default=(), description="GPUs that this run may use, by number as nvidia-smi counts or by UUID; none: all"
    )
    jobs_per_gpu: int = Field(default=1, ge=1, le=64, description="Trainings at the same time on one GPU")
    jobs_per_cpu: int = Field(
        default=1, ge=1, le=64, description="Trainings at the same time on this machine's CPU, those of other runs too"
    )
    tier: Tier | Literal["auto"] = Field(
        default="auto", description="Isolation of generated code; auto: the best that works here (docs/security.md)"
    )
    weights_dir: str | None = Field(default=None, description="Folder of safetensors files named after timm models")

    @field_validator("describe")
    @classmethod
    def _printable(cls, text: str) -> str:
        return plain(text)

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        """Settings are stored: an address that carries a key does not come in."""
        if url is None:
            return None
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ValueError(f"no address ({error}): expected e.g. http://localhost:11434/v1") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("no address: expected e.g. http://localhost:11434/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("an address alone is expected: keys belong into the environment, e.g. OPENAI_API_KEY")
        return url.rstrip("/")

    def model_for(self, role: Role) -> str:
        return self.role_models.get(role, self.model)

    @property
    def longest_training(self) -> float:
        """What one training gets: `train_seconds`, or a quarter of a budget that is shorter than four of those."""
        if self.budget_seconds is None:
            return self.train_seconds
        return min(self.train_seconds, self.budget_seconds / TRAININGS_IN_BUDGET)


def higher_is_better(metric: Metric) -> bool:
    return metric != "log_loss"


def make_settings(values: dict[str, Any]) -> Settings:
    """Raises SettingsError, which names the option, what was given and what is known."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]) if first["loc"] else "settings"
        given = "" if option == "base_url" else f" = {first.get('input')!r}"  # it may hold a key
        raise SettingsError(f"{option}{given}: {first['msg'].removeprefix('Value error, ')}.") from None
