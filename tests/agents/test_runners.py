"""Who runs in the race of starting points, and which of them a first pipeline is made of."""

from collections.abc import Sequence

import pytest

from agents.playbook.backbones import backbones, catalogue, licence
from agents.playbook.expert import Playbook
from agents.playbook.recipe import first_recipes
from agents.playbook.render import render
from agents.playbook.runners import best_start, paddings, races_from_scratch, runners, sizes
from nodes.race import planned_seconds
from schema.pipeline import Component
from schema.race import SCRATCH, Race, RaceEntry
from schema.settings import Settings
from schema.team import Brief
from tests.agents.briefs import make_brief

CPU_NAMES = ["resnet50", "mobilenetv4_conv_small", "resnet18"]


def entry(
    name: str, side: int, accuracy: float, speed: float, *, images: int = 1000, seconds: float = 10.0
) -> RaceEntry:
    return RaceEntry(
        name=name, height=side, width=side, images=images, accuracy=accuracy, images_per_second=speed, seconds=seconds
    )


def raced(task: Brief, *entries: RaceEntry) -> Brief:
    return task.model_copy(update={"race": Race(entries=list(entries))})


@pytest.mark.parametrize("cuda", [False, True])
def test_the_curated_list_is_that_of_the_installed_timm(cuda: bool) -> None:
    timm = pytest.importorskip("timm")
    for name in catalogue().order("cuda" if cuda else "cpu"):
        network, config = catalogue().networks[name], timm.get_pretrained_cfg(name)
        assert config is not None and config.has_weights, name
        assert (network.licence, network.side, network.fixed_size) == (
            config.license,
            config.input_size[-1],
            bool(config.fixed_input_size),
        )
        assert network.mean == pytest.approx(config.mean, abs=1e-5)
        assert network.std == pytest.approx(config.std, abs=1e-5)


def test_every_licence_in_the_list_is_permissive() -> None:
    assert {network.licence for network in catalogue().networks.values()} <= {"apache-2.0", "mit", "bsd-3-clause"}
    listed = {*catalogue().cpu, *catalogue().cuda}
    assert listed == set(catalogue().networks)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet18.a1_in1k", "apache-2.0"),
        ("resnet18", "apache-2.0"),
        ("resnet18.fb_swsl_ig1b_ft_in1k", None),
        ("mine", None),
    ],
)
def test_a_licence_is_named_if_the_list_has_it(name: str, told: str | None) -> None:
    assert licence(name) == told


def test_the_list_comes_before_what_else_lies_on_disk() -> None:
    task = make_brief(side=96, weights=[*CPU_NAMES, "mobilenetv3_small_050"])
    assert backbones(task) == ["mobilenetv4_conv_small", "resnet18", "resnet50", "mobilenetv3_small_050"]


def test_after_a_race_its_order_counts() -> None:
    task = raced(make_brief(side=96, weights=CPU_NAMES), entry("resnet50", 96, 0.9, 50), entry("resnet18", 96, 0.8, 90))
    assert backbones(task) == ["resnet50", "resnet18"]


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("mobilenetv2_100", "mobilenetv2_100", ("", "same")),
        ("mobilenetv2_100", "mobilenetv2_100_imagenet_fp16", ("", "same")),
        ("mobilenetv2_100", "mobilenetv2_100.ra_in1k", ("",)),
        ("mobilenetv2_100.ra_in1k", "model", ("",)),
        ("tf_efficientnet_b0", "tf_efficientnet_b0", ("",)),
        ("resnet18", "resnet18", ("",)),
    ],
)
def test_padding_that_nobody_knows_is_tried_both_ways(name: str, file: str, expected: Sequence[str]) -> None:
    assert paddings(name, f"/weights/{file}.safetensors") == expected
    task = make_brief(side=96, weights=[name]).model_copy(update={"weights": {name: f"/weights/{file}.safetensors"}})
    assert {runner.pad_type for runner in runners(task)} == set(expected)


@pytest.mark.parametrize(
    ("side", "name", "expected"),
    [
        (32, "resnet18", [(128, 128), (96, 96), (160, 160)]),
        ((192, 144), "resnet18", [(128, 96), (96, 64), (160, 128), (224, 160)]),
        (32, "vit_small_patch14_reg4_dinov2", [(126, 126), (98, 98), (154, 154)]),
        (1000, "resnet18", [(128, 128), (96, 96), (160, 160), (224, 224)]),
        (16, "resnet18", []),
    ],
)
def test_sizes_suit_the_images_and_what_the_network_divides_them_into(
    side: int | tuple[int, int], name: str, expected: list[tuple[int, int]]
) -> None:
    assert sizes(make_brief(side=side, weights=[name]), name) == expected


