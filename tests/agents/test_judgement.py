"""The analyst's JSON becomes a proposal that the graph can carry out, or a sentence on what would have to be different."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.llm.answers import Unusable
from agents.llm.judgement import SCHEMA, Judgement, from_prose, proposal_of
from schema.pipeline import COMPONENTS, Pipeline
from schema.team import Evidence, LedgerRow
from tests.agents.briefs import make_brief, make_evidence
from tests.agents.server import CODE, judgement


def evidence(strategy: str = "iterative") -> Evidence:
    row = LedgerRow(iteration=4, base=0, component="data", move="cutout", verdict="inconclusive")
    made = make_evidence(make_brief(strategy=strategy), Pipeline.model_validate(CODE))  # type: ignore[arg-type]
    return made.model_copy(update={"ledger": [*made.ledger, row], "iteration": 5})


@pytest.mark.parametrize(
    ("own", "component"),
    [
        ({}, "training"),
        ({"component": "Model Engineer"}, "model"),
        ({"component": "DATA"}, "data"),
        ({"component": "training_engineer"}, "training"),
        ({"action": "Improve", "component": "model"}, "model"),
        ({"instruction": ["first this", "then that"]}, "training"),
        ({"longer": None, "move": None}, "training"),
        ({"surprise": 1}, "training"),
    ],
)
def test_what_is_meant_is_understood(own: dict[str, Any], component: str) -> None:
    proposal = proposal_of(judgement(**own), evidence())
    assert (proposal.action, proposal.component) == ("change", component)
    assert proposal.instruction
    assert proposal.move


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"component": "all"}, "Expected one of: data, model, training. One change at a time"),
        ({"component": None}, "Expected one of: data, model, training"),
        ({"component": "the optimiser"}, "'component' is 'the optimiser'"),
        ({"instruction": ""}, "'instruction' is empty"),
        ({"action": "revisit", "revisit": 2}, "Iteration 2 cannot be revisited. Those that may be: 4"),
        ({"action": "dance"}, "'action' is 'dance'"),
        ({"longer": "perhaps"}, "'longer'"),
    ],
)
def test_what_cannot_be_carried_out_is_told(own: dict[str, Any], said: str) -> None:
    with pytest.raises(Unusable, match=said):
        proposal_of(judgement(**own), evidence())


def test_stop_and_revisit() -> None:
    assert proposal_of(judgement(action="stop", diagnosis="nothing left"), evidence()).action == "stop"
    again = proposal_of(judgement(action="revisit", revisit=4, component=None), evidence())
    assert (again.component, again.revisit, again.move) == ("data", 4, "cutout, once more")


def test_globally_all_three_are_changed_whatever_is_named() -> None:
    assert proposal_of(judgement(component="model"), evidence("global")).component == "all"


def test_prose_is_an_instruction_for_the_component_that_it_names() -> None:
    text = "I think the model component is too small. Widen the model component."
    assert from_prose(text, evidence()).component == "model"
    assert from_prose(text, evidence()).instruction == text
    assert from_prose("", evidence()).component in COMPONENTS


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_value_breaks_the_reader(value: object) -> None:
    for field in Judgement.model_fields:
        try:
            proposal_of(json.dumps(json.loads(judgement()) | {field: value}), evidence())
        except Unusable:
            continue


def test_the_schema_names_what_is_read() -> None:
    assert set(SCHEMA["properties"]) == set(SCHEMA["required"]) == set(Judgement.model_fields)
