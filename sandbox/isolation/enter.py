"""The last step before generated code can run: this process gives up what a job must not have, and becomes the warm process.

Started by the supervisor with `python -I -S enter.py`, outside bubblewrap or inside it, its orders as JSON on standard input.
Standard library only: it runs before anything of the environment is imported, and as root where root started it.
"""

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from sandbox.isolation import landlock, seccomp
from sandbox.isolation.kernel import (
    CAP_DAC_READ_SEARCH,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    become,
    prctl,
)

CHANNEL = 3  # the warm process finds its socket here
LEAKED = 97  # exit status: the canary could be read, so this is no sandbox
UNREADABLE = 98  # exit status: something that the job needs cannot be read


def main() -> None:
    orders = json.load(sys.stdin)
    parent = os.getppid()
    _keep_only(orders["channel"])
    if orders["guard"]:
        parent = os.getpid()
        if pid := os.fork():
            _guard(pid, orders["supervisor"])
    _limit(orders)
    if orders["user"] is not None:
        become(orders["user"], [CAP_DAC_READ_SEARCH] if orders["read_all"] else [])
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
    if os.getppid() != parent:
        os._exit(1)
    if orders["tier"] != "none":
        _confine(orders)
    os.chdir(orders["cwd"])
    os.execve(orders["argv"][0], orders["argv"], orders["env"])  # noqa: S606 - what all this is for


def _confine(orders: dict[str, Any]) -> None:
    namespaces = orders["tier"] == "bwrap"
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if orders["abi"]:
        landlock.restrict(list(_rules(orders)), orders["abi"], network=namespaces)
    seccomp.apply(seccomp.program(namespaces=namespaces, landlock=orders["abi"]))
    with contextlib.suppress(OSError), Path(orders["canary"]).open("rb"):
        sys.stderr.write(f"{orders['canary']} can be read inside the sandbox\n")
        os._exit(LEAKED)
    for path in orders["read"]:
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            sys.stderr.write(f"inside the sandbox {path} cannot be read: {error.strerror}\n")
            os._exit(UNREADABLE)


def _rules(orders: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield from ((path, landlock.READ) for path in orders["read"])
    # cuInit names its threads through /proc/<pid>/task/<tid>/comm; a rule is for an inode, so it has to be all of /proc.
    yield "/proc", landlock.READ | (landlock.WRITE_FILE if orders["gpu"] else 0)
    yield from ((path, landlock.WRITE) for path in orders["write"])
    yield from ((path, landlock.DEVICE) for path in orders["devices"])


def _limit(orders: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # where memory runs out on the machine, this is what the kernel ends first
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.umask(0o077)
    for name, value in {"CORE": 0, "MSGQUEUE": 0, **orders["limits"]}.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))


def _keep_only(channel: int) -> None:
    """No descriptor of whoever started us is left, save standard error and the two we were given."""
    if channel != CHANNEL:
        os.dup2(channel, CHANNEL)
    os.set_inheritable(CHANNEL, True)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.closerange(CHANNEL + 1, os.sysconf("SC_OPEN_MAX") if sys.platform != "linux" else 2**20)


def _guard(child: int, supervisor: int) -> None:
    """Without a process namespace somebody has to end what the job leaves, and the job itself when the supervisor dies. Never returns.

    Outside the confinement, so the job cannot reach it; the kernel hands it every orphan of the job.
    """
    os.close(CHANNEL)
    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    asked: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))  # from the supervisor, or because it is gone
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    status = None
    while status is None and not asked and os.getppid() == supervisor:
        select.select([ended], [], [], 60.0)
        with contextlib.suppress(BlockingIOError):
            os.read(ended, 4096)
        status = _reap(child)
    while _end_all():
        time.sleep(0.005)
    os._exit(status if status is not None else 1)


def _reap(child: int) -> int | None:
    """Collect whoever has ended; the child's exit status once it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                found = os.waitstatus_to_exitcode(ended[1]) & 0xFF
    return found


def _end_all() -> bool:
    """Stop all, so that nothing forks behind our back, then kill; False once there is no descendant."""
    left = _descendants()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


if __name__ == "__main__":
    main()
