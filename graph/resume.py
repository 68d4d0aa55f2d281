"""Where a run goes on from: its last checkpoint, or the experiment store where that is lost; with what the person gave it anew."""

import math
from dataclasses import dataclass, field
from typing import Any

from checkpoints.store import open_store
from graph.rebuild import rebuild
from graph.since import Ground, ground
from nodes.context import profile_of
from nodes.data import moved
from nodes.summarize import best_score, is_too_busy, reason_to_end, tried
from nodes.summarize import settled as at_rest
from schema.errors import ImproveError, NothingToResume, UnknownRun
from schema.run import RunRow
from schema.settings import Settings
from schema.state import SCHEMA_VERSION, State


@dataclass(frozen=True, slots=True)
class Point:
    """Inputs and config for LangGraph, and what the person should know."""

    inputs: Any
    config: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def point(  # noqa: PLR0917
    compiled: Any, config: dict[str, Any], name: str, settings: Settings, data: str | None, force: bool
) -> Point:
    """What was given anew becomes part of the state. Raises InputError where the run cannot go on as it is."""
    at, notes = _whole_state(compiled, config, name, settings)
    state: State = at.values
    store = open_store()
    if "schema_version" not in state and not store.ledger(name):  # killed before the first step was over
        settings = settings if data is None else moved(name, settings, store.run(name).profile, data)
        store.set_settings(name, settings)
        store.set_status(name, "running")
        return Point(settings.model_dump(mode="json"), config)
    if not at.values or state.get("schema_version") != SCHEMA_VERSION:
        raise UnknownRun(f"Run {name!r} has no checkpoint of this version of IMPROVE, so it cannot go on.")
    row = store.run(name)
    if not at.tasks and row.status not in {"finished", "failed"}:
        raise ImproveError(f"Run {name!r} waits at a step that this version of IMPROVE does not have.")
    changed = settings.model_dump(mode="json") != state["settings"]
    if not at.tasks:
        _check_more(name, row, settings, state, changed=changed)
    begins = state["iteration"] + store.is_settled(name, state["iteration"])
    now = ground(row, profile_of(state, store), settings, begins, data=data, force=force)
    _stand_on(name, now)
    update: dict[str, Any] = {"settings": now.settings.model_dump(mode="json")}
    if now.machine:
        update["hardware"] = now.machine.model_dump(mode="json")
    if state.get("stop") and (
        changed or is_too_busy(state, store)
    ):  # it was about to end, or has ended: there is another iteration now
        store.clear_final(name)
        at_end = compiled.update_state(config, update | at_rest(state["iteration"], None), as_node="summarize")
        config = dict(at_end) | {"recursion_limit": config["recursion_limit"]}
    elif now.machine or update["settings"] != state["settings"]:
        settled = at.next == ("performance_analyst",)
        if settled:  # what was given anew may end it here
            asked: State = {**state, "settings": update["settings"]}
            update["stop"] = reason_to_end(asked, store, best_score(state, store))
        # Said outright, since a thread that was made again has had no step from which LangGraph could tell where it is.
        compiled.update_state(config, update, as_node="summarize" if settled or at.next == ("report",) else None)
    return Point(None, config, notes + now.notes)


def _whole_state(compiled: Any, config: dict[str, Any], name: str, settings: Settings) -> tuple[Any, list[str]]:
    """The thread's snapshot. One that knows less than the experiment store was lost or damaged: it is made again, which is to be said."""
    store, at = open_store(), compiled.get_state(config)
    newest = store.next_iteration(name) - 1
    taken_back = at.values and at.metadata["source"] != "loop"  # by the person, in Studio
    if at.values.get("iteration", -1) >= newest or taken_back:
        return at, []
    rebuild(compiled, config, store.run(name).model_copy(update={"settings": settings}), store)
    note = (
        f"the checkpoints of run {name} end before iteration {newest}, which is settled: they were lost or damaged. "
        "The run goes on from there, as the experiment store and the trainings' folders have it"
    )
    return compiled.get_state(config), [note]


def _stand_on(name: str, now: Ground) -> None:
    store = open_store()
    store.set_settings(name, now.settings)
    store.set_profile(name, now.profile)
    if now.environment:
        store.set_environment(name, now.environment)
    store.set_status(name, "running")


def _check_more(name: str, row: RunRow, settings: Settings, state: State, *, changed: bool) -> None:
    """Raises NothingToResume where an ended run was not given more than it has had."""
    ended = f"Run {name!r} is {row.status}: {row.reason}."
    if state.get("best") is None:
        raise NothingToResume(f"{ended} No pipeline ran, so that there is nothing to go on from: begin a new run.")
    if settings.strategy == "zero-shot":
        raise NothingToResume(f"{ended} Begin a new run with another --strategy to improve on it.")
    had = tried(state, open_store())
    if settings.iterations <= had or not (changed or is_too_busy(state, open_store())):
        more = f"--iterations {max(settings.iterations, had) + 10}"
        if settings.budget_seconds is not None:
            more += f" --budget {math.ceil(2 * settings.budget_seconds / 60)}m"
        raise NothingToResume(f"{ended} Give it more: improve resume {name} {more}")
