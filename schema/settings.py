"""What a person asks for: frozen into the run at its start, so that a resume needs no arguments."""

from difflib import get_close_matches
from math import inf
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from schema.errors import SettingRefused
from schema.record import Record
from schema.text import one_line, plain

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "quadratic_kappa"]
Rule = Literal["better", "paired", "expected"]
Strategy = Literal["iterative", "global", "zero-shot"]
Init = Literal["unified", "bottom-up"]
Tier = Literal["bwrap", "landlock", "none"]  # best first
Layout = Literal["class-folders", "inner-folders", "split-folders", "table", "file-names"]
Role = Literal["architect", "data", "model", "training", "analyst", "summariser"]

# How the command spells a field, if not as the field with dashes.
OPTIONS = {
    "dataset": "DATA",
    "group_column": "--group",
    "budget_seconds": "--budget",
    "train_seconds": "--train-limit",
    "tier": "--sandbox",
    "download": "--no-download",
    "role_models": "--ROLE-model",
    "role_instructions": "--instruct-ROLE",
}
# What other tools call a choice of ours.
ALSO_CALLED = {"f1": "macro_f1", "acc": "accuracy", "auc": "auroc", "roc_auc": "auroc", "kappa": "quadratic_kappa",
               "loss": "log_loss", "cross_entropy": "log_loss", "gpu": "cuda", "csv": "table"}  # fmt: skip
