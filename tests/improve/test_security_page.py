"""SECURITY.md says which holes of other packages are known: the versions in it are those of pyproject.toml and the lock."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROWS = re.findall(
    r"^\| ([a-z][a-z0-9-]+) \| ((?:CVE|GHSA)[^|]+) \| [^|]+ \| ([0-9.]+) \| ([0-9.-]+) \| ([0-9.]+) \| [^|]+ \|$",
    (ROOT / "SECURITY.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def floors() -> dict[str, str]:
    """The oldest version of each package that is accepted, those of the extras too."""
    texts = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    found = [Requirement(text) for text in texts]
    return {one.name: spec.version for one in found for spec in one.specifier if spec.operator == ">="}


def locked() -> dict[str, list[Version]]:
    versions: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ ]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE):
        versions.setdefault(name, []).append(Version(version))
    return versions


def test_the_page_has_a_table() -> None:
    assert len(ROWS) >= 35


@pytest.mark.parametrize(("package", "advisory", "fixed", "floor", "lock"), ROWS)
def test_what_is_accepted_and_locked_is_as_new_as_what_mends_it(
    package: str, advisory: str, fixed: str, floor: str, lock: str
) -> None:
    assert floor == floors().get(package, "-")
    assert Version(lock) in locked()[package]
    assert min(locked()[package]) >= Version(fixed)
    assert floor == "-" or Version(floor) >= Version(fixed)


def test_the_lock_has_what_the_project_asks_for() -> None:
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        one = Requirement(text)
        assert all(one.specifier.contains(version) for version in locked()[one.name]), text
