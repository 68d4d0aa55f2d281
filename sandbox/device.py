"""What a run computes on: a GPU that has computed in the sandbox that jobs will have, or the CPU."""

import contextlib
import json
import re
import sys
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sandbox import durable, gpu
from sandbox.device_answer import FULL, Answer, Problem, no_memory_node, problem_of
from sandbox.environment import ROOT, environment
from sandbox.hardware import described, hardware
from sandbox.isolation.tiers import ask, choose, furnished, working
from schema.errors import SettingsError
from schema.job import Access, Card, Limits
from schema.settings import Tier
from schema.team import Hardware

CHECK = ROOT / "sandbox" / "device_check.py"
SECONDS = 180.0  # a cold disk, a busy machine: importing torch has taken a minute
KEPT = "gpus.json"  # in $IMPROVE_HOME: the answers of cards that compute
OF_CARDS = re.compile(r"CUDA|cuDNN|cuBLAS|NVIDIA|NVML", re.IGNORECASE)
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Device:
    """The machine as jobs will have it. `notes` are sentences for the person, `answer` is the chosen GPU's."""

    machine: Hardware
    tier: Tier
    gpus: tuple[str, ...] = ()  # UUIDs that jobs may get one of; none: all of them
    notes: list[str] = field(default_factory=list)
    answer: Answer | None = None


def find_device(
    device: Literal["auto", "cpu", "cuda"], gpus: tuple[str, ...], sandbox: Tier | Literal["auto"], home: Path
) -> Device:
    """Choose the device and the tier of isolation together, by a computation on the GPU in that tier.

    A GPU that answers and cannot compute is refused with `--device cuda`, and left for the CPU with `auto`.
    Raises SettingsError, which says what to type.
    """
    machine = hardware(device, gpus)
    if machine.device == "cpu":
        return Device(machine, choose(sandbox, home), gpus, [] if device == "cpu" else gpu.look().unusable)
    usable = gpu.chosen(gpus)
    problems: list[str] = []
    for card in gpu.by_room(usable):
        found = _tried(card, sandbox, home)
        if not isinstance(found, Problem):
            tier, answer, notes = found
            first = usable[0] if usable[0].name != card.name else _measured(card, answer)
            left = gpu.uuids_of(usable) if problems else gpu.uuids(gpus)
            return Device(described(first), tier, left, [*problems, *notes, *_crowded(card)], answer)
        problems.append(found.text)
        usable = [other for other in usable if other != card]
        if found.lies_in != "card":
            break
    told = " ".join(problems)
    if device == "cuda":
        raise SettingsError(f"--device cuda: {told} Or train on the CPU: --device cpu")
    notes = [f"{told} Training on the CPU instead."]
    return Device(described(None), choose(sandbox, home), gpu.uuids(gpus), notes)


def is_suspected(error: str) -> bool:
    """Tell whether a card may be behind an error. One whose memory is full is not."""
    return bool(OF_CARDS.search(error)) and not FULL.search(error)


def trouble(card: Card, tier: Tier, folder: Path) -> str:
    """Try a card anew: why it cannot compute, empty if it can.

    Memory that is full says nothing of the card: a neighbour may have come.
    """
    answer = _answer(card, tier, folder)
    problem = None if FULL.search(answer.error) else problem_of(card, answer)
    return problem.text if problem else ""


def forget(home: Path) -> None:
    """Have every card tried anew by the next run: one that computed has stopped to."""
    (home / KEPT).unlink(missing_ok=True)


def _tried(card: Card, sandbox: Tier | Literal["auto"], home: Path) -> tuple[Tier, Answer, list[str]] | Problem:
    """Return the best tier in which the card computes, its answer, and a note if a better one does not do."""
    if not gpu.make_memory_node():
        return no_memory_node(card)
    try:
        tiers = working(sandbox, home, card)
    except SettingsError as error:
        return Problem(str(error))
    problems: list[Problem] = []
    for tier in tiers:
        answer = _known(card, tier, home) or _answer(card, tier, home)
        problem = problem_of(card, answer)
        if problem is None:
            _keep(card, tier, home, answer)
            passed_over = [f"In the sandbox {tiers[0]}: {one.text} Therefore {tier}." for one in problems[:1]]
            return tier, answer, passed_over
        problems.append(problem)
        if problem.lies_in != "sandbox":  # the next tier would not mend it
            break
    return problems[0]


def _answer(card: Card, tier: Tier, folder: Path) -> Answer:
    """Compute in a process of its own, with the rights, the environment and the card of a job."""
    limits = Limits(train_seconds=SECONDS, memory_bytes=2**31)
    access = Access(tier=tier, read=(), gpu=True, card=card, limits=limits)
    with furnished(folder) as place:
        inside = place if tier != "none" else replace(place, user=None)
        program = [sys.executable, "-P", str(CHECK)]
        env = environment(place.work, 1, str(place.work), card.uuid)
        try:
            told, words = ask(access, inside, program, env, SECONDS)
            return Answer.model_validate_json(told) if told else Answer(error=_silent(words))
        except (OSError, ValidationError) as error:
            return Answer(error=str(error))


def _silent(words: str) -> str:
    return f"the process that tried gave no answer{f': {words}' if words else ''}"


def _known(card: Card, tier: Tier, home: Path) -> Answer | None:
    with contextlib.suppress(ValidationError, KeyError):
        return Answer.model_validate(_kept(home)[_key(card, tier)])
    return None


def _keep(card: Card, tier: Tier, home: Path, answer: Answer) -> None:
    """Keep an answer, and drop those of before the machine's last start.

    Of two runs at once one may lose its answer, and asks again.
    """
    boot = _key(card, tier).split()[0]
    kept = {key: value for key, value in _kept(home).items() if key.startswith(boot)}
    if kept.get(_key(card, tier)) is None:
        with contextlib.suppress(OSError):
            told = kept | {_key(card, tier): answer.model_dump(mode="json")}
            durable.write(home / KEPT, json.dumps(told, indent=1))


def _kept(home: Path) -> dict[str, Any]:
    try:
        told = json.loads((home / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _key(card: Card, tier: Tier) -> str:
    """A restart of the machine may leave device nodes or drivers otherwise than they were."""
    try:
        boot = BOOT.read_text(encoding="ascii").strip()
        torch = version("torch")
    except (OSError, PackageNotFoundError):
        boot, torch = "-", "-"
    return f"{boot} driver {gpu.driver_version()} torch {torch} {card.uuid} {tier}"


def _measured(card: Card, answer: Answer) -> Card:
    """PyTorch knows the memory of cards that share the machine's."""
    return card.model_copy(update={"memory_bytes": answer.memory_bytes or card.memory_bytes})


def _crowded(card: Card) -> list[str]:
    if not gpu.is_crowded(card):
        return []
    held, all_ = (f"{size / 2**30:.0f}" for size in (gpu.in_use(card), card.memory_bytes))
    return [f"Other programs hold {held} of {all_} GiB of GPU {card.name}, and no other GPU has more room."]
