"""The Data, Model and Training Engineers: each writes or repairs its own component, and can touch no other."""

import re
from typing import Any

from checkpoints.store import Store
from nodes.budget import fault_of_budget
from nodes.calls import team_of
from nodes.context import brief_of, components_of, fault_of, ledger_of, proposal_of, queue_of
from nodes.events import tell
from nodes.services import Services
from sandbox.renaming import without_clashes
from schema.errors import BudgetSpent
from schema.events import ComponentWritten, NodeEntered
from schema.pipeline import Component, Fault
from schema.state import State
from schema.team import Proposal, RepairTask, WriteTask, Written

MOST_NAMED = 2  # earlier iterations whose code is shown


def data_engineer(state: State, services: Services) -> dict[str, Any]:
    return _engineer("data", state, services)


def model_engineer(state: State, services: Services) -> dict[str, Any]:
    return _engineer("model", state, services)


def training_engineer(state: State, services: Services) -> dict[str, Any]:
    return _engineer("training", state, services)


def _engineer(component: Component, state: State, services: Services) -> dict[str, Any]:
    queue = queue_of(state)
    if component not in queue:
        return {}
    node = f"{component}_engineer"
    tell(NodeEntered(node=node, iteration=state["iteration"]))
    try:
        written = _revisited(component, state, services) or _written(component, state, services, node)
    except BudgetSpent as spent:
        if state["base"] is None:
            raise  # without a first pipeline the run has nothing to end with
        return {"queue": [], "fault": fault_of_budget(str(spent)).model_dump(mode="json")}
    code = without_clashes(component, written.code, components_of(state, services.store()))
    tell(
        ComponentWritten(
            iteration=state["iteration"], component=component, lines=code.count("\n") + 1, note=written.note
        )
    )
    return {
        "draft": {**state["draft"], component: code},
        "queue": [waiting for waiting in queue if waiting != component],
    }


def _revisited(component: Component, state: State, services: Services) -> Written | None:
    """A change that was inconclusive is tried again as it was, on today's incumbent."""
    proposal = proposal_of(state)
    if proposal is None or proposal.action != "revisit" or proposal.revisit is None or state.get("fault"):
        return None
    code = services.store().pipeline(state["run"], proposal.revisit).code(component)
    return Written(code=code, note=f"the {component} component of iteration {proposal.revisit}, once more")


def _named(proposal: Proposal, component: Component, state: State, store: Store) -> dict[int, str]:
    """The component in the iterations that the instruction names: a rejected one may be what to build on."""
    numbers = {int(number) for number in re.findall(r"\biterations? (\d{1,5})\b", proposal.instruction)}
    rows = {row.iteration for row in ledger_of(state, store) if row.validation is not None}
    found = sorted(numbers & rows - {state["base"]})[-MOST_NAMED:]
    return {number: store.pipeline(state["run"], number).code(component) for number in found}


def _written(component: Component, state: State, services: Services, node: str) -> Written:
    store, team = services.store(), team_of(state, services, node)
    base, proposal = state["base"], proposal_of(state)
    task = WriteTask(
        brief=brief_of(state, store),
        component=component,
        design=store.run(state["run"]).design,
        pipeline=components_of(state, store),
        proposal=proposal,
        earlier=_named(proposal, component, state, store) if proposal else {},
        training=None if base is None else store.training(state["run"], base),
    )
    fault = fault_of(state)
    if fault is None:
        return team.write(task)
    earlier = [Fault.model_validate(raw) for raw in state["faults"][:-1]]
    return team.repair(
        RepairTask(
            write=task,
            code=task.pipeline.get(component, ""),
            fault=fault,
            attempt=state["attempt"] - 1,
            earlier=earlier,
        )
    )
