"""The question before a training, on a terminal: what would change, and approve, edit or skip."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import typer
from rich.syntax import Syntax

from improve.terminal import open_console
from improve.view import View, clean
from schema.pipeline import COMPONENTS, Component
from schema.team import Proposal, Review, ReviewAsked
from schema.text import plain, readable

INSTRUCTION = "# What is the engineer to do instead? Lines that begin with # are left out.\n"


def on_terminal(asked: ReviewAsked, view: View) -> Review | None:
    """None where nobody can answer, or does not want to: the run stops, and asks again when it is resumed."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    with view.paused(), _interruptible():
        show_question(asked)
        try:
            return _ask(asked.proposal)
        except (typer.Abort, KeyboardInterrupt, EOFError):
            return None


def show_question(asked: ReviewAsked) -> None:
    console = open_console()
    proposal = asked.proposal
    if proposal:
        console.print(f"iteration {asked.iteration} · {proposal.component} · {clean(proposal.move)}", style="bold")
        for label, text in (
            ("why", proposal.diagnosis),
            ("hypothesis", proposal.hypothesis),
            ("instruction", proposal.instruction),
        ):
            if text:
                console.print(f"{label}: {clean(text, 2000)}")
    else:
        console.print("the first pipeline", style="bold")
    console.print(Syntax(plain(readable(asked.changes)), "diff", word_wrap=True))
    console.print(f"{clean(asked.question, 1000)} It may take {_span(asked.train_seconds)}.")


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _ask(proposal: Proposal | None) -> Review:
    choices = {"a": "approve", "s": "skip"} | ({"e": "edit"} if proposal else {})
    text = "[a]pprove, [e]dit, [s]kip" if proposal else "[a]pprove, [s]kip (which ends the run)"
    answer = ""
    while answer[:1] not in choices:
        answer = typer.prompt(text).strip().lower()
    match choices[answer[:1]]:
        case "skip":
            return Review(action="skip", reason=typer.prompt("why (for the ledger)", default="", show_default=False))
        case "edit":
            assert proposal
            return _edited(proposal)
    return Review(action="approve")


def _edited(proposal: Proposal) -> Review:
    component = typer.prompt(f"component ({', '.join(COMPONENTS)})", default=proposal.component)
    while component not in (*COMPONENTS, "all"):
        component = typer.prompt(f"one of {', '.join(COMPONENTS)}", default=proposal.component)
    written = click.edit(INSTRUCTION + plain(readable(proposal.instruction))) or ""
    instruction = "\n".join(line for line in written.splitlines() if not line.startswith("#")).strip()
    chosen: Component | None = None if component == "all" else component
    return Review(action="edit", component=chosen, instruction=instruction)


@contextmanager
def _interruptible() -> Iterator[None]:
    """While a run goes on Ctrl-C waits for the step to end; here it leaves the question."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
