"""Is a run's result the one that its script gives? The stored job runs once more, by the plan that it had, and its predictions are compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from checkpoints.home import prepare_home
from checkpoints.store import Store
from dataset.prepare import load_labels
from improve.api import load
from improve.aside import job_aside
from improve.predict import pretrained_again
from improve.replayed import Replay, SplitReplay, compared
from nodes.context import job_dir
from nodes.data import arrays_of, moved
from nodes.environment import differences, environment_of
from sandbox import artifacts, job
from sandbox.assemble import foreign
from sandbox.device import Device, find_device
from sandbox.hardware import default_limits
from sandbox.scoring import score
from schema.dataset import DatasetProfile, Split
from schema.errors import ImproveError, InputError, SettingsError
from schema.events import Event, NodeEntered
from schema.job import JobResult, JobSpec
from schema.pipeline import Fault
from schema.pretrained import Pretrained
from schema.run import RunRow
from schema.score import Score
from schema.settings import Tier, make_settings
from schema.team import Hardware

SPLITS: tuple[Split, ...] = ("validation", "test")
PATIENCE = 4.0  # times the limit: on a busy or a slower machine, too, the training ends after its epochs
OnEvent = Callable[[Event], None]
Predictions = dict[Split, np.ndarray]


@dataclass(frozen=True, slots=True)
class Trained:
    """A training as the run keeps it: the job with the plan that it measured, and what came of it."""

    row: RunRow
    profile: DatasetProfile
    iteration: int
    directory: Path
    spec: JobSpec
    result: JobResult

    @property
    def title(self) -> str:
        return f"Iteration {self.iteration} of run {self.row.name!r}"


def replay(
    name: str,
    iteration: int | None,
    store: Store,
    *,
    sandbox: str | None = None,
    data: str | None = None,
    on_event: OnEvent = lambda _: None,
) -> Replay:
    """By default the winner is repeated, in the run's isolation tier. `data`: where the images are, should the prepared ones be gone.

    Raises InputError where there is nothing to repeat, or nothing to repeat it on; ImproveError where the script does not run any more.
    """
    row = store.run(name)
    settings = make_settings(row.settings.model_dump() | ({"tier": sandbox} if sandbox else {}))
    before = _trained(row, iteration, store)
    device = _device(before, settings.tier)
    machine, tier = device.machine, device.tier
    settings = settings if data is None else moved(name, settings, before.profile, data)
    profile = arrays_of(name, settings, before.profile)
    then = _predictions(before.directory, profile)
    weights = pretrained_again(name, before.iteration, store)
    again = _again(before, profile, weights, tier, machine)
    on_event(NodeEntered(node="replay", iteration=before.iteration))
    result, now = _run(before, again, profile, on_event)
    splits = [
        compared(
            split,
            then[split],
            now[split],
            load_labels(profile, split),
            profile.classes,
            _known(before, profile, split, then[split], store),
        )
        for split in SPLITS
    ]
    return _judged(before, machine, result, splits, store)


def _trained(row: RunRow, iteration: int | None, store: Store) -> Trained:
    """Raises InputError where there is no such training, or its files are not whole."""
    if row.profile is None:
        raise InputError(
            f"Run {row.name!r} has no images yet, so nothing was trained. Go on with it: improve resume {row.name}"
        )
    iteration = _iteration(row.name, iteration, store)
    kept = next(kept for kept in store.jobs(row.name, iteration) if kept.seed == 0 and kept.result.ok)
    directory = job_dir(row.name, iteration, kept.attempt, 0)
    lacks = (
        f"Iteration {iteration} of run {row.name!r} cannot be repeated: {directory} lacks what its training left ({{}}). "
        "Restore that folder, or choose another --iteration."
    )
    plan = artifacts.plan(directory)
    if plan is None:
        raise InputError(lacks.format("work/smoke.json, the plan that it was trained by"))
    try:
        spec = job.spec(directory)
    except (OSError, ValidationError):
        raise InputError(lacks.format("job.json, as this version of IMPROVE knows it")) from None
    return Trained(row, row.profile, iteration, directory, spec.model_copy(update={"plan": plan}), kept.result)


def _iteration(name: str, iteration: int | None, store: Store) -> int:
    """One that was trained and scored."""
    rows = {row.iteration: row for row in store.ledger(name)}
    trained = ", ".join(str(number) for number, row in rows.items() if row.validation is not None)
    if not trained:
        raise InputError(f"Run {name!r} has no trained pipeline yet. `improve show {name}` tells where it is.")
    if iteration is None:
        return int(load(name).script.parent.name)
    if iteration not in rows:
        raise InputError(f"Run {name!r} has no iteration {iteration}. Trained were: {trained}")
    if rows[iteration].validation is None:
        reason = store.fault(name, iteration) or "no pipeline came of it"
        raise InputError(
            f"Iteration {iteration} of run {name!r} failed, so there is no result to compare with ({reason}). Trained were: {trained}"
        )
    return iteration


def _device(before: Trained, tier: Tier | Literal["auto"]) -> Device:
    try:
        return find_device(before.spec.device, (), tier, prepare_home())
    except SettingsError:
        if before.spec.device == "cpu":
            raise
        had = before.row.environment
        card = f" ({had.at(before.iteration).device})" if had else ""
        raise InputError(
            f"{before.title} was trained on a GPU{card}, and none can be used here (improve doctor says why). "
            "On a CPU it would be another training: repeat it on a machine with a GPU."
        ) from None


def _again(before: Trained, profile: DatasetProfile, weights: Pretrained, tier: Tier, machine: Hardware) -> JobSpec:
    """What decides the result stays; where things lie, and what this machine allows, is as it is now. With a plan there is nothing to try first."""
    folder, limits = Path(profile.directory), before.spec.limits
    memory = default_limits(machine, limits.train_seconds).memory_bytes
    now = {
        "name": f"{before.row.name}/replay-{before.iteration}",
        "data": str(folder / "train"),
        "heldout": {split: str(folder / "heldout" / f"{split}.npy") for split in SPLITS},
        "weights": weights.files,
        "cached": weights.cached,
        "steps": ("train", "predict"),
        "patience": before.spec.patience if before.result.cut else PATIENCE,
        "tier": tier,
        "limits": limits.model_copy(update={"memory_bytes": memory}),
    }
    return before.spec.model_copy(update=now)


def _run(before: Trained, again: JobSpec, profile: DatasetProfile, on_event: OnEvent) -> tuple[JobResult, Predictions]:
    with job_aside(before.row.name, "replay") as folder:
        job.start(folder, again)
        result = job.wait(folder, on_event)
        if result.fault:
            raise ImproveError(f"{before.title} was trained then, and fails now: {result.fault}")
        return result, _predictions(folder, profile)


def _predictions(directory: Path, profile: DatasetProfile) -> Predictions:
    found: Predictions = {}
    for split in SPLITS:
        rows = artifacts.probabilities(directory, split, profile.size(split), profile.num_classes)
        if isinstance(rows, Fault):
            raise InputError(f"The predictions in {directory} cannot be compared: {rows.message}")
        found[split] = rows
    return found


def _known(before: Trained, profile: DatasetProfile, split: Split, then: np.ndarray, store: Store) -> Score | None:
    """The score then, where there is one: a replay opens no label that the run has not opened. What is stored may be that of all folds."""
    if split == before.row.settings.select_on:
        return score(before.row.settings.metric, then, load_labels(profile, split), profile.classes)
    return store.score(before.row.name, before.iteration, 0, "test") if split == "test" else None


def _judged(before: Trained, machine: Hardware, now: JobResult, splits: list[SplitReplay], store: Store) -> Replay:
    was = before.row.environment.at(before.iteration) if before.row.environment else None
    others = foreign(before.spec.pipeline, store.pipeline(before.row.name, before.iteration))
    same, near = all(split.identical for split in splits), all(split.within_noise for split in splits)
    verdict = "differs" if others or not near else "identical" if same else "within noise"
    inexact = before.spec.device == "cuda" or before.result.cut
    return Replay(
        run=before.row.name,
        iteration=before.iteration,
        verdict=verdict,
        confirmed=verdict == "identical" or (verdict == "within noise" and inexact),
        metric=before.row.settings.metric,
        device=machine.name,
        splits=splits,
        changes=differences(was, environment_of(machine, was.dataset)) if was else [],
        notes=[
            *(f"the {component} component of job.json is not the one that the run has settled" for component in others),
            *_notes(before, now),
        ],
        seconds_then=_training_seconds(before.result),
        seconds_now=_training_seconds(now),
    )


def _notes(before: Trained, now: JobResult) -> list[str]:
    notes = []
    if before.row.environment is None:
        notes.append("the run is older than the record of environments: what has changed since is not known")
    if before.result.cut:
        notes.append(
            "its training was cut by its limit of time, where the clock decides: it cannot be repeated exactly"
        )
    elif now.cut:
        notes.append(
            "this time it was cut by its limit of time, and not then: this machine is slower or busier, so try again when it is not"
        )
    return notes


def _training_seconds(result: JobResult) -> float:
    return round(sum(step.seconds for step in result.steps if step.step == "train"), 1)
