"""Before the first pipeline.

The pretrained networks at hand race over a sample of the images, and one from scratch beside them.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agents.playbook.backbones import catalogue
from agents.playbook.expert import Playbook
from agents.playbook.runners import can_run, races_from_scratch, runners, wanted_seconds
from checkpoints.store import Store
from nodes.assemble import script_of
from nodes.context import brief_of, iteration_dir, job_spec, pretrained_of, profile_of, settings_of
from nodes.events import tell
from nodes.sandbox import run_job
from nodes.services import Services
from nodes.stopping import stopping
from sandbox import artifacts
from sandbox.pretrained.broker import fetch
from schema.errors import RunStopped
from schema.events import NodeEntered, Raced
from schema.job import JobSpec
from schema.pipeline import Pipeline
from schema.pretrained import Pretrained
from schema.race import Race
from schema.settings import Settings
from schema.state import State
from schema.team import Brief, Hardware

SHARE = 0.12  # of the budget
SHARE_OF_TRAINING = 0.5  # of the longest training, if there is no budget
LONGEST, LEAST = 600.0, 6.0  # seconds
MOST_FETCHED = {"cpu": 3, "cuda": 6}  # networks of the curated list
ENOUGH_FOR_SEVERAL = 60.0  # seconds of a race; a shorter one has one network
LONGEST_DOWNLOAD = 1800.0  # seconds for all of them, if there is no budget; else they get as long as the race
ALONE = 0.85  # of what is left of a budget that holds one training only: the rest is for what is not training
REUSABLE = 0.5  # of its time: an earlier race of the same networks over the same images stands


def race(state: State, services: Services) -> dict[str, Any]:
    """Have the networks race, keep the table, and plan the trainings by it.

    Without pretrained weights or time, or over images of a few pixels, nobody runs and nothing is said. A race
    that fails is told, and the run goes on.
    """
    tell(NodeEntered(node="race", iteration=0))
    began = time.monotonic()
    store, settings = services.store(), settings_of(state)
    seconds = race_seconds(settings)
    if seconds < LEAST or settings.strategy == "zero-shot" or not can_run(brief_of(state, store)):
        return {}
    weights, failed = _fetched(state, settings, seconds)
    state = {**state, "weights": weights.model_dump(mode="json")}
    brief = brief_of(state, store)
    if not runners(brief):
        return {"weights": state["weights"]}
    spec = _spec(state, store, brief, seconds)
    kept = _kept_file(profile_of(state, store).directory, spec)
    found = _earlier(kept, seconds)
    if found is None:
        directory = iteration_dir(state["run"], 0) / "jobs" / "race"
        result = run_job(directory, spec, state["run"], services)
        told = artifacts.race(directory, spec.runners)
        if result.fault or told is None:
            reason = result.fault.message if result.fault else "it left no table"
            found = Race(entries=[], notes=[f"the race was given up: {reason}"[:500]], seconds=result.seconds)
        else:
            found = told
            _keep(kept, found, seconds)
    raced = brief.model_copy(update={"race": found})
    planned = planned_seconds(raced, settings, state["clock"] + time.monotonic() - began)
    planned = max(settings.train_seconds, min(planned, state.get("train_limit", settings.train_seconds)))
    only = planned > settings.train_seconds
    found = found.model_copy(update={"notes": [*found.notes, *failed], "one_training": only})
    store.set_race(state["run"], found)
    settings = settings.model_copy(update={"train_seconds": planned})
    store.set_settings(state["run"], settings)
    tell(Raced(race=found, train_seconds=planned))
    return {"settings": settings.model_dump(mode="json"), "weights": state["weights"]}


def planned_seconds(brief: Brief, settings: Settings, clock: float) -> float:
    """Return the seconds of a training: a quarter of a budget, or most of what is left if it learns for longer.

    Changes that are tried in trainings which end too early win little, and a run must not end below its own
    first pipeline trained for all of
    the time. `clock`: seconds that are gone.
    """
    if settings.budget_seconds is None or wanted_seconds(brief) <= settings.train_seconds:
        return settings.train_seconds
    return round(max(settings.train_seconds, ALONE * (settings.budget_seconds - clock)), 1)


def _fetched(state: State, settings: Settings, seconds: float) -> tuple[Pretrained, list[str]]:
    """Fetch the first networks of the curated list that suit device and time.

    Returns what there is then, and a note on each that could not be had: a run does without it.
    """
    have, hardware = pretrained_of(state), Hardware.model_validate(state["hardware"])
    if not have.hub:
        return have, []
    most = MOST_FETCHED[hardware.device] if seconds >= ENOUGH_FOR_SEVERAL else 1
    wanted = [name for name in catalogue().order(hardware.device)[:most] if name not in have.files]
    until = time.monotonic() + max(seconds, LONGEST_DOWNLOAD if settings.budget_seconds is None else 0.0)
    notes: list[str] = []
    for name in wanted:
        try:
            have, failed = fetch([f"timm:{name}"], have, tell, lambda: stopping() or time.monotonic() > until)
        except RunStopped:
            if stopping():
                raise
            return have, [*notes, f"{name} was not fetched: the time for downloads was over"]
        notes += [f"{name} was not fetched: {why}" for why in failed.values()]
    return have, notes


def race_seconds(settings: Settings) -> float:
    """Return how long it may take."""
    if settings.budget_seconds is not None:
        return min(LONGEST, SHARE * settings.budget_seconds)
    return min(LONGEST, SHARE_OF_TRAINING * settings.train_seconds)


def _spec(state: State, store: Store, brief: Brief, seconds: float) -> JobSpec:
    settings = settings_of(state)
    hardware, profile = Hardware.model_validate(state["hardware"]), profile_of(state, store)
    script = ""
    if races_from_scratch(brief):
        plain = Playbook().design(brief.model_copy(update={"weights": {}, "race": None, "init": "unified"}))
        script = script_of(Pipeline.model_validate(plain.components), state)
    own: dict[str, Any] = {
        "name": f"{state['run']}/race",
        "pipeline": script,
        "steps": ("race",),
        "runners": runners(brief),
    }
    own |= {"seed": settings.seed, "race_seconds": seconds}
    return job_spec(settings, hardware, profile, pretrained_of(state), own)


def _kept_file(data: str, spec: JobSpec) -> Path:
    """Beside the prepared images: what has raced over them, by the files that ran, how and where."""
    names = sorted({runner.name for runner in spec.runners})
    told = {name: Path(spec.weights[name]).stat() for name in names}
    files = {name: (one.st_size, one.st_mtime_ns) for name, one in told.items()}
    field = [runner.model_dump() for runner in spec.runners]
    asked = [field, files, spec.device, spec.threads, bool(spec.pipeline)]
    return Path(data) / "races" / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]}.json"


def _earlier(kept: Path, seconds: float) -> Race | None:
    try:
        told = json.loads(kept.read_bytes())
        return Race.model_validate(told["race"]) if told["seconds"] >= REUSABLE * seconds else None
    except (OSError, ValueError, ValidationError, KeyError, TypeError):
        return None


def _keep(kept: Path, found: Race, seconds: float) -> None:
    """A disk that is full or not ours to write costs the next run a race, and this one nothing."""
    partial = kept.with_suffix(f".{os.getpid()}.partial")
    try:
        kept.parent.mkdir(exist_ok=True)
        told = {"seconds": seconds, "race": found.model_dump(mode="json")}
        partial.write_text(json.dumps(told), encoding="utf-8")
        partial.replace(kept)
    except OSError:
        partial.unlink(missing_ok=True)
