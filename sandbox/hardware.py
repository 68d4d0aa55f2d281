"""What machine this is, found without importing torch, and the limits that follow for a job."""

import contextlib
import os
import platform
from pathlib import Path
from typing import Literal

import psutil

from sandbox.gpu import chosen, look
from sandbox.isolation import cgroup
from schema.errors import SettingsError
from schema.job import Card, Limits
from schema.team import Hardware


def hardware(device: Literal["auto", "cpu", "cuda"], gpus: tuple[str, ...] = ()) -> Hardware:
    """Raises SettingsError where a GPU is asked for and none is found."""
    if device == "cpu" and gpus:
        raise SettingsError(f"--gpus {','.join(gpus)} and --device cpu: choose one of the two.")
    card = None if device == "cpu" else next(iter(chosen(gpus)), None)
    if device == "cuda" and card is None:
        reasons = "".join(f" {reason}" for reason in look().unusable)
        raise SettingsError(
            f"--device cuda: no NVIDIA GPU answers.{reasons} Use --device cpu, or check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES."
        )
    return described(card)


def described(card: Card | None) -> Hardware:
    """This machine with the GPU that it trains on; None: on its CPU."""
    return Hardware(
        device="cuda" if card else "cpu",
        name=card.name if card else _processor(),
        cores=_cores(),
        memory_bytes=_memory(),
        gpu_memory_bytes=card.memory_bytes if card else 0,
    )


def default_limits(machine: Hardware, train_seconds: float, together: int = 1) -> Limits:
    """A job may use most of the machine, and no more; of `together` jobs at the same time each its share."""
    return Limits(train_seconds=train_seconds, memory_bytes=int(machine.memory_bytes * 0.85) // together)


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [told.split() for told in _cgroups("cpu.max")]
    return min([allowed, *(max(1, int(quota[0]) // int(quota[1])) for quota in quotas if quota[0].isdigit())])


def _memory() -> int:
    physical = int(psutil.virtual_memory().total)
    return min([physical, *(int(told) for told in _cgroups("memory.max") if told.isdigit())])


def _cgroups(name: str) -> list[str]:
    """What our control group and those above it are limited to: a container, a session or a batch job may have set it."""
    here, found = cgroup.own(), []
    for group in [here, *here.parents] if here else []:
        with contextlib.suppress(OSError):
            found.append((group / name).read_text(encoding="ascii").strip())
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
