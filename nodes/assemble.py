"""Three components become one script, which must pass the cheap checks (syntax, contract, names, arguments) before anything runs."""

from collections.abc import Mapping
from typing import Any

from dataset.decode import SOURCE as DECODE_SOURCE
from nodes.context import candidate_of, fault_of, pretrained_of, settings_of
from nodes.events import tell
from nodes.pretrained import obtained
from nodes.services import Services
from sandbox.assemble import assemble as assembled
from sandbox.check import check
from sandbox.orders import order_fault
from sandbox.pretrained.broker import missing_in
from schema.events import NodeEntered
from schema.pipeline import COMPONENTS, Fault, Pipeline
from schema.state import State

NOT_THERE = "There is no code of this component: the answer has to hold all of it, as one block of Python."


def assemble(state: State, services: Services) -> dict[str, Any]:
    tell(NodeEntered(node="assemble", iteration=state["iteration"]))
    spent = fault_of(state)
    if spent and spent.cause == "spent":
        return {}  # the engineer could not be asked: there is nothing to check
    missing = [component for component in COMPONENTS if state["base"] is None and component not in state["draft"]]
    if missing:
        return _failed(Fault(stage="contract", kind="missing", component=missing[0], message=NOT_THERE))
    pipeline = candidate_of(state, services.store())
    fault = _empty(state) or _unchanged(state, services, pipeline) or check(pipeline, script_of(pipeline, state))
    fault = fault or order_fault(pipeline, settings_of(state).orders_for("model"))
    if fault:
        return _failed(fault)
    weights = pretrained_of(state)
    weights, fault = obtained(missing_in(pipeline, weights), weights)
    return {"weights": weights.model_dump(mode="json")} | (_failed(fault) if fault else {"fault": None})


def script_of(pipeline: Pipeline, state: State, defaults: Mapping[str, Any] | None = None) -> str:
    """The script as it runs; with `defaults`, what a bare `train` does, as the person takes it home."""
    return assembled(pipeline, DECODE_SOURCE, f"{state['run']}, iteration {state['iteration']}", defaults)


def _empty(state: State) -> Fault | None:
    """An engineer's answer in which there was no code."""
    empty = next((component for component, code in state["draft"].items() if not code.strip()), None)
    return Fault(stage="contract", kind="missing", component=empty, message=NOT_THERE) if empty else None


def _unchanged(state: State, services: Services, pipeline: Pipeline) -> Fault | None:
    """A training of the incumbent's own code would only measure luck."""
    base = state["base"]
    if base is None or services.store().pipeline(state["run"], base).fingerprint != pipeline.fingerprint:
        return None
    component = next(c for c in COMPONENTS if c in state["draft"])
    message = (
        f"The {component} component is the same as the incumbent's. Write a version that carries out the instruction."
    )
    return Fault(stage="contract", kind="unchanged", component=component, message=message)


def _failed(fault: Fault) -> dict[str, Any]:
    return {"fault": fault.model_dump(mode="json")}
