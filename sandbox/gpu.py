"""The machine's NVIDIA cards, asked of the driver's own library (NVML): which of them a run may use, and how much of their memory is in use."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pynvml

from schema.errors import SettingsError
from schema.job import Card

CONTROL, MEMORY_NODE = Path("/dev/nvidiactl"), Path("/dev/nvidia-uvm")
MAKE_NODE = ("nvidia-modprobe", "-u", "-c", "0")
# Why nvmlInit fails where there is no driver: nothing is wrong.
ABSENT = {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}
HALF = 0.5  # of a card's memory in use: other programs compute there


@dataclass(frozen=True, slots=True)
class Found:
    """Cards that answer, and for each of the others a sentence that says why it cannot be used."""

    cards: list[Card]
    unusable: list[str]


def cards() -> list[Card]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order; none where no driver answers."""
    return look().cards


def look() -> Found:
    """Ask the driver for the cards that CUDA_VISIBLE_DEVICES leaves, in its order; of a card in MIG mode, for its slices.

    Numbers count as nvidia-smi does (CUDA_DEVICE_ORDER=PCI_BUS_ID); like CUDA, what follows an entry that means no card is not looked at.
    """
    if not _driver():
        return Found([], [f"The NVIDIA driver does not answer: {_refusal()}."] if _refusal() else [])
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    found: list[Card] = []
    unusable: list[str] = []
    for entry in _numbers() if chosen is None else chosen.split(","):
        handle = _handle(entry.strip())
        if handle is None:
            break
        try:
            found += _slices_or_card(handle)
        except pynvml.NVMLError as error:
            unusable.append(f"GPU {entry.strip()} does not answer: {error}.")
            continue
        if _is_sliced(handle) and not list(_slices(handle)):
            unusable.append(
                f"GPU {entry.strip()} is in MIG mode and has no MIG device: make one "
                f"(sudo nvidia-smi mig -i {entry.strip()} -cgi 0 -C), or leave that mode (sudo nvidia-smi -i {entry.strip()} -mig 0)."
            )
    return Found(list(dict.fromkeys(found)), unusable)


def by_room(found: list[Card]) -> list[Card]:
    """Order cards by the memory in use on them, the least first: on a shared machine everybody takes card 0."""
    return sorted(found, key=in_use)


def is_crowded(card: Card) -> bool:
    """Tell whether more than half of its memory is in use."""
    return in_use(card) > HALF * card.memory_bytes


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
    there = cards()
    found: list[Card] = []
    for entry in entries:
        meant = _meant(entry, there)
        if not meant:
            raise SettingsError(f"--gpus {','.join(entries)}: there is no GPU {entry}. {_listed(there)}")
        found += meant
    return list(dict.fromkeys(found)) if entries else there


def _meant(entry: str, there: list[Card]) -> list[Card]:
    handle = _handle(entry) if there else None
    try:
        return [card for card in _slices_or_card(handle) if card in there] if handle is not None else []
    except pynvml.NVMLError:
        return []


def uuids(entries: tuple[str, ...]) -> tuple[str, ...]:
    """Names that stay, where numbers may change with the next start of the machine. Raises SettingsError."""
    return uuids_of(chosen(entries)) if entries else ()


def uuids_of(found: list[Card]) -> tuple[str, ...]:
    return tuple(card.uuid for card in found)


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
    with contextlib.suppress(pynvml.NVMLError):
        return str(pynvml.nvmlSystemGetDriverVersion()) if _driver() else None
    return None


def driver_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA that the driver supports; None if it does not tell."""
    with contextlib.suppress(pynvml.NVMLError):
        if _driver():
            version = int(pynvml.nvmlSystemGetCudaDriverVersion())
            return version // 1000, version % 1000 // 10
    return None


def capability(card: Card) -> tuple[int, int] | None:
    """Return the compute capability; None if the driver does not tell."""
    with contextlib.suppress(pynvml.NVMLError):
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(_by_uuid(card.uuid))
        return int(major), int(minor)
    return None


def compute_mode(card: Card) -> int | None:
    """Return NVML_COMPUTEMODE_*; None if the driver does not tell."""
    with contextlib.suppress(pynvml.NVMLError):
        return int(pynvml.nvmlDeviceGetComputeMode(_by_uuid(card.uuid)))
    return None


def make_memory_node() -> bool:
    """Have /dev/nvidia-uvm, without which no CUDA program starts; False if it is missing and cannot be made.

    The first CUDA program after the start of the machine makes it, but no program in a sandbox can: it takes
    root's rights.
    """
    if CONTROL.exists() and not MEMORY_NODE.exists() and shutil.which(MAKE_NODE[0]):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(MAKE_NODE, check=False, capture_output=True, timeout=30)
    return MEMORY_NODE.exists() or not CONTROL.exists()


def _driver() -> bool:
    return _start_driver() is None


def _refusal() -> str:
    """Why a driver that is installed does not answer; empty if there is none."""
    error = _start_driver()
    if error is None or error.value in ABSENT:
        return ""
    if error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return f"{error} (it was updated: restart the machine)"
    return str(error)


@cache
def _start_driver() -> Any:
    """Start the driver's library; the error if it refuses."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return error
    return None


def _numbers() -> list[str]:
    try:
        return [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


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


def _slices_or_card(handle: Any) -> list[Card]:
    """CUDA computes on the slices of a card in MIG mode, never on the whole card."""
    return [_card(one) for one in (_slices(handle) if _is_sliced(handle) else [handle])]


def _is_sliced(handle: Any) -> bool:
    with contextlib.suppress(pynvml.NVMLError):  # most cards do not know the question, and a slice does not
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
    return False


def _slices(handle: Any) -> Iterator[Any]:
    """The numbers of slices have gaps."""
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(pynvml.NVMLError_NotFound):
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)


def _card(handle: Any) -> Card:
    whole, minor = handle, None
    with contextlib.suppress(pynvml.NVMLError):  # a slice of a card (MIG) has the card's node
        whole = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    with contextlib.suppress(pynvml.NVMLError_NotSupported):  # on WSL 2 cards have no nodes of their own
        minor = pynvml.nvmlDeviceGetMinorNumber(whole)
    try:
        memory = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError_NotSupported:  # DGX Spark, Jetson: the machine's memory is the card's
        memory = int(psutil.virtual_memory().total)
    return Card(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        minor=minor,
        memory_bytes=memory,
    )


def _by_uuid(uuid: str) -> Any:
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)
