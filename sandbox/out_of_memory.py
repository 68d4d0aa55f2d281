"""When memory runs out: how much was asked for, how much there is, what was running, and what to make smaller, in the words of the fault."""

import re
import signal
from dataclasses import dataclass
from typing import Any

from schema.job import Card
from schema.pipeline import Fault

SAID = re.compile(r"out of memory|can't allocate memory|DefaultCPUAllocator|Unable to allocate", re.IGNORECASE)
KINDS = {"OutOfMemoryError", "MemoryError"}
ASKED = re.compile(r"(?:tried|unable) to allocate (\d{1,18}(?:\.\d{1,9})?) ?(bytes|[KMGT]iB)", re.IGNORECASE)
UNITS = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
FREE = re.compile(r"of which (\d{1,9}(?:\.\d{1,9})?) ([KMGT]iB) is free")


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes, as they were seen from outside while the step ran."""

    limit: int  # of the job's memory
    peak: int  # what the step had
    machine: int  # what the machine has
    scarce: int | None = None  # what the machine had left, where that ended the step
    card: Card | None = None
    card_peak: int = 0  # what the step had of its card
    card_others: int = 0  # what other programs have of it
    exit: int | None = None  # of the step; negative: a signal
    batch: tuple[int, ...] = ()  # shape of the last batch that was begun; empty: not known


def shape_of(raw: Any) -> tuple[int, ...]:
    """What the harness writes to work/batch.json, which is the job's to change; empty where it is no shape."""
    fits = isinstance(raw, list) and len(raw) == 4 and all(type(n) is int and 0 < n < 10**6 for n in raw)
    return tuple(raw) if fits else ()


def explained(fault: Fault, use: Use) -> Fault:
    """The fault as it is, unless memory is behind it."""
    if fault.cause == "memory":
        told = _of_the_limit(use)
    elif fault.cause == "died" and use.exit == -signal.SIGKILL:
        told = f"Usually that is the kernel, when the machine's memory runs out. {_of_the_step(use)}"
    elif fault.kind in KINDS or SAID.search(fault.message):
        told = _of_the_card(use) if use.card and "CPU" not in fault.message else _of_the_step(use)
    else:
        return fault
    return fault.model_copy(update={"message": f"{fault.message} {told} {_way_out(fault, use)}"})


def _of_the_limit(use: Use) -> str:
    if use.scarce is not None:
        return f"The machine was about to run out: {_size(use.scarce)} of {_size(use.machine)} were left, and this step had {_size(use.peak)}."
    return f"{_of_the_step(use)} The machine has {_size(use.machine)}."


def _of_the_step(use: Use) -> str:
    return f"The step was seen with {_size(use.peak)} of the {_size(use.limit)} that a job may use."


def _of_the_card(use: Use) -> str:
    assert use.card
    sizes = [_size(size) for size in (use.card.memory_bytes, use.card_peak, use.card_others)]
    return "The card has {}; this step was seen with {} of it, and other programs hold {}.".format(*sizes)


def _way_out(fault: Fault, use: Use) -> str:
    """A batch that fits as far as the figures tell: what is asked for at one blow mostly grows with it."""
    if fault.stage == "predict":
        return "Prediction chooses its own batches: use a smaller model or resolution, or fewer views."
    if not use.batch:
        return "Halve the batch size, or use a smaller model or resolution."
    size, _, height, width = use.batch
    running = f"Batches of {size} at {height} x {width} were running:"
    if size == 1:
        return f"{running} use a smaller model or resolution."
    smaller, (asked, room) = size // 2, _asked_and_room(fault.message, use)
    while smaller > 1 and asked and room and asked * smaller / size > room:
        smaller //= 2
    how = "halve the batch size" if smaller == size // 2 else "a smaller batch size fits"
    return f"{running} {how} ({smaller}), or use a smaller model or resolution."


def _asked_and_room(message: str, use: Use) -> tuple[float, float]:
    asked, free = ASKED.search(message), FREE.search(message)
    room = _bytes(free[1], free[2]) if free else 0.0 if use.card else float(max(0, use.limit - use.peak))
    return (_bytes(asked[1], asked[2]) if asked else 0.0), room


def _bytes(number: str, unit: str) -> float:
    return float(number) * UNITS[unit.lower()]


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"
