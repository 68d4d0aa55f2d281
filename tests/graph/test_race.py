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
from schema.events import Designed, Event, Raced, WeightsFetched
from schema.settings import Settings
from tests.sandbox.hub import Hub, serving
from tests.scripted import image_folder

NAME = "test_resnet"


def weights_of(name: str) -> dict[str, object]:
    import timm  # noqa: TID251 - to have weights that fit
    import torch  # noqa: TID251

    torch.manual_seed(0)
    return {key: value.numpy() for key, value in timm.create_model(name).state_dict().items()}


class Raced2:
    """Two runs over the same images, the first of which races."""

    def __init__(self, root: Path) -> None:
        os.environ["IMPROVE_HOME"] = str(root / "home")
        folder = root / "weights"
        folder.mkdir()
        save_file(weights_of(NAME), folder / f"{NAME}.safetensors")
        settings = Settings(
            dataset=str(image_folder(root / "photos", size=32)),
            iterations=0,
            train_seconds=20,
            device="cpu",
            weights_dir=str(folder),
        )
        self.events: list[Event] = []
        self.names = [run(settings, name=name, on_event=self.events.append) for name in ("one", "two")]
        store = open_store()
        self.rows = [store.run(name) for name in self.names]
        self.raced = [(run_dir(name) / "iterations/0000/jobs/race").exists() for name in self.names]
        self.shown = as_json("one", store)
        self.report = (run_dir("one") / "report.md").read_text(encoding="utf-8")
        self.model = store.pipeline("one", 0).model
        self.readme = readme(self.rows[0], None, has_split=False)


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Raced2:
    return Raced2(tmp_path_factory.mktemp("race"))


def test_its_table_is_kept_told_and_reported(raced: Raced2) -> None:
    race = raced.rows[0].race
    assert race is not None
    assert {entry.name for entry in race.entries} == {NAME, "from scratch"}
    told = next(event for event in raced.events if isinstance(event, Raced))
    assert told.race == race
    assert "## Where it began" in raced.report
    assert f"| {NAME} | 96 x 96 |" in raced.report
    assert raced.shown["race"]["entries"][0]["images"] > 0


def test_the_design_says_what_came_of_it(raced: Raced2) -> None:
    design = next(event.text for event in raced.events if isinstance(event, Designed))
    best = "from scratch" if "ConvNet" in raced.model else f"fine-tune {NAME}"
    assert best in design


def test_another_run_over_the_same_images_takes_what_the_first_has_found(raced: Raced2) -> None:
    assert raced.raced == [True, False]
    assert raced.rows[0].race == raced.rows[1].race


def test_the_licence_of_the_weights_goes_with_the_model(raced: Raced2) -> None:
    best = raced.rows[0].best
    assert best is not None
    if "ConvNet" in raced.model:
        assert best.weights == {}
        return
    assert list(best.weights) == [NAME]
    assert f"{NAME} (licence: not known here" in raced.report
    assert f"{NAME} (licence: not known here" in raced.readme


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    name = "mobilenetv4_conv_small"
    with serving(Hub({f"timm/{name}.e2400_r224_in1k/model.safetensors": save(weights_of(name))})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield running


@pytest.mark.slow
def test_with_a_network_the_playbook_fetches_what_suits_the_device(hub: Hub, tmp_path: Path) -> None:
    settings = Settings(
        dataset=str(image_folder(tmp_path / "photos", size=32)), iterations=0, train_seconds=130, device="cpu"
    )
    events: list[Event] = []
    name = run(settings, name="fetched", on_event=events.append)
    fetched = [event for event in events if isinstance(event, WeightsFetched)]
    assert fetched[0].total > 9e6
    race = open_store().run(name).race
    assert race is not None
    assert "mobilenetv4_conv_small.e2400_r224_in1k" in {entry.name for entry in race.entries}
    assert any("tiny_vit_5m_224" in note and "was not fetched" in note for note in race.notes)  # this hub has it not


@pytest.mark.slow
def test_without_leave_it_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", size=32)
    name = run(Settings(dataset=str(photos), iterations=0, train_seconds=20, device="cpu", download=False), name="own")
    assert open_store().run(name).race is None
    assert not hub.requests
