"""The Project Architect reads the profile, decides on a design and (with `unified` initialisation) writes the whole first pipeline."""

from typing import Any

from nodes.calls import team_of
from nodes.context import brief_of, settings_of
from nodes.events import tell
from nodes.services import Services
from schema.events import Designed, NodeEntered
from schema.pipeline import COMPONENTS
from schema.state import State


def project_architect(state: State, services: Services) -> dict[str, Any]:
    """`unified`: the draft holds the components and each engineer takes over its own. `zero-shot`: nobody revises them."""
    tell(NodeEntered(node="project_architect", iteration=0))
    settings, store = settings_of(state), services.store()
    design = team_of(state, services, "project_architect").design(brief_of(state, store))
    store.set_design(state["run"], design.text)
    tell(Designed(text=design.text))
    alone = settings.strategy == "zero-shot" and len(design.components) == len(COMPONENTS)
    return {"draft": design.components, "queue": [] if alone else list(COMPONENTS)}
