"""What the probe of a GPU answers, and what a person can do about a card that cannot compute."""

import re
from dataclasses import dataclass
from typing import Literal

import pynvml

from sandbox import gpu
from schema.job import Card
from schema.record import Record
from schema.text import one_line

FULL = re.compile(r"out of memory", re.IGNORECASE)
TAKEN = re.compile(r"busy or unavailable", re.IGNORECASE)
NOT_IN_WHEELS = re.compile(r"no kernel image", re.IGNORECASE)
NO_DRIVER = re.compile(r"found no NVIDIA driver|no CUDA-capable device", re.IGNORECASE)
LEAST_DRIVER = {11: "450", 12: "525", 13: "580"}  # NVIDIA's release notes: for any CUDA of this major version
# PyTorch's own indexes by what the driver supports: within a major version the minor one does not matter.
INDEXES = {12: "cu128"}
FOR_OLD_CARDS, OLD = "cu126", (7, 5)  # the last index with code for compute capabilities below this one
GUIDE = "docs/gpu.md"


class Answer(Record):
    """Of one process that tried to compute; what it did not come to is empty."""

    error: str = ""
    torch: str = ""
    cuda: str = ""  # that PyTorch is built for
    archs: tuple[str, ...] = ()  # sm_75, ...: cards that it has code for
    capability: str = ""  # of the card
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """`text`: what was found, and what to type. `lies_in`: where another one may do, a card or a sandbox."""

    text: str
    lies_in: Literal["card", "machine", "sandbox"] = "machine"


def problem_of(card: Card, answer: Answer) -> Problem | None:
    """None for a card that computes."""
    if not answer.error:
        return None
    found = _of_versions(card, answer) or _of_mode(card, answer) or _of_memory(card, answer) or _of_code(answer)
    found = found or _of_libraries(answer) or Problem(
        f"PyTorch cannot compute on it: {one_line(answer.error, 300).rstrip('.')}. "
        "See what nvidia-smi and dmesg say of it; "
        "a restart of the machine mends most", lies_in="sandbox",
    )  # fmt: skip
    return Problem(f"GPU {card.name} cannot be used: {found.text}.", found.lies_in)


def no_memory_node(card: Card) -> Problem:
    return Problem(
        f"GPU {card.name} cannot be used: {gpu.MEMORY_NODE} is missing, though {gpu.CONTROL} is there. "
        f"Make it: sudo {' '.join(gpu.MAKE_NODE)} (or run any CUDA program once as root)."
    )


def _of_versions(card: Card, answer: Answer) -> Problem | None:
    if answer.torch and not answer.cuda:
        remedy = f"Install one with CUDA: make TORCH=default ({GUIDE})"
        return Problem(f"PyTorch {answer.torch} is built for CPUs. {remedy}")
    known, built = gpu.driver_cuda(), _numbers(answer.cuda)
    if known is None or not built or known[0] >= built[0]:
        return None
    newer = LEAST_DRIVER.get(built[0])
    old = known[0] == 12 and (gpu.capability(card) or OLD) < OLD
    index = FOR_OLD_CARDS if old else INDEXES.get(known[0])
    fitting = f", or install a PyTorch that fits it: make TORCH={index} ({GUIDE})" if index else ""
    return Problem(
        f"its driver {gpu.driver_version()} supports CUDA up to {known[0]}.{known[1]}, and "
        f"PyTorch {answer.torch} is built for CUDA {answer.cuda}. "
        f"Update the driver{f' to {newer} or newer' if newer else ''}{fitting}"
    )


def _of_mode(card: Card, answer: Answer) -> Problem | None:
    mode = gpu.compute_mode(card)
    if mode == pynvml.NVML_COMPUTEMODE_PROHIBITED:
        text = "its compute mode is Prohibited. Allow programs on it: sudo nvidia-smi -c 0"
        return Problem(text, lies_in="card")
    if not TAKEN.search(answer.error):
        return None
    if mode == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS:
        text = (
            "another program has it for itself (compute mode Exclusive Process). "
            "Wait for that program, or let others in: sudo nvidia-smi -c 0"
        )
        return Problem(text, lies_in="card")
    return Problem(
        "it is busy or unavailable. See what nvidia-smi says of it, or choose others: --gpus", lies_in="card"
    )


def _of_memory(card: Card, answer: Answer) -> Problem | None:
    if not FULL.search(answer.error):
        return None
    held, all_ = (f"{size / 2**30:.1f}" for size in (gpu.in_use(card), card.memory_bytes))
    text = f"its memory is full: other programs hold {held} of {all_} GiB"
    return Problem(f"{text}. Wait for them, or choose others: --gpus", lies_in="card")


def _of_code(answer: Answer) -> Problem | None:
    """A card that is older than all that PyTorch has code for, or newer."""
    if not NOT_IN_WHEELS.search(answer.error):
        return None
    named = (re.fullmatch(r"sm_(\d{2,4})[af]?", name) for name in answer.archs)
    has = sorted({int(found[1]) for found in named if found})
    shown = ", ".join(f"{number // 10}.{number % 10}" for number in has) or "others"
    text = f"PyTorch {answer.torch} has no code for its compute capability {answer.capability} (it has {shown})"
    older = has and _numbers(answer.capability) < (has[0] // 10, has[0] % 10)
    index = FOR_OLD_CARDS if older else "default"
    return Problem(f"{text}. Install one that has: make TORCH={index} ({GUIDE})", lies_in="card")


def _of_libraries(answer: Answer) -> Problem | None:
    if not NO_DRIVER.search(answer.error):
        return None
    return Problem(
        "it answers, but PyTorch does not find the driver's CUDA library (libcuda.so.1). Install it "
        "(Debian and Ubuntu: libnvidia-compute-..., or libcuda1), or start the container with "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        lies_in="sandbox",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")) if re.fullmatch(r"\d+(\.\d+)*", version) else ()
