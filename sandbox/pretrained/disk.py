"""Which pretrained weights are on disk: safetensors files named after timm models, found without importing timm."""

import contextlib
import os
import re
import socket
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from schema.errors import SettingsError
from schema.pretrained import Pretrained


def on_disk(folder: str | None) -> dict[str, str]:
    """timm model name -> safetensors file. A file may say more than the name: `resnet18.a1_in1k.safetensors`, `resnet18_in1k.safetensors`.

    Raises SettingsError where the folder does not exist or holds no file that is named after a timm model.
    """
    if folder is None:
        return {}
    root = Path(folder)
    if not root.is_dir():
        raise SettingsError(
            f"--weights-dir: no folder {root}. Give a folder of .safetensors files named after timm models."
        )
    files = sorted(root.glob("*.safetensors"))
    found = {name: str(file.resolve()) for file in reversed(files) if (name := _model_name(file.stem))}
    if not found:
        listed = ", ".join(file.name for file in files[:5]) or "no .safetensors file"
        raise SettingsError(
            f"--weights-dir: {root} holds {listed}, but none is named after a timm model. Expected e.g. resnet18.safetensors."
        )
    return dict(sorted(found.items()))


def in_cache() -> Pretrained:
    """timm's weights in the hub's ordinary cache: those that a download has ended for, with where a job's libraries will look for them."""
    files, cached = {}, {}
    for folder in sorted(hub_cache().glob("models--timm--*")):
        name = folder.name.removeprefix("models--timm--")
        with contextlib.suppress(OSError):
            commit = (folder / "refs" / "main").read_text(encoding="ascii").strip()
            file = folder / "snapshots" / commit / "model.safetensors"
            if name.split(".")[0] in timm_models() and file.is_file():
                files[name] = cached[f"hub/{folder.name}/snapshots/{commit}/{file.name}"] = str(file.resolve())
    return Pretrained(files=files, cached=cached, asked=tuple(f"timm:{name}" for name in files))


def hub_cache() -> Path:
    """As huggingface_hub finds it."""
    for variable, below in (
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ):
        if folder := os.environ.get(variable):
            return Path(folder).expanduser() / below
    return Path(os.path.expanduser("~")) / ".cache" / "huggingface" / "hub"  # noqa: PTH111 - a user may have no home


def hub_answers(seconds: float = 3.0) -> bool:
    """Whether pretrained weights can be fetched: the hub is not switched off, and something listens at its address."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), seconds).close()
    except (OSError, ValueError):
        return False
    return True


def _model_name(stem: str) -> str | None:
    """The longest timm model name that the file name begins with, up to a separator."""
    ends = [match.start() for match in re.finditer(r"[._-]|$", stem)]
    return next((stem[:end] for end in reversed(ends) if stem[:end] in timm_models()), None)


@cache
def timm_models() -> frozenset[str]:
    """Names of timm's registered models, read from its source text: importing timm takes seconds."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise SettingsError("timm is not installed in this environment; run `make test` or `pip install timm`.")
    sources = (Path(spec.origin).parent / "models").glob("*.py")
    pattern = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
    return frozenset(name for source in sources for name in pattern.findall(source.read_text(encoding="utf-8")))


@cache
def known_to_timm() -> frozenset[str]:
    """Registered names, and retired ones that timm still accepts."""
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        return frozenset()
    texts = [file.read_text(encoding="utf-8") for file in (Path(spec.origin).parent / "models").glob("*.py")]
    retired = re.compile(r"^    '(\w+)': '", re.MULTILINE)
    return timm_models() | {
        name for text in texts if "register_model_deprecations" in text for name in retired.findall(text)
    }
