"""Start, resume and watch runs: one run, one thread, one driver at a time, every finished step in the checkpoint."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from langgraph.runtime import RunControl
from langgraph.types import Command

from agents.team import settled
from checkpoints.home import fresh_name, home, prepare_home, run_dir, valid_run_name
from checkpoints.lock import run_lock
from checkpoints.retention import set_aside_checkpoints
from checkpoints.saver import open_checkpointer
from checkpoints.store import open_store
from graph.build import build_graph
from graph.endings import exists, told
from graph.resume import Point, point
from nodes.services import Services
from nodes.summarize import MOST_CUT_IN_A_ROW
from sandbox.device import find_device
from sandbox.gpu import uuids
from sandbox.isolation.tiers import choose
from schema.errors import CheckpointsDamaged, NothingToResume, ReviewWaits, RunNameTaken, SettingsError
from schema.events import EVENTS, DatasetReady, Event, RunStarted
from schema.run import RunRow
from schema.settings import Settings, make_settings
from schema.team import Review, ReviewAsked

OnEvent = Callable[[Event], None]
OnReview = Callable[[ReviewAsked], Review | None]  # None: nobody is there to answer


@dataclass(frozen=True, slots=True)
class Drive:
    """One run, and what it is driven with."""

    name: str
    thread: str
    settings: Settings
    services: Services
    on_review: OnReview | None
    hold: Callable[[], None]  # raises where another machine drives the run by now
    resumed: bool = False
    data: str | None = None  # where the images are now
    force: bool = False  # go on although something has changed
    notes: list[str] = field(default_factory=list)


def run(
    settings: Settings,
    *,
    name: str | None = None,
    on_event: OnEvent | None = None,
    on_review: OnReview | None = None,
    services: Services | None = None,
) -> str:
    """Run to the end; returns the run's name.

    Raises InputError (nothing was written), RunStopped (resumable), ImproveError.
    """
    return _to_the_end(begun(settings, name=name, on_review=on_review, services=services), on_event)


def resume(
    name: str,
    *,
    on_event: OnEvent | None = None,
    on_review: OnReview | None = None,
    services: Services | None = None,
    data: str | None = None,
    force: bool = False,
    **anew: Any,
) -> str:
    """As `resumed`, to the end; returns the run's name."""
    going_on = resumed(name, on_review=on_review, services=services, data=data, force=force, **anew)
    return _to_the_end(going_on, on_event)


def _to_the_end(events: Iterator[Event], on_event: OnEvent | None) -> str:
    """Whatever a listener raises ends the run between two steps."""
    name = ""
    with closing(events):  # type: ignore[type-var]
        for event in events:
            if isinstance(event, RunStarted):
                name = event.run
            if on_event:
                on_event(event)
    return name


def begun(
    settings: Settings,
    *,
    name: str | None = None,
    on_review: OnReview | None = None,
    services: Services | None = None,
) -> Iterator[Event]:
    """A new run, event by event."""
    prepare_home()
    settings = settled(settings)
    name = name or settings.name
    name = valid_run_name(name) if name else fresh_name(settings.dataset, [row.name for row in open_store().runs()])
    settings = settings.model_copy(update={"name": name})
    with run_lock(name) as hold:
        if exists(name):
            raise RunNameTaken(
                f"A run named {name!r} exists. Choose another --name, or go on with it: improve resume {name}"
            )
        yield from _driven(Drive(name, str(uuid4()), settings, services or Services(), on_review, hold))


def resumed(
    name: str,
    *,
    on_review: OnReview | None = None,
    services: Services | None = None,
    data: str | None = None,
    force: bool = False,
    sandbox: str | None = None,
    **anew: Any,
) -> Iterator[Event]:
    """Go on from the last checkpoint; a finished run goes on when it is given more iterations, time, tokens or money.

    `anew`: fields of Settings that can be given again; None leaves them. It goes on in the isolation tier that it began in, unless `sandbox` names another.
    Raises SettingsError where that does not work here, ChangedSince where code, packages, machine or images have changed and `force` is not given.
    """
    prepare_home()
    row = open_store().run(name)
    if not run_dir(name).is_dir():
        raise NothingToResume(
            f"The folder of run {name!r}, {run_dir(name)}, is gone, its trainings and weights with it. "
            "Restore it from a copy, or begin a new run under another --name."
        )
    changes = {key: value for key, value in (anew | {"tier": sandbox}).items() if value is not None}
    settings = _in_tier(make_settings({**row.settings.model_dump(), **changes}), row)
    settings = settings.model_copy(update={"gpus": uuids(settings.gpus)})
    with run_lock(name) as hold:
        thread = row.thread or name
        drive = Drive(name, thread, settings, services or Services(), on_review, hold, True, data, force)
        try:
            yield from _driven(drive)
        except CheckpointsDamaged as damaged:
            drive.notes.append(f"{damaged} It is kept as {set_aside_checkpoints()}")
            yield from _driven(drive)


