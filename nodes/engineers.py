"""The Data, Model and Training Engineers: each writes or repairs its own component, and can touch no other."""

from typing import Any

from nodes.calls import record_calls
from nodes.context import brief_of, components_of, fault_of, proposal_of, settings_of
from nodes.events import tell
from nodes.services import Services
from schema.events import ComponentWritten, NodeEntered
from schema.pipeline import Component, Fault
from schema.state import State
from schema.team import RepairTask, WriteTask, Written


def data_engineer(state: State, services: Services) -> dict[str, Any]:
    return _engineer("data", state, services)


def model_engineer(state: State, services: Services) -> dict[str, Any]:
    return _engineer("model", state, services)


def training_engineer(state: State, services: Services) -> dict[str, Any]:
    return _engineer("training", state, services)


def _engineer(component: Component, state: State, services: Services) -> dict[str, Any]:
    if component not in state["queue"]:
        return {}
    node = f"{component}_engineer"
    tell(NodeEntered(node=node, iteration=state["iteration"]))
    written = _revisited(component, state, services) or _written(component, state, services, node)
    tell(
        ComponentWritten(
            iteration=state["iteration"], component=component, lines=written.code.count("\n") + 1, note=written.note
        )
    )
    return {
        "draft": {**state["draft"], component: written.code},
        "queue": [waiting for waiting in state["queue"] if waiting != component],
    }


def _revisited(component: Component, state: State, services: Services) -> Written | None:
    """A change that was inconclusive is tried again as it was, on today's incumbent."""
    proposal = proposal_of(state)
    if proposal is None or proposal.action != "revisit" or proposal.revisit is None or state.get("fault"):
        return None
    code = services.store().pipeline(state["run"], proposal.revisit).code(component)
    return Written(code=code, note=f"the {component} component of iteration {proposal.revisit}, once more")


def _written(component: Component, state: State, services: Services, node: str) -> Written:
    settings, store = settings_of(state), services.store()
    team = services.team(settings.model)
    task = WriteTask(
        brief=brief_of(state, store),
        component=component,
        design=store.run(state["run"]).design,
        pipeline=components_of(state, store),
        proposal=proposal_of(state),
    )
    fault = fault_of(state)
    if fault is None:
        written = team.write(task)
    else:
        earlier = [Fault.model_validate(raw) for raw in state["faults"][:-1]]
        written = team.repair(
            RepairTask(
                write=task,
                code=task.pipeline.get(component, ""),
                fault=fault,
                attempt=state["attempt"] - 1,
                earlier=earlier,
            )
        )
    record_calls(team, state, services, node)
    return written
