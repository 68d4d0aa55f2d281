"""An engineer is shown the code that its instruction names, and no other."""

from typing import Any

import pytest

from checkpoints.home import prepare_home
from checkpoints.store import Store, open_store
from nodes.engineers import _named
from schema.settings import Settings
from schema.team import LedgerRow, Proposal
from tests.scripted import PIPELINE


@pytest.fixture
def store() -> Store:
    """The first pipeline, two changes of the training, and one that never ran."""
    prepare_home()
    made = open_store()
    made.create_run("demo", Settings(dataset="photos"), "none")
    for number, score in enumerate([0.8, 0.7, 0.75, None]):
        row = LedgerRow(
            iteration=number, base=None, component="training", move="x", verdict="rejected", validation=score
        )
        pipeline = PIPELINE.with_code("training", f"# {number}\n{PIPELINE.training}")
        made.put_iteration(
            "demo", row, previous=number - 1, pipeline=pipeline, proposal=None, fault=None, training=None
        )
    return made


NAMES = {
    "as in iteration 1, but slower": [1],
    "combine iterations 2 and 1": [2],
    "as in iteration 1; the loss of iteration 2": [1, 2],
    "train for 2 epochs in 3 iterations": [],
    "as in iteration 3": [],  # it has no score
    "as in iteration 0": [],  # that is the incumbent, which is shown anyway
    "as in iteration 99": [],
    "": [],
}


@pytest.mark.parametrize(("instruction", "shown"), NAMES.items())
def test_iterations_that_are_named_are_shown(store: Store, instruction: str, shown: list[int]) -> None:
    state: Any = {"run": "demo", "base": 0, "settled": 3}
    proposal = Proposal(action="change", component="training", instruction=instruction)
    found = _named(proposal, "training", state, store)
    assert list(found) == shown
    assert all(code.startswith(f"# {number}\n") for number, code in found.items())