NUMBERS = {int: "a whole number", float: "a number"}
LIMITS = ("gt", "ge", "lt", "le", "max_length")  # as pydantic keeps them
ATTEMPTS, FIRST_PIPELINE_ATTEMPTS = 3, 3
MOST_ORDERS = 4000  # characters
MOST_SHOWN = 60  # characters of a wrong value in a message

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
    instruct: str = Field(
        default="",
        max_length=4000,
        description="Orders to the whole team, which bind it, e.g. use a ViT-B/16; for language models",
    )
    role_instructions: dict[Role, str] = Field(
        default_factory=dict, description="Orders to one role, e.g. training -> no more than 30 epochs"
    )
    model: str = Field(
        default="playbook",
        description="Who writes the code: playbook (embedded, no key, no network), or a language model: openai:NAME, anthropic:NAME, google:NAME",
    )
    show_images: bool = Field(
        default=False,
        description="Show the analyst's model a picture of mistakes: images of yours go to its provider (docs/models.md)",
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
        description="What one training is planned for, on a machine that does nothing else",
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
    until_budget: bool = Field(
        default=False,
        description="Go on where not even a pipeline without a mistake could be told from the best one by the images that decide",
    )
    target: float | None = Field(default=None, description="Stop when the validation score reaches this")
    review: bool = Field(
        default=False, description="Ask before each training: approve it, edit the proposal, or skip it"
    )
    max_attempts: int | None = Field(
        default=None,
        ge=1,
        le=20,
        description="Tries per iteration before it counts as failed: 3, or 1 with strategy zero-shot, as in the paper",
    )
    max_seeds: int = Field(default=2, ge=1, le=10, description="Trainings per pipeline when a comparison is undecided")
    folds: int | None = Field(
        default=None,
        ge=1,
        le=5,
        description="Parts of a small data set that are held out in turn, with a training for each: 1 to 5; None: as it pays (docs/acceptance.md)",
    )
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
    download: bool = Field(
        default=True, description="Fetch pretrained weights from the hub; without: those on disk alone"
    )
    weights_licence: Literal["permissive", "any"] = Field(
        default="permissive", description="Which pretrained weights may be fetched, by their licence"
    )

    @field_validator("describe", "instruct")
    @classmethod
    def _printable(cls, text: str) -> str:
        return plain(text)

    @field_validator("role_instructions")
    @classmethod
    def _printable_orders(cls, orders: dict[Role, str]) -> dict[Role, str]:
        return {role: plain(text)[:MOST_ORDERS] for role, text in orders.items()}

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
    def attempts(self) -> int:
        """Tries of a change."""
        return self.max_attempts or (1 if self.strategy == "zero-shot" else ATTEMPTS)

    @property
    def first_attempts(self) -> int:
        """Tries of the first pipeline: without one there is no run, so it gets more than a change, if anything is tried twice."""
        return self.attempts * (FIRST_PIPELINE_ATTEMPTS if self.attempts > 1 else 1)

    def orders_for(self, role: Role) -> str:
        """Return what the person orders a role to do: what holds for all of them, then what is meant for it alone."""
        return "\n".join(filter(None, (self.instruct.strip(), self.role_instructions.get(role, "").strip())))

    @property
    def longest_training(self) -> float:
        """What one training gets: `train_seconds`, or a quarter of a budget that is shorter than four of those."""
        if self.budget_seconds is None:
            return self.train_seconds
        return min(self.train_seconds, self.budget_seconds / TRAININGS_IN_BUDGET)


def higher_is_better(metric: Metric) -> bool:
    return metric != "log_loss"


def make_settings(values: dict[str, Any]) -> Settings:
    """Raises SettingRefused, which says what was given and what was expected."""
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise _refused(error.errors()[0]) from None
    _check_target(settings)
    _check_orders(settings)
    return settings


def option_of(field: str) -> str:
    """Spell a field as the command does."""
    return OPTIONS.get(field, f"--{field.replace('_', '-')}")


def _refused(error: ErrorDetails) -> SettingRefused:
    field = str(error["loc"][0]) if error["loc"] else "settings"
    given = "" if field == "base_url" else one_line(repr(error["input"]), MOST_SHOWN)  # an address may hold a key
    if error["type"] == "extra_forbidden":
        return SettingRefused(field, given, f"there is no such setting. {_near_field(field)}")
    if error["type"] == "string_unicode":
        return SettingRefused(field, given, "it holds bytes that are no UTF-8. Give the place a name in UTF-8.")
    if error["type"] == "missing":
        return SettingRefused(field, "", f"is missing. Expected: {_expected(field)}.")
    if error["type"] == "value_error":
        return SettingRefused(field, given, f"{error['ctx']['error']}.")
    return SettingRefused(field, given, f"expected {_expected(field)}.{_near_choice(field, error['input'])}")


def _check_target(settings: Settings) -> None:
    """A target that no score can reach would let the run go on to its last iteration. Raises SettingRefused."""
    metric, target = settings.metric, settings.target
    low, high = {"log_loss": (0.0, inf), "quadratic_kappa": (-1.0, 1.0)}.get(metric, (0.0, 1.0))
    if target is None or low <= target <= high:
        return
    expected = f"is never below {low:g}" if high == inf else f"lies between {low:g} and {high:g}"
    meant = f" Did you mean {target / 100:g}?" if 2 < target <= 100 and high == 1 else ""
    raise SettingRefused("target", f"{target:g}", f"{metric} {expected}.{meant}")


def _check_orders(settings: Settings) -> None:
    """Orders that nobody reads would be passed over in silence. Raises SettingRefused."""
    for role, text in [*settings.role_instructions.items(), *((one, settings.instruct) for one in get_args(Role))]:
        if text.strip() and settings.model_for(role) != "playbook":
            return
    if settings.instruct.strip() or any(text.strip() for text in settings.role_instructions.values()):
        field = "instruct" if settings.instruct.strip() else "role_instructions"
        told = "the playbook follows its own moves and reads no orders. Name a language model, e.g. --model openai:NAME, or leave them out."
        raise SettingRefused(field, "", told)


def _expected(field: str) -> str:
    """What a field takes: its choices, its range, or its description."""
    known = Settings.model_fields[field]
    if choices := _choices(known.annotation):
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    kinds = {known.annotation, *get_args(known.annotation)}
    limits = {name: getattr(limit, name) for limit in known.metadata for name in LIMITS if hasattr(limit, name)}
    if bool in kinds:
        return "True or False"
    if number := next((text for kind, text in NUMBERS.items() if kind in kinds), None):
        return f"{number}{_range(limits)}"
    if longest := limits.get("max_length"):
        return f"text of at most {longest} characters"
    description = known.description or "text"
    return description if description[:2].isupper() else description[0].lower() + description[1:]


def _range(limits: dict[str, Any]) -> str:
    if "gt" in limits:
        return f" above {limits['gt']:g}"
    highest = limits["lt"] - 1 if "lt" in limits else limits.get("le")
    if "ge" not in limits:
        return ""
    return f" of {limits['ge']} or more" if highest is None else f" from {limits['ge']} to {highest}"


def _choices(annotation: Any) -> list[str]:
    """Of a Literal, wherever it stands in an annotation."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _near_choice(field: str, given: Any) -> str:
    choices = _choices(Settings.model_fields[field].annotation)
    text = str(given).lower().replace("-", "_")
    inside = [choice for choice in choices if len(text) > 1 and text in choice.replace("-", "_")]
    near = [ALSO_CALLED[text]] if ALSO_CALLED.get(text) in choices else inside or get_close_matches(text, choices, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _near_field(field: str) -> str:
    """The setting that was likely meant, also where it was spelt as the command's option."""
    spelt = {option_of(name).removeprefix("--").replace("-", "_"): name for name in Settings.model_fields}
    spelt |= {name: name for name in Settings.model_fields}
    near = get_close_matches(field.lower(), spelt, n=1)
    return f"Did you mean {spelt[near[0]]}?" if near else f"There are: {', '.join(Settings.model_fields)}."
