"""What scores depend on besides the pipeline: kept when a run begins, compared when it goes on or is repeated."""

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from sandbox.environment import ROOT
from sandbox.gpu import driver_version
from schema.run import Environment
from schema.team import Hardware

# What a pipeline can use; the libraries below torch come with its version.
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "scikit-learn", "scipy")
# The command, the view and the stores change no score.
DECIDING = ("agents", "dataset", "graph", "nodes", "sandbox", "schema")
# Kept and told, but no reason to stop: torch brings its own GPU code, which the driver only loads.
HARMLESS = {"driver"}


def environment_of(machine: Hardware, dataset: str) -> Environment:
    """This machine's, for a data set with this key. Nothing is imported for it."""
    return Environment(
        improve=f"{_version('improve')}+{_digest()}",
        python=platform.python_version(),
        packages={package: _version(package) for package in PACKAGES},
        platform=" ".join(part for part in (platform.system(), platform.machine(), *platform.libc_ver()) if part),
        device=machine.name,
        driver=driver_version() if machine.device == "cuda" else None,
        threads=machine.cores,
        dataset=dataset,
    )


def differences(was: Environment, now: Environment) -> list[str]:
    """`what: was -> is`, one line each. Which bug fixes Python has had cannot matter, so only 3.x is compared."""
    before, after = _compared(was), _compared(now)
    return [
        f"{what}: {before.get(what)} -> {after.get(what)}"
        for what in before | after
        if before.get(what) != after.get(what)
    ]


def decisive(lines: list[str]) -> list[str]:
    """Those after which scores may be others."""
    return [line for line in lines if line.split(":")[0] not in HARMLESS]


def described(environment: Environment) -> list[str]:
    """For people: two lines, and one for each time that the run went on in another one."""
    packages = " · ".join(f"{package} {installed}" for package, installed in environment.packages.items())
    driver = [f"driver {environment.driver}"] if environment.driver else []
    machine = [environment.device, *driver, f"{environment.threads} threads", environment.platform]
    return [
        f"environment: IMPROVE {environment.improve} · Python {environment.python} · {packages}",
        f"machine: {' · '.join(machine)} · data set {environment.dataset}",
        *(f"changed at iteration {change.iteration}: {'; '.join(change.lines)}" for change in environment.changes),
    ]


def _compared(environment: Environment) -> dict[str, str]:
    plain = environment.model_dump(exclude={"changes", "packages", "python"})
    minor = ".".join(environment.python.split(".")[:2])
    return {"python": minor, **environment.packages} | {what: str(value) for what, value in plain.items()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def _digest() -> str:
    """Of the sources that decide scores: between two releases, the version stays and they do not."""
    files = sorted(path.relative_to(ROOT) for room in DECIDING for path in (ROOT / room).rglob("*.py"))
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.as_posix()}\0".encode() + (ROOT / file).read_bytes() + b"\0")
    return found.hexdigest()[:12]
