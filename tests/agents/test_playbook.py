"""The embedded team: a sound start, admissible moves, nothing tried twice, and an end."""

from pathlib import Path

import pytest

from agents.playbook.backbones import backbones
from agents.playbook.document import document
from agents.playbook.expert import Playbook
from agents.playbook.moves import MOVES
from agents.playbook.recipe import first_recipes, recipe_in, recipes_in
from agents.playbook.render import render
from agents.playbook.view import view_of
from dataset.decode import SOURCE
from sandbox.assemble import assemble
from sandbox.check import check
from sandbox.pretrained.broker import missing_in
from schema.dataset import DatasetProfile, Duplicates, ImageSizes
from schema.pipeline import COMPONENTS, Pipeline
from schema.pretrained import Pretrained
from schema.score import Confusion, Score
from schema.team import Brief, EpochRow, Evidence, Hardware, LedgerRow, TrainingEvidence, WriteTask
from tests.agents.briefs import make_brief, make_evidence

ROOT = Path(__file__).resolve().parents[2]
ANIMALS = ["cat", "dog", "horse", "frog"]


def brief(
    classes: list[str] = ANIMALS,
    size: int = 32,
    channels: int = 3,
    images: int = 4000,
    weights: bool = False,
    seconds: float = 120,
    **more: object,
) -> Brief:
    each = images // len(classes)
    sizes = ImageSizes(
        width_min=size,
        width_median=size,
        width_max=size,
        height_min=size,
        height_median=size,
        height_max=size,
        uniform=True,
    )
    profile = DatasetProfile(
        name="photos", key="k", fingerprint="f", layout="class folders", directory="", classes=classes,
        counts={"train": [each] * len(classes), "validation": [9] * len(classes), "test": [9] * len(classes)}, given_splits=[],
        channels=channels, height=size, width=size, mean=[0.5] * channels, std=[0.2] * channels, sizes=sizes, formats={}, imbalance=1.0,
        duplicates=Duplicates(), set_aside=[], set_aside_total=0, seconds=0.0,
    )  # fmt: skip
    values = {"description": "", "metric": "accuracy", "strategy": "iterative", "init": "unified"} | more
    hardware = Hardware(device="cpu", name="cpu", cores=2, memory_bytes=2**34)
    files = {"mobilenetv2_100": "/w/mobilenetv2_100.safetensors"} if weights else {}
    return Brief(profile=profile, hardware=hardware, weights=files, train_seconds=seconds, iterations=20, **values)  # type: ignore[arg-type]


def evidence(
    given: Brief, pipeline: Pipeline, ledger: list[LedgerRow], train: float = 0.99, inner: float = 0.8
) -> Evidence:
    curve = [
        EpochRow(epoch=e, seconds=e, metrics={"train_accuracy": train * e / 30, "validation_accuracy": inner * e / 30})
        for e in range(1, 31)
    ]
    n = len(given.profile.classes)
    score = Score(
        metric="accuracy",
        value=inner,
        n=36,
        low=0.5,
        high=1,
        accuracy=inner,
        counts=[9] * n,
        per_class=[0.5] * n,
        confusions=[],
    )
    training = TrainingEvidence(curve=curve, seconds=30, cut=False, score=score, inner=score)
    best = max((row.iteration for row in ledger if row.verdict in {"first", "accepted"}), default=0)
    return Evidence(
        brief=given, iteration=len(ledger) + 1, best_iteration=best, pipeline=pipeline, training=training, ledger=ledger
    )


BRIEFS = {
    "small colour": brief(),
    "tiny grey digits": brief(list("0123456789"), size=8, channels=1, images=1200),
    "letters, many classes": brief([f"kha {i}" for i in range(108)], channels=1, images=5400),
    "photographs from scratch": brief(size=224, images=1600),
    "photographs with weights": brief(size=192, images=1600, weights=True),
    "few images": brief(size=64, images=80),
    "balanced accuracy": brief(metric="balanced_accuracy"),
}


def start(given: Brief) -> Pipeline:
    return Pipeline.model_validate(Playbook().design(given).components)


@pytest.mark.parametrize("name", BRIEFS)
def test_the_first_pipeline_passes_the_checks(name: str) -> None:
    pipeline = start(BRIEFS[name])
    assert check(pipeline, assemble(pipeline, SOURCE, "t")) is None
    assert missing_in(pipeline, Pretrained(files=BRIEFS[name].weights)) == {}


