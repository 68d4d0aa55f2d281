"""What a person typed after `run` becomes the settings of a run."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schema.errors import SettingsError

if TYPE_CHECKING:
    from schema.settings import Settings

DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
ORDERS = {
    "architect": "instruct_architect",
    "data": "instruct_data_engineer",
    "model": "instruct_model_engineer",
    "training": "instruct_training_engineer",
    "analyst": "instruct_analyst",
    "summariser": "instruct_summariser",
}
ROLES = {
    "architect": "architect_model",
    "data": "data_engineer_model",
    "model": "model_engineer_model",
    "training": "training_engineer_model",
    "analyst": "analyst_model",
    "summariser": "summariser_model",
}


def seconds_of(text: str, option: str) -> float:
    """Seconds of 90s, 20m, 1h30m, or a plain number.

    Raises SettingsError.
    """
    match = DURATION.fullmatch(text.strip())
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0.0
    )
    if seconds <= 0:
        raise SettingsError(f"{option} {text!r} is not a duration. Expected e.g. 90s, 20m, 1h30m, or seconds.")
    return seconds


def use_env_file(name: str | None) -> None:
    """Let keys of language models be read from the file that the user names (agents/llm/keys.py).

    Raises SettingsError.
    """
    if name is None:
        return
    file = Path(name).expanduser().absolute()
    if not file.is_file():
        what = "is no file" if file.exists() else "there is no such file"
        raise SettingsError(f"--env-file {name}: {what}. Expected lines such as OPENAI_API_KEY=...")
    os.environ["IMPROVE_ENV_FILE"] = str(file)


def queue_fields(gpus: str | None, jobs_per_gpu: int | None, jobs_per_cpu: int | None) -> dict[str, Any]:
    """Which cards a run may use, and how many trainings at the same time: only what was given."""
    entries = None if gpus is None else tuple(entry.strip() for entry in gpus.split(",") if entry.strip())
    given = {"gpus": entries, "jobs_per_gpu": jobs_per_gpu, "jobs_per_cpu": jobs_per_cpu}
    return {key: value for key, value in given.items() if value is not None}


def settings_of(parameters: Mapping[str, Any]) -> "Settings":
    """Make settings of the parameters of the command `run`: most are called as their field.

    Raises SettingsError.
    """
    from schema.settings import Settings, make_settings  # noqa: PLC0415 - --help comes at once

    budget = parameters["budget"]
    other = {
        "role_models": {role: parameters[name] for role, name in ROLES.items() if parameters[name]},
        "role_instructions": {role: parameters[name] for role, name in ORDERS.items() if parameters[name]},
        "budget_seconds": seconds_of(budget, "--budget") if budget else None,
        "train_seconds": seconds_of(parameters["train_limit"], "--train-limit"),
        "weights_dir": parameters["weights_dir"] or os.environ.get("IMPROVE_WEIGHTS"),
        "tier": parameters["sandbox"],
    }
    queue = {name: parameters[name] for name in ("gpus", "jobs_per_gpu", "jobs_per_cpu")}
    same = {name: parameters[name] for name in Settings.model_fields if name in parameters}
    for name in (*queue, "name"):  # the name of the run is given beside its settings
        same.pop(name, None)
    return make_settings(same | other | queue_fields(**queue))
