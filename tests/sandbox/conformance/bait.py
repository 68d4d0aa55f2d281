"""What attacks are after: secrets, labels, other people's processes and servers, all of it made here and watched."""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.sandbox.jobs import write_training

SECRET = "the-secret-that-no-job-may-see"
TOLD = "the-argument-that-other-processes-show"
CACHES = (
    "person/.cache/huggingface/token",
    "person/.cache/huggingface/hub/models--x/blobs/weights",
    "person/.cache/pip/http/entry",
    "person/.cache/torch/hub/checkpoints/resnet.pth",
    "home/runs/other/supervisor/room/work/cache/inductor/fx.py",
    "home/runs/other/supervisor/room/work/cache/triton/kernel.so",
)
GIVEN = "hub/models--timm--given/snapshots/0123/model.safetensors"  # where a job's libraries look
ROOT = Path(__file__).resolve().parent.parent.parent.parent


def lay_out(folder: Path) -> dict[str, Any]:
    """A home as IMPROVE has one, with a small data set, another run, a store, and a person's secrets beside it."""
    train, heldout, private = (folder / "home/datasets/0123" / name for name in ("train", "heldout", "private"))
    other = folder / "home/runs/other/iterations/0001/jobs/1-s0/work"
    for directory in (train, heldout, private, other, folder / "person/.ssh", folder / "photos/cat"):
        directory.mkdir(parents=True)
    images, labels = write_training(train)
    for split in ("validation", "test"):
        np.save(heldout / f"{split}.npy", images[:20])
        np.save(private / f"{split}_labels.npy", labels[:20])
    (other / "weights.safetensors").write_text(SECRET)
    (folder / "home/experiments.sqlite").write_text(SECRET)
    (folder / "person/.ssh/id_rsa").write_text(SECRET)
    (folder / "photos/cat/1.png").write_text("an image")
    caches = [folder / place for place in CACHES]
    for cache in caches:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(SECRET)
        cache.chmod(0o666)
    given = folder / "person/.cache/huggingface/hub/models--timm--given/blobs/4567"
    given.parent.mkdir(parents=True)
    given.write_text("weights for all")
    shutil.copy(Path(__file__).with_name("attacks.py"), train / "attacks.py")
    return {
        "secret": SECRET,
        "told": TOLD,
        "project": str(ROOT),
        "home": str(folder / "home"),
        "data": str(train),
        "heldout": str(heldout / "validation.npy"),
        "labels": str(private / "validation_labels.npy"),
        "originals": str(folder / "photos"),
        "store": str(folder / "home/experiments.sqlite"),
        "ssh_key": str(folder / "person/.ssh/id_rsa"),
        "caches": [str(cache) for cache in caches],
        "given": str(given),
        "given_at": GIVEN,
        "other_run": str(other / "weights.safetensors"),
        "outside": [str(folder), str(folder / "home"), str(folder / "person"), str(train), str(heldout), "/etc", "/usr/lib", "/var/tmp", "/home"],
        "cores": len(os.sched_getaffinity(0)),
        "net_namespace": os.stat("/proc/self/ns/net").st_ino,
        "uts_namespace": os.stat("/proc/self/ns/uts").st_ino,
        "ipc_namespace": os.stat("/proc/self/ns/ipc").st_ino,
    }  # fmt: skip


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[dict[str, Any]]:
    """TCP, UDP, and Unix sockets of every kind that give the secret to whoever asks; shared memory that holds it."""
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    abstract, named, short = (socket.socket(socket.AF_UNIX) for _ in range(3))
    name, path, in_tmp = f"improve-bait-{os.getpid()}", str(folder / "s"), f"/tmp/improve-bait-{os.getpid()}"
    for server, address in ((abstract, "\0" + name), (named, path), (short, in_tmp)):
        server.bind(address)
        server.listen()
    for server in (tcp, abstract, named, short):
        threading.Thread(target=_give, args=(server,), daemon=True).start()
    threading.Thread(target=_give_datagrams, args=(udp,), daemon=True).start()
    # where torch.compile puts what it makes when nobody says where
    compiled = Path(f"/tmp/torchinductor_improve-bait-{os.getpid()}")
    compiled.mkdir()
    (compiled / "fx.py").write_text(SECRET)
    compiled.chmod(0o777)
    (compiled / "fx.py").chmod(0o666)
    shm = Path(f"/dev/shm/improve-bait-{os.getpid()}")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(shm, os.O_CREAT | os.O_WRONLY, 0o600))
    shm.write_text(SECRET)
    libc = ctypes.CDLL(None)
    segment = libc.shmget(0, 4096, 0o1666)
    libc.shmat.restype = ctypes.c_void_p
    ctypes.memmove(libc.shmat(segment, None, 0), SECRET.encode(), len(SECRET))
    try:
        yield {
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "abstract": name,
            "sockets": [path, in_tmp],
            "shm": str(shm),
            "compiled": str(compiled / "fx.py"),
            "sysv": segment,
        }
    finally:
        for server in (tcp, udp, abstract, named, short):
            server.close()
        for left in (Path(in_tmp), shm):
            left.unlink(missing_ok=True)
        shutil.rmtree(compiled)
        libc.shmctl(segment, 0, None)


@contextlib.contextmanager
def victim() -> Iterator[psutil.Popen]:
    """Another program of the same user, with the secret in its environment and memory."""
    program = [sys.executable, "-c", "import time; time.sleep(600)", TOLD]
    process = psutil.Popen(program, env={**os.environ, "OPENAI_API_KEY": SECRET}, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def began(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _give(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(SECRET.encode())


def _give_datagrams(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            _, sender = server.recvfrom(100)
            server.sendto(SECRET.encode(), sender)
