"""Pretrained weights for the candidate at hand, looked up and fetched by us: before it runs, and where a job lacked some, before it runs again."""

from collections.abc import Mapping

from langgraph.runtime import get_runtime

from nodes.events import tell
from sandbox.pretrained.broker import fault, fetch
from schema.pipeline import Component, Fault
from schema.pretrained import Pretrained


def obtained(
    wanted: Mapping[str, tuple[Component | None, int | None]], have: Pretrained
) -> tuple[Pretrained, Fault | None]:
    """`wanted`: what is asked for -> where. The fault names the first that cannot be had. Raises RunStopped."""
    if not wanted:
        return have, None
    control = get_runtime().control
    got, failed = fetch(list(wanted), have, tell, lambda: bool(control and control.drain_requested))
    first = next((what for what in wanted if what in failed), None)
    return got, fault(*wanted[first], first, failed[first], got) if first else None
