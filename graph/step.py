"""How a node runs as a step of a run: under the run's lock, on the run's clock, on a branch of its own, and cancelled from Studio as from the terminal."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.errors import GraphInterrupt

from checkpoints.home import check_not_lost
from checkpoints.lock import run_lock
from checkpoints.store import Store
from graph.server_limits import check_allowed
from nodes.context import settings_of
from nodes.services import Services
from nodes.stopping import CANCEL, Cancel, stopping
from schema.errors import RunStopped
from schema.settings import Settings
from schema.state import State

Node = Callable[[Any, Services], dict[str, Any]]
# Nodes that write or train for an iteration: where it is settled already, the thread was taken back to before that (a fork in Studio).
OPEN = {"race", "project_architect", "data_engineer", "model_engineer", "training_engineer", "assemble", "review", "sandbox", "repair"}  # fmt: skip
WAITS = "waits for your review"
PATIENCE = 15.0  # seconds that a cancelled node has to come back


def step(node: Node, services: Services, *, driven: bool) -> RunnableLambda[Any, dict[str, Any]]:
    """A LangGraph node: synchronous for `invoke`, and for `ainvoke` and the server the same in a thread that can be called back.

    `driven`: who runs the graph holds the run's lock and says how the run is; otherwise each step does, for itself.
    """
    name = node.__name__

    def run(state: State) -> dict[str, Any]:
        check_not_lost(state["run"])
        check_allowed(settings_of(state), lambda: services.store().run(state["run"]).settings)
        with nullcontext() if driven else _by_itself(state["run"], services):
            return _timed(node, _on_its_branch(name, state, services), services)

    return RunnableLambda(run, afunc=_recallable(run), name=name)


def first_step(node: Node, services: Services) -> RunnableLambda[Any, dict[str, Any]]:
    """As `step`, for the node that makes the run out of its settings."""

    def run(settings: Settings) -> dict[str, Any]:
        checked = Settings.model_validate(settings)
        check_allowed(checked)
        return _timed(node, checked, services)

    return RunnableLambda(run, afunc=_recallable(run), name=node.__name__)


def _timed(node: Node, given: Any, services: Services) -> dict[str, Any]:
    """Whatever of the state was changed to begin with is written, too."""
    began = time.monotonic()
    update = node(given, services)
    elsewhere = update.get("clock", 0.0)  # a training that went on while nobody waited
    moved = {key: given[key] for key in ("iteration", "iteration_clock") if isinstance(given, Branched)}
    return {**moved, **update, "clock": round(time.monotonic() - began + elsewhere, 3)}


class Branched(dict[str, Any]):
    """A state whose iteration got a new number."""


def _on_its_branch(name: str, state: State, services: Services) -> Any:
    """An iteration that is settled already, and is entered once more, is another one: the old stays as it is, under its number."""
    store = services.store()
    if name not in OPEN or not store.is_settled(state["run"], state["iteration"]):
        return state
    return Branched(state, iteration=store.next_iteration(state["run"]), iteration_clock=state["clock"])


@contextmanager
def _by_itself(run: str, services: Services) -> Iterator[None]:
    """A step of a run that no `improve` command drives: locked against one, and told to `improve runs` and to whoever resumes it. Raises RunBusy."""
    with run_lock(run), _told(run, services.store()):
        yield


@contextmanager
def _told(run: str, store: Store) -> Iterator[None]:
    if store.run(run).status != "running":
        store.set_status(run, "running")
    try:
        yield
    except GraphInterrupt:
        store.set_status(run, "stopped", WAITS)
        raise
    except RunStopped as error:
        store.set_status(run, "stopped", "cancelled" if stopping() else str(error))
        raise
    except Exception as error:
        store.set_status(run, "failed", f"{type(error).__name__}: {error}")
        raise


def _recallable(run: Callable[[Any], dict[str, Any]]) -> Callable[[Any], Any]:
    """In a thread, so that the event loop goes on. A person who cancels ends the training, too; a server that shuts down leaves it alone.

    The cancelled node is waited for: when it has let go of the run, another driver can take it up.
    """

    async def asynchronous(given: Any) -> dict[str, Any]:
        cancel = Cancel()
        token = CANCEL.set(cancel)
        working = asyncio.ensure_future(asyncio.to_thread(run, given))
        CANCEL.reset(token)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError as error:
            cancel.by_person = bool(error.args)  # LangGraph's server says who (UserInterrupt, UserRollback), or nothing
            cancel.asked = True
            await asyncio.wait([working], timeout=PATIENCE)
            if working.done() and not working.cancelled():
                working.exception()  # it came back because it was asked to
            raise

    return asynchronous
