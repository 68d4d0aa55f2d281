"""The analyst's answer: one JSON object, held to what the graph can do with it; where there is none, what its prose says."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from agents.llm.answers import Unusable, judgement_of
from agents.llm.history import undecided
from schema.pipeline import COMPONENTS, Component
from schema.team import Evidence, Proposal
from schema.text import one_line, plain

MOVE, TEXT = 60, 1500  # characters
TEXTS = ("move", "diagnosis", "hypothesis", "instruction")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": ["change", "revisit", "stop"]},
        "component": {"anyOf": [{"type": "string", "enum": [*COMPONENTS, "all"]}, {"type": "null"}]},
        **{name: {"type": "string"} for name in TEXTS},
        "longer": {"type": "boolean"},
        "revisit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "required": ["action", "component", *TEXTS, "longer", "revisit"],
    "additionalProperties": False,
}


class Judgement(BaseModel):
    """Forgiving: what models write where they mean one of ours."""

    model_config = ConfigDict(extra="ignore")

    action: Literal["change", "revisit", "stop"] = "change"
    component: Component | Literal["all"] | None = None
    move: str = ""
    diagnosis: str = ""
    hypothesis: str = ""
    instruction: str = ""
    longer: bool = False
    revisit: int | None = None

    @field_validator("action", mode="before")
    @classmethod
    def _known_action(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        word = value.strip().lower()
        meant = {"stop": {"end", "finish", "done"}, "change": {"modify", "improve", "refine"}}
        return next((ours for ours, theirs in meant.items() if word in theirs), word)

    @field_validator("component", mode="before")
    @classmethod
    def _known_component(cls, value: object) -> object:
        """`Model Engineer`, `training_component` and the like."""
        if not isinstance(value, str) or not value.strip():
            return None if isinstance(value, str) else value
        word = re.split(r"[\s_-]+", value.strip().lower())[0]
        return word if word in {*COMPONENTS, "all"} else value

    @field_validator(*TEXTS, mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        """A list of steps is an instruction, too."""
        if isinstance(value, list):
            return "\n".join(str(one) for one in value)
        if isinstance(value, dict):
            return "\n".join(f"{key}: {one}" for key, one in value.items())
        return "" if value is None else value

    @field_validator("longer", mode="before")
    @classmethod
    def _no_by_default(cls, value: object) -> object:
        return False if value is None else value


def proposal_of(text: str, evidence: Evidence) -> Proposal:
    """Raises Unusable, with what would have to be different."""
    try:
        judged = Judgement.model_validate(judgement_of(text, "action"))
    except ValidationError as error:
        first = error.errors()[0]
        raise Unusable(f"The field {first['loc'][0]!r} is {first['input']!r}: {first['msg']}.") from None
    texts = {name: plain(getattr(judged, name)).strip()[:TEXT] for name in TEXTS} | {"move": _name(judged)}
    if judged.action == "stop":
        return Proposal(action="stop", **texts)
    if judged.action == "revisit":
        return _revisited(judged, evidence, texts)
    component = "all" if evidence.brief.strategy == "global" else judged.component
    if component is None or (component == "all" and evidence.brief.strategy != "global"):
        raise Unusable(
            f"The field 'component' is {judged.component!r}. Expected one of: {', '.join(COMPONENTS)}. One change at a time."
        )
    if not texts["instruction"]:
        raise Unusable("The field 'instruction' is empty. Expected: what the engineer is to do, concretely.")
    return Proposal(action="change", component=component, longer=judged.longer, **texts)


def from_prose(text: str, evidence: Evidence) -> Proposal:
    """An analyst that gave no usable JSON twice has often said what it means all the same; the engineer reads it, and the iteration is not lost."""
    named = re.findall(r"\b(data|model|training)\b(?= (?:component|engineer))", text.lower()) or re.findall(
        r"\b(data|model|training)\b", text.lower()
    )
    tried = [row.component for row in evidence.ledger]
    component = max(COMPONENTS, key=lambda c: (named.count(c), -tried.count(c)))
    asked = plain(text).strip()[:TEXT] or "Improve your component as the design and its code suggest: one clear change."
    return Proposal(
        action="change",
        component="all" if evidence.brief.strategy == "global" else component,
        move="as-the-analyst-said",
        diagnosis="The analyst's answer was not in the form that was asked for; it is the instruction, as it stands.",
        instruction=asked,
    )


def _revisited(judged: Judgement, evidence: Evidence, texts: dict[str, str]) -> Proposal:
    open_ = {row.iteration: row for row in evidence.ledger if row.iteration in undecided(evidence.ledger)}
    row = open_.get(judged.revisit or -1)
    if row is None:
        known = ", ".join(map(str, open_)) or "none"
        raise Unusable(f"Iteration {judged.revisit} cannot be revisited. Those that may be: {known}.")
    return Proposal(
        action="revisit",
        component=row.component,
        revisit=row.iteration,
        **texts | {"move": one_line(f"{row.move}, once more", MOVE)},
    )


def _name(judged: Judgement) -> str:
    """Of the change, for the ledger."""
    return one_line(judged.move or judged.instruction or judged.action, MOVE)
