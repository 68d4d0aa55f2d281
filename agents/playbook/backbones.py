"""Which of the pretrained weights on disk to fine-tune, best first, and what their file names say of them."""

from pathlib import PurePath

from schema.team import Brief

# Convolutional families: they take any size and shape of image. What a CPU trains in minutes comes first there, what scores best on a GPU.
CPU_FAMILIES = (
    "mobilenet",
    "efficientnet",
    "tf_mobilenet",
    "lcnet",
    "ghostnet",
    "mnasnet",
    "resnet18",
    "resnet",
    "regnet",
    "convnext",
)
GPU_FAMILIES = (
    "convnext",
    "efficientnetv2",
    "tf_efficientnetv2",
    "resnext",
    "seresnet",
    "resnet",
    "regnet",
    "efficientnet",
    "tf_efficientnet",
)
OTHER_FAMILIES = (
    "densenet",
    "wide_resnet",
    "ecaresnet",
    "rexnet",
    "hrnet",
    "dla",
    "vgg",
    "ese_vovnet",
    "semnasnet",
    "mobilenet",
    "tf_mobilenet",
)


def backbones(brief: Brief) -> list[str]:
    """Weights on disk that these recipes can fine-tune, best first. Networks that insist on one input size are left to other teams."""
    own = GPU_FAMILIES if brief.hardware.device == "cuda" else CPU_FAMILIES
    families = tuple(dict.fromkeys((*own, *GPU_FAMILIES, *OTHER_FAMILIES)))
    rank = {
        name: next((i for i, family in enumerate(families) if name.startswith(family)), None) for name in brief.weights
    }
    known = [(place, name) for name, place in rank.items() if place is not None and not name.endswith("_clip")]
    return [name for _, name in sorted(known)]


def best_backbone(brief: Brief) -> str | None:
    return next(iter(backbones(brief)), None)


def pad_type(name: str, file: str) -> str:
    """TensorFlow-trained mobile families were trained with `same` padding; a timm tag (`mobilenetv2_100.ra_in1k`) says that timm trained them."""
    ported = name.startswith("tf_") or (name == "mobilenetv2_100" and PurePath(file).stem == name)
    return "same" if ported else ""
