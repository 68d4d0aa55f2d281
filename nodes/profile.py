"""The first node: what the person gave becomes a checked, split, decoded data set, and the run gets its name and its settings."""

import os
from pathlib import Path
from typing import Any
from uuid import UUID

from langgraph.config import get_config

from agents.team import settled
from checkpoints.home import fresh_name, prepare_home, run_dir, valid_run_name
from checkpoints.store import Store
from dataset.manifest import stamp
from nodes.calls import team_before
from nodes.context import job_spec
from nodes.data import discovered, located, prepared, preparing
from nodes.environment import environment_of
from nodes.estimate import estimates
from nodes.events import tell
from nodes.folds import check_folds
from nodes.services import Services
from nodes.stopping import stopping
from sandbox.device import find_device
from sandbox.pretrained.disk import hub_answers, in_cache, on_disk
from schema.dataset import DatasetProfile
from schema.errors import RunNameTaken
from schema.events import DatasetReady
from schema.pretrained import Pretrained
from schema.settings import Settings
from schema.state import SCHEMA_VERSION, State
from schema.team import Hardware


def profile(settings: Settings, services: Services) -> dict[str, Any]:
    """Everything that the person may have to mend is found here, before anything of the run is written."""
    limit = settings.train_seconds
    folder = settings.weights_dir or os.environ.get("IMPROVE_WEIGHTS")
    settings = settings.model_copy(
        update={
            "weights_dir": str(Path(folder).resolve()) if folder else None,
            "train_seconds": settings.longest_training,
        }
    )
    settings = located(settled(settings))
    team, asked = team_before(settings, services)
    team.check()
    weights = weights_for(settings)
    found = find_device(settings.device, settings.gpus, settings.tier, prepare_home())
    machine = found.machine
    settings = settings.model_copy(update={"tier": found.tier, "gpus": found.gpus})
    read = stamp(settings.dataset, settings.labels)
    images = prepared(discovered(settings), settings, machine, found.tier, preparing(tell, stopping)).model_copy(
        update={"stamp": read}
    )
    check_folds(settings, images)
    store = services.store()
    thread = get_config().get("configurable", {}).get("thread_id")
    name = _named(settings, images, thread, store)
    settings = settings.model_copy(update={"name": name})
    _create(store, name, settings, thread)
    run_dir(name).mkdir(parents=True, exist_ok=True)
    (run_dir(name) / "settings.json").write_text(settings.model_dump_json(indent=2), encoding="utf-8")
    for usage in asked:
        store.add_call(name, 0, "profile", usage)
    store.set_profile(name, images)
    store.set_environment(name, environment_of(machine, images.key))
    first = job_spec(settings, machine, images, weights, {"name": name, "pipeline": ""})
    services.jobs.warm(run_dir(name), first.access)  # it imports torch while the first pipeline is designed
    tell(DatasetReady(profile=images, notes=found.notes, estimates=estimates(settings, images)))
    return dict(opening(name, settings, machine, weights)) | {"train_limit": limit}


def weights_for(settings: Settings) -> Pretrained:
    """What is on disk, and whether more can be had."""
    allowed = Pretrained(
        files=on_disk(settings.weights_dir),
        hub=settings.download and hub_answers(),
        download=settings.download,
        any_licence=settings.weights_licence == "any",
    )
    return in_cache().with_all_of(allowed)


def opening(name: str, settings: Settings, machine: Hardware, weights: Pretrained) -> State:
    """The state of a run before its first pipeline."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": name,
        "settings": settings.model_dump(mode="json"),
        "hardware": machine.model_dump(mode="json"),
        "weights": weights.model_dump(mode="json"),
        "iteration": 0,
        "settled": -1,
        "iteration_clock": 0.0,
        "attempt": 1,
        "proposal": None,
        "queue": [],
        "draft": {},
        "fault": None,
        "faults": [],
        "seeds": 1,
        "folds": 1,
        "base": None,
        "best": None,
        "verdict": None,
        "comparison": None,
        "reason": "",
        "stop": None,
    }


def _named(settings: Settings, images: DatasetProfile, thread: str | None, store: Store) -> str:
    """What the person says; in a script the thread's own name. A server names its threads by numbers that nobody could remember."""
    known = store.run_of(thread) if thread else None
    if known or settings.name:
        return known or str(settings.name)
    if thread and not is_uuid(thread):
        return valid_run_name(thread)
    return fresh_name(images.name, [row.name for row in store.runs()])


def is_uuid(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


def _create(store: Store, name: str, settings: Settings, thread: str | None) -> None:
    """This node may run twice after a crash: the same run, still without an iteration, is taken up again."""
    try:
        store.create_run(name, settings, settings.tier, thread)
    except RunNameTaken:
        row = store.run(name)
        if (row.thread or row.name, row.settings) != (thread or name, settings) or store.ledger(name):
            raise
