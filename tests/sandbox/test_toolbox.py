# ruff: noqa: TID251 - the toolbox runs on torch
"""The toolbox: one draw per image, labels kept, shapes and types as promised."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sandbox.script import toolbox
from sandbox.script.info import Info, Transforms, WeightsMissing
from sandbox.script.loaders import make_loaders


def pictures(count: int = 16, channels: int = 3, side: int = 12) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)


def info(**more: object) -> Info:
    values = {
        "classes": ["a", "b"], "channels": 3, "height": 12, "width": 12, "mean": [0.5] * 3, "std": [0.25] * 3, "counts": [30, 10], "seed": 0,
        "device": torch.device("cpu"), "threads": 1, "seconds": 10.0, "epochs": 1,
    }  # fmt: skip
    return Info(**{**values, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        toolbox.random_flip,
        toolbox.random_flip_vertical,
        toolbox.random_transpose,
        lambda x: toolbox.random_translate(x, 3),
        lambda x: toolbox.random_translate(x, 3, "constant"),
        lambda x: toolbox.cutout(x, 5),
        lambda x: toolbox.random_resized_crop(x, 12, 12),
        lambda x: toolbox.random_rotate(x, 20),
        lambda x: toolbox.color_jitter(x, 0.3, 0.3, 0.3),
    ],
)
def test_augmentation_keeps_the_shape_and_draws_once_per_image(change) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    same = pictures(1).expand(32, -1, -1, -1).contiguous()
    out = change(same)
    assert out.shape == same.shape
    assert len({image.float().sum(0).numpy().tobytes() for image in out}) > 1


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20)
def test_a_flip_gives_the_image_or_its_mirror(seed: int) -> None:
    torch.manual_seed(seed)
    images = pictures(8)
    for before, after in zip(images, toolbox.random_flip(images), strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))


@given(st.integers(0, 2**31 - 1), st.integers(1, 5))
@settings(max_examples=20)
def test_a_shift_by_zeros_only_moves(seed: int, pixels: int) -> None:
    torch.manual_seed(seed)
    images = torch.zeros(4, 1, 15, 15, dtype=torch.uint8)
    images[:, :, 7, 7] = 200
    assert (toolbox.random_translate(images, pixels, "constant").sum((1, 2, 3)) == 200).all()


@pytest.mark.parametrize("mix", [toolbox.mixup, toolbox.cutmix])
def test_mixed_targets_are_distributions(mix) -> None:  # type: ignore[no-untyped-def]
    images, targets = mix(pictures().float(), torch.arange(16) % 4, 4, 1.0)
    assert images.shape == (16, 3, 12, 12)
    assert torch.allclose(targets.sum(1), torch.ones(16))


def test_normalised_images_have_the_promised_scale() -> None:
    out = toolbox.normalize(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), info())
    assert out.dtype == torch.float32
    assert torch.allclose(out, torch.full_like(out, 2.0), atol=1e-5)


def test_grey_images_get_three_channels_where_a_backbone_wants_them() -> None:
    assert toolbox.standardize(pictures(channels=1), [0.5] * 3, [0.2] * 3).shape == (16, 3, 12, 12)


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


def test_whole_numbers_are_resized_where_only_floats_can_be() -> None:
    """As on a GPU: torch resizes uint8 on the CPU alone. `meta` stands for another device."""
    assert toolbox.resize_batch(pictures().to("meta"), 6, 6).dtype == torch.uint8


def test_resized_whole_numbers_are_those_of_the_float_path() -> None:
    images = pictures()
    difference = toolbox.resize_batch(images, 7, 9).float() - toolbox.resize_batch(images.float(), 7, 9).round()
    assert difference.abs().max() <= 1


def test_a_transposed_image_has_its_rows_for_columns() -> None:
    images = pictures()
    assert torch.equal(toolbox.random_transpose(images, 1.0), images.transpose(-2, -1))
    assert torch.equal(toolbox.random_transpose(images, 0.0), images)


@pytest.mark.parametrize(
    ("name", "mean"), [("tf_efficientnetv2_s", 0.5), ("resnet18", 0.485), ("a_model_of_nobody", 0.485)]
)
def test_pretrained_weights_come_with_the_statistics_that_they_were_trained_with(name: str, mean: float) -> None:
    assert toolbox.pretrained_statistics(name)[0][0] == mean
