"""Views of the state that several nodes share: the records inside it, and where an iteration's files lie."""

from pathlib import Path
from typing import Any, get_args

from checkpoints.home import run_dir
from checkpoints.store import Store
from dataset.folds import fold_directory
from sandbox.assemble import toolbox_reference
from sandbox.hardware import default_limits
from schema.dataset import DatasetProfile
from schema.job import JobSpec
from schema.pipeline import COMPONENTS, Component, Fault, Pipeline
from schema.pretrained import Pretrained
from schema.settings import Role, Settings
from schema.state import State
from schema.team import Brief, Hardware, LedgerRow, Proposal


def settings_of(state: State) -> Settings:
    return Settings.model_validate(state["settings"])


def proposal_of(state: State) -> Proposal | None:
    raw = state.get("proposal")
    return Proposal.model_validate(raw) if raw else None


def fault_of(state: State) -> Fault | None:
    raw = state.get("fault")
    return Fault.model_validate(raw) if raw else None


def queue_of(state: State) -> list[Component]:
    """Engineers that still have to write. As long as none has, the proposal says who: it may have been edited in Studio."""
    proposal = state.get("proposal")
    if proposal is None or state.get("draft") or state.get("fault"):
        return state.get("queue", [])
    return engineers_of(Proposal.model_validate(proposal))


def engineers_of(proposal: Proposal) -> list[Component]:
    if proposal.component == "all":
        return list(COMPONENTS)
    if proposal.component is None:
        raise ValueError(f"the proposal {proposal.move!r} names no component: expected data, model, training or all")
    return [proposal.component]


def ledger_of(state: State, store: Store) -> list[LedgerRow]:
    """The settled iterations of this branch of the run."""
    return store.ledger(state["run"], state.get("settled"))


def profile_of(state: State, store: Store) -> DatasetProfile:
    profile = store.run(state["run"]).profile
    if profile is None:
        raise RuntimeError(f"run {state['run']} has no dataset profile in the experiment store")
    return profile


def pretrained_of(state: State) -> Pretrained:
    return Pretrained.model_validate(state["weights"])


def brief_of(state: State, store: Store) -> Brief:
    settings, weights = settings_of(state), pretrained_of(state)
    return Brief(
        profile=profile_of(state, store),
        description=settings.describe,
        orders={role: orders for role in get_args(Role) if (orders := settings.orders_for(role))},
        hardware=Hardware.model_validate(state["hardware"]),
        weights=weights.files,
        hub=weights.hub,
        race=store.run(state["run"]).race,
        toolbox=toolbox_reference(),
        metric=settings.metric,
        strategy=settings.strategy,
        init=settings.init,
        train_seconds=settings.train_seconds,
        iterations=settings.iterations,
    )


def job_spec(
    settings: Settings,
    hardware: Hardware,
    profile: DatasetProfile,
    weights: Pretrained,
    own: dict[str, Any],
    *,
    fold: int = 0,
) -> JobSpec:
    """A job of this run: what all of them are given, and what is this one's `own`. Raises HomeError if the disk refuses a fold."""
    data, whole = fold_directory(profile, fold), Path(profile.directory)
    on_gpu = hardware.device == "cuda"
    together = settings.jobs_per_gpu if on_gpu else settings.jobs_per_cpu
    shared = {
        "data": str(data / "train"),
        "heldout": {
            split: str(array)
            for split, folder in (("validation", data), ("test", whole), ("inner", data))
            if (array := folder / "heldout" / f"{split}.npy").exists()
        },  # a set that an earlier version prepared has no `inner`
        "weights": weights.files,
        "cached": weights.cached,
        "device": hardware.device,
        "gpus": settings.gpus,
        "together": together,
        "threads": hardware.cores if on_gpu else max(1, hardware.cores // together),
        "tier": settings.tier,
        "limits": default_limits(hardware, settings.train_seconds, together),
    }
    return JobSpec.model_validate(shared | own)


def candidate_of(state: State, store: Store) -> Pipeline:
    """The pipeline being tried: the incumbent's components, replaced by what is in the draft."""
    return Pipeline.model_validate(components_of(state, store))


def components_of(state: State, store: Store) -> dict[Component, str]:
    """The components that exist so far; all three once there is an incumbent."""
    base = state["base"]
    if base is None:
        return dict(state["draft"])
    incumbent = store.pipeline(state["run"], base)
    return {component: state["draft"].get(component, incumbent.code(component)) for component in COMPONENTS}


def iteration_dir(run: str, iteration: int) -> Path:
    return run_dir(run) / "iterations" / f"{iteration:04d}"


def job_dir(run: str, iteration: int, attempt: int, seed: int) -> Path:
    """A job's directory is its identity: the same four values always name the same job."""
    return iteration_dir(run, iteration) / "jobs" / f"{attempt}-s{seed}"


def trained_attempt(run: str, iteration: int, store: Store) -> int:
    """The attempt of a settled iteration that was trained and scored."""
    return next(row.attempt for row in store.jobs(run, iteration) if row.seed == 0 and row.result.ok)
