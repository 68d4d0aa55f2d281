"""Where to go next: pure functions of the state. Each word is an edge label in Studio, so the maps in build.py are the design."""

from nodes.context import queue_of
from schema.pipeline import COMPONENTS
from schema.state import State

# The order in which engineers write, and their node names.
ENGINEERS = {"data": "data_engineer", "model": "model_engineer", "training": "training_engineer"}


def next_engineer(state: State) -> str:
    """After an engineer: the next component still to write, else `assemble`."""
    waiting = queue_of(state)
    return next((component for component in COMPONENTS if component in waiting), "assemble")


def after_assemble(state: State) -> str:
    return "check failed" if state.get("fault") else "fits"


def after_review(state: State) -> str:
    return next_engineer(state) if state["reviewed"] == "edit" else state["reviewed"]


def after_sandbox(state: State) -> str:
    return "failed" if state.get("fault") else "scored"


def after_repair(state: State) -> str:
    """`repair` puts the component at fault back into the queue while attempts are left."""
    return next_engineer(state) if state.get("queue") else "out of attempts"


def after_decide(state: State) -> str:
    verdict = state.get("verdict")
    return verdict or "undecided: one more seed"


def after_summarize(state: State) -> str:
    return "finished" if state.get("stop") else "next"


def after_analyst(state: State) -> str:
    if state.get("stop"):
        return "stop"
    waiting = queue_of(state)
    return "all" if len(waiting) == len(COMPONENTS) else next_engineer(state)
