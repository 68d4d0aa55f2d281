"""Whether whoever started a node wants it back: Ctrl-C or SIGTERM of the command, a cancel in Studio, a server that shuts down."""

from contextvars import ContextVar
from dataclasses import dataclass

from langgraph.runtime import get_runtime


@dataclass(slots=True)
class Cancel:
    """Set from the server's event loop while the node runs in a thread."""

    asked: bool = False
    by_person: bool = False  # what runs is not wanted any more; otherwise it goes on without us


CANCEL: ContextVar[Cancel | None] = ContextVar("cancel", default=None)


def stopping() -> bool:
    control, cancel = get_runtime().control, CANCEL.get()
    return bool((control and control.drain_requested) or (cancel and cancel.asked))


def cancelled_by_person() -> bool:
    cancel = CANCEL.get()
    return bool(cancel and cancel.by_person)
