"""What a team of experts can do: typed in, typed out. The graph knows no more of a team than this."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agents.playbook.expert import Playbook
from schema.errors import SettingsError
from schema.events import Event
from schema.settings import Settings, make_settings
from schema.team import Brief, Design, Evidence, Outcome, Proposal, RepairTask, Spent, Usage, WriteTask, Written


@dataclass(frozen=True, slots=True)
class Line:
    """A team's line to the run that it works for."""

    tell: Callable[[Event], None]
    record: Callable[[Usage], None]  # a call of a language model, as soon as it is over
    spent: Callable[[], Spent]  # by the whole run
    stopping: Callable[[], bool]  # the person wants the run to stop
    prices: Path  # of language models, where the person has written any


class Team(Protocol):
    """BudgetSpent and ModelsUnavailable may come out of every method but `check`."""

    def check(self) -> None:
        """Before anything of a run is made. Raises SettingsError for what the person can mend: a key, a name, an address."""
        ...

    def design(self, brief: Brief) -> Design:
        """The Project Architect: a technical design, and with `unified` initialisation the whole first pipeline."""
        ...

    def write(self, task: WriteTask) -> Written:
        """An engineer: the whole source of its component."""
        ...

    def repair(self, task: RepairTask) -> Written:
        """An engineer whose component failed."""
        ...

    def analyse(self, evidence: Evidence) -> Proposal:
        """The Performance Analyst: one component to change and why, or the end."""
        ...

    def summarise(self, outcome: Outcome) -> str:
        """One line for the ledger."""
        ...


def settled(settings: Settings) -> Settings:
    """With the address that the environment adds: it is frozen into the run, so that no later variable sends its data elsewhere."""
    if settings.model == "playbook":
        return settings
    from agents.llm.providers import settled_address  # noqa: PLC0415 - its libraries take half a second to import

    return make_settings(settings.model_dump() | {"base_url": settled_address(settings)})


def make_team(settings: Settings, line: Line) -> Team:
    """Raises SettingsError for a model that we do not know."""
    if settings.model == "playbook":
        if settings.role_models:
            role = next(iter(settings.role_models))
            raise SettingsError(
                f"--{role}-model goes with a language model: the playbook has no roles to give away. Add e.g. --model openai:gpt-5.4-mini."
            )
        if settings.show_images:
            raise SettingsError(
                "--show-images goes with a language model that sees: the playbook looks at no image. Add e.g. --model openai:gpt-5.4-mini, or leave it out."
            )
        return Playbook()
    from agents.llm.expert import LanguageTeam  # noqa: PLC0415 - its libraries take half a second to import

    return LanguageTeam(settings, line)
