"""The machine's NVIDIA cards, asked of the driver's own library (NVML): which of them a job gets, and how much of their memory is in use."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pynvml

from schema.job import Card

POLL = 0.5  # seconds between two looks at cards that are all taken


def cards() -> list[Card]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order; none where no driver answers.

    Numbers count as nvidia-smi does (CUDA_DEVICE_ORDER=PCI_BUS_ID); like CUDA, what follows an entry that means no card is not looked at.
    """
    if not _driver():
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = range(pynvml.nvmlDeviceGetCount())
    found = []
    for entry in [str(index) for index in every] if chosen is None else chosen.split(","):
        handle = _handle(entry.strip())
        if handle is None:
            break
        found.append(_card(handle))
    return list(dict.fromkeys(found))


def in_use(card: Card) -> int:
    """Bytes of its memory that anything at all has taken; 0 where the driver does not tell."""
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(_by_uuid(card.uuid)).used)
    except pynvml.NVMLError:
        return 0


def taken_by(card: Card, processes: set[int], before: int) -> int:
    """Bytes of its memory that these processes have. A driver outside this container knows them by other numbers, or by none:
    then what has come since there were `before` bytes in use. A job has its card to itself, as far as our own jobs go."""
    try:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(_by_uuid(card.uuid))
    except pynvml.NVMLError:
        running = []
    own = [one.usedGpuMemory or 0 for one in running if one.pid in processes]
    return sum(own) if any(own) else max(0, in_use(card) - before)


@contextlib.contextmanager
def one_of(choice: list[Card], given_up: Callable[[], bool]) -> Iterator[Card | None]:
    """A card that no other job on this machine has, the first that is free. Waits for one; None where the wait was `given_up`, or there are no cards."""
    while choice:
        for card in choice:
            with contextlib.ExitStack() as held:
                if _taken(card, held):
                    yield card
                    return
        if given_up():
            break
        time.sleep(POLL)
    yield None


def _taken(card: Card, held: contextlib.ExitStack) -> bool:
    """A socket's abstract name is one for the machine, whoever asks and wherever their files lie, and the kernel gives it back when its holder dies."""
    lock = held.enter_context(socket.socket(socket.AF_UNIX))
    try:
        lock.bind(f"\0improve-gpu-{card.uuid}")
    except OSError:
        return False
    return True


def driver_version() -> str | None:
    """None where no driver answers."""
    return str(pynvml.nvmlSystemGetDriverVersion()) if _driver() else None


@cache
def _driver() -> bool:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    return True


def _handle(entry: str) -> Any:
    """A number, a UUID or the beginning of one; None where it means no card."""
    try:
        if entry.isdecimal():
            return pynvml.nvmlDeviceGetHandleByIndex(int(entry))
        if entry.startswith("MIG-"):
            return pynvml.nvmlDeviceGetHandleByUUID(entry)
        every = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        fitting = [handle for handle in every if pynvml.nvmlDeviceGetUUID(handle).startswith(entry)]
        return fitting[0] if entry.startswith("GPU-") and len(fitting) == 1 else None
    except pynvml.NVMLError:
        return None


def _card(handle: Any) -> Card:
    whole = handle
    with contextlib.suppress(pynvml.NVMLError):  # a slice of a card (MIG) has the card's node
        whole = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    return Card(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        minor=pynvml.nvmlDeviceGetMinorNumber(whole),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


def _by_uuid(uuid: str) -> Any:
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)
