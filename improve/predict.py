"""Classes of new images with a run's winner: the images are decoded here, the generated script runs in a job."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from checkpoints.home import prepare_home
from checkpoints.store import Store
from dataset.decoders import Decoders, Shape, Unreadable
from improve.api import Result, load
from improve.aside import job_aside
from nodes.context import job_dir, trained_attempt
from nodes.decoding import decoders_in
from sandbox import artifacts, job
from sandbox.device import Device, find_device
from sandbox.gpu import cards
from sandbox.hardware import default_limits
from sandbox.pretrained.broker import fetch, missing_in
from schema.dataset import DatasetProfile
from schema.errors import ImproveError, InputError
from schema.job import JobSpec
from schema.pipeline import Fault
from schema.pretrained import Pretrained
from schema.settings import Settings, make_settings

BATCH_BYTES = 64 * 2**20  # of decoded images that are held in memory, and predicted by one job
SECONDS_PER_IMAGE = 1.0  # that a prediction may take at most, on top of its limit of time: a slow CPU needs a tenth


@dataclass(frozen=True, slots=True)
class Prediction:
    """Classes with their probabilities, best first; or the reason why the image has none."""

    file: Path
    classes: list[tuple[str, float]]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Winner:
    """A run's trained pipeline, and what it needs to predict."""

    result: Result
    profile: DatasetProfile
    settings: Settings
    device: Device
    pretrained: Pretrained


def winner_of(name: str, store: Store, sandbox: str | None = None) -> Winner:
    """Find the winner, to be run in its run's isolation tier or in the one that is named.

    Raises InputError where the run has no trained pipeline, or where the tier does not work here.
    """
    row, result = store.run(name), load(name)
    settings = make_settings(row.settings.model_dump() | ({"tier": sandbox} if sandbox else {}))
    gpus = tuple(card.uuid for card in cards() if card.uuid in settings.gpus)  # where none is left: any
    device = find_device(settings.device, gpus, settings.tier, prepare_home())
    if row.profile is None or not result.weights.exists():
        raise InputError(f"Run {name!r} has no trained pipeline yet. `improve show {name}` tells where it is.")
    pretrained = pretrained_again(name, int(result.script.parent.name), store)
    return Winner(result, row.profile, settings, device, pretrained)


def predict(
    winner: Winner, files: Iterable[Path], told: Callable[[], None] = lambda: None
) -> Generator[Prediction, None, None]:
    """Yield the prediction of each file, in order; one that cannot be read is named, the others are predicted all the same.

    `told` is called twice for each file: when it is decoded, and when it is predicted.
    """
    classes, waiting = winner.profile.classes, deque[Path]()

    def begun() -> Iterator[Path]:
        for file in files:
            waiting.append(file)
            yield file

    def decoded(decoders: Decoders) -> Iterator[np.ndarray | str]:
        for found in decoders.pixels(begun(), shape_of(winner.profile)):
            told()
            yield found.reason if isinstance(found, Unreadable) else found

    with decoders_in(winner.device.tier) as decoders, closing(probabilities(winner, decoded(decoders))) as rows:
        for row in rows:
            told()
            file = waiting.popleft()
            if isinstance(row, str):
                yield Prediction(file, [], row)
            else:
                ranked = sorted(zip(classes, map(float, row), strict=True), key=lambda pair: -pair[1])
                yield Prediction(file, ranked)


def shape_of(profile: DatasetProfile) -> Shape:
    """What the training images were decoded to, and new ones have to be."""
    return Shape(profile.channels, profile.height, profile.width, profile.value_range)


def probabilities(winner: Winner, images: Iterable[np.ndarray | str]) -> Generator[np.ndarray | str, None, None]:
    """Yield the class probabilities of each image; where a problem stands in its place, the problem.

    As many images as fit into BATCH_BYTES are predicted by one job. The jobs share a supervisor, and with it a warm sandbox.
    """
    with job_aside(winner.result.name, "predict") as folder:
        for number, batch in enumerate(_batches(images), start=1):
            good = [image for image in batch if isinstance(image, np.ndarray)]
            rows = iter(_run(winner, folder.with_name(f"{number}-s0"), np.stack(good)) if good else ())
            for image in batch:
                yield image if isinstance(image, str) else next(rows)


def pretrained_again(name: str, best: int, store: Store) -> Pretrained:
    """What the winner was trained from: a script that builds its model with pretrained=True asks for it again. Fetched anew where it is gone."""
    spec = job.spec(job_dir(name, best, trained_attempt(name, best, store), 0))
    if all(Path(file).exists() for file in (*spec.weights.values(), *spec.cached.values())):
        return Pretrained(files=spec.weights, cached=spec.cached)
    wanted = missing_in(store.pipeline(name, best), Pretrained())
    return fetch(list(wanted), Pretrained())[0]


def _batches(images: Iterable[np.ndarray | str]) -> Iterator[list[np.ndarray | str]]:
    batch: list[np.ndarray | str] = []
    size = 0
    for image in images:
        batch.append(image)
        size += image.nbytes if isinstance(image, np.ndarray) else len(image)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _run(winner: Winner, folder: Path, images: np.ndarray) -> np.ndarray:
    """Predict in a job. The array is written over the one before it, under one name: what a sandbox was opened for stays as it is."""
    array, settings, machine = folder.parent / "images.npy", winner.settings, winner.device.machine
    np.save(array, images)
    limits = default_limits(machine, 60.0)
    most = BATCH_BYTES // images[0].nbytes + 1
    spec = JobSpec(
        name=f"{winner.result.name}/predict",
        pipeline=winner.result.script.read_text(encoding="utf-8"),
        data="",
        heldout={"images": str(array)},
        weights=winner.pretrained.files,
        cached=winner.pretrained.cached,
        weights_file=str(winner.result.weights),
        steps=("predict",),
        device=machine.device,
        gpus=winner.device.gpus,
        together=settings.jobs_per_gpu,
        threads=machine.cores,
        tier=winner.device.tier,
        limits=limits.model_copy(update={"predict_seconds": limits.predict_seconds + SECONDS_PER_IMAGE * most}),
    )
    job.start(folder, spec)
    done = job.wait(folder)
    rows = artifacts.probabilities(folder, "images", len(images), winner.profile.num_classes)
    fault = done.fault or (rows if isinstance(rows, Fault) else None)
    if fault or isinstance(rows, Fault):
        raise ImproveError(f"The winner's script could not predict: {fault}")
    return rows
