"""What counts as a job's memory: real processes, measured from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from sandbox import job
from sandbox.watch import memory, unlinked
from tests.sandbox.jobs import GB, lay_out_data, spec, training

MB = 2**20
SIZE = 200 * MB
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@contextmanager
def holding(program: str, *arguments: str) -> Iterator[psutil.Process]:
    """A process that has run this program and waits."""
    lines = f"import mmap, os, sys\n{program}\nprint('ready', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-I", "-S", "-c", lines, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield psutil.Process(process.pid)
        process.kill()


@LINUX
def test_an_array_that_is_read_through_the_page_cache_is_not_a_jobs_memory(tmp_path: Path) -> None:
    array = tmp_path / "images.npy"
    with array.open("wb") as file:
        for _ in range(SIZE // MB):
            file.write(b"x" * MB)
    reads = "held = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)\nsum(held[::4096])"
    with holding(reads, str(array)) as process:
        assert process.memory_info().rss > SIZE  # it does have the pages
        assert memory([process]) < 50 * MB


OWN = {
    "anonymous memory": f"held = b'x' * {SIZE}",
    "a private copy of a file": f"held = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), {SIZE}, mmap.MAP_PRIVATE)\n"
    f"for page in range(0, {SIZE}, 4096): held[page] = 1",
    "memory that it shares with children": f"held = mmap.mmap(-1, {SIZE})\nfor page in range(0, {SIZE}, 4096): held[page] = 1",
    "a file in memory": f"there = os.memfd_create('held')\nos.ftruncate(there, {SIZE})\nheld = mmap.mmap(there, {SIZE})\n"
    f"for page in range(0, {SIZE}, 4096): held[page] = 1",
}


@LINUX
@pytest.mark.parametrize("program", OWN.values(), ids=OWN)
def test_what_the_kernel_cannot_take_back_is(program: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, SIZE)
    with holding(program, str(file)) as process:
        assert SIZE <= memory([process]) < SIZE + 50 * MB


@LINUX
def test_memory_that_a_process_shares_with_its_child_counts_once() -> None:
    forks = f"held = b'x' * {SIZE}\nif os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)"
    with holding(forks) as process:
        family = [process, *process.children()]
        assert len(family) == 2
        assert SIZE <= memory(family) < SIZE + 50 * MB


@LINUX
def test_a_deleted_file_that_is_mapped_and_closed_counts_as_disk(tmp_path: Path) -> None:
    file = tmp_path / "file"
    hides = f"""there = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(there, {SIZE})
held = mmap.mmap(there, {SIZE})
for page in range(0, {SIZE}, 4096): held[page] = 1
os.unlink(sys.argv[1])
os.close(there)
for number in range(3, 20):
    try: os.close(number)  # mmap keeps one of its own
    except OSError: pass"""
    with holding(hides, str(file)) as process:
        assert not [name for name in process.open_files() if "file" in name.path]
        assert unlinked([process], {tmp_path.stat().st_dev}).on_disk == SIZE


READS_ALL = f"""
import mmap, os
there = os.open("array", os.O_RDWR | os.O_CREAT)
os.ftruncate(there, {3 * GB})
held = mmap.mmap(there, 0, prot=mmap.PROT_READ)
sum(held[page] for page in range(0, {3 * GB}, 4096))
"""


@LINUX
@pytest.mark.slow
def test_a_job_may_read_an_array_that_is_larger_than_its_memory(tmp_path: Path) -> None:
    lay_out_data(tmp_path)
    directory = tmp_path / "iterations/0000/jobs/1-s0"
    directory.parent.mkdir(parents=True)
    wanted = spec(tmp_path, training(READS_ALL), memory_bytes=GB, disk_bytes=4 * GB)
    try:
        job.start(directory, wanted.model_copy(update={"steps": ("smoke",)}))
        result = job.wait(directory)
    finally:
        job.shutdown(tmp_path)
    assert result.ok, result.fault
