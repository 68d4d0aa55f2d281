"""What a run looks like while it goes on: a live table on a terminal, one line per event elsewhere, JSON lines for machines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from improve.data_summary import summary_lines
from improve.terminal import open_console, say, say_json
from nodes.score_notes import race_text, verdict_text
from schema.events import (
    ComponentWritten,
    DatasetReady,
    Designed,
    Event,
    FaultFound,
    Finished,
    JobProgress,
    ModelAnswered,
    ModelWaits,
    NodeEntered,
    Preparing,
    Proposed,
    Raced,
    RunStarted,
    Settled,
    WeightsFetched,
)
from schema.settings import Settings
from schema.team import LedgerRow, Spent
from schema.text import duration, one_line, plain, readable

PREPARING_EVERY = 30.0  # seconds between lines about it; the live view shows a bar
BAR = 30  # characters


@dataclass(frozen=True, slots=True)
class View:
    """Shows events, and gives the terminal away while a question is asked."""

    show: Callable[[Event], None]
    live: Live | None = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        if self.live:
            self.live.stop()
        try:
            yield
        finally:
            if self.live:
                self.live.start(refresh=True)


@contextmanager
def watching(settings: Settings, *, as_json: bool) -> Iterator[View]:
    """The view of events that this output calls for."""
    if as_json:
        yield View(lambda event: say_json(event.model_dump(mode="json")))
    elif sys.stdout.isatty():
        screen = Screen(settings)
        with Live(get_renderable=screen.draw, refresh_per_second=4, transient=True, console=screen.console) as live:
            yield View(screen.take, live)
    else:
        lines = Lines(settings)
        yield View(lambda event: _print_lines(lines.of(event)))


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        say(line)


class Lines:
    """The plain view. A wait for a free CPU or GPU is told when it begins and when it is over, not at each of its many events.

    How far the preparation of the images is, is told twice a minute.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting: JobProgress | None = None
        self._preparing_told = time.monotonic()

    def of(self, event: Event) -> list[str]:
        if isinstance(event, Preparing):
            if time.monotonic() - self._preparing_told < PREPARING_EVERY:
                return []
            self._preparing_told = time.monotonic()
        before = self._waiting
        if isinstance(event, JobProgress):
            self._waiting = event if event.waits_for else None
        over = before and (self._waiting is None or self._waiting.job != before.job)
        told = [f"waited {_time(before.seconds)} for a free {before.waits_for}"] if before and over else []
        line = None if self._waiting and before and not over else plain_line(event, self._settings)
        return told + ([line] if line else [])


def clean(text: str, limit: int = 300) -> str:
    """Text of the data or of generated code, without what a terminal would obey."""
    return one_line(text, limit)


def plain_line(event: Event, settings: Settings) -> str | None:
    """One line for an event worth reading, else None."""
    match event:
        case RunStarted():
            return "\n".join(started_lines(event, settings))
        case Preparing():
            return preparing_line(event)
        case DatasetReady():
            expect = [f"expect: {clean(told, 1000)}" for told in event.estimates]
            return "\n".join([*summary_lines(event.profile), *expect])
        case Raced():
            return race_line(event, settings)
        case Designed():
            return f"design: {clean(event.text, 1000)}"
        case WeightsFetched() if event.bytes == 0:
            return f"fetching pretrained weights: {clean(event.name)}" + (
                f" ({event.total / 1e6:.0f} MB)" if event.total else ""
            )
        case JobProgress() if event.waits_for:
            return f"{_line(event)}: other trainings come first"
        case ModelWaits():
            return f"waiting {event.seconds:.0f} s for {clean(event.model)}: {clean(event.reason)}"
        case Proposed() if event.proposal.action != "stop":
            return f"[{event.iteration}/{settings.iterations}] {event.proposal.component}: {clean(event.proposal.move)} · {clean(event.proposal.diagnosis)}"
        case FaultFound():
            return f"[{event.iteration}] attempt {event.attempt} failed: {clean(str(event.fault))}"
        case Settled():
            return settled_line(event)
        case Finished():
            return f"ended: {clean(event.reason)} · report {clean(event.report, 1000)}{_spent(event.spent)}"
    return None


