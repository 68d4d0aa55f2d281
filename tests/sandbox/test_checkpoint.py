# ruff: noqa: TID251 - the script runs on torch
"""What a training keeps to go on from: all that decides its next step, so that one which was interrupted ends as if it had not been."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from dataset.decode import SOURCE
from sandbox.assemble import assemble
from sandbox.script.clock import Clock
from schema.pipeline import Pipeline
from tests.scripted import PIPELINE

DATA = """
import random

import numpy as np


def build_transforms(info):
    def train(images):
        shift = torch.rand(len(images), 1, 1, 1) + np.random.rand() + random.random()
        return normalize(images, info) + shift
    return Transforms(train=train, eval=lambda images: normalize(images, info))
"""
FIT = """
import torch


def train(model, loaders, info, log):
    loaders = loaders.with_batch_size(8)
    optimizer = torch.optim.AdamW(split_decay(model, 0.05), lr=0.01)
    schedule = warmup_cosine(optimizer, 5 * len(loaders.train))
    return fit(
        model, loaders.train, loaders, info, log, epochs=5, optimizer=optimizer, schedule=schedule, ema=EMA(model), keep="best"
    )
"""
TWO_STAGES = FIT.replace(
    "    optimizer =",
    "    first = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n"
    "    fit(model, loaders.everything, loaders, info, log, epochs=2, optimizer=first, keep='best')\n"
    "    optimizer =",
)
OWN_LOOP = """
import torch


def train(model, loaders, info, log):
    optimizer = torch.optim.Adam(model.parameters())
    seen = {"batches": 0}
    for epoch in log.epochs(5, model=model, optimizer=optimizer, order=loaders.train, seen=seen):
        for images, labels in loaders.train:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen["batches"] += 1
        log(epoch, train_loss=loss.item(), batches=seen["batches"])
        log.keep(model)
    return model
