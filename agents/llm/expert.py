"""Five experts and a logbook keeper, each a language model that is asked with its own prompt and read forgivingly."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, BaseMessage

from agents.llm import prompts
from agents.llm.answers import Unusable, blocks, code_of, components_of, prose_of, without_thoughts
from agents.llm.calls import Seat, ask
from agents.llm.judgement import SCHEMA, from_prose, proposal_of
from agents.llm.start import check
from agents.team import Line
from schema.pipeline import COMPONENTS, Component
from schema.settings import Role, Settings
from schema.team import Brief, Design, Evidence, Outcome, Proposal, RepairTask, WriteTask, Written
from schema.text import one_line

T = TypeVar("T")
TURNS = 2  # an answer, and another one where that cannot be used
PIPELINE = "three blocks of ```python, one for each component, each whole"
ECHO = 3000  # characters of an unusable answer that its model is shown again
DESIGN, NOTE, SUMMARY = 4000, 200, 200  # characters


@dataclass(frozen=True, slots=True)
class LanguageTeam:
    settings: Settings
    line: Line

    def check(self) -> None:
        check(self.settings, self.line)

    def design(self, brief: Brief) -> Design:
        if brief.init == "bottom-up" and brief.strategy != "zero-shot":
            return Design(text=self._said("architect", prompts.design_prompt(brief), DESIGN))
        told: list[str] = []
        found: dict[Component, str] = {}

        def read(text: str) -> None:
            """A second answer may hold what the first one lacked, and no more."""
            told.append(text)
            found.update(components_of(text))
            if missing := [component for component in COMPONENTS if component not in found]:
                raise Unusable(f"The answer holds no usable code for: {', '.join(missing)}. Expected: {PIPELINE}.")

        with suppress(Unusable):  # the engineers write what is still missing
            self._until_usable("architect", prompts.design_prompt(brief), read)
        design = "One naive prompt." if brief.strategy == "zero-shot" else prose_of(told[0])[:DESIGN]
        return Design(text=design, components=found)

    def write(self, task: WriteTask) -> Written:
        current = task.pipeline.get(task.component)
        may_keep = current is not None and (task.proposal is None or task.proposal.component == "all")
        return self._written(task.component, prompts.write_prompt(task), current if may_keep else None)

    def repair(self, task: RepairTask) -> Written:
        return self._written(task.write.component, prompts.repair_prompt(task), None)

    def analyse(self, evidence: Evidence) -> Proposal:
        def read(text: str) -> Proposal:
            return proposal_of(text, evidence)

        try:
            return self._until_usable("analyst", prompts.analyse_prompt(evidence), read, SCHEMA)
        except Unusable as unusable:
            return from_prose(without_thoughts(unusable.text), evidence)

    def summarise(self, outcome: Outcome) -> str:
        said = self._said("summariser", prompts.summarise_prompt(outcome), SUMMARY)
        return one_line(said, SUMMARY) or f"{outcome.row.move}: {outcome.row.verdict}"

    def _written(self, component: Component, messages: list[BaseMessage], current: str | None) -> Written:
        """Without code where the model gave none twice: the checks then send it back."""

        def read(text: str) -> Written:
            if current is not None and keeps(text):
                return Written(code=current, note="kept as it is")
            return Written(code=code_of(text, component), note=one_line(prose_of(text), NOTE))

        try:
            return self._until_usable(component, messages, read)
        except Unusable as unusable:
            return Written(code="", note=one_line(str(unusable), NOTE))

    def _until_usable(
        self, role: Role, messages: list[BaseMessage], read: Callable[[str], T], schema: dict[str, Any] | None = None
    ) -> T:
        """Raises Unusable with the problem and the text of the last answer."""
        problem, text = "", ""
        for _ in range(TURNS):
            answer = ask(Seat(role, self.settings, self.line), messages, schema)
            text = answer.text
            try:
                found = read(text)
            except Unusable as unusable:
                problem = str(unusable)
                self.line.record(answer.usage.model_copy(update={"problem": one_line(problem, 300)}))
                messages = [
                    *messages,
                    AIMessage(text[:ECHO].strip() or "(empty)"),
                    prompts.unusable_prompt(problem, cut=answer.cut),
                ]
            else:
                self.line.record(answer.usage)
                return found
        raise Unusable(problem, text)

    def _said(self, role: Role, messages: list[BaseMessage], most: int) -> str:
        answer = ask(Seat(role, self.settings, self.line), messages)
        self.line.record(answer.usage)
        return prose_of(answer.text)[:most]


def keeps(text: str) -> bool:
    """KEEP, alone or in a sentence, and no code."""
    said = without_thoughts(text)
    return (
        not blocks(said)
        and re.search(r"\bKEEP\b|\A\W*keep\b", said, re.IGNORECASE if len(said) < 20 else 0) is not None
    )
