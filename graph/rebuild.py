"""A run's state from the experiment store alone: where its checkpoints are lost or damaged, and where a run is begun from another's iteration."""

from typing import Any

from checkpoints.home import home
from checkpoints.store import Store
from nodes.profile import opening, weights_for
from nodes.summarize import best_score, reason_to_end, settled
from sandbox.device import find_device
from schema.run import RunRow
from schema.state import State


def rebuild(compiled: Any, config: dict[str, Any], row: RunRow, store: Store) -> None:
    """Write it as the thread's newest checkpoint, whatever there was before."""
    state = rebuilt(row, store)
    state["clock"] -= compiled.get_state(config).values.get("clock", 0.0)  # this channel adds up
    compiled.update_state(config, state, as_node="summarize")


def rebuilt(row: RunRow, store: Store) -> State:
    """As it was when the newest iteration was settled; to be written as the node `summarize`.

    What was under way then is begun again; trainings that are over are read from their directories.
    """
    rows = store.ledger(row.name)
    kept = [one.iteration for one in rows if one.verdict in {"first", "accepted"}]
    newest = rows[-1].iteration
    settings = row.settings
    device = find_device(settings.device, settings.gpus, settings.tier, home())
    state = opening(row.name, settings, device.machine, weights_for(settings))
    state["clock"] = row.seconds
    state["iteration"], state["iteration_clock"] = newest, row.seconds
    state["best"] = kept[-1] if kept else None
    state["verdict"] = rows[-1].verdict
    stop = reason_to_end(state, store, best_score(state, store))
    state.update(settled(newest, stop))  # type: ignore[typeddict-item]
    return state
