"""A team at work for a run: what it asks of language models is recorded as it happens, and told."""

from collections.abc import Callable

from agents.team import Line, Team
from checkpoints.home import prices_path
from nodes.context import settings_of
from nodes.events import tell
from nodes.services import Services
from nodes.stopping import stopping
from schema.events import ModelAnswered
from schema.settings import Settings
from schema.state import State
from schema.team import Spent, Usage


def team_of(state: State, services: Services, node: str, iteration: int | None = None) -> Team:
    """The run's team. Each of its calls becomes a row of the experiment store, whatever becomes of the node: it is paid for."""
    run, settings, store = state["run"], settings_of(state), services.store()

    def record(usage: Usage) -> None:
        number = state["iteration"] if iteration is None else iteration
        store.add_call(run, number, node, usage)
        tell(ModelAnswered(usage=usage, spent=store.spent(run)))

    return services.team(settings, _line(record, lambda: store.spent(run)))


def team_before(settings: Settings, services: Services) -> tuple[Team, list[Usage]]:
    """A team for a run that does not exist yet, and what it will have spent by then."""
    asked: list[Usage] = []
    return services.team(settings, _line(asked.append, Spent)), asked


def _line(record: Callable[[Usage], None], spent: Callable[[], Spent]) -> Line:
    return Line(
        tell=tell,
        record=record,
        spent=spent,
        stopping=stopping,
        prices=prices_path(),
    )
