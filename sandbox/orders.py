"""What of a user's orders can be checked in the code: the models that they name."""

import re

from sandbox.pretrained.disk import known_to_timm
from schema.pipeline import Fault, Pipeline

# `use a ViT-B/16`, `fine-tune timm's resnet50`: an order, and not a question or a ban.
ASKED = re.compile(
    r"(?<!not )(?<!n't )(?<!never )\b(?:use|take|build|train|fine-?tune)\b.*?(?=[.;](?:\s|$)|\n|$)", re.IGNORECASE
)
WORD = re.compile(r"[A-Za-z][\w]*(?:[-/.][\w]+)*")
VIT = re.compile(r"vit-?(ti|t|s|b|l|h)/?-?(\d{2})", re.IGNORECASE)
SIZES = {"ti": "tiny", "t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}


def order_fault(pipeline: Pipeline, orders: str) -> Fault | None:
    """Return the Fault of a model component that is none of the models that the orders ask for; None if they ask for none."""
    wanted = asked_models(orders)
    built = _squashed(pipeline.model)
    if not wanted or any(name in built for names in wanted.values() for name in names):
        return None
    message = (
        f"The user orders a model that this component does not build: {' or '.join(wanted)}. Build it with timm.create_model or torchvision.models, "
        "with its usual name in the code."
    )
    return Fault(stage="contract", kind="orders", component="model", message=message)


def asked_models(orders: str) -> dict[str, set[str]]:
    """Return the models that the orders ask for, as they spell them, each with the spellings by which code would name it."""
    found: dict[str, set[str]] = {}
    known = {_squashed(name) for name in known_to_timm()}
    for part in ASKED.findall(orders):
        for word in WORD.findall(part):
            if vit := VIT.fullmatch(word):
                size, patch = SIZES[vit[1].lower()], vit[2]
                found[word] = {f"vit{size}patch{patch}", f"vit{vit[1].lower()}{patch}"}
            elif re.search(r"[\d_]", word) and _squashed(word.split(".")[0]) in known:
                found[word] = {_squashed(word.split(".")[0])}
    return found


def _squashed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
