"""What isolation is made of: filters for both architectures, the choice of a tier, the room and what is taken out of it."""

import errno
import os
import socket
import stat
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox import artifacts, room, zygote
from sandbox.isolation import bwrap, paths, seccomp, tiers
from sandbox.isolation.own_folder import own_folder
from sandbox.isolation.removal import clear
from schema.errors import SettingsError
from schema.job import Access, JobSpec, Limits

ALLOWED, REFUSED, PRETENDED, NO_SUCH = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000, 0x50000 | errno.ENOSYS
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")


def verdict(program: bytes, machine: str, number: int, *arguments: int) -> int:
    """What the filter answers to a system call: a classic BPF machine, as far as the filter uses it."""
    words = struct.pack("=IIQ6Q", number, ARCHITECTURE[machine], 0, *arguments, *[0] * (6 - len(arguments)))
    instructions = list(struct.iter_unpack("=HBBI", program))
    at, accumulator = 0, 0
    while True:
        code, yes, no, value = instructions[at]
        if code == 0x06:
            return int(value)
        if code == 0x20:
            accumulator = int(struct.unpack_from("=I", words, value)[0])
            at += 1
            continue
        true = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
        at += 1 + (yes if true else no)


@pytest.mark.parametrize("abi", [0, 1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_filter_fits_and_lets_a_training_do_its_work(machine: str, namespaces: bool, abi: int) -> None:
    program = seccomp.program(namespaces=namespaces, landlock=abi, machine=machine)
    assert len(program) // 8 <= 4096
    common = {"x86_64": {"read": 0, "mmap": 9, "futex": 202, "openat": 257}, "aarch64": {"read": 63, "mmap": 222, "futex": 98, "openat": 56}}  # fmt: skip
    for number in common[machine].values():
        assert verdict(program, machine, number) == ALLOWED


@pytest.mark.parametrize(
    ("machine", "call", "arguments", "with_namespaces", "without"),
    [
        ("x86_64", 101, (), REFUSED, REFUSED),  # ptrace
        ("aarch64", 117, (), REFUSED, REFUSED),
        ("x86_64", 435, (), NO_SUCH, NO_SUCH),  # clone3: libc goes back to clone
        ("x86_64", 56, (0x10000000,), REFUSED, REFUSED),  # clone with a user namespace
        ("aarch64", 220, (0x10000000,), REFUSED, REFUSED),
        ("x86_64", 56, (0x11,), ALLOWED, ALLOWED),  # fork
        ("x86_64", 41, (socket.AF_INET,), ALLOWED, REFUSED),
        ("aarch64", 198, (socket.AF_INET,), ALLOWED, REFUSED),
        ("x86_64", 41, (socket.AF_UNIX,), ALLOWED, ALLOWED),
        ("x86_64", 41, (40,), REFUSED, REFUSED),  # vsock
        ("x86_64", 90, (), ALLOWED, PRETENDED),  # chmod
        ("aarch64", 53, (), ALLOWED, PRETENDED),  # fchmodat
        ("x86_64", 16, (1, 0x5412), REFUSED, REFUSED),  # TIOCSTI
        ("x86_64", 157, (4,), REFUSED, REFUSED),  # PR_SET_DUMPABLE
        ("x86_64", 302, (1234,), ALLOWED, REFUSED),  # prlimit64 on another process
        ("x86_64", 302, (0,), ALLOWED, ALLOWED),
        ("x86_64", 141, (0, 0, 19), ALLOWED, ALLOWED),  # setpriority of oneself
        ("x86_64", 141, (0, 1234, 19), ALLOWED, REFUSED),  # of another process
        ("x86_64", 141, (2, 0, 19), ALLOWED, REFUSED),  # of all that the user runs
        ("aarch64", 140, (1, 0, 19), ALLOWED, REFUSED),  # of a group
        ("x86_64", 251, (1, 0, 0), ALLOWED, ALLOWED),  # ioprio_set of oneself
        ("x86_64", 251, (3, 0, 0), ALLOWED, REFUSED),  # of all that the user runs
        ("aarch64", 30, (2, 0, 0), ALLOWED, REFUSED),
        ("x86_64", 188, (), REFUSED, REFUSED),  # setxattr
        ("aarch64", 469, (), REFUSED, REFUSED),  # file_setattr
        ("x86_64", 16, (1, 0x40086602), REFUSED, REFUSED),  # FS_IOC_SETFLAGS
        ("aarch64", 29, (1, 0x401C5820), REFUSED, REFUSED),  # FS_IOC_FSSETXATTR
        ("x86_64", 16, (1, 0x8902), ALLOWED, REFUSED),  # SIOCSPGRP
        ("x86_64", 72, (3, 8), ALLOWED, REFUSED),  # fcntl: F_SETOWN
        ("x86_64", 72, (3, 10), ALLOWED, REFUSED),  # fcntl: F_SETSIG
        ("aarch64", 25, (3, 15), ALLOWED, REFUSED),  # fcntl: F_SETOWN_EX
        ("x86_64", 29, (), REFUSED, REFUSED),  # shmget
        ("x86_64", 447, (), REFUSED, REFUSED),  # memfd_secret
        ("aarch64", 26, (), REFUSED, REFUSED),  # inotify_init1
        ("x86_64", 72, (3, 1024), REFUSED, REFUSED),  # fcntl: F_SETLEASE
        ("x86_64", 72, (3, 4), ALLOWED, ALLOWED),  # fcntl: F_SETFL
        ("x86_64", 56, (0x3D0F00,), ALLOWED, ALLOWED),  # clone, as pthread_create calls it
        ("x86_64", 56, (0x3D0B00,), REFUSED, REFUSED),  # a thread with files of its own
        ("x86_64", 56, (0x1200011,), ALLOWED, ALLOWED),  # clone, as fork calls it
        ("x86_64", 436, (3, 9, 0), ALLOWED, ALLOWED),  # close_range
        ("x86_64", 436, (3, 9, 2), REFUSED, REFUSED),  # close_range with files of its own
        ("x86_64", 0x40000000, (), NO_SUCH, NO_SUCH),  # x32
    ],
)
def test_what_the_filter_answers(machine: str, call: int, arguments: tuple[int, ...], with_namespaces: int, without: int) -> None:  # fmt: skip
    assert (
        verdict(seccomp.program(namespaces=True, landlock=7, machine=machine), machine, call, *arguments)
        == with_namespaces
    )
    assert verdict(seccomp.program(namespaces=False, landlock=7, machine=machine), machine, call, *arguments) == without


def test_where_landlock_does_not_hold_signals_back_the_filter_does() -> None:
    for number in (62, 200, 129, 297, 424):  # kill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal
        for abi in range(1, 6):
            assert (
                verdict(seccomp.program(namespaces=False, landlock=abi, machine="x86_64"), "x86_64", number) == REFUSED
            )
        assert verdict(seccomp.program(namespaces=False, landlock=6, machine="x86_64"), "x86_64", number) == ALLOWED


def test_another_architecture_is_refused_by_name() -> None:
    with pytest.raises(OSError, match="no system call table for riscv64"):
        seccomp.program(namespaces=True, landlock=7, machine="riscv64")


@LINUX
def test_without_bubblewrap_the_next_best_is_chosen_and_nothing_weaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="bubblewrap .* is not installed. Install it: .*--sandbox none"):
        tiers.choose("bwrap", tmp_path)
    if not tiers.probe("landlock", tmp_path).works:
        pytest.skip("no Landlock here")
    assert tiers.choose("auto", tmp_path) == "landlock"


@LINUX
def test_a_setuid_bubblewrap_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755 | stat.S_ISUID)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bwrap.program() is None


