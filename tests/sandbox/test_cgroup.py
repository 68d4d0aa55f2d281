"""Control groups on the real hierarchy of this machine: found, entered, emptied. What a job meets in one is in test_job.py."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sandbox.isolation import cgroup

UNIFIED = "25 30 0:23 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = "31 30 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 none rw"
BOUND = "25 30 0:23 /machine/box /sys/fs/cgroup ro - cgroup2 cgroup2 rw"
GROUPS = pytest.mark.skipif(cgroup.home() is None, reason="no control group (cgroup v2) can be made here")


@pytest.mark.parametrize(
    ("mounts", "groups", "found"),
    [
        (UNIFIED, "0::/user.slice/run-1.scope\n", "/sys/fs/cgroup/user.slice/run-1.scope"),
        (UNIFIED, "0::/\n", "/sys/fs/cgroup"),
        (HYBRID, "4:memory:/jobs\n0::/a\n", "/sys/fs/cgroup/unified/a"),
        (BOUND, "0::/machine/box/inner\n", "/sys/fs/cgroup/inner"),
        (BOUND, "0::/machine/another\n", None),  # outside of what is mounted
        (UNIFIED, "0::/../another\n", None),
        (UNIFIED, "4:memory:/jobs\n", None),
        (HYBRID.partition("\n")[0], "0::/\n", None),
        ("", "", None),
    ],
)  # fmt: skip
def test_our_own_group_is_found_wherever_the_hierarchy_is_mounted(mounts: str, groups: str, found: str | None) -> None:
    assert cgroup.own(mounts, groups) == (Path(found) if found else None)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Path]:
    made = cgroup.make(tmp_path)
    assert made is not None
    yield made
    cgroup.end(made)


def start(group: Path) -> subprocess.Popen[bytes]:
    """A shell with a child in its session, one in another, and one that is nobody's."""
    program = "sleep 600 & setsid sleep 600 & (setsid sleep 600 &) & wait"
    process = subprocess.Popen([*cgroup.entering(group), "sh", "-c", program])
    while len(cgroup.members(group)) != 4:
        time.sleep(0.01)
    return process


@GROUPS
def test_what_enters_a_group_ends_with_all_that_it_started(group: Path) -> None:
    process, members = start(group), cgroup.members(group)
    assert process.pid in members
    cgroup.end(group)
    process.wait()
    assert not [pid for pid in members if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert not group.exists()


@GROUPS
def test_a_killed_process_that_nobody_has_collected_keeps_no_group(group: Path) -> None:
    process = start(group)
    cgroup.end(group)
    assert not group.exists()
    assert process.wait() == -9


@GROUPS
def test_what_an_earlier_start_has_left_is_ended_when_the_next_group_is_made(group: Path, tmp_path: Path) -> None:
    process = start(group)
    assert cgroup.make(tmp_path) == group
    assert cgroup.members(group) == []
    assert process.wait() == -9


@GROUPS
def test_a_group_that_is_another_folders_is_left_alone(group: Path, tmp_path: Path) -> None:
    process = start(group)
    other = tmp_path / "other"
    other.mkdir()
    (other / "cgroup").write_text(str(group))
    cgroup.sweep(other)
    assert process.poll() is None
    cgroup.end(group)
    process.wait()


@GROUPS
def test_a_command_that_cannot_enter_its_group_does_not_run(tmp_path: Path) -> None:
    command = [*cgroup.entering(tmp_path / "no" / "group"), "touch", str(tmp_path / "ran")]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "ran").exists()


@GROUPS
def test_looking_for_a_place_leaves_nothing_behind() -> None:
    place = cgroup.home()
    assert place is not None
    cgroup._works(place)
    assert not list(place.glob("improve-trial*"))
