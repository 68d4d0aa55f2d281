"""The Project Architect reads the profile, decides on a design and (with `unified` initialisation) writes the whole first pipeline."""

from typing import Any

from nodes.calls import record_calls
from nodes.context import brief_of, settings_of
from nodes.events import tell
from nodes.services import Services
from schema.events import Designed, NodeEntered
from schema.pipeline import COMPONENTS
from schema.state import State


def project_architect(state: State, services: Services) -> dict[str, Any]:
    """`unified`: the draft holds all three components and each engineer takes over its own. `zero-shot`: nobody revises them."""
    tell(NodeEntered(node="project_architect", iteration=0))
    settings, store = settings_of(state), services.store()
    team = services.team(settings.model)
    design = team.design(brief_of(state, store))
    record_calls(team, state, services, "project_architect")
    store.set_design(state["run"], design.text)
    tell(Designed(text=design.text))
    draft = {} if design.pipeline is None else {c: design.pipeline.code(c) for c in COMPONENTS}
    return {"draft": draft, "queue": [] if settings.strategy == "zero-shot" else list(COMPONENTS)}