@pytest.mark.parametrize(("side", "images", "expected"), [(32, 500, True), (224, 500, False), (224, 30_000, True)])
def test_from_scratch_races_where_images_are_small_or_many(side: int, images: int, expected: bool) -> None:
    assert races_from_scratch(make_brief(side=side, images=images)) is expected


START = make_brief(side=32, images=5000, train_seconds=120, weights=["resnet18"])


@pytest.mark.parametrize(
    ("entries", "name", "side", "freeze"),
    [
        ([entry("resnet18", 96, 0.80, 600), entry("resnet18", 160, 0.81, 200)], "resnet18", 96, 0.5),
        ([entry("resnet18", 96, 0.80, 6000), entry("resnet18", 160, 0.90, 2000)], "resnet18", 160, 0.0),
        ([entry("resnet18", 96, 0.20, 600), entry(SCRATCH, 32, 0.70, 900)], SCRATCH, 32, 0.0),
        ([entry("resnet18", 96, 0.80, 600), entry(SCRATCH, 32, 0.40, 900)], "resnet18", 96, 0.5),
        ([entry("resnet18", 160, 0.90, 5), entry("resnet18", 96, 0.80, 12)], "resnet18", 96, 0.9),
    ],
    ids=["the larger size leaves no time to learn", "time for both", "from scratch", "pretrained", "no time for either"],
)  # fmt: skip
def test_what_comes_furthest_in_the_time_is_the_start(
    entries: list[RaceEntry], name: str, side: int, freeze: float
) -> None:
    start = best_start(raced(START, *entries))
    assert start is not None
    assert (start.entry.name, start.entry.height, start.freeze) == (name, side, freeze)


def test_the_first_pipeline_is_that_of_the_race() -> None:
    task = raced(START, entry("resnet18", 96, 0.8, 600), entry(SCRATCH, 32, 0.4, 900))
    recipes = first_recipes(task)
    assert recipes.model["name"] == "resnet18"
    assert recipes.data["size"] == [96, 96]
    text = Playbook().design(task).text
    assert "fine-tune resnet18 (the first 50 % of its layers stay as they are), its head first" in text


def test_if_the_race_is_won_from_scratch_nothing_pretrained_is_used() -> None:
    task = raced(START, entry("resnet18", 96, 0.2, 600), entry(SCRATCH, 32, 0.7, 900))
    assert first_recipes(task).model["family"] == "convnet"


def test_a_transformer_is_built_for_the_size_of_its_images() -> None:
    name = "vit_small_patch14_reg4_dinov2"
    task = raced(make_brief(side=32, images=500, weights=[name]), entry(name, 98, 0.8, 6000))
    recipes = first_recipes(task)
    component: Component = "model"
    assert "img_size=(98, 98)" in render(component, recipes.model)
    assert "img_size" not in render(component, recipes.model | {"name": "resnet18", "size": None})


@pytest.mark.parametrize("only", [True, False])
def test_if_there_is_one_training_it_learns_from_all_training_images(only: bool) -> None:
    task = START.model_copy(update={"race": Race(entries=[entry("resnet18", 96, 0.8, 600)], one_training=only)})
    assert first_recipes(task).training["everything"] is only


@pytest.mark.parametrize(
    ("entries", "budget", "expected"),
    [
        ([entry("resnet18", 96, 0.8, 200)], 480.0, 0.85 * 400),
        ([entry("resnet18", 96, 0.8, 200)], None, 120.0),
        ([entry("resnet18", 96, 0.8, 20_000)], 480.0, 120.0),
        ([entry(SCRATCH, 32, 0.8, 900)], 480.0, 0.85 * 400),
        ([entry(SCRATCH, 32, 0.8, 20_000)], 480.0, 120.0),
    ],
    ids=["learns for longer", "no budget", "learns it all", "from scratch, too", "and is through"],
)  # fmt: skip
def test_a_budget_that_holds_one_long_training_gets_one(
    entries: list[RaceEntry], budget: float | None, expected: float
) -> None:
    given = Settings(dataset="photos", budget_seconds=budget, train_seconds=120)
    assert planned_seconds(raced(START, *entries), given, clock=80.0) == pytest.approx(expected)
