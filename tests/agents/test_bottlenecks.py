"""Trainings that are held back by one thing each, recorded from real ones: what the analyst is shown names that thing."""

import json
import re

import pytest

from agents.llm.prompts import analyse_prompt
from benchmarks.bottlenecks.__main__ import helps, main, recorded
from benchmarks.bottlenecks.situations import SITUATIONS, Situation
from schema.team import Proposal
from tests.agents.server import Ask, Reply, serving

PROMPTS = {
    situation.name: "\n".join(str(message.content) for message in analyse_prompt(recorded(situation)))
    for situation in SITUATIONS
}


def found(prompt: str) -> list[str]:
    """The situations whose facts a prompt has, all of them."""
    return [one.name for one in SITUATIONS if all(re.search(fact, prompt) for fact in one.facts)]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.name)
def test_the_evidence_names_its_own_bottleneck_and_no_other(situation: Situation) -> None:
    assert found(PROMPTS[situation.name]) == [situation.name]


def reads_the_evidence(ask: Ask) -> Reply:
    """A model that goes by the facts alone."""
    whole = "\n".join(str(message["content"]) for message in ask.body["messages"])
    named = [one for one in SITUATIONS if one.name in found(whole)]
    answer = {"action": "change", "component": "training", "move": "x", "diagnosis": "", "hypothesis": ""}
    return Reply(json.dumps(answer | {"instruction": f"try {named[0].remedies[0]}" if named else "anything"}))


def test_a_model_that_goes_by_these_facts_is_counted_as_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(reads_the_evidence) as server:
        assert main(["--model", "openai:reader", "--base-url", server.url]) == 0
    assert "6 of 6 proposals go for the planted bottleneck" in capsys.readouterr().out


def test_a_proposal_that_goes_elsewhere_is_counted_as_wrong() -> None:
    elsewhere = Proposal(action="change", component="model", move="deeper", instruction="Add two layers.")
    mirrored = next(one for one in SITUATIONS if one.name == "mirrored")
    assert not helps(mirrored, elsewhere)
    assert not helps(mirrored, Proposal(action="stop", diagnosis="the flip"))
