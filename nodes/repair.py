"""A failed attempt: the fault goes to the component at fault while attempts are left, else the iteration has failed."""

from typing import Any

from nodes.context import fault_of, settings_of
from nodes.events import tell
from nodes.services import Services
from schema.events import FaultFound
from schema.pipeline import COMPONENTS, Component
from schema.state import State


def repair(state: State, _services: Services) -> dict[str, Any]:
    fault = fault_of(state)
    if fault is None:
        raise RuntimeError("the repair node was entered without a fault")
    tell(FaultFound(iteration=state["iteration"], attempt=state["attempt"], fault=fault))
    settings = settings_of(state)
    allowed = settings.first_attempts if state["base"] is None else settings.attempts
    faults = [*state["faults"], fault.model_dump(mode="json")][-5:]
    if state["attempt"] >= allowed or fault.cause == "spent":
        return {"faults": faults, "queue": []}
    return {"faults": faults, "queue": [_at_fault(state)], "attempt": state["attempt"] + 1, "seeds": 1}


def _at_fault(state: State) -> Component:
    """The component to mend. Only what this iteration changed may be written again; where blame is unclear, the change is at fault."""
    fault = fault_of(state)
    changed = [component for component in COMPONENTS if component in state["draft"]]
    if fault and fault.component in changed:
        return fault.component
    return changed[-1]
