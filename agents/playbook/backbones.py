"""Which of the pretrained weights on disk are worth a try here, best first.

By the curated list, and by the race where there was one.
"""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import Field, TypeAdapter

from schema.record import Record
from schema.team import Brief

LARGEST = {"cpu": 120e6, "cuda": 500e6}  # bytes of weights that the device fine-tunes in the usual time


class Network(Record):
    """What the curated list says of one."""

    family: str
    licence: str = Field(description="Of the weights, as SPDX spells it, in small letters")
    millions: float = Field(gt=0, description="Parameters without the head")
    side: int = Field(description="Pixels of the images that it was trained with last")
    fixed_size: bool = Field(description="It is built for one image size")
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    strength: str


class Catalogue(Record):
    cpu: tuple[str, ...] = Field(description="timm names in the order in which they are tried on a CPU")
    cuda: tuple[str, ...]
    networks: dict[str, Network]

    def order(self, device: str) -> tuple[str, ...]:
        return self.cuda if device == "cuda" else self.cpu


@cache
def catalogue() -> Catalogue:
    """Read the curated list."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return TypeAdapter(Catalogue).validate_python(tomllib.loads(text))


def backbones(brief: Brief) -> list[str]:
    """Return weights on disk, best first: by the race; before it by the curated list, then by size.

    Those that this device would take too long for are left out: the cache of the hub may hold some.
    """
    small = [
        name
        for name in _each_file_once(brief.weights)
        if not name.split(".")[0].endswith("_clip") and _size(brief, name) <= LARGEST[brief.hardware.device]
    ]
    if brief.race and brief.race.entries:
        raced = dict.fromkeys(entry.name for entry in brief.race.entries)
        return [name for name in raced if name in small]
    order = catalogue().order(brief.hardware.device)
    models = [name.split(".")[0] for name in order]

    def rank(name: str) -> tuple[int, float, str]:
        larger_first = -1 if brief.hardware.device == "cuda" else 1
        model = name.split(".", maxsplit=1)[0]
        place = order.index(name) if name in order else models.index(model) if model in models else len(order)
        return place, larger_first * _size(brief, name), name

    return sorted(small, key=rank)


def _each_file_once(weights: dict[str, str]) -> list[str]:
    """Of several names of one file the longest, which says most of it."""
    named: dict[str, str] = {}
    for name in sorted(weights, key=len):
        named[weights[name]] = name
    return sorted(named.values())


def licence(name: str) -> str | None:
    """Return the licence of the weights of this timm name.

    Of a name without a tag that of its model in the list. None if the list has none.
    """
    networks = catalogue().networks
    same = [own for own in networks if own == name or ("." not in name and own.split(".")[0] == name)]
    return networks[same[0]].licence if same else None


def _size(brief: Brief, name: str) -> int:
    file = Path(brief.weights[name])
    return file.stat().st_size if file.is_file() else 0
