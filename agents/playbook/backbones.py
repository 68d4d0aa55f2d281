"""Which of the pretrained weights on disk to fine-tune, best first, and what their file names say of them."""

from pathlib import Path, PurePath

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
LARGEST = {"cpu": 120e6, "cuda": 500e6}  # bytes of weights that the device fine-tunes in the usual time


def backbones(brief: Brief) -> list[str]:
    """Weights on disk that these recipes can fine-tune, best first. Networks that insist on one input size are left to other teams, and so
    are those that this device would take too long for: the cache of the hub may hold some."""
    own = GPU_FAMILIES if brief.hardware.device == "cuda" else CPU_FAMILIES
    families = tuple(dict.fromkeys((*own, *GPU_FAMILIES, *OTHER_FAMILIES)))
    rank = {
        name: next((i for i, family in enumerate(families) if name.startswith(family)), None) for name in brief.weights
    }
    known = [
        (place, name)
        for name, place in rank.items()
        if place is not None
        and not name.split(".")[0].endswith("_clip")
        and _size(brief, name) <= LARGEST[brief.hardware.device]
    ]
    return [name for _, name in sorted(known)]


def _size(brief: Brief, name: str) -> int:
    file = Path(brief.weights[name])
    return file.stat().st_size if file.is_file() else 0


def best_backbone(brief: Brief) -> str | None:
    return next(iter(backbones(brief)), None)


def pad_type(name: str, file: str) -> str:
    """TensorFlow-trained mobile families were trained with `same` padding; a timm tag (`mobilenetv2_100.ra_in1k`) says that timm trained them."""
    ported = name.startswith("tf_") or (name == "mobilenetv2_100" and PurePath(file).stem == name)
    return "same" if ported else ""
