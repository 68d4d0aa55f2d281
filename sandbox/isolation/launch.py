"""Start a program inside a tier of isolation: [bubblewrap ->] enter.py -> the program, with its orders on standard input."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import psutil

from sandbox.environment import ROOT
from sandbox.isolation import bwrap, cgroup, landlock, paths
from sandbox.isolation.users import owner
from schema.job import Access, Limits

ENTER = ROOT / "sandbox" / "isolation" / "enter.py"
OPEN_FILES = 8192
LEAST_SCRATCH = 2**16  # bytes: of a file system that nobody may write to
THREADS_PER_PROCESS = 16
_DROP = ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sandboxed program works."""

    room: Path  # readable
    work: Path  # in it, writable
    tmp: Path  # writable; a file system of its own where there are namespaces
    canary: Path  # must not be readable
    user: int | None  # to become, where we are root
    group: Path | None = None  # control group to be in
    scratch: bool = True  # whether it may write: its work directory, /tmp and shared memory


def launch(
    access: Access, place: Place, argv: list[str], env: dict[str, str], *, channel: int, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """The program finds `channel` as its descriptor 3; what goes wrong before it runs is told in `log`."""
    tier, limits, user = access.tier, access.limits, place.user
    own = [*paths.system(gpu=access.gpu), *paths.python(), str(place.room)]
    read = list(dict.fromkeys([*own, *access.read]))
    devices = paths.devices(gpu=access.gpu, card=access.card.minor if access.card else None)
    stranger = user is not None and _unreadable_for_others(access.read, namespaces=tier == "bwrap")
    front = [] if tier != "bwrap" else bwrap.command(
        read, [str(place.work)] if place.scratch else [], devices,
        root=user is not None, keep=_DROP + ["CAP_DAC_READ_SEARCH"] * stranger,
        shm_bytes=limits.memory_bytes // 2 if place.scratch else LEAST_SCRATCH,
        tmp_bytes=limits.memory_bytes // 4 if place.scratch else LEAST_SCRATCH,
    )  # fmt: skip
    shm = ["/dev/shm"] if tier == "bwrap" or Path("/dev/shm").is_dir() else []  # noqa: S108
    orders: dict[str, Any] = {
        "tier": tier,
        "abi": 0 if tier == "none" else landlock.abi(),
        "guard": tier != "bwrap" and sys.platform == "linux",
        "supervisor": os.getpid(),
        "channel": channel,
        "user": user,
        "read_all": stranger,
        "read": read,
        "write": [str(place.work), str(place.tmp), *shm] if place.scratch else [],
        "devices": devices,
        "gpu": access.gpu,
        "canary": str(place.canary),
        "limits": {
            "NOFILE": OPEN_FILES,
            "FSIZE": limits.disk_bytes,
            "NPROC": threads(limits) + (_threads_of_ours() if user is None else 0),
        },
        "cwd": str(place.room),
        "argv": argv,
        "env": env,
    }
    process = subprocess.Popen(
        [*(cgroup.entering(place.group) if place.group else []), *front, os.path.realpath(sys.executable), "-I", "-S", str(ENTER)],
        pass_fds=[channel], cwd="/", env={"PATH": "/usr/bin:/bin"}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log,
        start_new_session=True,  # a Ctrl-C in the terminal is for whoever started us
    )  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(json.dumps(orders).encode())
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that `launch` has started, with its group: bubblewrap that is killed while it still sets up leaves
    a child, which would wait for it for ever."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def threads(limits: Limits) -> int:
    """The most that a job may have: processes that are too many are told by the watch, this is what the kernel refuses."""
    return limits.processes * THREADS_PER_PROCESS


def _unreadable_for_others(given: tuple[str, ...], *, namespaces: bool) -> bool:
    """Whether a stranger to these files, or to the environment, could not read one: then the job keeps root's right to read what it sees."""
    torch = find_spec("torch")
    specimens = [Path(os.__file__), Path(torch.origin if torch and torch.origin else os.__file__)]
    files = [*specimens, *(item for name in given for item in (Path(name), *_entries(Path(name))))]
    above = {parent for file in files for parent in file.resolve().parents}
    if namespaces:  # bubblewrap makes the directories above what is given anew
        roots = [Path(name) for name in (*paths.python(), *given)]
        above = {parent for parent in above if any(root == parent or root in parent.parents for root in roots)}
    return not (
        all(_has(path, 0o001) for path in above)
        and all(_has(path, 0o005 if path.is_dir() else 0o004) for path in files)
    )


def _entries(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else []


def _has(path: Path, bits: int) -> bool:
    try:
        return path.stat().st_mode & bits == bits
    except OSError:
        return True


def _threads_of_ours() -> int:
    """The kernel counts these against an ordinary user's limit of processes."""
    total = 0
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            total += len(os.listdir(f"/proc/{pid}/task")) if owner(pid) == os.getuid() else 0  # noqa: PTH208
    return total
