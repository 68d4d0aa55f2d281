"""One way to read a source: which images have which label, and what is left over."""

import re
import unicodedata
from dataclasses import dataclass, field

from dataset.listing import Sample
from schema.dataset import SetAside


@dataclass(slots=True)
class Reading:
    """A reading under consideration.

    `text` says what was taken for what, `option` what the user types to choose it.
    """

    layout: str
    text: str = ""
    option: str = ""
    classes: tuple[str, ...] = ()
    samples: list[Sample] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unused: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # paths of the images that it speaks of
    used_tables: set[str] = field(default_factory=set)
    group_hint: str = ""  # which option keeps images of one subject together


def clean_name(name: str) -> str:
    """Write a label in one form, whatever system it comes from: composed accents, plain blanks, nothing that is
    not seen."""
    return " ".join(re.sub("[\u200b\u2060\ufeff\u00ad]", "", unicodedata.normalize("NFC", name)).split())


def count(number: int, one: str, many: str) -> str:
    """Write `1 row has` or `1,234 rows have`."""
    return f"{number:,} {one if number == 1 else many}"
