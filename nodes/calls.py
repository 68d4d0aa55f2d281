"""Recording what a team's answers cost: one row per call in the experiment store, idempotent when a node runs again."""

from agents.team import Team
from nodes.services import Services
from schema.state import State


def record_calls(team: Team, state: State, services: Services, node: str) -> None:
    store = services.store()
    for number, usage in enumerate(team.take_usage()):
        call_id = f"{state['run']}/{state['iteration']}/{state['attempt']}/{node}/{number}"
        store.add_call(state["run"], state["iteration"], node, usage, call_id)
