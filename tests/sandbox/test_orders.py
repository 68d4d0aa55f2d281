"""A model that the user orders has to be in the code; what merely mentions one orders nothing."""

import pytest

from sandbox.orders import asked_models, order_fault
from tests.scripted import PIPELINE

ORDERED = {
    "use ViT-B/16": ["ViT-B/16"],
    "Please fine-tune a ResNet-50.": ["ResNet-50"],
    "use timm's convnext_tiny.in12k_ft_in1k, nothing else": ["convnext_tiny.in12k_ft_in1k"],
    "take EfficientNet-B0 or a mobilenetv3_small_100": ["EfficientNet-B0", "mobilenetv3_small_100"],
    "do not use a ResNet-50": [],
    "never use resnet50": [],
    "A ResNet-50 was tried before and failed.": [],
    "use batches of 64 images of 32x32": [],
    "no more than 30 epochs": [],
    "": [],
}


@pytest.mark.parametrize(("orders", "expected"), ORDERED.items())
def test_models_are_ordered_by_name(orders: str, expected: list[str]) -> None:
    assert list(asked_models(orders)) == expected


def built(line: str) -> str:
    return f"import timm\n\n\ndef build_model(info):\n    return {line}\n"


@pytest.mark.parametrize(
    ("orders", "code"),
    [
        ("use ViT-B/16", "timm.create_model('vit_base_patch16_224.augreg_in21k', num_classes=info.num_classes)"),
        ("use ViT-B/16", "torchvision.models.vit_b_16(num_classes=info.num_classes)"),
        ("use a ResNet-50 or a ViT-S/16", "timm.create_model('resnet50.a1_in1k')"),
        ("no more than 30 epochs", "nn.Linear(3, 2)"),
    ],
)
def test_who_builds_it_is_left_alone(orders: str, code: str) -> None:
    assert order_fault(PIPELINE.with_code("model", built(code)), orders) is None


def test_who_builds_another_is_told_which_one_is_ordered() -> None:
    fault = order_fault(PIPELINE.with_code("model", built("timm.create_model('resnet18')")), "use a ViT-B/16")
    assert fault is not None
    assert (fault.component, fault.kind) == ("model", "orders")
    assert "ViT-B/16" in fault.message
