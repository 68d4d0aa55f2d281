"""Pretrained weights in a whole run: what a candidate asks for is there when it runs, and no engineer is troubled for it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from checkpoints.store import open_store
from graph.run import run
from improve.predict import predict, winner_of
from nodes.context import job_dir
from nodes.services import Services
from schema.events import Event, WeightsFetched
from schema.pipeline import Pipeline
from schema.settings import Settings
from tests.sandbox.hub import Hub, serving
from tests.scripted import DATA, TRAINING, ScriptedTeam, image_folder

# A model that is only ever built from the weights of the hub: every one of its first layer's is a quarter.
PRETRAINED = """
import timm
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, info, body):
        super().__init__()
        assert info.restoring or torch.all(next(body.parameters()) == 0.25), "these are not the hub's weights"
        self.stem = body.conv1
        self.head = nn.Linear(info.channels * info.height * info.width, info.num_classes)

    def forward(self, images):
        return self.head(images.flatten(1))


def build_model(info):
    NAME
    body = timm.create_model(name, pretrained=True)
    return Net(info, body)
"""
NAMED = "name = 'test_resnet'"
PUT_TOGETHER = "name = '_'.join(['test', 'resnet'])"
BY_TOOLBOX = """
import timm
from torch import nn


def build_model(info):
    name = "-".join(["test_resnet"])
    body = load_pretrained(timm.create_model(name), info, name)
    return nn.Sequential(nn.Flatten(), nn.Linear(info.channels * info.height * info.width, info.num_classes))
"""


@pytest.fixture(scope="module")
def weights() -> bytes:
    import timm  # noqa: TID251 - its own weights, with other numbers

    state = timm.create_model("test_resnet").state_dict()
    return save({name: np.full(tuple(value.shape), 0.25, np.float32) for name, value in state.items()})


@pytest.fixture
def hub(weights: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub({"timm/test_resnet.r160_in1k/model.safetensors": weights})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "jobs"),
    [
        (PRETRAINED.replace("NAME", NAMED), 1),
        (PRETRAINED.replace("NAME", PUT_TOGETHER), 2),
        pytest.param(BY_TOOLBOX, 2, marks=pytest.mark.slow),
    ],
    ids=["named in the source", "put together while it runs", "put together for the toolbox"],
)
def test_weights_are_there_when_the_candidate_runs(
    hub: Hub, model: str, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = ScriptedTeam([], first=Pipeline(data=DATA, model=model, training=TRAINING))
    events: list[Event] = []
    settings = Settings(
        dataset=str(image_folder(tmp_path / "photos")),
        iterations=1,
        train_seconds=30,
        device="cpu",
        folds=1,
        until_budget=True,
    )
    name = run(settings, name="photos", on_event=events.append, services=Services(team=lambda *_: team))

    assert team.seen == []  # no repair
    store = open_store()
    assert [(row.iteration, row.verdict) for row in store.ledger(name)] == [(0, "first")]
    assert [event.name for event in events if isinstance(event, WeightsFetched)][:1] == ["test_resnet.r160_in1k"]
    assert len((job_dir(name, 0, 1, 0) / "starts").read_text().splitlines()) == jobs
    assert sum("GET" in request for request in hub.requests) == 1

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # and later nobody is asked
    [found] = predict(winner_of(name, store), [next((tmp_path / "photos").rglob("*.png"))])
    assert found.problem is None


@pytest.mark.slow
def test_weights_that_cannot_be_had_go_back_to_the_engineer(hub: Hub, tmp_path: Path) -> None:
    hub.files.clear()
    dynamic, plain = (
        PRETRAINED.replace("NAME", PUT_TOGETHER),
        BY_TOOLBOX.replace("load_pretrained", "(lambda m, i, n: m)"),
    )
    team = ScriptedTeam([("model", [PRETRAINED.replace("NAME", NAMED), dynamic, plain])])
    settings = Settings(
        dataset=str(image_folder(tmp_path / "photos")),
        iterations=2,
        train_seconds=30,
        device="cpu",
        max_attempts=3,
        folds=1,
        until_budget=True,
    )
    name = run(settings, name="photos", services=Services(team=lambda *_: team))

    named, put_together = team.seen
    assert named.startswith("contract · model:20 · weights: The pretrained weights 'test_resnet' cannot be had")
    assert put_together.startswith(
        "smoke · model:20 · weights: The pretrained weights 'timm/test_resnet.r160_in1k' cannot be had"
    )
    assert all("no such file" in fault and "build the model without" in fault for fault in team.seen)
    assert [row.attempts for row in open_store().ledger(name)] == [1, 3]
