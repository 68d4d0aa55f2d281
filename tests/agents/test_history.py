"""The analyst's table: numbers from the store, a length that does not grow, and what was learned kept."""

from agents.llm.history import history, shown, undecided
from agents.llm.prompts import analyse_prompt
from sandbox.assemble import toolbox_reference
from schema.pipeline import COMPONENTS, Pipeline
from schema.score import Verdict
from schema.team import LedgerRow
from tests.agents.briefs import make_brief, make_evidence
from tests.agents.server import CODE

CYCLE: tuple[Verdict, ...] = ("rejected", "accepted", "rejected", "inconclusive", "failed", "rejected", "rejected")


def ledger(iterations: int) -> list[LedgerRow]:
    first = LedgerRow(iteration=0, base=None, component="all", move="first pipeline", verdict="first", validation=0.7)
    return [first, *(row(i) for i in range(1, iterations + 1))]


def row(i: int) -> LedgerRow:
    return LedgerRow(
        iteration=i,
        base=0,
        component=COMPONENTS[i % 3],
        move=f"change-number-{i}-of-the-usual-length",
        verdict=CYCLE[i % len(CYCLE)],
        validation=0.7 + i / 10_000,
        delta=0.001,
        standard_error=0.004,
        expected=0.0005,
        low=-0.001,
        high=0.002,
        summary="It was tried with the usual strength and taught that more of it brings nothing here.",
    )


def prompt_length(iterations: int) -> int:
    evidence = make_evidence(
        make_brief().model_copy(update={"toolbox": toolbox_reference()}), Pipeline.model_validate(CODE)
    )
    evidence = evidence.model_copy(update={"ledger": ledger(iterations), "iteration": iterations + 1})
    return sum(len(str(message.content)) for message in analyse_prompt(evidence))


def test_a_short_history_is_told_whole() -> None:
    text = history(ledger(8))
    assert all(f"change-number-{i}-" in text for i in range(1, 9))
    assert "Before these" not in text


def test_the_prompt_does_not_grow_with_the_run() -> None:
    """At iteration 20, 100 and 500 within a tenth of each other."""
    lengths = [prompt_length(n) for n in (20, 100, 500)]
    assert max(lengths) < 1.1 * min(lengths)


def test_what_is_still_of_use_stays_in_sight_for_ever() -> None:
    rows = shown(ledger(300))
    assert [r.iteration for r in rows[-10:]] == list(range(291, 301))
    assert sum(r.verdict == "accepted" for r in rows) >= 3
    assert undecided(ledger(300)) == [r.iteration for r in rows if r.verdict == "inconclusive"]


def test_what_was_learned_per_component_covers_the_whole_run() -> None:
    text = history(ledger(300))
    assert "- data: 100 tried" in text
    assert "expected gain" not in text.split("What was learned")[1]
    assert "without success change-number-" in text
    assert "failed" in text


def test_a_name_cannot_break_the_table() -> None:
    bad = row(1).model_copy(update={"move": "a | b\nc\x1b[31m", "summary": "x" * 1000})
    lines = history([bad]).split("\n")
    assert len(lines) == 5  # a sentence and its empty line, the head, the rule, the row
    assert lines[4].count("|") == lines[2].count("|")
    assert len(lines[4]) < 450
