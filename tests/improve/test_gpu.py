"""The command where a GPU answers and cannot compute: a played driver, and the real PyTorch, sandbox and jobs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints.store import open_store
from tests.sandbox.nvml import WITH_A_DRIVER, libraries
from tests.scripted import image_folder

Improve = Callable[..., subprocess.CompletedProcess[str]]
TOLD = "GPU Played cannot be used: its driver 550.54.15 supports CUDA up to 12.4, and PyTorch "
REMEDY = "Update the driver to 580 or newer, or install a PyTorch that fits it: make TORCH=cu128 (docs/gpu.md)."
pytestmark = WITH_A_DRIVER


@pytest.fixture
def improve(tmp_path: Path) -> Improve:
    driver = libraries(tmp_path, "libnvidia-ml.so.1", "libcuda.so.1")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"LD_LIBRARY_PATH": str(driver)}
        typed = [sys.executable, "-m", "improve.cli", *arguments]
        return subprocess.run(typed, capture_output=True, text=True, check=False, env=env)

    return command


def test_asked_for_it_is_refused_before_the_run_begins(improve: Improve, tmp_path: Path) -> None:
    done = improve("run", str(image_folder(tmp_path / "photos")), "--device", "cuda")
    assert done.returncode == 2
    (line,) = done.stderr.strip().split("\n")
    assert f"--device cuda: {TOLD}" in line
    assert line.endswith(f"{REMEDY} Or train on the CPU: --device cpu")
    assert open_store().runs() == []


@pytest.mark.slow
def test_otherwise_the_run_goes_on_on_the_cpu_and_says_so_once(improve: Improve, tmp_path: Path, home: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    done = improve("run", str(photos), "--strategy", "zero-shot", "--train-limit", "10s", "--name", "r")
    assert done.returncode == 0, done.stderr
    (note,) = [line for line in done.stdout.split("\n") if line.startswith("note: ")]
    assert note.startswith(f"note: {TOLD}")
    assert note.endswith(f"{REMEDY} Training on the CPU instead.")
    assert "failed" not in done.stdout
    assert '"device":"cpu"' in (home / "runs/r/iterations/0000/jobs/1-s0/job.json").read_text()


def test_doctor_says_what_to_type(improve: Improve) -> None:
    done = improve("doctor")
    assert "Traceback" not in done.stdout + done.stderr
    (told,) = [line for line in done.stdout.split("\n") if "GPU" in line]
    assert told.startswith(f"WRONG {TOLD}")
    assert REMEDY in told
