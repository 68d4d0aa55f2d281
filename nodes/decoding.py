"""The decoders of images, confined as jobs are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from checkpoints.home import prepare_home
from dataset.decoders import PROGRAM, Decoders
from sandbox.confined import confined
from sandbox.isolation.tiers import choose
from schema.errors import SettingsError
from schema.settings import Tier

UNCONFINED = "images are decoded in a process of its own, but without a sandbox, since none works here (improve doctor)"


@contextmanager
def decoders_in(tier: Tier) -> Iterator[Decoders]:
    """Decode in this tier, which was chosen before."""
    with confined(tier, prepare_home(), PROGRAM) as start, Decoders(start) as decoders:
        yield decoders


def tier_to_look(wanted: Tier | Literal["auto"]) -> Tier:
    """The tier to decode in where nothing is trained: what was asked for, or the best that there is, if only none.

    Raises SettingsError if the one that was asked for does not work.
    """
    try:
        return choose(wanted, prepare_home())
    except SettingsError:
        if wanted != "auto":
            raise
        return "none"
