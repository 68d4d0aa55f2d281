"""The machine's NVIDIA cards, asked of the driver's own library (NVML): which of them a run may use, and how much of their memory is in use."""

import contextlib
import os
from functools import cache
from typing import Any

import pynvml

from schema.errors import SettingsError
from schema.job import Card


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
    then what has come since there were `before` bytes in use, which is its own where it has its card to itself."""
    try:
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(_by_uuid(card.uuid))
    except pynvml.NVMLError:
        running = []
    own = [one.usedGpuMemory or 0 for one in running if one.pid in processes]
    return sum(own) if any(own) else max(0, in_use(card) - before)


def chosen(entries: tuple[str, ...]) -> list[Card]:
    """Those of `cards` that are named, by number as nvidia-smi counts or by UUID, in that order; all where none is named. Raises SettingsError."""
    there, found = cards(), []
    for entry in entries:
        handle = _handle(entry) if there else None
        card = _card(handle) if handle is not None else None
        if card is None or card not in there:
            raise SettingsError(f"--gpus {','.join(entries)}: there is no GPU {entry}. {_listed(there)}")
        found.append(card)
    return list(dict.fromkeys(found)) if entries else there


def uuids(entries: tuple[str, ...]) -> tuple[str, ...]:
    """Names that stay, where numbers may change with the next start of the machine. Raises SettingsError."""
    return tuple(card.uuid for card in chosen(entries)) if entries else ()


def _listed(there: list[Card]) -> str:
    if not there:
        return "No NVIDIA GPU answers: check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES, or leave --gpus away."
    known = "; ".join(f"{_number(card)} {card.name} ({card.uuid})".strip() for card in there)
    return f"Those that exist and that CUDA_VISIBLE_DEVICES leaves: {known}. Give their numbers or UUIDs, e.g. --gpus {_number(there[0]) or there[0].uuid}"


def _number(card: Card) -> str:
    """As nvidia-smi counts; empty for a slice of a card (MIG)."""
    try:
        return str(pynvml.nvmlDeviceGetIndex(_by_uuid(card.uuid)))
    except pynvml.NVMLError:
        return ""


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