def test_none_is_taken_only_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tiers, "survey", lambda *_: [tiers.Finding("bwrap", False, "no"), tiers.Finding("landlock", False, "no")]
    )
    assert tiers.choose("none", tmp_path) == "none"
    with pytest.raises(SettingsError, match="No sandbox for generated code works here"):
        tiers.choose("auto", tmp_path)


def test_of_our_own_code_a_job_sees_one_package() -> None:
    shown = [Path(path) for path in paths.python()]
    project = Path(__file__).resolve().parent.parent.parent
    assert not any(path == project or path in project.parents for path in shown)


def test_paths_below_others_are_left_out() -> None:
    assert paths.outermost(["/a/b", "/a", "/a/b/c", "/ab", "/a"]) == ["/a", "/ab"]


def test_a_room_is_empty_for_the_next_job_whatever_the_last_one_left(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    room.build(tmp_path / "room", None)
    work = tmp_path / "room" / "work"
    before = work.stat().st_ino
    (work / "link").symlink_to(kept)
    os.mkfifo(work / "pipe")
    (work / "closed").mkdir()
    (work / "closed" / "file").touch()
    (work / "closed").chmod(0)
    (work / "weird \n name\x1b[31m").touch()
    room.build(tmp_path / "room", None)
    assert list(work.iterdir()) == []
    assert work.stat().st_ino == before
    assert (kept / "file").exists()


def _spec() -> JobSpec:
    return JobSpec(
        name="x", pipeline="", data="", heldout={"validation": "v"}, threads=1, tier="none",
        limits=Limits(train_seconds=1, memory_bytes=1),
    )  # fmt: skip


def test_only_what_the_contract_names_is_taken_out(tmp_path: Path) -> None:
    room.build(tmp_path / "room", None)
    work, target = tmp_path / "room" / "work", tmp_path / "job"
    target.mkdir()
    for name in ("weights.safetensors", "validation.npy", "secret.npy", "sitecustomize.py"):
        (work / name).touch()
    (work / "metrics.jsonl").symlink_to("/etc/passwd")
    room.take_out(tmp_path / "room", _spec(), target, None)
    assert sorted(path.name for path in (target / "work").iterdir()) == [
        "metrics.jsonl",
        "validation.npy",
        "weights.safetensors",
    ]
    with pytest.raises(artifacts.Unreadable, match="not a plain file"):
        artifacts.read_bytes(target, "work/metrics.jsonl", 100)


def test_a_step_begins_with_what_it_needs_and_cannot_rewrite_what_an_earlier_one_left(tmp_path: Path) -> None:
    work, target = tmp_path / "room/work", tmp_path / "job"
    room.build(tmp_path / "room", None)
    target.mkdir()
    (work / "smoke.json").write_text("the plan")
    (work / "cache").mkdir()
    (work / "trained-already.safetensors").touch()
    room.before_step(tmp_path / "room", "train", target, None)
    assert list(work.iterdir()) == []
    (work / "smoke.json").write_text("another plan")
    (work / "weights.safetensors").write_text("weights")
    (work / "validation.npy").touch()
    room.before_step(tmp_path / "room", "predict", target, None)
    assert list(work.iterdir()) == []
    assert (tmp_path / "room/weights.safetensors").read_text() == "weights"
    (work / "metrics.jsonl").write_text("a curve that came later")
    (work / "weights.safetensors").write_text("weights that nothing was predicted with")
    (work / "validation.npy").mkdir(mode=0)
    room.take_out(tmp_path / "room", _spec(), target, None)
    kept = {path.name: path.read_text() for path in (target / "work").iterdir()}
    assert kept == {"smoke.json": "the plan", "metrics.jsonl": "", "weights.safetensors": "weights"}


def test_a_second_name_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    os.link(tmp_path / "secret", tmp_path / "weights")
    with pytest.raises(artifacts.Unreadable, match="not a plain file"):
        artifacts.open_regular(tmp_path, "weights")


def test_counting_sees_what_long_paths_and_closed_directories_hide(tmp_path: Path) -> None:
    here = tmp_path / "work"
    here.mkdir()
    deep = os.open(here, os.O_RDONLY)
    for _ in range(100):  # 5,000 characters: more than a path may have
        os.mkdir("d" * 50, dir_fd=deep)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    with os.fdopen(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=deep), "wb") as file:
        file.write(b"x" * 100_000)
    os.close(deep)
    found = room.usage(here, 1000)
    assert found.bytes > 100_000
    assert (found.files, found.hidden) == (101, False)
    assert room.usage(here, 10).files == 11
    clear(here)
    assert list(here.iterdir()) == []


