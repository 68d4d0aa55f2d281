# ruff: noqa: TID251 - the toolbox runs on torch
"""The toolbox and the loaders: what is frozen stays, what is weighed weighs, and every image comes once."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sandbox.script import toolbox
from sandbox.script.allowance import Allowance
from sandbox.script.info import NonFiniteLoss, Transforms, WeightsMissing
from sandbox.script.loaders import make_loaders
from sandbox.script.logbook import Log
from tests.sandbox.images import info, pictures


def test_rare_classes_weigh_more() -> None:
    weights = toolbox.class_weights(info())
    assert weights[1] > weights[0]
    assert torch.isclose(weights.mean(), torch.tensor(1.0))


def test_norms_and_biases_are_not_decayed() -> None:
    decayed, free = toolbox.split_decay(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)), 0.1)
    assert (len(decayed["params"]), decayed["weight_decay"]) == (1, 0.1)
    assert (len(free["params"]), free["weight_decay"]) == (3, 0.0)


@pytest.mark.parametrize("schedule", [toolbox.warmup_cosine, toolbox.warmup_linear])
def test_a_schedule_rises_and_ends_at_zero(schedule) -> None:  # type: ignore[no-untyped-def]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = schedule(optimizer, 20)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        made.step()
    assert max(rates) == 1.0
    assert rates[0] < 1.0
    assert optimizer.param_groups[0]["lr"] < 0.01


def test_weights_that_are_not_on_disk_are_named() -> None:
    with pytest.raises(WeightsMissing, match=r"'resnet18'.*there are: resnet50"):
        info(weights={"resnet50": "x"}).pretrained("resnet18")


def test_loaders_cover_every_image_and_keep_the_inner_split_apart() -> None:
    images, labels = pictures(40), torch.arange(40) % 2
    images[:, 0, 0, 0] = torch.arange(40, dtype=torch.uint8)
    inner = torch.arange(40) % 5 == 0
    raw = Transforms(train=lambda x: x.float(), eval=lambda x: x.float())
    loaders = make_loaders(images, labels, inner, raw, info(), batch_size=8)

    def seen(loader) -> set[int]:  # type: ignore[no-untyped-def]
        return {int(value) for batch, _ in loader for value in batch[:, 0, 0, 0]}

    assert seen(loaders.train) == set(range(40)) - set(range(0, 40, 5))
    assert seen(loaders.validation) == set(range(0, 40, 5))
    assert seen(loaders.everything) == set(range(40))


def test_balanced_batches_draw_every_class_equally_often() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    raw = Transforms(train=lambda x: x.float(), eval=lambda x: x.float())
    loaders = make_loaders(pictures(100), labels, torch.zeros(100, dtype=torch.bool), raw, info(), batch_size=20)
    drawn = torch.cat([targets for _ in range(10) for _, targets in loaders.with_balanced_classes().train])
    assert 0.35 < drawn.float().mean() < 0.65


def small_network() -> torch.nn.Sequential:
    nn = torch.nn
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )  # fmt: skip


def test_frozen_layers_stay_as_they_are_while_the_others_learn() -> None:
    model = toolbox.freeze_early(
        small_network(), 0.5
    ).train()  # the first convolution with its norm, and the second convolution's filters
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(4, 3, 12, 12)).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert not {key for key in changed if key[0] in "01"}
    assert {"4.running_mean", "7.weight"} <= changed


def test_a_solved_head_separates_what_the_features_separate() -> None:
    dark, light = torch.full((40, 3, 12, 12), 60), torch.full((40, 3, 12, 12), 190)
    images = (torch.cat([dark, light]) + torch.randint(0, 20, (80, 3, 12, 12))).to(torch.uint8)
    labels = torch.arange(80) // 40
    inner = torch.arange(80) % 8 == 0
    transforms = Transforms(train=lambda x: x / 255.0, eval=lambda x: x / 255.0)
    loaders = make_loaders(images, labels, inner, transforms, info(counts=[35, 35]), batch_size=16)
    model = small_network()
    body = {key: value.clone() for key, value in model[:-1].state_dict().items()}
    toolbox.fit_head(model, loaders.train, info())
    assert toolbox.evaluate(model, loaders.validation, info())["validation_accuracy"] == 1.0
    assert all(torch.equal(value, body[key]) for key, value in model[:-1].state_dict().items())


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),  # a convolution is the head
        nn.Sequential(nn.Flatten(), nn.Linear(432, 5), nn.Conv1d(5, 2, 1)),  # the linear layer gives something else
    ],
)
def test_what_has_no_linear_head_is_left_as_it_is(model: nn.Module) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    toolbox.fit_head(model, [], info())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@given(seed=st.integers(0, 2**16), smoothing=st.sampled_from([0.0, 0.1, 0.3]))
def test_labels_and_their_soft_form_cost_the_same(seed: int, smoothing: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(12, 4, generator=draw), torch.randint(0, 4, (12,), generator=draw)
    weight = torch.rand(4, generator=draw) + 0.1
    hard = toolbox.soft_cross_entropy(logits, labels, smoothing, weight)
    soft = toolbox.soft_cross_entropy(logits, nn.functional.one_hot(labels, 4).float(), smoothing, weight)
    assert hard.item() == pytest.approx(soft.item(), rel=1e-4)


@pytest.mark.parametrize("rare", [1, 10, 500])
def test_a_class_weight_does_not_give_the_images_of_a_common_class_away(rare: int) -> None:
    """The best answer for an image that is certainly of the common class is that class, with the weight that smoothing leaves."""
    logits, smoothing = torch.zeros(1, 2, requires_grad=True), 0.2
    weight = toolbox.class_weights(info(counts=[1000, rare]))
    optimizer = torch.optim.LBFGS([logits], max_iter=50)

    def cost() -> torch.Tensor:
        optimizer.zero_grad()
        value = toolbox.soft_cross_entropy(logits, torch.tensor([0]), smoothing, weight)
        value.backward()
        return value

    optimizer.step(cost)
    assert logits.softmax(1)[0, 0].item() == pytest.approx(1 - smoothing / 2, abs=1e-3)


@pytest.mark.parametrize("part", ["whole", "inside"])
@pytest.mark.parametrize("compiled", [(True, False), (False, True), (True, True)])
def test_weights_of_a_compiled_model_are_those_of_the_plain_one(
    tmp_path: Path, part: str, compiled: tuple[bool, bool]
) -> None:
    def model(*, wrapped: bool) -> torch.nn.Module:
        body = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        if not wrapped:
            return torch.nn.Sequential(body, torch.nn.Linear(4, 2))
        if part == "inside":
            return torch.nn.Sequential(torch.compile(body), torch.nn.Linear(4, 2))  # type: ignore[arg-type]
        return torch.compile(torch.nn.Sequential(body, torch.nn.Linear(4, 2)))  # type: ignore[return-value]

    saved, loaded = (model(wrapped=one) for one in compiled)
    log = Log(tmp_path, {}, Allowance())
    log.keep(saved)
    log.load_kept(loaded)
    both = zip(saved.state_dict().values(), loaded.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in both)


class Waits(TorchDispatchMode):
    """Counts the operators that on a GPU wait for all that was asked of it before."""

    WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += any(name in str(func) for name in self.WAITING)
        return func(*args, **(kwargs or {}))


def waits_of_an_epoch(steps: int, tmp_path: Path) -> int:
    images, labels = pictures(8 * steps), torch.arange(8 * steps) % 2
    transforms = Transforms(train=lambda x: x / 255.0, eval=lambda x: x / 255.0)
    loaders = make_loaders(images, labels, torch.zeros(len(labels), dtype=torch.bool), transforms, info(), batch_size=8)
    model = small_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    with Waits() as waits:
        toolbox._epoch(model, loaders.train, info(), optimizer, None, toolbox.soft_cross_entropy, None, None, scaler)
    return waits.count


def test_on_a_gpu_an_epoch_does_not_wait_in_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbox, "LOOK_EVERY", {"cpu": 16})  # as there
    short, long = waits_of_an_epoch(16, tmp_path), waits_of_an_epoch(64, tmp_path)
    assert long - short <= 48 // 16


@pytest.mark.parametrize("every", [1, 16])
def test_a_loss_that_is_not_finite_ends_the_epoch_that_it_is_in(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbox, "LOOK_EVERY", {"cpu": every})
    images, labels = pictures(80), torch.arange(80) % 2
    transforms = Transforms(train=lambda x: x / 255.0, eval=lambda x: x / 255.0)
    loaders = make_loaders(images, labels, torch.zeros(80, dtype=torch.bool), transforms, info(), batch_size=8)
    model, steps = small_network(), iter(range(99))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return toolbox.soft_cross_entropy(logits, targets) * (float("nan") if next(steps) == 3 else 1.0)

    with pytest.raises(NonFiniteLoss, match="lower the learning rate"):
        toolbox._epoch(
            model, loaders.train, info(), optimizer, None, loss, None, None, torch.amp.GradScaler("cpu", enabled=False)
        )


def test_kept_statistics_stay_while_the_weights_learn() -> None:
    model = toolbox.freeze_statistics(small_network()).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(4, 3, 12, 12)).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert not {key for key in changed if "running" in key or "num_batches" in key}
    assert {"1.weight", "7.weight"} <= changed


@pytest.mark.parametrize("weights", [1, 7, 40, 400])
def test_layerwise_rates_make_few_groups_that_hold_every_parameter_once(weights: int) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(weights)))
    groups = toolbox.layerwise_decay(model, lr=1.0, decay=0.5, weight_decay=0.1)
    assert len(groups) <= 20
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    in_order = [rates[id(parameter)] for parameter in model.parameters()]
    assert in_order == sorted(in_order)
    assert in_order[-1] == 1.0
    assert {group["weight_decay"] for group in groups for p in group["params"] if p.ndim == 1} == {0.0}


def test_a_head_is_solved_with_the_penalty_that_answers_other_images_best() -> None:
    draw = torch.Generator().manual_seed(0)
    features, noise = torch.randn(240, 40, generator=draw), torch.rand(240, generator=draw)
    clear = (features[:, 0] > 0).long()
    blurred = torch.where(noise < 0.35, 1 - clear, clear)
    strong, weak = (toolbox._best_penalty(features, answers, info()) for answers in (blurred, clear))
    assert strong > weak
