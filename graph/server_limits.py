"""What a run may be asked for over HTTP: no more than whoever started the server allowed when starting it.

The command and Python are not limited; this process is only if it is the server (graph/server.py). A run whose settings the command
wrote goes on in the server as it is; what was changed since over HTTP is checked.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from agents.llm.keys import OPENAI, find_variable
from checkpoints.home import prepare_home
from dataset.torchvision_sets import TORCHVISION
from sandbox.isolation.tiers import choose
from schema.errors import SettingRefused, SettingsError
from schema.settings import Settings, Tier, option_of

DATA, ADDRESSES, WEAKEST = "IMPROVE_SERVER_DATA", "IMPROVE_SERVER_BASE_URLS", "IMPROVE_SERVER_SANDBOX"
FROM_OUTSIDE = ("dataset", "labels", "weights_dir", "base_url", "tier")
RANKS: dict[str, int] = {tier: rank for rank, tier in enumerate(get_args(Tier))}  # 0 for the best


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """`folders` may be read, `addresses` asked, and no weaker `tier` used."""

    folders: tuple[Path, ...]
    addresses: frozenset[str]
    tier: Tier


_limits: ServerLimits | None = None


def limit_this_process() -> None:
    """Make this process the server. Raises SettingsError if its variables make no sense."""
    global _limits  # noqa: PLW0603 - a process is the server or is not
    _limits = limits_from_environment()


def limits_from_environment() -> ServerLimits:
    """Raises SettingsError."""
    named = [Path(part).expanduser() for part in os.environ.get(DATA, "").split(os.pathsep) if part]
    absent = next((folder for folder in named if not folder.is_dir()), None)
    if absent:
        raise SettingsError(
            f"{DATA}: there is no folder {absent}. Expected folders of images, separated by '{os.pathsep}'."
        )
    weakest = os.environ.get(WEAKEST, "auto")
    if weakest not in {*RANKS, "auto"}:
        raise SettingsError(f"{WEAKEST}={weakest}: expected auto, {' or '.join(RANKS)}.")
    own = find_variable("OPENAI_BASE_URL", "OPENAI_API_BASE")
    addresses = {url.strip().rstrip("/") for url in os.environ.get(ADDRESSES, "").split(",") if url.strip()}
    return ServerLimits(
        tuple(folder.resolve() for folder in named or [Path.cwd()]),
        frozenset({OPENAI, *addresses} | ({own.value.rstrip("/")} if own else set())),
        _best_tier() if weakest == "auto" else get_args(Tier)[RANKS[weakest]],
    )


def _best_tier() -> Tier:
    try:
        return choose("auto", prepare_home())
    except SettingsError as error:
        raise SettingsError(f"{error} For the server that is {WEAKEST}=none") from None


def check_allowed(settings: Settings, started_with: Callable[[], Settings] | None = None) -> None:
    """Raise SettingRefused for what the server was not started to do; nothing in any other process.

    `started_with`: the settings that the run has in the experiment store, which are as good as typed.
    """
    if _limits is None:
        return
    stored = started_with() if started_with else None
    for field in FROM_OUTSIDE:
        value = getattr(settings, field)
        if value is not None and not (stored and value == getattr(stored, field)):
            _check(field, str(value), _limits)


def _check(field: str, value: str, limits: ServerLimits) -> None:
    if field == "base_url":
        if value not in limits.addresses:
            raise SettingRefused(
                field, value, f"the server was not started to ask this address. Start it with {ADDRESSES}={value}"
            )
    elif field == "tier":
        if value != "auto" and RANKS[value] > RANKS[limits.tier]:
            raise SettingRefused(
                field,
                value,
                f"the server was started with {limits.tier}, and takes nothing weaker. Start it with {WEAKEST}={value}",
            )
    elif not (field == "dataset" and value.lower() in {"digits", *TORCHVISION}) and not _lies_in(value, limits.folders):
        shown = os.pathsep.join(map(str, limits.folders))
        raise SettingRefused(
            field,
            value,
            f"the server may read what lies in {shown}, and nothing else ({option_of(field)}). Start it with {DATA}=FOLDER",
        )


def _lies_in(value: str, folders: tuple[Path, ...]) -> bool:
    """By where it really is: a link leads out, and so does `..`."""
    path = Path(value).expanduser().resolve()
    return any(path.is_relative_to(folder) for folder in folders)