"""
CONFIG = {"threads": 1, "device": "cpu", "epochs": 5, "precision": "float32", "checkpoint_bytes": 10**8}
TIMES = {"seconds", "images_per_second", "data_seconds", "epoch_seconds"}


def script_of(folder: Path, training: str) -> ModuleType:
    """The real script, but that it keeps every epoch."""
    text = assemble(Pipeline(data=DATA, model=PIPELINE.model, training=training), SOURCE, "title")
    for often in (("CHECKPOINT_SECONDS = 30.0", "CHECKPOINT_SECONDS = 0.0"), ("SHARE = 0.01", "SHARE = 1e9")):
        assert often[0] in text
        text = text.replace(*often)
    path = folder / "pipeline.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("pipeline_that_is_interrupted", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def data_of(script: ModuleType) -> Any:
    draw, labels = torch.Generator().manual_seed(0), torch.arange(60) % 2
    images = torch.randint(0, 200, (60, 1, 8, 8), generator=draw) + 20 * labels[:, None, None, None]
    facts = {"classes": ["a", "b"], "channels": 1, "height": 8, "width": 8, "mean": [0.4], "std": [0.2]}
    inner = torch.arange(60) % 3 == 0
    return script.Data(images.to(torch.uint8), labels, inner, facts | {"counts": [20, 20]})


class Killed(BaseException):
    """As if the process had ended here."""


def trained(script: ModuleType, out: Path, *, killed_at: int | None = None, **config: Any) -> Path:
    """Train to the end, or until the log is called for the `killed_at`-th time."""
    out.mkdir(exist_ok=True)
    real, calls = script.Log.__call__, iter(range(1, 1000))

    def call(log: Any, epoch: int, **metrics: float) -> None:
        if next(calls) == killed_at:
            raise Killed
        real(log, epoch, **metrics)

    script.Log.__call__ = call
    try:
        script.run_training(data_of(script), CONFIG | config, out)
    except Killed:
        pass
    finally:
        script.Log.__call__ = real
    return out


def curve(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def same(one: Path, other: Path) -> bool:
    weights = [(out / "weights.safetensors").read_bytes() for out in (one, other)]
    return curve(one) == curve(other) and weights[0] == weights[1]


@pytest.mark.parametrize("training", [FIT, TWO_STAGES, OWN_LOOP], ids=["fit", "fit twice", "its own loop"])
@pytest.mark.parametrize("epoch", [1, 2, 4, 5])
def test_it_goes_on_to_the_same_weights_and_the_same_curve(tmp_path: Path, training: str, epoch: int) -> None:
    script = script_of(tmp_path, training)
    whole = trained(script, tmp_path / "whole")
    halves = trained(script, tmp_path / "halves", killed_at=epoch)
    assert same(whole, trained(script, halves))


def test_it_does_not_train_again_what_it_has_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = script_of(tmp_path, FIT)
    out = trained(script, tmp_path / "out", killed_at=4)
    capsys.readouterr()
    trained(script, out)
    printed = capsys.readouterr().out
    assert "it goes on after epoch 3" in printed
    assert [json.loads(line)["epoch"] for line in printed.splitlines() if line.startswith("{")] == [4, 5]


def test_without_a_place_for_it_nothing_is_kept(tmp_path: Path) -> None:
    """A script that was taken home, and the smoke step."""
    out = trained(script_of(tmp_path, TWO_STAGES), tmp_path / "out", killed_at=4, checkpoint_bytes=0)
    assert sorted(path.name for path in out.iterdir()) == ["metrics.jsonl", "weights.safetensors"]


@pytest.mark.parametrize("damage", ["garbage", "half", "one byte"])
def test_what_cannot_be_read_is_a_new_beginning(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = script_of(tmp_path, FIT)
    out = trained(script, tmp_path / "out", killed_at=4)
    raw = (out / "checkpoint.pt").read_bytes()
    middle = raw.index(b"__metadata__")  # of the weights kept last
    flipped = raw[:middle] + bytes([raw[middle] ^ 255]) + raw[middle + 1 :]
    (out / "checkpoint.pt").write_bytes(
        {"garbage": b"x" * 999, "half": raw[: len(raw) // 2], "one byte": flipped}[damage]
    )
    assert same(trained(script, tmp_path / "whole"), trained(script, out))
    assert "cannot be read: it begins anew" in capsys.readouterr().out


def test_what_would_run_code_when_it_is_read_is_a_new_beginning(tmp_path: Path) -> None:
    script = script_of(tmp_path, FIT)
    out = trained(script, tmp_path / "out", killed_at=4)
    torch.save({"precision": print, "loops": []}, out / "checkpoint.pt")
    assert same(trained(script, tmp_path / "whole"), trained(script, out))


def test_what_does_not_fit_is_a_new_beginning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = script_of(tmp_path, FIT)
    out = trained(script_of(tmp_path, OWN_LOOP), tmp_path / "out", killed_at=4)
    script = script_of(tmp_path, FIT)
    assert same(trained(script, tmp_path / "whole"), trained(script, out))
    assert "does not fit: it begins anew" in capsys.readouterr().out


def test_what_is_too_large_is_not_kept_and_the_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = script_of(tmp_path, FIT)
    out = trained(script, tmp_path / "out", checkpoint_bytes=1000)
    assert not (out / "checkpoint.pt").exists()
    assert capsys.readouterr().out.count("no checkpoint is kept") == 1
    assert same(trained(script, tmp_path / "whole"), out)


def test_what_went_over_to_float32_goes_on_in_float32(tmp_path: Path) -> None:
    script = script_of(tmp_path, FIT.replace("    loaders =", "    if info.precision != 'float32':\n        raise FloatingPointError('spoilt')\n    loaders ="))  # fmt: skip
    out = trained(script, tmp_path / "out", killed_at=4, precision="bfloat16")
    assert torch.load(out / "checkpoint.pt", weights_only=True)["precision"] == "float32"
    assert same(trained(script, tmp_path / "whole", precision="bfloat16"), trained(script, out, precision="bfloat16"))


def test_its_clock_goes_on_from_where_it_was() -> None:
    clock = Clock()
    clock.load_state_dict({"wall": 500.0, "seconds": 400.0})
    assert 400.0 <= clock.seconds() <= clock.wall() - 99.0


def test_a_part_that_cannot_be_kept_is_named(tmp_path: Path) -> None:
    script = script_of(tmp_path, OWN_LOOP.replace("seen=seen", "seen=seen, best=0.5"))
    with pytest.raises(
        script.ContractError, match=r"log.epochs\(best=...\) is of type float, expected what has state_dict"
    ):
        trained(script, tmp_path / "out")
