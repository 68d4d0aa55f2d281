"""The Performance Analyst opens an iteration: one component, a diagnosis, a hypothesis, an instruction; or the end of the run."""

from typing import Any

from nodes.budget import reason_to_stop
from nodes.calls import team_of
from nodes.context import brief_of, engineers_of, ledger_of, settings_of
from nodes.events import tell
from nodes.services import Services
from schema.errors import BudgetSpent
from schema.events import NodeEntered, Proposed
from schema.state import State
from schema.team import Evidence


def performance_analyst(state: State, services: Services) -> dict[str, Any]:
    iteration = services.store().next_iteration(state["run"])
    tell(NodeEntered(node="performance_analyst", iteration=iteration))
    if spent := reason_to_stop(settings_of(state), services.store(), state["run"]):
        return {"stop": spent, "proposal": None}
    team = team_of(state, services, "performance_analyst", iteration)
    try:
        proposal = team.analyse(_evidence(state, services, iteration))
    except BudgetSpent as budget:
        return {"stop": str(budget), "proposal": None}
    tell(Proposed(iteration=iteration, proposal=proposal))
    if proposal.action == "stop":
        return {"stop": f"the analyst has nothing left to try: {proposal.diagnosis}", "proposal": None}
    return {
        "iteration": iteration,
        "iteration_clock": state["clock"],
        "base": state["best"],
        "attempt": 1,
        "proposal": proposal.model_dump(mode="json"),
        "queue": engineers_of(proposal),
        "draft": {},
        "fault": None,
        "faults": [],
        "seeds": 1,
        "verdict": None,
        "comparison": None,
        "reason": "",
    }


def _evidence(state: State, services: Services, iteration: int) -> Evidence:
    store, run, best = services.store(), state["run"], state["best"]
    training = None if best is None else store.training(run, best)
    if best is None or training is None:
        raise RuntimeError(f"run {run} has no scored incumbent to improve")
    budget = settings_of(state).budget_seconds
    return Evidence(
        brief=brief_of(state, store),
        iteration=iteration,
        best_iteration=best,
        pipeline=store.pipeline(run, best),
        training=training,
        ledger=ledger_of(state, store),
        seconds_left=None if budget is None else max(0.0, budget - state["clock"]),
    )
