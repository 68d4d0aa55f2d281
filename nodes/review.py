"""Before each training, where the person wants it: approve the change, edit its proposal, or skip it. In Studio and on the terminal alike."""

import difflib
from typing import Any

from langgraph.types import interrupt

from checkpoints.store import Store
from nodes.context import candidate_of, engineers_of, proposal_of, settings_of
from nodes.events import tell
from nodes.services import Services
from schema.events import NodeEntered
from schema.pipeline import COMPONENTS, Fault
from schema.state import State
from schema.team import Proposal, Review, ReviewAsked
from schema.text import one_line

MOST = 20_000  # characters of the changes that are shown
QUESTION = "Train this?"
NOTHING_TO_EDIT = "The first pipeline has no proposal to edit: approve it, or skip it, which ends the run."
NO_INSTRUCTION = "An edit needs an instruction: what is the engineer to do instead?"


def review(state: State, services: Services) -> dict[str, Any]:
    """Passes at once where nobody asked for a review. An answer that cannot be used is asked for again, with the reason."""
    if not settings_of(state).review:
        return {"reviewed": "approve"}
    tell(NodeEntered(node="review", iteration=state["iteration"]))
    proposal, question = proposal_of(state), QUESTION
    while True:
        asked = _asked(state, services.store(), proposal, question)
        answer = Review.model_validate(interrupt(asked.model_dump(mode="json"), response_schema=Review))
        if answer.action == "approve":
            return {"reviewed": "approve"}
        if answer.action == "skip":
            return {"reviewed": "skip", "fault": _skipped(answer.reason).model_dump(mode="json")}
        if proposal and answer.instruction.strip():
            return {"reviewed": "edit"} | _written_anew(_edited(proposal, answer))
        question = NO_INSTRUCTION if proposal else NOTHING_TO_EDIT


def _asked(state: State, store: Store, proposal: Proposal | None, question: str) -> ReviewAsked:
    return ReviewAsked(
        question=question,
        iteration=state["iteration"],
        attempt=state["attempt"],
        proposal=proposal,
        changes=_changes(state, store),
        train_seconds=settings_of(state).train_seconds,
    )


def _changes(state: State, store: Store) -> str:
    base, candidate = state["base"], candidate_of(state, store)
    lines: list[str] = []
    for component in COMPONENTS:
        before = "" if base is None else store.pipeline(state["run"], base).code(component)
        ours, theirs = before.splitlines(), candidate.code(component).splitlines()
        lines += difflib.unified_diff(ours, theirs, f"{component} before", f"{component} after", lineterm="")
    text = "\n".join(lines)
    return text if len(text) <= MOST else f"{text[:MOST]}\n... ({len(text) - MOST} characters more)"


def _edited(proposal: Proposal, answer: Review) -> Proposal:
    return proposal.model_copy(
        update={
            "action": "change",
            "component": answer.component or proposal.component,
            "move": f"edited: {one_line(answer.instruction, 60)}",
            "hypothesis": "",
            "instruction": answer.instruction,
            "longer": False,
            "revisit": None,
        }
    )


def _written_anew(proposal: Proposal) -> dict[str, Any]:
    """The iteration begins again, from the incumbent, with the person's proposal."""
    return {
        "proposal": proposal.model_dump(mode="json"),
        "queue": engineers_of(proposal),
        "draft": {},
        "fault": None,
        "faults": [],
        "attempt": 1,
    }


def _skipped(reason: str) -> Fault:
    return Fault(
        stage="contract",
        kind="skipped",
        cause="skipped",
        message=f"skipped by you: {reason}" if reason else "skipped by you",
    )
