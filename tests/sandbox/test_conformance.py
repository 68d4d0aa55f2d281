"""Every tier of isolation against the same attacks, forgeries, kills and bombs, as root and as an ordinary user.

The cases are in tests/sandbox/conformance; docs/security.md says what each tier promises. What is open in a tier is listed here, so
that a hole which closes fails a test as much as one that opens.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sandbox.isolation import landlock, tiers
from schema.settings import Tier
from tests.sandbox.conformance.bombs import UNSEEN

USER = 61100  # an ordinary user without an account, below the range that jobs have
ROOT = Path(__file__).resolve().parent.parent.parent
# Of the cheats that have worked one of a kind; `make test-slow` runs all of them in every tier.
QUICK = (
    "cheats:predictions_handed_on_in_tmp,trained_while_predicting,plan_written_again_while_it_trains,"
    "leaves_in_the_middle_of_training,account_with_a_list_for_a_name,curve_without_numbers",
    "weights:header_of_2_to_the_60,nan_weights",
)
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

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux"), pytest.mark.timeout(900)]


def open_in(tier: str, who: str, abi: int | None = None) -> set[str]:
    """Attacks that work in a tier, as docs/security.md says. `abi`: that of Landlock, if the kernel's is not used."""
    if tier == "bwrap":
        return set()
    version = landlock.abi() if abi is None else min(abi, landlock.abi())
    unscoped = {"abstract_unix_socket"} if version < 6 else set()
    known = {"cmdline_of_other_processes", "shared_memory_of_others"} | unscoped
    if who == "user":
        known |= {"find_what_the_job_before_left"} | ({"pathname_unix_socket"} if version < 9 else set())
    return known


def open_to_readers(tier: str, who: str) -> set[str]:
    """As `open_in`, but for what needs a socket or shared memory; and it has the file that its last words go to."""
    return open_in(tier, who) & {"cmdline_of_other_processes"} | {"inherited_descriptors"}


def open_to_cheats(tier: str, who: str) -> set[str]:
    """Without isolation prediction can read the training data; what lies in the machine's own shared memory is not always ours to remove."""
    shared = {"predictions_handed_on_in_shared_memory"}
    if tier == "none":
        return shared | {
            "trained_while_predicting",
            "predictions_handed_on_in_a_segment",
            "weights_exchanged_while_predicting",
        }
    return shared if (tier, who) == ("landlock", "user") else set()


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


@pytest.mark.parametrize("who", [WHO[-1], *(pytest.param(who, marks=pytest.mark.slow) for who in WHO[:-1])])
@pytest.mark.parametrize("tier", tiers.ISOLATED)
def test_no_attack_gets_what_it_is_after(tier: str, who: str) -> None:
    rows = suite(tier, who, "attacks")
    assert len(rows) > 50
    check(rows, open_in(tier, who))


def _older(who: str, *versions: int) -> list[Any]:
    return [pytest.param(abi, who, marks=pytest.mark.slow) for abi in versions]


@pytest.mark.parametrize(
    ("abi", "who"), [(5, WHO[-1]), *_older(WHO[-1], 1, 2, 3, 4, 6, 7), *(_older("root", 1, 5) if "root" in WHO else [])]
)
def test_older_kernels_hold_the_same_but_for_what_is_told(abi: int, who: str) -> None:
    """Linux 5.13 to 6.18: what Landlock does not see there, the filter refuses."""
    if landlock.abi() < abi:
        pytest.skip(f"the kernel's Landlock has version {landlock.abi()}")
    check(suite("landlock", who, "attacks", abi=abi), open_in("landlock", who, abi))


@pytest.mark.parametrize("tier", ["landlock", pytest.param("bwrap", marks=pytest.mark.slow)])
def test_a_job_on_a_gpu_reaches_no_more(tier: str) -> None:
    check(suite(tier, WHO[-1], "attacks_with_a_gpu"), open_in(tier, WHO[-1]))


QUICK_READER = ("landlock", WHO[-1])


@pytest.mark.parametrize(
    ("tier", "who"),
    [
        pytest.param(tier, who, marks=() if (tier, who) == QUICK_READER else pytest.mark.slow)
        for tier in tiers.ISOLATED
        for who in WHO
    ],
)
def test_an_image_that_takes_its_decoder_over_gets_nothing(tier: str, who: str) -> None:
    check(suite(tier, who, "attacks_of_a_reader"), open_to_readers(tier, who))


def test_forged_predictions_are_refused_and_cheats_gain_nothing() -> None:
    check(suite(_best(), WHO[-1], "forgeries", "texts", *QUICK), set())


@pytest.mark.slow
def test_honest_code_is_not_hindered() -> None:
    check(suite(_best(), WHO[-1], "honest"), set())


@pytest.mark.slow
def test_what_is_killed_stopped_or_removed_leaves_nothing_and_lowers_nothing() -> None:
    check(suite(_best(), WHO[0], "lifecycle"), set())


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("tier", [*tiers.ISOLATED, "none"])
def test_every_limit_holds(tier: str, who: str) -> None:
    rows = suite(tier, who, "bombs")
    limited = all(row["limited"] for row in rows.values() if row["group"] == "bombs")
    check(rows, set() if limited else UNSEEN)


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("tier", [*tiers.ISOLATED, "none"])
def test_every_tier_survives_kills_and_forgeries_and_hinders_nobody(tier: str, who: str) -> None:
    check(suite(tier, who, "lifecycle", "forgeries", "honest"), set())


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("tier", [*tiers.ISOLATED, "none"])
def test_no_cheat_counts_and_no_text_or_weights_do_harm(tier: str, who: str) -> None:
    check(suite(tier, who, "cheats", "weights", "texts"), open_to_cheats(tier, who))


def _best() -> str:
    return next((tier for tier in tiers.ISOLATED if _probe(tier).works), "none")


@pytest.fixture(autouse=True)
def _nothing_of_ours_is_left() -> Iterator[None]:
    yield
    left = [path for path in ("/etc/owned", "/usr/lib/owned", "/home/owned", "/var/tmp/owned") if Path(path).exists()]
    assert not left