@pytest.mark.parametrize("name", BRIEFS)
def test_a_recipe_is_read_back_from_its_source(name: str) -> None:
    recipes = first_recipes(BRIEFS[name])
    assert recipes_in(start(BRIEFS[name]), BRIEFS[name]) == recipes


def test_there_are_at_least_25_distinct_moves_over_all_components() -> None:
    assert len({move.name for move in MOVES}) == len(MOVES) >= 25
    assert {move.component for move in MOVES} == set(COMPONENTS)


@pytest.mark.parametrize("name", BRIEFS)
@pytest.mark.parametrize("fit", [(0.99, 0.7), (0.6, 0.6)])
def test_every_admissible_move_writes_a_component_that_compiles(name: str, fit: tuple[float, float]) -> None:
    given = BRIEFS[name]
    view = view_of(evidence(given, start(given), [], *fit))
    admissible = [move for move in MOVES if move.applies(view)]
    assert len(admissible) >= 8
    for move in admissible:
        code = render(move.component, move.changed(view))
        compile(code, move.name, "exec")
        assert recipe_in(move.component, code) == move.changed(view)


@pytest.mark.parametrize("name", BRIEFS)
def test_nothing_is_tried_twice_and_the_team_stops_by_itself(name: str) -> None:
    given, team = BRIEFS[name], Playbook()
    pipeline = start(given)
    ledger = [LedgerRow(iteration=0, base=None, component="all", move="first pipeline", verdict="first")]
    seen: set[str] = set()
    for iteration in range(1, 200):
        proposal = team.analyse(evidence(given, pipeline, ledger))
        if proposal.action == "stop":
            break
        assert proposal.move not in seen
        seen.add(proposal.move)
        assert proposal.component in COMPONENTS
        ledger.append(
            LedgerRow(iteration=iteration, base=0, component=proposal.component, move=proposal.move, verdict="rejected")
        )  # type: ignore[arg-type]
    else:
        pytest.fail("it never stopped")
    assert len(seen) >= 8


def test_a_proposal_changes_the_component_that_it_names() -> None:
    given, team = BRIEFS["small colour"], Playbook()
    pipeline = start(given)
    proposal = team.analyse(evidence(given, pipeline, []))
    assert proposal.component in COMPONENTS
    task = WriteTask(
        brief=given,
        component=proposal.component,
        design="",
        pipeline={c: pipeline.code(c) for c in COMPONENTS},
        proposal=proposal,
    )  # type: ignore[arg-type]
    assert team.write(task).code != pipeline.code(proposal.component)  # type: ignore[arg-type]


def test_global_changes_all_components_at_once() -> None:
    given = brief(strategy="global")
    assert Playbook().analyse(evidence(given, start(given), [])).component == "all"


@pytest.mark.parametrize("name", ["tiny grey digits", "letters, many classes"])
def test_letters_and_digits_are_never_mirrored(name: str) -> None:
    given = BRIEFS[name]
    view = view_of(evidence(given, start(given), []))
    assert not view.recipes.data["flip"]
    assert not view.recipes.data["views"]
    assert not [
        move.name
        for move in MOVES
        if move.applies(view) and ("flip" in move.change(view) or "flip" in move.change(view).get("views", []))
    ]


def test_an_orientation_is_never_turned_or_mirrored() -> None:
    given = brief([f"orientation_{i:02d}" for i in range(40)], channels=1, size=64)
    view = view_of(evidence(given, start(given), []))
    assert not [m.name for m in MOVES if m.applies(view) and {"flip", "rotate", "vertical"} & m.change(view).keys()]


def test_photographs_are_mirrored_from_the_start() -> None:
    assert first_recipes(BRIEFS["small colour"]).data["flip"]


def test_weights_on_disk_are_used_for_photographs() -> None:
    assert first_recipes(BRIEFS["photographs with weights"]).model["name"] == "mobilenetv2_100"


