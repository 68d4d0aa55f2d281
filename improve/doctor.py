"""Is this machine ready? One line per thing that a run needs, with what to do where it is missing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from shutil import disk_usage
from typing import NamedTuple

from checkpoints.home import prepare_home
from sandbox import gpu
from sandbox.device import Device, find_device
from sandbox.hardware import hardware
from sandbox.isolation import cgroup
from sandbox.isolation.tiers import NONE, survey
from sandbox.pretrained.disk import in_cache, on_disk
from schema.errors import HomeError, ImproveError, SettingsError

ROOMS = ("agents", "checkpoints", "dataset", "graph", "improve", "nodes", "sandbox", "schema")
PACKAGES = ("torch", "torchvision", "timm", "langgraph", "scikit-learn", "ruff", "ty")
ROOT = Path(__file__).resolve().parent.parent


class Finding(NamedTuple):
    ok: bool
    text: str


def shadowed() -> list[str]:
    """Rooms whose name another installed package has taken."""
    found = []
    for room in ROOMS:
        spec = find_spec(room)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or not origin.is_relative_to(ROOT):
            found.append(f"{room} ({origin})")
    return found


def findings(weights_dir: str | None) -> Iterator[Finding]:
    yield Finding(sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or newer is needed)")
    taken = shadowed()
    yield Finding(
        not taken,
        f"other packages shadow IMPROVE's folders: {', '.join(taken)}; use an environment of its own"
        if taken
        else "package names are free",
    )
    for package in PACKAGES:
        yield _installed(package)
    yield _torch_pair()
    yield from _device()
    from agents.llm.keys import find_variable  # noqa: PLC0415
    from agents.llm.providers import KEYS  # noqa: PLC0415 - half a second, which other commands have no use for

    keys = [name for name in KEYS.values() if find_variable(name)]
    yield Finding(
        True, f"keys for language models: {', '.join(keys) or 'none (the playbook needs none; docs/models.md)'}"
    )
    yield _home()
    yield _databases()
    yield from _sandboxes()
    try:
        names = sorted({*on_disk(weights_dir), *in_cache().files})
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        yield Finding(True, f"pretrained weights on disk: {shown or 'none (--weights-dir or IMPROVE_WEIGHTS)'}")
    except ImproveError as error:
        yield Finding(False, str(error))


def _installed(package: str) -> Finding:
    try:
        return Finding(True, f"{package} {version(package)}")
    except PackageNotFoundError:
        return Finding(False, f"{package} is not installed: run make test, or pip install {package}")


def _torch_pair() -> Finding:
    """In a process of its own: this one does not import torch."""
    code = "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding(True, "torch and torchvision belong together")
    reason = done.stderr.strip().split("\n")[-1][:200]
    return Finding(
        False,
        f"torch and torchvision do not work together ({reason}); reinstall both: pip install --force-reinstall torch torchvision",
    )


def _device() -> Iterator[Finding]:
    """What trainings run on; of a GPU what it has shown, or why it is not used and what to type."""
    try:
        home = prepare_home()
        try:
            found = find_device("auto", (), "auto", home)
        except SettingsError:  # no sandbox works, which is told below
            found = find_device("auto", (), "none", home)
    except HomeError:  # told below
        found = Device(hardware("cpu"), "none")
    machine, answer = found.machine, found.answer
    memory = f"{machine.memory_bytes / 2**30:.0f} GB of memory"
    yield Finding(True, f"trains on {machine.device}: {machine.name}, {machine.cores} cores, {memory}")
    if answer:
        newest = ".".join(map(str, gpu.driver_cuda() or ("?",)))
        yield Finding(
            True,
            f"GPU {machine.name} computes in the sandbox {found.tier}: {machine.gpu_memory_bytes / 2**30:.0f} GB, driver "
            f"{gpu.driver_version()} (CUDA up to {newest}), PyTorch {answer.torch} (CUDA {answer.cuda})",
        )
    for note in found.notes:
        yield Finding(machine.device == "cuda", note)


def _sandboxes() -> Iterator[Finding]:
    """The tiers that work, best first; where the best does not, why, and what to type."""
    try:
        found = survey(prepare_home())
    except ImproveError:
        return  # told with IMPROVE_HOME
    best = next((finding.tier for finding in found if finding.works), None)
    for finding in found:
        if finding.works:
            chosen = " (used unless --sandbox says otherwise)" if finding.tier == best else ""
            yield Finding(True, f"sandbox {finding.tier}{chosen}: {finding.text}")
        else:
            yield Finding(
                best is not None, f"sandbox {finding.tier} cannot be had: {finding.text}. {finding.remedy}".strip()
            )
    if sys.platform == "linux":
        yield Finding(True, _control_group())
    if best is None:
        yield Finding(False, f"there is only --sandbox none: {NONE}")


def _control_group() -> str:
    """Who keeps a job's limits."""
    place = cgroup.home()
    if place and cgroup.limits(place):
        return f"the kernel keeps the limits of jobs: each sandbox is a control group in {place}"
    ended = (
        "a job is ended at one blow, by its control group" if place else "the processes of a job are ended one by one"
    )
    remedy = (
        "" if os.getuid() == 0 else "; ask systemd for one: systemd-run --user --scope -p Delegate=yes improve run ..."
    )
    return (
        f"the limits of jobs are kept by a watch, ten times a second; {ended}. "
        f"In a control group (cgroup v2) with the memory and pids controllers the kernel would keep them{remedy}"
    )


def _home() -> Finding:
    try:
        root = prepare_home()
    except ImproveError as error:
        return Finding(False, str(error))
    return Finding(True, f"IMPROVE_HOME {root}, {disk_usage(root).free / 2**30:.0f} GB free")


def _databases() -> Finding:
    from checkpoints.retention import database_sizes  # noqa: PLC0415 - as above: SQLAlchemy
    from checkpoints.trouble import trouble  # noqa: PLC0415
    from improve.show import readable_bytes  # noqa: PLC0415

    try:
        sizes = database_sizes()
    except ImproveError as error:
        return Finding(False, str(error))
    except Exception as error:
        found = trouble(error)
        if found is None:
            raise
        return Finding(False, found.text)
    shown = ", ".join(f"{where} {readable_bytes(size)}" for where, size in sizes.items())
    return Finding(True, f"runs are kept in {shown}")
