# ruff: noqa: TID251 - imports torch so that its children need not
"""The warm process: imports what training needs, touches no device, and forks one child per step (0.2 s instead of 4 s a start)."""

import contextlib
import faulthandler
import gc
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from sandbox.isolation import landlock
from sandbox.isolation.enter import CHANNEL
from sandbox.isolation.kernel import PR_SET_PDEATHSIG, prctl


def serve(channel: socket.socket) -> None:
    """Requests `{"step", "file_bytes", "read"}` with the log's descriptor; the child says that it has begun, then we how it ended."""
    _import_everything()
    room = Path.cwd()
    channel.sendall(b"ready\n")
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 2**16, 1)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            channel.sendall(f"began {os.getpid()}\n".encode())
            channel.close()
            _child(json.loads(message), descriptors[0], room)
        os.close(descriptors[0])
        _, status = os.waitpid(pid, 0)
        channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _import_everything() -> None:
    import timm  # noqa: F401, PLC0415
    import torch._dynamo  # noqa: PLC0415 - the first optimiser step would import it
    import torch.optim  # noqa: F401, PLC0415
    import torchvision  # noqa: F401, PLC0415
    from torchvision.transforms import v2  # noqa: F401, PLC0415

    import sandbox.harness  # noqa: F401, PLC0415

    gc.freeze()  # children share these pages until they write to them


def _child(request: dict[str, Any], log: int, room: Path) -> None:
    """Never returns."""
    status = 1
    try:
        os.setsid()
        if sys.platform == "linux":
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 8192)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
        faulthandler.enable()
        os.chdir("work")
        os.environ["HOME"] = str(Path.cwd())  # where the link leads now
        stack = Path("stack.txt").open("w", encoding="utf-8")  # noqa: SIM115 - a dump in the log would drown in what the job prints
        faulthandler.register(signal.SIGUSR1, file=stack, all_threads=False)
        sys.path.insert(0, str(room))  # a spawned worker imports `pipeline` by its name
        if request["write"]:
            os.open(
                "/proc/self/task", os.O_PATH | os.O_CLOEXEC
            )  # stays open: a rule holds for as long as the inode does
            request["write"].append("/proc/self/task")
        # From here on the warm process is out of reach, and so are the jobs to come and the steps before.
        landlock.seal(request["read"], request["write"])
        from sandbox.harness import run_step  # noqa: PLC0415

        status = run_step(request["step"], room)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=CHANNEL))
