# ruff: noqa: TID251 - a peer is a process of its own
"""Logistic regression on the frozen features of one network at 224 pixels, by scikit-learn with its cross-validation."""

import warnings

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.peers.arrays import Images, Timer, given, images_in, prepared, size_for
from benchmarks.peers.timm_recipe import network

SHARE = 0.55  # of the time for the features; the rest is for the head
SIDES = (224, 160, 128, 96)


@torch.no_grad()
def features(model: torch.nn.Module, images: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    return torch.cat([model(prepared(part, size)) for part in images.split(64)]).numpy()


def affordable_size(model: torch.nn.Module, images: Images, seconds: float) -> tuple[int, int]:
    """The largest at which all images can be looked at in the time."""
    for side in SIDES:
        size = size_for(images.train, side)
        features(model, images.train[:32], size)
        timer = Timer()
        features(model, images.train[:64], size)
        each = timer() / len(images.train[:64])
        if each * (len(images.train) + len(images.test)) < seconds:
            break
    return size


def main() -> None:
    asked = given()
    torch.manual_seed(asked.seed)
    warnings.simplefilter("ignore")
    images = images_in(asked.directory)
    model = network(images, asked.network, asked.weights, asked.padding).eval()
    model.reset_classifier(0)  # type: ignore[operator]
    size = affordable_size(model, images, SHARE * asked.seconds)
    known, unknown = features(model, images.train, size), features(model, images.test, size)
    many = images.classes * len(known) > 100_000
    head = LogisticRegressionCV(
        Cs=[1e-3, 1e-2] if many else [1e-4, 1e-3, 1e-2, 1e-1], cv=2 if many else 3, max_iter=100
    )
    fitted = make_pipeline(StandardScaler(), head).fit(known, images.labels.numpy())
    np.save(asked.out, fitted.predict_proba(unknown).astype(np.float32))
    print(f"{size[1]} x {size[0]}")


if __name__ == "__main__":
    main()
