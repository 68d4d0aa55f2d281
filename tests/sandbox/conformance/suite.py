"""One part of the suite, in a process of its own: in a tier of isolation, as root or as an ordinary user."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sandbox.isolation import tiers
from schema.settings import Tier

USER = 61100  # an ordinary user without an account, below the range that jobs have
ROOT = Path(__file__).resolve().parent.parent.parent.parent
WHO = ("root", "user") if os.getuid() == 0 else ("user",)
# Makes the interpreter reachable where it lies below root's closed home, and goes on as the user in $1.
AS_USER = """
base=$2; home=$(dirname "$base"); while [ "$home" != / ] && [ "$(stat -c %a "$home" | tail -c 2)" -ge 5 ]; do home=$(dirname "$home"); done
if [ "$home" != / ]; then
    mount --bind "$base" /mnt && mount -t tmpfs -o mode=755 tmpfs "$home" && mkdir -p "$base" && mount --move /mnt "$base" || exit 77
fi
user=$1; shift 2
exec setpriv --reuid=$user --regid=$user --clear-groups --inh-caps=-all --bounding-set=-all "$@"
"""


def suite(tier: str, who: str, *groups: str, abi: int | None = None) -> dict[str, dict[str, Any]]:
    """The rows of the groups by case. `abi`: what Landlock of an older kernel has, with the filters that go with it."""
    _skip_without(tier)
    folder = Path(
        tempfile.mkdtemp(prefix="improve-conformance-", dir="/var/tmp")
    )  # not /tmp: bubblewrap has one of its own
    command = [sys.executable, "-m", "tests.sandbox.conformance.driver", tier, str(folder / "suite"), *groups]
    if who == "user" and os.getuid() == 0:
        os.chown(folder, USER, USER)
        prefix = str(Path(sys.executable).resolve().parent.parent)
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", AS_USER, "sh", str(USER), prefix, *command]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "IMPROVE_SUPERVISOR_IDLE": "60",
        **({} if abi is None else {"IMPROVE_LANDLOCK_ABI": str(abi)}),
    }
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800, check=False
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode == 77 or "Operation not permitted" in done.stderr:
        pytest.skip("no right to become an ordinary user with a mount namespace")
    assert done.returncode == 0, done.stderr[-3000:]
    return {row["case"]: row for row in map(json.loads, done.stdout.splitlines())}


@cache
def _probe(tier: Tier) -> tiers.Finding:
    with tempfile.TemporaryDirectory() as folder:
        return tiers.probe(tier, Path(folder))


def _skip_without(tier: str) -> None:
    found = _probe(tier)  # type: ignore[arg-type]
    if tier != "none" and not found.works:
        pytest.skip(f"{tier}: {found.text}. {found.remedy}")


def check(rows: dict[str, dict[str, Any]], known: set[str]) -> None:
    """Every case ran, and those that got something are those that are known."""
    assert not [case for case, row in rows.items() if not row["ran"]]
    assert {case: row["got"] for case, row in rows.items() if row["got"] and case not in known} == {}
    closed = {case for case in known if not rows[case]["got"]}
    assert not closed, f"these are held now: say so in open_in and docs/security.md: {closed}"


def best_tier() -> str:
    """Name the best tier that works on this machine."""
    return next((tier for tier in tiers.ISOLATED if _probe(tier).works), "none")


def what_is_left() -> list[str]:
    """Name the files outside the suite's own folder that an attack has made."""
    return [path for path in ("/etc/owned", "/usr/lib/owned", "/home/owned", "/var/tmp/owned") if Path(path).exists()]
