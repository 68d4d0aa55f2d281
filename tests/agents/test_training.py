"""What the playbook proposes from its start really trains and predicts, on a few random images: every third candidate, for time."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch  # noqa: TID251 - the candidates run inside this process

from sandbox.assemble import assemble
from schema.pipeline import Pipeline
from tests.agents.briefs import make_brief
from tests.agents.test_runs import first_pipeline, played

TASKS = {
    "colour": make_brief(["cat", "dog", "frog"], images=3000, imbalance=3.5),
    "digits": make_brief(list("0123456789"), images=1150, side=8, channels=1),
    "photographs": make_brief(["glass", "paper"], images=600, side=(48, 72)),
    "above": make_brief(["forest", "river"], images=2000, side=64, description="satellite images"),
}


def loaded(pipeline: Pipeline, folder: Path) -> ModuleType:
    file = folder / "pipeline.py"
    file.write_text(assemble(pipeline, "def decode(*_):\n    raise NotImplementedError\n", "t"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("pipeline", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["pipeline"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("fit", [(1.0, 0.6), (0.5, 0.5)], ids=["overfits", "underfits"])
def test_candidates_train_and_predict(task: str, fit: tuple[float, float], tmp_path: Path) -> None:
    brief = TASKS[task]
    profile, rng = brief.profile, np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (48, profile.channels, profile.height, profile.width), np.uint8))
    labels = torch.arange(48) % profile.num_classes
    facts = {
        "classes": profile.classes,
        "channels": profile.channels,
        "height": profile.height,
        "width": profile.width,
        "mean": profile.mean,
        "std": profile.std,
        "counts": [4] * profile.num_classes,
    }
    config = {"epochs": 1, "precision": "float32", "seconds": 60.0, "threads": 1}
    _, candidates, _ = played(brief, ["rejected"], *fit)
    for pipeline in [first_pipeline(brief), *candidates[::3]]:
        script = loaded(pipeline, tmp_path)
        weights = script.run_training(script.Data(images, labels, torch.arange(48) % 4 == 3, facts), config, tmp_path)
        model, transforms, info = script.restored(weights, config)
        rows = script.probabilities(model, transforms, images.numpy()[:4], info)
        assert np.allclose(rows.sum(1), 1, atol=1e-4)
