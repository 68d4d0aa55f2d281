"""The race of starting points: heads on frozen features of a sample, and a network from scratch beside them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sandbox import artifacts, job
from sandbox import race as races
from sandbox.script.clock import Clock
from schema.job import JobSpec
from schema.race import SCRATCH, Race, Runner
from tests.sandbox.jobs import lay_out_data, spec
from tests.scripted import PIPELINE


def runner(name: str, side: int = 96, pad_type: str = "") -> dict[str, Any]:
    return {"name": name, "height": side, "width": side, "pad_type": pad_type}


def played(told: dict[str, float], asked: list[tuple[str, int, int]], speed: float = 1e6) -> races.Probe:
    """Entries with these accuracies by name (and padding), without a network."""

    def probe(given: dict[str, Any], images: int, _seconds: float) -> races.Entry | str:
        asked.append((given["name"] + given["pad_type"], given["height"], images))
        accuracy = told.get(given["name"] + given["pad_type"])
        if accuracy is None:
            return f"{given['name']} did not run"
        side = given["height"]
        bonus = 0.01 * (side > 96)
        return races.Entry(given["name"], side, side, given["pad_type"], images, accuracy + bonus, speed, 0.001)

    return probe


def test_only_the_best_run_at_all_their_sizes() -> None:
    asked: list[tuple[str, int, int]] = []
    field = [runner(name, side) for name in ("a", "b", "c") for side in (96, 160)]
    entries, notes = races.heats(field, 10, Clock(), played({"a": 0.7, "b": 0.9, "c": 0.8}, asked))
    assert [(name, side) for name, side, _ in asked[:3]] == [("a", 96), ("b", 96), ("c", 96)]
    assert {(name, side) for name, side, _ in asked[3:]} == {("b", 96), ("b", 160), ("c", 96), ("c", 160)}
    assert [(entry.name, entry.height) for entry in entries] == [
        ("b", 160),
        ("b", 96),
        ("c", 160),
        ("c", 96),
        ("a", 96),
    ]
    assert not notes  # it is in the table, after a sample as small as that of the first heat


def test_in_the_second_heat_all_are_shown_equally_many_images() -> None:
    asked: list[tuple[str, int, int]] = []
    races.heats(
        [runner("a"), runner("a", 160), runner("b")], 10, Clock(), played({"a": 0.7, "b": 0.9}, asked, speed=500)
    )
    assert {images for _, _, images in asked[:2]} == {races.FIRST_SAMPLE}
    assert len({images for _, _, images in asked[2:]}) == 1
    assert asked[-1][2] > races.FIRST_SAMPLE


def test_the_costliest_stays_out_if_the_others_would_be_shown_too_few_images() -> None:
    asked: list[tuple[str, int, int]] = []
    field = [runner("a"), runner("a", 480)]
    entries, notes = races.heats(field, 2, Clock(), played({"a": 0.7}, asked, speed=400))
    assert [entry.height for entry in entries] == [96]
    assert notes == ["a at 480 x 480 was too slow for the second heat"]


def test_of_two_paddings_the_better_one_goes_on() -> None:
    asked: list[tuple[str, int, int]] = []
    field = [runner("a", side, pad) for pad in ("", "same") for side in (96, 160)]
    entries, _ = races.heats(field, 10, Clock(), played({"a": 0.6, "asame": 0.8}, asked))
    assert {name for name, _, images in asked[2:]} == {"asame"}
    assert entries[0].pad_type == "same"


def test_who_cannot_run_is_named_and_the_others_run() -> None:
    entries, notes = races.heats([runner("a"), runner("b")], 10, Clock(), played({"b": 0.5}, []))
    assert [entry.name for entry in entries] == ["b"]
    assert notes == ["a did not run"]


@given(labels=st.lists(st.integers(0, 3), min_size=8, max_size=80), seed=st.integers(0, 2**16))
def test_every_beginning_of_the_order_is_a_sample_of_all_classes(labels: list[int], seed: int) -> None:
    order = races.stratified_order(np.array(labels), seed)
    assert sorted(order) == list(range(len(labels)))
    half = np.array(labels)[order[: len(labels) // 2]]
    for label in set(labels):
        assert abs((half == label).sum() - labels.count(label) / 2) <= 1.5


# A real race


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two of timm's smallest networks with weights of the test's own, and a file that holds something else."""
    import timm  # noqa: TID251 - to have weights that fit
    import torch  # noqa: TID251

    folder, found = tmp_path_factory.mktemp("weights"), dict[str, str]()
    torch.manual_seed(0)
    for name in ("test_resnet", "test_vit"):
        state = timm.create_model(name).state_dict()
        found[name] = str(folder / f"{name}.safetensors")
        save_file({key: value.numpy() for key, value in state.items()}, found[name])
    found["resnet18"] = str(folder / "resnet18.safetensors")
    save_file({"nothing": np.zeros(3, np.float32)}, found["resnet18"])
    found["test_convnext"] = str(folder / "test_convnext.safetensors")
    Path(found["test_convnext"]).write_bytes(b"cut off in the middle of its head")
    return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "runs" / "run"
    lay_out_data(folder)
    yield folder
    job.shutdown(folder)