def _in_tier(settings: Settings, row: RunRow) -> Settings:
    try:
        if settings.tier == "auto":
            tier = find_device(settings.device, settings.gpus, "auto", home()).tier
        else:
            tier = choose(settings.tier, home())
        return settings.model_copy(update={"tier": tier})
    except SettingsError as error:
        raise SettingsError(
            f"Run {row.name!r} began in the sandbox {row.sandbox}, and goes on in no weaker one by itself. {error} "
            f"Or choose what there is: improve resume {row.name} --sandbox auto"
        ) from None


def _driven(drive: Drive) -> Iterator[Event]:
    with (
        open_checkpointer() as saver,
        _stop_between_steps() as control,
        told(drive.name, drive.thread, saver),
    ):
        compiled: Any = build_graph(drive.services, driven=True).compile(checkpointer=saver, name="improve")
        thread = {"configurable": {"thread_id": drive.thread}, "recursion_limit": _step_limit(drive.settings)}
        at = Point(drive.settings.model_dump(mode="json"), thread)
        if drive.resumed:
            at = point(compiled, thread, drive.name, drive.settings, drive.data, drive.force)
        if drive.resumed:
            yield _started(drive, at.notes)
        yield from _events(compiled, at.inputs, at.config, control, drive)
        while asked := compiled.get_state(thread).interrupts:
            yield from _events(compiled, _answer(asked[0].value, drive), thread, control, drive)


def _events(compiled: Any, inputs: Any, config: dict[str, Any], control: RunControl, drive: Drive) -> Iterator[Event]:
    """To the end, or to the next question. A new run has started when its images are ready."""
    for raw in compiled.stream(inputs, config, stream_mode="custom", durability="sync", control=control):
        drive.hold()
        event = EVENTS.validate_python(raw)
        if isinstance(event, DatasetReady) and not drive.resumed:  # only now what the user gave is known to be good
            yield _started(drive, event.notes)
        yield event


def _answer(asked: dict[str, Any], drive: Drive) -> "Command[Any]":
    """Raises ReviewWaits where nobody answers."""
    answer = drive.on_review(ReviewAsked.model_validate(asked)) if drive.on_review else None
    if answer is None:
        raise ReviewWaits(
            f"Run {drive.name!r} waits for your review of iteration {asked['iteration']}. Answer it on a terminal: improve resume {drive.name}, "
            f"in Studio (docs/studio.md), or go on without: improve resume {drive.name} --no-review",
            run=drive.name,
        )
    return Command(resume=answer.model_dump(mode="json"))


def _started(drive: Drive, notes: list[str]) -> RunStarted:
    settings, store = drive.settings, open_store()
    at = f" at {settings.base_url}" if settings.base_url else ""
    before: dict[str, Any] = {}
    if drive.resumed:
        before = {"seconds": store.run(drive.name).seconds, "spent": store.spent(drive.name)}
    return RunStarted(
        run=drive.name,
        resumed=drive.resumed,
        sandbox=store.run(drive.name).settings.tier,
        model=f"{settings.model}{at}",
        notes=[*drive.notes, *notes],
        **before,
    )


def _step_limit(settings: Settings) -> int:
    """A guard against a wrong router: the most steps that a run of these settings can take."""
    per_iteration = 9 + 5 * settings.first_attempts + 2 * settings.max_seeds
    return (MOST_CUT_IN_A_ROW * settings.iterations + 4) * per_iteration  # one that was cut does not count as tried


@contextmanager
def _stop_between_steps() -> Iterator[RunControl]:
    """The first Ctrl-C or SIGTERM ends the run at the next step boundary; a running training goes on by itself and is attached to later."""
    control = RunControl()
    if threading.current_thread() is not threading.main_thread():
        yield control
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda received, _frame: control.request_drain(signal.Signals(received).name))
    try:
        yield control
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
