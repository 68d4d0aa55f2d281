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


def serve(channel: socket.socket) -> None:
    """Requests `{"step", "job_dir", ...}` with the log's descriptor; answers the child's pid, then its wait status."""
    _import_everything()
    channel.sendall(b"ready\n")
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 2**16, 1)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            channel.close()
            _child(json.loads(message), descriptors[0])
        os.close(descriptors[0])
        channel.sendall(f"{pid}\n".encode())
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


def _child(request: dict[str, Any], log: int) -> None:
    """Never returns."""
    status = 1
    try:
        os.setsid()
        die_with_parent()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 256)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
        faulthandler.enable()
        os.chdir(Path(request["job_dir"]) / "work")
        stack = Path("stack.txt").open("w", encoding="utf-8")  # noqa: SIM115 - a dump in the log would drown in what the job prints
        faulthandler.register(signal.SIGUSR1, file=stack, all_threads=False)
        Path("tmp").mkdir(exist_ok=True)
        os.environ |= {"HOME": str(Path.cwd()), "TMPDIR": str(Path("tmp").absolute())}
        from sandbox.harness import run_step  # noqa: PLC0415

        status = run_step(request["step"], Path(request["job_dir"]))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def die_with_parent() -> None:
    """SIGKILL for this process when its parent dies (Linux)."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