def race_spec(folder: Path, weights: dict[str, str], *, scratch: bool = False) -> JobSpec:
    field = [Runner(name="test_resnet", height=32, width=32), Runner(name="test_resnet", height=64, width=64)]
    field += [Runner(name="test_vit", height=32, width=64), Runner(name="resnet18", height=32, width=32)]
    field += [Runner(name="test_convnext", height=32, width=32)]
    asked = spec(folder, PIPELINE)
    own = {"steps": ("race",), "runners": tuple(field), "race_seconds": 20.0, "weights": weights}
    return asked.model_copy(update=own | {} if scratch else own | {"pipeline": ""})


def raced(folder: Path, asked: JobSpec) -> Race:
    directory = folder / "iterations" / "0000" / "jobs" / "race"
    job.start(directory, asked)
    result = job.wait(directory)
    assert result.ok, result.fault
    assert [step.step for step in result.steps] == ["race"]
    found = artifacts.race(directory, asked.runners)
    assert found is not None
    return found


def test_networks_of_any_family_race_and_the_best_comes_first(run: Path, weights: dict[str, str]) -> None:
    found = raced(run, race_spec(run, weights))
    assert {entry.name for entry in found.entries} == {"test_resnet", "test_vit"}
    assert [entry.accuracy for entry in found.entries] == sorted((e.accuracy for e in found.entries), reverse=True)
    assert found.entries[0].accuracy > 0.9  # dark and light: random features tell them apart
    assert found.entries[0].images == 80
    assert [note for note in found.notes if "resnet18" in note and "fit this model" in note]
    assert [note for note in found.notes if note.startswith("test_convnext at 32 x 32 did not run: SafetensorError")]


def test_a_network_from_scratch_races_with_them(run: Path, weights: dict[str, str]) -> None:
    found = raced(run, race_spec(run, weights, scratch=True))
    scratch = next(entry for entry in found.entries if entry.name == SCRATCH)
    assert (scratch.height, scratch.width, scratch.images) == (8, 8, 72)
    assert scratch.accuracy > 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"entries": "none"},
        {"entries": [{"name": "test_resnet"}]},
        {"entries": [{"name": "test_resnet", "height": 32, "width": 32, "images": 9, "accuracy": 7.0, "images_per_second": 1, "seconds": 1}]},
        {"seconds": "1e999"},
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_not_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/race.json").write_text(json.dumps({"entries": [], "notes": [], "seconds": 1.0} | change))
    assert artifacts.race(tmp_path, ()) is None


def test_who_was_not_asked_to_run_is_not_listed(tmp_path: Path) -> None:
    entry = {
        "height": 32,
        "width": 32,
        "pad_type": "",
        "images": 9,
        "accuracy": 0.5,
        "images_per_second": 1,
        "seconds": 1,
    }
    told = {
        "entries": [entry | {"name": name} for name in ("resnet18", "evil\x1b[2J", SCRATCH)],
        "notes": ["\x1b[2Jx"],
        "seconds": 1,
    }
    (tmp_path / "work").mkdir()
    (tmp_path / "work/race.json").write_text(json.dumps(told))
    found = artifacts.race(tmp_path, (Runner(name="resnet18", height=32, width=32),))
    assert found is not None
    assert [one.name for one in found.entries] == ["resnet18", SCRATCH]
    assert "\x1b" not in found.notes[0]


@pytest.mark.parametrize(
    ("across", "kept"), [(False, 1.0), (True, 0.0)], ids=["light below or above", "light left or right"]
)
def test_a_mirror_that_changes_the_class_is_found_out(across: bool, kept: float, weights: dict[str, str]) -> None:
    """A network that looks at the place of the light: its feature is the mean brightness of each half."""
    import torch  # noqa: TID251

    class Halves(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            side = x.shape[-1] // 2
            return torch.stack([x[..., :side].mean((1, 2, 3)), x[:, :, :side].mean((1, 2, 3))], 1)

    random = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = random.integers(0, 60, (120, 3, 32, 32))
    for image, label in zip(images, labels, strict=True):
        part = slice(0, 16) if label else slice(16, 32)
        image[(slice(None), slice(None), part) if across else (slice(None), part)] += 120
    task = races.Task(images.astype(np.uint8), torch.from_numpy(labels), torch.arange(120), 2, {}, torch.device("cpu"))
    entry = races.Entry("test_resnet", 32, 32, "", 120, 0.9, 500.0, 0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(races, "body", lambda *_: Halves())
        found = races.mirror_test(task, [entry], 10.0)
    assert found is not None
    assert found["right"] == 120
    assert found["right_mirrored"] / found["right"] == kept
    assert found["least_kept"] == kept
