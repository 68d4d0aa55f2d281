"""Classes of new images with a run's winner: the images are decoded here, the generated script runs in a job."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from checkpoints.home import prepare_home
from checkpoints.store import Store
from dataset.decode import decode
from improve.api import Result, load
from improve.aside import job_aside
from nodes.context import job_dir, trained_attempt
from sandbox import artifacts, job
from sandbox.gpu import cards
from sandbox.hardware import default_limits, hardware
from sandbox.isolation.tiers import choose
from sandbox.pretrained.broker import fetch, missing_in
from schema.errors import ImproveError, InputError
from schema.job import JobSpec
from schema.pipeline import Fault
from schema.pretrained import Pretrained
from schema.settings import Settings, Tier, make_settings


@dataclass(frozen=True, slots=True)
class Prediction:
    """Classes with their probabilities, best first; or the reason why the image has none."""

    file: Path
    classes: list[tuple[str, float]]
    problem: str | None = None


def predict(name: str, files: list[Path], store: Store, sandbox: str | None = None) -> list[Prediction]:
    """Unreadable images are named, the others predicted all the same, in the run's isolation tier or the one that is named.

    Raises InputError where the run has no trained pipeline, or where the tier does not work here.
    """
    row, result = store.run(name), load(name)
    settings = make_settings(row.settings.model_dump() | ({"tier": sandbox} if sandbox else {}))
    tier = choose(settings.tier, prepare_home())
    profile = row.profile
    if profile is None or not result.weights.exists():
        raise InputError(f"Run {name!r} has no trained pipeline yet. `improve show {name}` tells where it is.")
    readable, images, problems = [], [], {}
    for file in files:
        try:
            images.append(decode(file, profile.channels, profile.height, profile.width))
            readable.append(file)
        except (OSError, ValueError) as error:
            problems[file] = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
    rows = np.zeros((0, len(profile.classes)))
    if images:
        pretrained = pretrained_again(name, int(result.script.parent.name), store)
        rows = _probabilities(name, result, np.stack(images), pretrained, settings, tier, len(profile.classes))
    found = {
        file: sorted(zip(profile.classes, map(float, p), strict=True), key=lambda c: -c[1])
        for file, p in zip(readable, rows, strict=True)
    }
    return [Prediction(file, found.get(file, []), problems.get(file)) for file in files]


def pretrained_again(name: str, best: int, store: Store) -> Pretrained:
    """What the winner was trained from: a script that builds its model with pretrained=True asks for it again. Fetched anew where it is gone."""
    spec = job.spec(job_dir(name, best, trained_attempt(name, best, store), 0))
    if all(Path(file).exists() for file in (*spec.weights.values(), *spec.cached.values())):
        return Pretrained(files=spec.weights, cached=spec.cached)
    wanted = missing_in(store.pipeline(name, best), Pretrained())
    return fetch(list(wanted), Pretrained())[0]


def _probabilities(  # noqa: PLR0917
    name: str, result: Result, images: np.ndarray, pretrained: Pretrained, settings: Settings, tier: Tier, classes: int
) -> np.ndarray:
    with job_aside(name, "predict") as folder:
        np.save(folder / "images.npy", images)
        machine = hardware(settings.device)
        spec = JobSpec(
            name=f"{name}/predict",
            pipeline=result.script.read_text(encoding="utf-8"),
            data="",
            heldout={"images": str(folder / "images.npy")},
            weights=pretrained.files,
            cached=pretrained.cached,
            weights_file=str(result.weights),
            steps=("predict",),
            device=machine.device,
            gpus=tuple(card.uuid for card in cards() if card.uuid in settings.gpus),  # where none is left: any
            together=settings.jobs_per_gpu,
            threads=machine.cores,
            tier=tier,
            limits=default_limits(machine, 60.0),
        )
        job.start(folder, spec)
        done = job.wait(folder)
        rows = artifacts.probabilities(folder, "images", len(images), classes)
        fault = done.fault or (rows if isinstance(rows, Fault) else None)
        if fault or isinstance(rows, Fault):
            raise ImproveError(f"The winner's script could not predict: {fault}")
        return rows
