# ruff: noqa: TID251 - augmentation runs on torch
"""Augmentation: one draw per image, labels kept, shapes and types as promised."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.script import augment
from tests.sandbox.images import info, pictures


@pytest.mark.parametrize(
    "change",
    [
        augment.random_flip,
        augment.random_flip_vertical,
        augment.random_transpose,
        lambda x: augment.random_translate(x, 3),
        lambda x: augment.random_translate(x, 3, "constant"),
        lambda x: augment.cutout(x, 5),
        lambda x: augment.random_resized_crop(x, 12, 12),
        lambda x: augment.random_rotate(x, 20),
        lambda x: augment.color_jitter(x, 0.3, 0.3, 0.3),
        augment.trivial_augment,
        lambda x: augment.trivial_augment(x, moves=False),
        lambda x: augment.trivial_augment(x, colours=False),
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
    for before, after in zip(images, augment.random_flip(images), strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))


@given(st.integers(0, 2**31 - 1), st.integers(1, 5))
@settings(max_examples=20)
def test_a_shift_by_zeros_only_moves(seed: int, pixels: int) -> None:
    torch.manual_seed(seed)
    images = torch.zeros(4, 1, 15, 15, dtype=torch.uint8)
    images[:, :, 7, 7] = 200
    assert (augment.random_translate(images, pixels, "constant").sum((1, 2, 3)) == 200).all()


@pytest.mark.parametrize("mix", [augment.mixup, augment.cutmix])
def test_mixed_targets_are_distributions(mix) -> None:  # type: ignore[no-untyped-def]
    images, targets = mix(pictures().float(), torch.arange(16) % 4, 4, 1.0)
    assert images.shape == (16, 3, 12, 12)
    assert torch.allclose(targets.sum(1), torch.ones(16))


def test_normalised_images_have_the_promised_scale() -> None:
    out = augment.normalize(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), info())
    assert out.dtype == torch.float32
    assert torch.allclose(out, torch.full_like(out, 2.0), atol=1e-5)


def test_grey_images_get_three_channels_where_a_backbone_wants_them() -> None:
    assert augment.standardize(pictures(channels=1), [0.5] * 3, [0.2] * 3).shape == (16, 3, 12, 12)


def test_whole_numbers_are_resized_where_only_floats_can_be() -> None:
    """As on a GPU: torch resizes uint8 on the CPU alone. `meta` stands for another device."""
    assert augment.resize_batch(pictures().to("meta"), 6, 6).dtype == torch.uint8


def test_resized_whole_numbers_are_those_of_the_float_path() -> None:
    images = pictures()
    difference = augment.resize_batch(images, 7, 9).float() - augment.resize_batch(images.float(), 7, 9).round()
    assert difference.abs().max() <= 1


def test_a_transposed_image_has_its_rows_for_columns() -> None:
    images = pictures()
    assert torch.equal(augment.random_transpose(images, 1.0), images.transpose(-2, -1))
    assert torch.equal(augment.random_transpose(images, 0.0), images)


@pytest.mark.parametrize(
    ("name", "mean"), [("tf_efficientnetv2_s", 0.5), ("resnet18", 0.485), ("a_model_of_nobody", 0.485)]
)
def test_pretrained_weights_come_with_the_statistics_that_they_were_trained_with(name: str, mean: float) -> None:
    assert augment.pretrained_statistics(name)[0][0] == mean


@given(seed=st.integers(0, 2**31 - 1), moves=st.booleans(), colours=st.booleans(), channels=st.sampled_from([1, 3]))
@settings(max_examples=30, deadline=None)
def test_a_trivial_augmentation_keeps_pixels_in_their_range_and_some_images_as_they_are(
    seed: int, moves: bool, colours: bool, channels: int
) -> None:
    torch.manual_seed(seed)
    images = pictures(200, channels=channels)
    out = augment.trivial_augment(images, moves=moves, colours=colours)
    assert (out.dtype, out.shape) == (torch.uint8, images.shape)
    same = (out == images).flatten(1).all(1)
    assert same.any()
    assert same.all() == (not moves and not colours)
    floats = augment.trivial_augment(images.float(), moves=moves, colours=colours)
    assert 0 <= floats.min() <= floats.max() <= 255


def test_without_strength_nothing_changes() -> None:
    images = pictures(64)
    assert torch.equal(augment.trivial_augment(images, strength=0.0), images)


def test_on_another_device_the_changes_are_of_the_same_kind() -> None:
    """As on a GPU, where nothing is chosen by index. `meta` stands for it."""
    assert augment.trivial_augment(pictures().to("meta")).shape == (16, 3, 12, 12)