def test_a_job_with_other_files_needs_another_sandbox() -> None:
    limits = Limits(train_seconds=1, memory_bytes=1)
    spec = JobSpec(name="x", pipeline="", data="d", heldout={"v": "h"}, weights={"m": "w"}, threads=1, tier="bwrap", limits=limits, device="cpu")  # fmt: skip
    assert spec.access == Access(tier="bwrap", read=("d", "h", "w"), gpu=False, limits=limits)
    assert spec.model_copy(update={"weights": {}}).access != spec.access


@LINUX
def test_what_a_killed_supervisor_left_is_swept_and_what_a_living_one_has_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote, "TMP", str(tmp_path))
    monkeypatch.setattr(zygote, "STALE_SECONDS", -1.0)
    program = f"from sandbox import zygote; import os, signal; zygote.TMP = {str(tmp_path)!r}; made, _ = zygote.private_tmp(None); (made / 't/big').write_bytes(bytes(1000)); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).resolve().parents[2], check=False)
    (dead,) = tmp_path.iterdir()
    alive, lock = zygote.private_tmp(None)
    (tmp_path / "improve-job-of-a-person").symlink_to("/etc")
    zygote.sweep(None)
    assert not dead.exists()
    assert (alive / "t").is_dir()
    os.close(lock)
    zygote.sweep(None)
    assert not alive.exists()
    assert Path("/etc").is_dir()


