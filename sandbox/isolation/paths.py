"""What of this machine a job may see besides its own files: the system's programs and libraries, and the Python environment."""

import os
import site
import sys
from pathlib import Path

from sandbox.environment import ROOT

# Links among these (/lib -> usr/lib) are made again as links.
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin")
SETTINGS = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/nsswitch.conf",
    "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/OpenCL", "/etc/vulkan", "/nix/store", "/gnu/store",
)  # fmt: skip
HARDWARE = ("/sys/devices/system/cpu", "/sys/devices/system/node")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
GPU_DEVICES = (
    "/dev/nvidiactl",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidia-modeset",
    "/dev/nvidia-caps",
    "/dev/dxg",
)
PACKAGE = ROOT / "sandbox"  # of our own code a job sees this much; beside it a person may keep a .env


def python() -> list[str]:
    """The directories of the environment that runs us: the virtual one, the one it was made from, packages of the user."""
    interpreter = Path(sys.executable).resolve()
    found = {sys.prefix, sys.base_prefix, str(interpreter.parent.parent), *_libraries()}
    if site.ENABLE_USER_SITE:
        found.add(site.getusersitepackages())
    return [*sorted(path for path in found if path != "/" and Path(path).is_dir()), str(PACKAGE)]


def system(*, gpu: bool) -> list[str]:
    return [path for path in (*SYSTEM, *SETTINGS, *(("/sys",) if gpu else HARDWARE)) if Path(path).exists()]


def devices(*, gpu: bool, card: int | None = None) -> list[str]:
    """Device nodes; of the graphics cards that of number `card`, or all that there are."""
    cards = (
        sorted(str(node) for node in Path("/dev").glob(f"nvidia{'[0-9]*' if card is None else card}")) if gpu else []
    )
    return [path for path in (*DEVICES, *(GPU_DEVICES if gpu else ()), *cards) if Path(path).exists()]


def outermost(paths: list[str]) -> list[str]:
    """Without those that lie below another one, in their order."""
    every = [Path(path) for path in dict.fromkeys(paths)]
    return [str(path) for path in every if not any(other in path.parents for other in every)]


def _libraries() -> list[str]:
    """Directories of LD_LIBRARY_PATH (clusters keep CUDA there), save those that would show a home directory."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where a user has none
    named = [Path(part) for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part.startswith("/")]
    return [str(path) for path in named if path.is_dir() and path != home and path not in home.parents]
