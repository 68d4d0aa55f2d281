"""Every tier of isolation against the same attacks, as root and as an ordinary user.

The cases are in tests/sandbox/conformance; docs/security.md says what each tier promises. What is open in a tier is listed here, so
that a hole which closes fails a test as much as one that opens.
"""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.isolation import landlock, tiers
from tests.sandbox.conformance.suite import WHO, check, suite, what_is_left

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


@pytest.fixture(autouse=True)
def _nothing_of_ours_is_left() -> Iterator[None]:
    yield
    assert not what_is_left()