def test_a_folder_of_ones_own_is_swept_by_nobody_else(tmp_path: Path) -> None:
    """Also in the moment between its making and its locking."""

    def has_it_all_the_time(_: int) -> bool:
        with own_folder(tmp_path, "reader-") as made:
            (made / "mine").write_text("x")
            time.sleep(0.002)
            return (made / "mine").exists()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(has_it_all_the_time, range(200)))
    assert not list(tmp_path.glob("reader-*"))


def test_a_folder_that_nobody_holds_is_swept_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "reader-left" / "deep").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with own_folder(tmp_path, "reader-") as made:
        assert sorted(path for path in tmp_path.iterdir() if path.is_dir()) == sorted([made, tmp_path / "other"])


def test_a_home_that_is_a_link_is_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "elsewhere")
    with own_folder(tmp_path / "home", "reader-") as made:
        assert (tmp_path / "elsewhere" / made.name).is_dir()


@pytest.mark.parametrize("machine", ARCHITECTURE)
@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("execve", (), REFUSED),
        ("execveat", (), REFUSED),
        ("fork", (), REFUSED),
        ("socket", (1, 1, 0), REFUSED),
        ("socketpair", (1, 1, 0), REFUSED),
        ("clone", (0x11,), REFUSED),
        ("clone", (seccomp.CLONE_THREAD | seccomp.CLONE_FILES,), ALLOWED),
        ("clone3", (), NO_SUCH),
        ("read", (), ALLOWED),
    ],
)
def test_a_program_that_reads_what_strangers_made_starts_nothing(
    machine: str, call: str, arguments: tuple[int, ...], expected: int
) -> None:
    numbers = seccomp.ALONE | {"clone": seccomp.CLONE, "clone3": seccomp.CLONE3, "read": (0, 63)}
    number = numbers[call][list(seccomp.MACHINES).index(machine)]
    if number is not None:
        assert verdict(seccomp.alone(machine), machine, number, *arguments) == expected