@pytest.mark.parametrize(
    ("task", "backbone"),
    [
        (make_brief(side=72, images=900, weights=["resnet50"]), "resnet50"),
        (make_brief(side=224, images=900, channels=1, weights=["resnet50"]), "resnet50"),
        (make_brief(side=32, images=900, weights=["resnet50"]), None),
        (make_brief(side=224, images=900, weights=["vit_tiny_patch16_224", "resnet50_clip"]), "vit_tiny_patch16_224"),
        (make_brief(side=224, images=900, weights=["convnext_tiny", "mobilenetv3_small_050", "resnet50"]), "resnet50"),
        (make_brief(side=224, images=900, weights=["convnext_tiny", "mobilenetv3_small_050", "resnet50"], cuda=True), "convnext_tiny"),
    ],
    ids=["photographs", "grey", "tiny, and nothing is known of them", "a transformer", "on a CPU", "on a GPU"],
)  # fmt: skip
def test_the_backbone_suits_images_and_machine(task: Brief, backbone: str | None) -> None:
    assert first_recipes(task).model.get("name") == backbone


def test_weights_too_large_for_the_device_are_passed_over(tmp_path: Path) -> None:
    task = make_brief(side=224, images=900, weights=["resnet152", "resnet50"])
    for name, size in {"resnet152": 240_000_000, "resnet50": 100_000_000}.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    task = task.model_copy(update={"weights": {name: str(tmp_path / name) for name in task.weights}})
    assert backbones(task) == ["resnet50"]
    cuda = task.model_copy(update={"hardware": task.hardware.model_copy(update={"device": "cuda"})})
    assert set(backbones(cuda)) == {"resnet152", "resnet50"}


def test_small_photographs_are_enlarged_for_a_backbone() -> None:
    assert first_recipes(make_brief(side=72, images=900, weights=["resnet50"], cuda=True)).data["size"] == [288, 288]


def test_every_backbone_gets_its_turn() -> None:
    names = ["efficientnet_b0", "mobilenetv3_small_050", "resnet18", "resnet50"]
    task = make_brief(side=224, images=900, weights=names)
    first = LedgerRow(iteration=0, base=None, component="all", move="first pipeline", verdict="first")
    pipeline, ledger, seen = start(task), [first], []
    move = next(move for move in MOVES if move.name == "other-backbone")
    while move.applies(view := view_of(make_evidence(task, pipeline, ledger=ledger))):
        seen.append(move.change(view)["name"])
        ledger.append(
            LedgerRow(iteration=len(ledger), base=0, component="model", move=move.title(view), verdict="rejected")
        )
    assert sorted([*seen, first_recipes(task).model["name"]]) == names


@pytest.mark.parametrize("images", [60, 100, 200, 400, 900, 4000])
@pytest.mark.parametrize("weights", [[], ["resnet18"]], ids=["from scratch", "fine-tuning"])
def test_few_images_still_give_enough_steps(images: int, weights: list[str]) -> None:
    task = make_brief(["cat", "dog"], side=96, images=images, weights=weights)
    training = first_recipes(task).training
    steps = training["epochs"] * (0.9 * images // training["batch"])
    assert steps >= (400 if weights else 1000)


def test_for_log_loss_the_probabilities_stay_as_they_are() -> None:
    task = make_brief(metric="log_loss")
    assert first_recipes(task).training["smoothing"] == 0.0
    admissible = {m.name for m in MOVES if m.applies(view_of(make_evidence(task, start(task), train_accuracy=0.99)))}
    assert not admissible & {"more-label-smoothing", "focal-loss"}


def test_pictures_from_above_are_turned_by_quarters_from_the_start() -> None:
    task = make_brief(["forest", "river"], images=2000, side=64, description="satellite images")
    recipe = first_recipes(task).data
    assert recipe["flip"]
    assert recipe["vertical"]
    assert recipe["transpose"]


def test_two_classes_have_no_most_confused_pairs() -> None:
    task = make_brief(["cat", "dog"])
    found = make_evidence(task, start(task))
    score = found.training.score.model_copy(update={"confusions": [Confusion(truth="cat", predicted="dog", count=40)]})
    view = view_of(found.model_copy(update={"training": found.training.model_copy(update={"inner": score})}))
    assert view.confused == 0.0


def test_a_class_without_held_out_images_has_no_recall_to_speak_of() -> None:
    task = make_brief(["cat", "dog", "cow"])
    found = make_evidence(task, start(task), recalls=[0.9, 0.8, 0.0])
    inner = found.training.score.model_copy(update={"counts": [20, 20, 0]})
    found = found.model_copy(update={"training": found.training.model_copy(update={"inner": inner})})
    assert view_of(found).worst_recall == 0.8


def test_the_documentation_lists_the_moves_as_they_are() -> None:
    assert (ROOT / "docs" / "playbook.md").read_text(encoding="utf-8") == document()