def race_line(event: Raced, settings: Settings) -> str:
    """The best two of the race and the network from scratch, how long it took, and what becomes of the budget if that holds one training only."""
    race = event.race
    best = [entry for entry in race.entries if entry.pretrained][:2]
    scratch = [entry for entry in race.entries if not entry.pretrained]
    told = "; ".join(clean(race_text(entry)) for entry in best + scratch)
    found = f"accuracy on a sample, before fine-tuning: {told}" if told else "; ".join(map(clean, race.notes[:2]))
    line = f"race: {found} · {race.seconds:.0f} s"
    if event.train_seconds <= settings.longest_training:
        return line
    return (
        f"{line}\nplan: one training of up to {duration(event.train_seconds)}: it learns for longer than a quarter of --budget, and a change could not be "
        "judged by less"
    )


def _line(event: JobProgress) -> str:
    since = f" since {_time(event.seconds)}" if event.seconds >= 1 else ""
    return f"waiting for a free {event.waits_for}{since}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _spent(spent: Spent) -> str:
    """Nothing where no language model was asked."""
    if not spent.tokens:
        return ""
    return f" · {spent.tokens:,} tokens" + ("" if spent.cost is None else f", ${spent.cost:.2f}")


def started_lines(event: RunStarted, settings: Settings) -> list[str]:
    """With a note where `--budget` lowers `--train-limit`. A resumed run keeps the limit that it began with."""
    verb = "resumed" if event.resumed else "started"
    lines = [f"run {event.run} {verb} · written by {clean(event.model)} · sandbox {event.sandbox}"]
    if settings.longest_training < settings.train_seconds and not event.resumed:
        seconds = settings.longest_training
        time = f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"
        lines.append(f"note: each training may take {time}: a quarter of --budget")
    if settings.show_images:
        model = settings.role_models.get("analyst", settings.model)
        lines.append(f"note: images that are mistaken are shown to {clean(model)} (--show-images)")
    return lines + [f"note: {clean(note, 1000)}" for note in event.notes]


def preparing_line(event: Preparing) -> str:
    left = "" if event.seconds_left is None else f" · {_time(event.seconds_left)} left"
    return f"{event.stage}: {event.done:,} of {event.total:,} ({event.done / max(1, event.total):.0%}){left}"


def preparing_bar(event: Preparing) -> str:
    full = round(BAR * event.done / max(1, event.total))
    return f"{'━' * full}{'╌' * (BAR - full)} {preparing_line(event)}"


@contextmanager
def preparing_shown(settings: Settings) -> Iterator[Callable[[Preparing], None]]:
    """Show how far the images are on standard error: a bar on a terminal, a line twice a minute elsewhere."""
    console = open_console(err=True)
    if console.is_terminal:
        with console.status("reading images") as status:
            yield lambda event: status.update(Text(preparing_bar(event)))
    else:
        lines = Lines(settings)

        def show(event: Preparing) -> None:
            for line in lines.of(event):
                say(line, err=True)

        yield show


def settled_line(event: Settled) -> str:
    row = event.row
    score = "" if row.validation is None else f" · validation {row.validation:.4f}"
    against = "" if row.against is None else f" against {row.against:.4f}"
    top = f" · best {best_text(event)}" if event.best_validation is not None else ""
    return f"[{row.iteration}] {row.verdict}: {clean(row.move)}{score}{against}{top} · {row.seconds:.0f} s · {clean(event.reason)}"


def best_text(event: Settled) -> str:
    """The incumbent's shown score, and what it is believed to be: a winner of several tries owes part of its score to luck."""
    believed = "" if event.best_believed is None else f" (likely {event.best_believed:.4f})"
    return "" if event.best_validation is None else f"{event.best_validation:.4f}{believed}"


# In words, for the line that moves; the steps of the graph have these names in Studio and in the events.
DOES = {
    "profile": "reading the images",
    "race": "comparing starting points",
    "project_architect": "designing the first pipeline",
    "data_engineer": "writing the data component",
    "model_engineer": "writing the model component",
    "training_engineer": "writing the training component",
    "assemble": "checking the code",
    "review": "asking you",
    "sandbox": "training",
    "repair": "mending the code",
    "decide": "comparing",
    "summarize": "noting the result",
    "performance_analyst": "choosing the next change",
    "report": "writing the report",
}


