"""A whole run that begins with a race of pretrained networks: what is kept of it, and what becomes of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import save, save_file

from checkpoints.home import run_dir
from checkpoints.store import open_store
from graph.run import run
from improve.export_readme import readme
from improve.show import as_json
from nodes.services import Services
from schema.events import Designed, Event, Raced, WeightsFetched
from schema.settings import Settings
from tests.sandbox.hub import Hub, serving
from tests.scripted import ScriptedTeam, image_folder

NAME = "test_resnet"


def weights_of(name: str) -> dict[str, object]:
    import timm  # noqa: TID251 - to have weights that fit
    import torch  # noqa: TID251

    torch.manual_seed(0)
    return {key: value.numpy() for key, value in timm.create_model(name).state_dict().items()}


class TwoRuns:
    """Over the same images: the first of them races."""

    def __init__(self, root: Path) -> None:
        os.environ["IMPROVE_HOME"] = str(root / "home")
        photos = image_folder(root / "photos", size=32)
        self.events: list[Event] = []
        services = Services(team=lambda *_: ScriptedTeam([]))
        own = settings(photos, with_weights(root))
        self.names = [run(own, name=name, on_event=self.events.append, services=services) for name in ("one", "two")]
        store = open_store()
        self.rows = [store.run(name) for name in self.names]
        self.raced = [(run_dir(name) / "iterations/0000/jobs/race").exists() for name in self.names]
        self.shown = as_json("one", store)
        self.report = (run_dir("one") / "report.md").read_text(encoding="utf-8")


def settings(photos: Path, weights: Path, **own: object) -> Settings:
    told = {"iterations": 0, "train_seconds": 20, "device": "cpu"} | own
    return Settings.model_validate({"dataset": str(photos), "weights_dir": str(weights)} | told)


def with_weights(root: Path) -> Path:
    folder = root / "weights"
    folder.mkdir()
    save_file(weights_of(NAME), folder / f"{NAME}.safetensors")
    return folder


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> TwoRuns:
    return TwoRuns(tmp_path_factory.mktemp("race"))


def test_its_table_is_kept_told_and_reported(raced: TwoRuns) -> None:
    race = raced.rows[0].race
    assert race is not None
    assert {entry.name for entry in race.entries} == {NAME, "from scratch"}
    told = next(event for event in raced.events if isinstance(event, Raced))
    assert told.race == race
    assert "## Where it began" in raced.report
    assert f"| {NAME} | 96 x 96 |" in raced.report
    assert raced.shown["race"]["entries"][0]["images"] > 0


def test_another_run_over_the_same_images_takes_what_the_first_has_found(raced: TwoRuns) -> None:
    assert raced.raced == [True, False]
    assert raced.rows[0].race == raced.rows[1].race


@pytest.mark.slow
def test_the_winner_is_fine_tuned_and_its_licence_goes_with_it(tmp_path: Path) -> None:
    """Photographs of more than 96 pixels, so that nobody runs from scratch."""
    events: list[Event] = []
    photos, weights = image_folder(tmp_path / "photos", size=128), with_weights(tmp_path)
    name = run(settings(photos, weights), name="tuned", on_event=events.append)
    row = open_store().run(name)
    assert "load_pretrained(model, info, 'test_resnet')" in open_store().pipeline(name, 0).model
    assert f"fine-tune {NAME}" in next(event.text for event in events if isinstance(event, Designed))
    assert row.best is not None
    assert list(row.best.weights) == [NAME]
    told = f"{NAME} (licence: not known here"
    assert told in (run_dir(name) / "report.md").read_text(encoding="utf-8").replace("\\", "")
    assert told in readme(row, None, has_split=False).replace("\\", "")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    name = "mobilenetv4_conv_small"
    with serving(Hub({f"timm/{name}.e2400_r224_in1k/model.safetensors": save(weights_of(name))})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield running


@pytest.mark.slow
def test_with_a_network_the_playbook_fetches_what_suits_the_device(hub: Hub, tmp_path: Path) -> None:
    own = Settings(
        dataset=str(image_folder(tmp_path / "photos", size=32)), iterations=0, train_seconds=130, device="cpu"
    )
    events: list[Event] = []
    services = Services(team=lambda *_: ScriptedTeam([]))
    name = run(own, name="fetched", on_event=events.append, services=services)
    fetched = [event for event in events if isinstance(event, WeightsFetched)]
    assert fetched[0].total > 9e6
    race = open_store().run(name).race
    assert race is not None
    assert "mobilenetv4_conv_small.e2400_r224_in1k" in {entry.name for entry in race.entries}
    assert any("tiny_vit_5m_224" in note and "was not fetched" in note for note in race.notes)  # this hub has it not


@pytest.mark.slow
def test_without_leave_it_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", size=32)
    own = Settings(dataset=str(photos), iterations=0, train_seconds=20, device="cpu", download=False)
    name = run(own, name="own", services=Services(team=lambda *_: ScriptedTeam([])))
    assert open_store().run(name).race is None
    assert not hub.requests


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "expected"), [(15.0, 15.0), (1200.0, None)], ids=["the person's limit", "none given"]
)
def test_one_long_training_is_never_longer_than_the_person_allows(
    limit: float, expected: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget's quarter is 13 s; the networks are said to go on learning for an hour."""
    monkeypatch.setattr("nodes.race.wanted_seconds", lambda _: 3600.0)
    photos, weights, events = image_folder(tmp_path / "photos", size=32), with_weights(tmp_path), list[Event]()
    own = settings(photos, weights, train_seconds=limit, budget_seconds=52)
    run(own, name="long", on_event=events.append, services=Services(team=lambda *_: ScriptedTeam([])))
    planned = next(event.train_seconds for event in events if isinstance(event, Raced))
    assert planned == expected if expected else planned > 25
