"""Where the keys and addresses of language models come from: the environment, or a file of the user's own.

Never the folder that a command was started in: it may have been downloaded with the images, and an address in it would lead a
key astray. Nothing is put into the environment: what we start inherits no key.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values

from schema.errors import SettingsError

OPENAI = "https://api.openai.com/v1"
ENV_FILE = "IMPROVE_ENV_FILE"  # what --env-file names


class Variable(NamedTuple):
    value: str
    file: Path | None  # that it stands in; None: the environment


def find_variable(*names: str, beside: Variable | None = None) -> Variable | None:
    """Find the first of `names` that is set: in --env-file, else in the environment, else in .env of $IMPROVE_HOME. With `beside`, that
    of the same place comes first.

    Raises SettingsError if a file cannot be read.
    """
    places = [*([beside.file] if beside else []), *_places()]
    found = ((name, place) for place in places for name in names)
    return next((Variable(value, place) for name, place in found if (value := _value(name, place))), None)


def _places() -> Iterator[Path | None]:
    if named := os.environ.get(ENV_FILE):
        yield Path(named)
    yield None
    if (own := home_file()).is_file():
        yield own


def home_file() -> Path:
    return Path(os.environ.get("IMPROVE_HOME") or Path("~/.improve")).expanduser() / ".env"


def _value(name: str, place: Path | None) -> str | None:
    return (os.environ if place is None else _read(place)).get(name) or None


def _read(file: Path) -> dict[str, str | None]:
    try:
        with file.open(encoding="utf-8") as stream:
            return dict(dotenv_values(stream=stream, interpolate=False))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(
            f"{file} cannot be read: {reason}. It holds lines such as OPENAI_API_KEY=..., or leave --env-file out."
        ) from None