class Screen:
    """The live view. It holds what was last heard of each thing that it shows."""

    def __init__(self, settings: Settings) -> None:
        self.console = open_console()
        self._settings = settings
        self._began = time.monotonic()
        self._node, self._text, self._iteration = "profile", "", 0
        self._progress: JobProgress | None = None
        self._rows: list[LedgerRow] = []
        self._best, self._reason = "", ""
        self._spent = Spent()

    def take(self, event: Event) -> None:
        match event:
            case RunStarted() if event.resumed:
                self._began -= event.seconds  # the budget and the minutes go on from where the run was
                self._spent = event.spent
                self._announce(event)
            case NodeEntered():
                self._node, self._iteration = event.node, event.iteration
                self._progress = None
            case Proposed():
                self._text = clean(event.proposal.move)
            case ComponentWritten():
                self._text = self._text or clean(event.note)
            case JobProgress():
                self._progress = event
            case ModelAnswered():
                self._spent = event.spent
            case ModelWaits():
                self._text = plain_line(event, self._settings) or ""
            case Preparing():
                self._text = preparing_bar(event)
            case WeightsFetched():
                share = f" of {event.total / 1e6:.0f}" if event.total else ""
                self._text = f"fetching {clean(event.name)}: {event.bytes / 1e6:.1f}{share} MB"
            case Settled():
                self._rows.append(event.row)
                self._best, self._text = best_text(event), ""
                self._reason = f"#{event.row.iteration} {event.row.verdict}: {clean(event.reason)}"
            case DatasetReady():
                self._text = ""
                self._announce(event)
            case RunStarted() | Raced() | Designed() | FaultFound() | Finished():
                self._announce(event)

    def _announce(self, event: Event) -> None:
        line = plain_line(event, self._settings)
        if line:
            self.console.print(plain(readable(line)))

    def draw(self) -> Group:
        seconds = time.monotonic() - self._began
        budget = self._settings.budget_seconds
        left = f", {max(0.0, budget - seconds) / 60:.0f} min left" if budget else ""
        best = f" · best validation {self._best}" if self._best else ""
        head = Text(
            f"{DOES.get(self._node, self._node)} · iteration {self._iteration}/{self._settings.iterations} · {seconds / 60:.1f} min{left}{best}{self._tokens()}",
            style="bold",
        )
        return Group(self._ledger(), Text(self._reason, style="dim"), head, Text(self._text), Text(self._job()))

    def _tokens(self) -> str:
        left = (
            []
            if self._settings.max_tokens is None
            else [f"{max(0, self._settings.max_tokens - self._spent.tokens):,} tokens"]
        )
        if self._settings.max_cost is not None and self._spent.cost is not None:
            left.append(f"${max(0.0, self._settings.max_cost - self._spent.cost):.2f}")
        return _spent(self._spent) + (f" ({', '.join(left)} left)" if left else "")

    def _ledger(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("#", "component", "change", "verdict", "validation", "expected gain"):
            table.add_column(column)
        for row in self._rows[-12:]:
            value = "" if row.validation is None else f"{row.validation:.4f}"
            gain = "" if row.expected is None else f"{row.expected:+.4f}"
            style = {"accepted": "green", "first": "cyan", "failed": "red"}.get(row.verdict, "dim")
            table.add_row(
                str(row.iteration), row.component, clean(row.move, 70), verdict_text(row), value, gain, style=style
            )
        return table

    def _job(self) -> str:
        p = self._progress
        if p and p.waits_for:
            return f"{_line(p)} · other trainings come first"
        if p is None or p.step is None:
            return ""
        epochs = f" epoch {p.epoch}/{p.epochs}" if p.epochs else f" epoch {p.epoch}" if p.epoch else ""
        # These validation images are a part of the training images: the ones that decide, no training sees.
        shown = {"train_loss": "train loss", "train_accuracy": "train accuracy"}
        shown |= {"validation_loss": "inner validation loss", "validation_accuracy": "inner validation accuracy"}
        numbers = " ".join(f"{title} {p.metrics[name]:.3f}" for name, title in shown.items() if name in p.metrics)
        late = "; other programs take part of the machine" if p.step == "train" and p.seconds > p.limit_seconds else ""
        return f"{p.step}{epochs} · {p.seconds:.0f} s of {p.limit_seconds:.0f} s{late} · {numbers}"
