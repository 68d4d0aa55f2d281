"""What a call costs: a small file of prices, ours, with the person's own on top of it."""

import re
import tomllib
from pathlib import Path

from schema.errors import SettingsError
from schema.record import Record
from schema.team import Usage

OURS = Path(__file__).with_name("prices.toml")
DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$|-\d{8}$")


class Price(Record):
    """US dollars for a million tokens."""

    input: float
    cached: float
    output: float


def prices(own: Path) -> dict[str, Price]:
    """`provider:name` -> price. Raises SettingsError, which names the file, the entry and what was expected."""
    return _read(OURS) | (_read(own) if own.exists() else {})


def cost_of(usage: Usage, known: dict[str, Price]) -> float | None:
    """None where no price is known. A name with a date behind it costs what the name without it does."""
    price = known.get(usage.model) or known.get(DATED.sub("", usage.model))
    if price is None:
        return None
    fresh = usage.tokens_in - usage.tokens_cached
    return (fresh * price.input + usage.tokens_cached * price.cached + usage.tokens_out * price.output) / 1e6


def _read(file: Path) -> dict[str, Price]:
    expected = (
        'Expected entries such as ["openai:gpt-5.4-mini"] with input, cached and output: dollars for a million tokens.'
    )
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file} cannot be read as prices: {error}. {expected}") from None
    return {name: _price(file, name, entry, expected) for name, entry in raw.items()}


def _price(file: Path, name: str, entry: object, expected: str) -> Price:
    if not isinstance(entry, dict):
        raise SettingsError(f"{file}: {name} = {entry!r} is no price. {expected}")
    unknown = sorted(set(entry) - {"input", "cached", "output"})
    if unknown:
        raise SettingsError(f"{file}: [{name!r}] has {unknown[0]!r}, which is not known. {expected}")
    for field in ("input", "output", "cached"):
        value = entry.get(field, entry.get("input") if field == "cached" else None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise SettingsError(f"{file}: [{name!r}] {field} = {value!r} is no price. {expected}")
    return Price(input=entry["input"], cached=entry.get("cached", entry["input"]), output=entry["output"])
