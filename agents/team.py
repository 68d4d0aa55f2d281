"""What a team of experts can do: typed in, typed out. The graph knows no more of a team than this."""

from typing import Protocol

from agents.playbook.expert import Playbook
from schema.errors import SettingsError
from schema.team import Brief, Design, Evidence, Outcome, Proposal, RepairTask, Usage, WriteTask, Written

MODELS = ("playbook",)


class Team(Protocol):
    @property
    def name(self) -> str: ...

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

    def take_usage(self) -> list[Usage]:
        """What the calls since the last time cost."""
        ...


def make_team(model: str) -> Team:
    """Raises SettingsError for a model that we do not know."""
    if model == "playbook":
        return Playbook()
    raise SettingsError(f"--model {model!r} is not known. Choose one of: {', '.join(MODELS)}.")
