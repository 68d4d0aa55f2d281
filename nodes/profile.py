"""The first node: what the person gave becomes a checked, split, decoded data set, and the run gets its name and its settings."""

import os
from pathlib import Path
from typing import Any

from langgraph.config import get_config

from agents.team import settled
from checkpoints.home import datasets_dir, fresh_name, prepare_home, run_dir, unpacked_dir
from dataset.discover import discover
from dataset.listing import Listing
from dataset.prepare import is_whole, prepare
from nodes.calls import team_before
from nodes.context import job_spec
from nodes.events import tell
from nodes.services import Services
from sandbox.gpu import uuids
from sandbox.hardware import hardware
from sandbox.isolation.tiers import choose
from sandbox.pretrained.disk import hub_answers, in_cache, on_disk
from schema.dataset import DatasetProfile
from schema.errors import DatasetError, RunNameTaken
from schema.events import DatasetReady
from schema.pretrained import Pretrained
from schema.settings import Settings
from schema.state import SCHEMA_VERSION


def profile(settings: Settings, services: Services) -> dict[str, Any]:
    """Everything that the person may have to mend is found here, before anything of the run is written."""
    folder = settings.weights_dir or os.environ.get("IMPROVE_WEIGHTS")
    settings = settings.model_copy(
        update={
            "weights_dir": str(Path(folder).resolve()) if folder else None,
            "train_seconds": settings.longest_training,
        }
    )
    settings = settled(settings)
    team, asked = team_before(settings, services)
    team.check()
    hub = settings.model != "playbook" and hub_answers()  # the playbook asks for what is on disk
    weights = in_cache().with_all_of(Pretrained(files=on_disk(settings.weights_dir), hub=hub))
    machine = hardware(settings.device, settings.gpus)
    settings = settings.model_copy(update={"tier": choose(settings.tier, prepare_home()), "gpus": uuids(settings.gpus)})
    prepared = prepare(_discovered(settings), datasets_dir())
    store = services.store()
    name = get_config().get("configurable", {}).get("thread_id") or fresh_name(
        prepared.name, [row.name for row in store.runs()]
    )
    _create(services, name, settings)
    run_dir(name).mkdir(parents=True, exist_ok=True)
    for usage in asked:
        store.add_call(name, 0, "profile", usage)
    store.set_profile(name, prepared)
    first = job_spec(settings, machine, prepared, weights, {"name": name, "pipeline": ""})
    services.jobs.warm(run_dir(name), first.access)  # it imports torch while the first pipeline is designed
    tell(DatasetReady(profile=prepared))
    return {
        "schema_version": SCHEMA_VERSION,
        "run": name,
        "settings": settings.model_dump(mode="json"),
        "hardware": machine.model_dump(mode="json"),
        "weights": weights.model_dump(mode="json"),
        "iteration": 0,
        "iteration_clock": 0.0,
        "attempt": 1,
        "proposal": None,
        "queue": [],
        "draft": {},
        "fault": None,
        "faults": [],
        "seeds": 1,
        "base": None,
        "best": None,
        "verdict": None,
        "comparison": None,
        "reason": "",
        "stop": None,
    }


def _create(services: Services, name: str, settings: Settings) -> None:
    """This node may run twice after a crash: the same run, still without an iteration, is taken up again."""
    store = services.store()
    try:
        store.create_run(name, settings, settings.tier)
    except RunNameTaken:
        if store.run(name).settings != settings or store.ledger(name):
            raise


def data_is_there(settings: Settings, prepared: DatasetProfile) -> None:
    """Make the arrays of a run again where they were deleted or damaged: the same images give the same arrays in the same order.

    Raises DatasetError where the images are others by now.
    """
    if is_whole(Path(prepared.directory)):
        return
    again = prepare(_discovered(settings), datasets_dir())
    if again.key != prepared.key:
        raise DatasetError(
            f"The prepared images of this run are gone from {prepared.directory}, and {settings.dataset} has changed since: "
            "scores of before and after could not be compared. Restore the images, or begin a new run."
        )


def _discovered(settings: Settings) -> Listing:
    return discover(
        settings.dataset,
        labels=settings.labels,
        file_column=settings.file_column,
        label_column=settings.label_column,
        workdir=unpacked_dir(),
    )
