"""A GPU that cannot compute is found before the first job.

The driver's libraries are played, or PyTorch is; the process that tries, its sandbox and its pipes are the real ones.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from improve import doctor
from sandbox import device, gpu, supervisor
from sandbox.device import Device, find_device
from sandbox.device_answer import Answer, problem_of
from sandbox.environment import environment
from sandbox.isolation import tiers
from schema.errors import SettingsError
from schema.pipeline import Fault
from schema.settings import Tier
from tests.sandbox.nvml import GB, WITH_A_DRIVER, Driver, libraries, played

TIERS: list[Tier] = ["bwrap", "landlock", "none"]
WORKS = {
    "version": "2.15.0+cu132",
    "cuda": "13.2",
    "archs": ["sm_75", "sm_80", "sm_90", "sm_120"],
    "capability": [9, 0],
    "memory": 140 * GB,
    "error": None,
    "at": "",
}
PLAYED_TORCH = """
import os, sys, time
told = {told!r}
__version__ = told["version"]
class version:
    cuda = told["cuda"]
def _fails(at):
    if told["at"] == at:
        if told["error"] == "dies":
            os._exit(3)
        if told["error"] == "hangs":
            time.sleep(600)
        raise RuntimeError(told["error"])
class cuda:
    init = staticmethod(lambda: _fails("init"))
    get_arch_list = staticmethod(lambda: told["archs"])
    get_device_capability = staticmethod(lambda: told["capability"])
    mem_get_info = staticmethod(lambda: _fails("memory") or (0, told["memory"]))
class ones:
    def __init__(self, _size, device):
        assert device == "cuda"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-aa11", os.environ
        _fails("kernel")
    def __add__(self, one):
        return self
    def item(self):
        return 2
_fails("import")
"""
PlayTorch = Callable[..., None]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    with played(monkeypatch) as told:
        told.uuids, told.minors = ["GPU-aa11"], [0]
        yield told


@pytest.fixture
def torch(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlayTorch:
    """Put a played PyTorch before the real one, where the process in the sandbox finds it."""
    folder = tmp_path / "played"
    folder.mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))  # what lies there can be read in every tier

    def with_played(*given: Any) -> dict[str, str]:
        made = environment(*given)
        return made | {"PYTHONPATH": f"{folder}:{made['PYTHONPATH']}"}

    monkeypatch.setattr(device, "environment", with_played)

    def play(**told: Any) -> None:
        (folder / "torch.py").write_text(PLAYED_TORCH.format(told=WORKS | told))

    play()
    return play


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest, tmp_path: Path) -> Tier:
    chosen: Tier = request.param
    if chosen != "none" and not (found := tiers.probe(chosen, tmp_path)).works:
        pytest.skip(f"{chosen}: {found.text}")
    return chosen


def refused(home: Path, tier: Tier = "none") -> str:
    """What both ways of asking say about a card that cannot compute: `cuda` refuses, `auto` goes on on the CPU."""
    with pytest.raises(SettingsError) as error:
        find_device("cuda", (), tier, home)
    found = find_device("auto", (), tier, home)
    assert (found.machine.device, found.tier, len(found.notes)) == ("cpu", tier, 1)
    text = str(error.value).removeprefix("--device cuda: ").removesuffix(" Or train on the CPU: --device cpu")
    assert found.notes == [f"{text} Training on the CPU instead."]
    return text


def test_a_card_that_computes_is_used(torch: PlayTorch, tier: Tier, home: Path) -> None:
    found = find_device("cuda", (), tier, home)
    assert (found.machine.device, found.machine.gpu_memory_bytes, found.tier, found.notes) == (
        "cuda",
        140 * GB,
        tier,
        [],
    )
    assert found.answer == Answer(
        torch="2.15.0+cu132", cuda="13.2", archs=("sm_75", "sm_80", "sm_90", "sm_120"), capability="9.0", memory_bytes=140 * GB
    )  # fmt: skip


@WITH_A_DRIVER
def test_the_real_pytorch_on_a_driver_that_is_too_old(
    driver: Driver, tier: Tier, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries(tmp_path, "libcuda.so.1")))
    driver.version, driver.cuda = "550.54.15", 12040
    answer = device._answer(gpu.cards()[0], tier, home)
    if not answer.cuda:
        pytest.skip("this PyTorch is built for CPUs")
    assert "driver on your system is too old (found version 12040)" in answer.error
    problem = problem_of(gpu.cards()[0], answer)
    assert problem
    assert problem.text == (
        f"GPU Card 0 cannot be used: its driver 550.54.15 supports CUDA up to 12.4, and PyTorch {answer.torch} is built for CUDA "
        f"{answer.cuda}. Update the driver to 580 or newer, or install a PyTorch that fits it: make TORCH=cu128 (docs/gpu.md)."
    )


@pytest.mark.parametrize(
    ("cuda", "capability", "index"),
    [(12020, (7, 5), "cu128"), (12080, (6, 1), "cu126")],
)
def test_a_driver_that_is_too_old_is_told_with_what_to_type(
    torch: PlayTorch, driver: Driver, home: Path, cuda: int, capability: tuple[int, int], index: str
) -> None:
    driver.cuda, driver.capability = cuda, capability
    torch(error="The NVIDIA driver on your system is too old", at="init")
    assert f"make TORCH={index} (docs/gpu.md)" in refused(home)


def test_a_card_that_pytorch_has_no_code_for(torch: PlayTorch, tier: Tier, home: Path) -> None:
    torch(
        capability=[6, 1],
        error="CUDA error: no kernel image is available for execution on the device",
        at="kernel",
    )
    assert refused(home, tier) == (
        "GPU Card 0 cannot be used: PyTorch 2.15.0+cu132 has no code for its compute capability 6.1 (it has 7.5, 8.0, 9.0, 12.0). "
        "Install one that has: make TORCH=cu126 (docs/gpu.md)."
    )


def test_a_card_that_is_newer_than_pytorch(torch: PlayTorch, home: Path) -> None:
    torch(capability=[15, 0], error="CUDA error: no kernel image is available", at="kernel")
    assert (
        "no code for its compute capability 15.0 (it has 7.5, 8.0, 9.0, 12.0). Install one that has: make TORCH=default"
        in refused(home)
    )


def test_a_pytorch_for_cpus_leaves_the_card(torch: PlayTorch, home: Path) -> None:
    torch(version="2.15.0+cpu", cuda=None, error="Torch not compiled with CUDA enabled", at="init")
    assert "PyTorch 2.15.0+cpu is built for CPUs. Install one with CUDA: make TORCH=default" in refused(home)


def test_a_card_that_is_full_is_busy_and_not_broken(torch: PlayTorch, driver: Driver, home: Path) -> None:
    driver.used = {0: 23 * GB}
    torch(error="CUDA error: out of memory", at="kernel")
    assert "its memory is full: other programs hold 23.0 of 24.0 GiB. Wait for them" in refused(home)
    assert device.trouble(gpu.cards()[0], "none", home) == ""


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (pynvml.NVML_COMPUTEMODE_PROHIBITED, "its compute mode is Prohibited. Allow programs on it: sudo nvidia-smi -c 0"),
        (pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS, "another program has it for itself (compute mode Exclusive Process)"),
        (pynvml.NVML_COMPUTEMODE_DEFAULT, "it is busy or unavailable. See what nvidia-smi says of it"),
    ],
)  # fmt: skip
def test_a_card_that_takes_nobody_in(torch: PlayTorch, driver: Driver, home: Path, mode: int, told: str) -> None:
    driver.mode = mode
    torch(error="CUDA error: CUDA-capable device(s) is/are busy or unavailable", at="kernel")
    assert told in refused(home)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("Found no NVIDIA driver on your system.", "does not find the driver's CUDA library (libcuda.so.1)"),
        (
            "CUDA error: uncorrectable ECC error encountered",
            "uncorrectable ECC error encountered. See what nvidia-smi",
        ),
        ("dies", "PyTorch cannot compute on it: the process that tried gave no answer"),
        ("hangs", "PyTorch cannot compute on it: the process that tried gave no answer"),
    ],
)
def test_whatever_else_ends_with_a_sentence_too(
    torch: PlayTorch, home: Path, error: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "SECONDS", 3.0)
    torch(error=error, at="init")
    assert told in refused(home)


def test_a_pytorch_that_cannot_be_imported(torch: PlayTorch, home: Path) -> None:
    torch(error="libtorch_cuda.so: cannot open shared object file", at="import")
    assert "cannot compute on it: RuntimeError: libtorch_cuda.so: cannot open shared object file" in refused(home)


def test_a_card_is_tried_once_and_again_when_driver_or_machine_have_restarted(
    torch: PlayTorch, driver: Driver, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Tier] = []
    real = device._answer
    monkeypatch.setattr(device, "_answer", lambda card, tier, folder: tries.append(tier) or real(card, tier, folder))

    def times() -> int:
        tries.clear()
        assert find_device("auto", (), "none", home).machine.device == "cuda"
        return len(tries)

    assert (times(), times()) == (1, 0)
    driver.version = "620.1"
    assert (times(), times()) == (1, 0)
    monkeypatch.setattr(device, "BOOT", tmp_path / "boot")
    device.BOOT.write_text("another-start\n")
    assert (times(), times()) == (1, 0)
    device.forget(home)
    assert (times(), times()) == (1, 0)
    (home / device.KEPT).write_text("[damaged")
    assert times() == 1


def test_what_fails_is_tried_anew(torch: PlayTorch, home: Path) -> None:
    torch(error="CUDA unknown error", at="init")
    refused(home)
    torch()
    assert find_device("cuda", (), "none", home).machine.device == "cuda"


def test_another_card_is_taken_where_the_first_is_at_fault(torch: PlayTorch, driver: Driver, home: Path) -> None:
    driver.uuids, driver.minors, driver.used = ["GPU-bb22", "GPU-aa11"], [0, 1], {1: 20 * GB}
    driver.mode = pynvml.NVML_COMPUTEMODE_PROHIBITED  # the played PyTorch fails on all but GPU-aa11
    found = find_device("auto", (), "none", home)
    assert (found.machine.device, found.gpus) == ("cuda", ("GPU-aa11",))
    assert [note.split(": ")[0] for note in found.notes] == [
        "GPU Card 0 cannot be used",
        "Other programs hold 20 of 24 GiB of GPU Card 1, and no other GPU has more room.",
    ]


def test_a_missing_node_of_the_driver_is_made_or_told(
    torch: PlayTorch, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "CONTROL", tmp_path / "nvidiactl")
    monkeypatch.setattr(gpu, "MEMORY_NODE", tmp_path / "nvidia-uvm")
    gpu.CONTROL.touch()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if not shutil.which(gpu.MAKE_NODE[0]):
        assert (
            f"{gpu.MEMORY_NODE} is missing, though {gpu.CONTROL} is there. Make it: sudo nvidia-modprobe -u -c 0"
            in refused(home)
        )
    program = tmp_path / "bin/nvidia-modprobe"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$*" = "-u -c 0" ] && touch {gpu.MEMORY_NODE}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    assert find_device("cuda", (), "none", home).machine.device == "cuda"


def test_a_sandbox_in_which_the_card_does_not_compute_is_passed_over_with_a_note(
    torch: PlayTorch, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = device._answer
    lost = Answer(error="RuntimeError: Found no NVIDIA driver on your system.", torch="2.15.0", cuda="13.2")
    monkeypatch.setattr(device, "working", lambda *_: ["bwrap", "none"])
    monkeypatch.setattr(
        device, "_answer", lambda card, tier, folder: lost if tier == "bwrap" else real(card, tier, folder)
    )
    found = find_device("auto", (), "auto", home)
    assert (found.machine.device, found.tier) == ("cuda", "none")
    assert found.notes[0].startswith("In the sandbox bwrap: GPU Card 0 cannot be used: it answers, but PyTorch")


def test_a_tier_is_tried_with_the_card(driver: Driver, tier: Tier, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device nodes of a card that a tier cannot hand on make it one that does not work here."""
    if tier == "none":
        pytest.skip("nothing is tried without isolation")
    asked: list[bool] = []
    real = tiers.launch
    monkeypatch.setattr(
        tiers,
        "launch",
        lambda access, *rest, **named: asked.append(access.gpu) or real(access, *rest, **named),
    )
    assert tiers.probe(tier, home, gpu.cards()[0]).works
    assert tiers.probe(tier, home).works
    assert asked == [True, False]


def test_doctor_tells_what_the_card_has_shown(torch: PlayTorch, home: Path) -> None:
    shown = [finding.text for finding in doctor._device()]
    assert shown[0].startswith("trains on cuda: Card 0")
    assert "140 GB, driver 615.10 (CUDA up to 13.2), PyTorch 2.15.0+cu132 (CUDA 13.2)" in shown[1]


def test_doctor_tells_why_a_card_is_not_used(torch: PlayTorch, driver: Driver, home: Path) -> None:
    driver.cuda = 12040
    torch(error="The NVIDIA driver on your system is too old", at="init")
    first, second = doctor._device()
    assert (first.ok, first.text.split(":")[0], second.ok) == (True, "trains on cpu", False)
    assert "Update the driver to 580 or newer" in second.text


SAID = Fault(stage="train", kind="RuntimeError", component="model", message="CUDA error: unspecified launch failure")


def judged(fault: Fault, tier: Tier, home: Path) -> Fault | None:
    (home / "room").mkdir()
    spec, warm = SimpleNamespace(tier=tier), SimpleNamespace(room=home / "room")
    return supervisor._of_the_card(fault, spec, gpu.cards()[0], warm)  # type: ignore[arg-type]


def test_a_card_that_fails_later_is_nobodys_mistake(torch: PlayTorch, tier: Tier, home: Path) -> None:
    torch(error="CUDA error: unspecified launch failure", at="kernel")
    fault = judged(SAID, tier, home)
    assert fault
    assert (fault.cause, fault.kind, fault.component) == ("device", "device", None)
    assert "GPU Card 0 cannot be used" in fault.message


def test_a_job_that_only_says_so_is_at_fault_itself(torch: PlayTorch, tier: Tier, home: Path) -> None:
    assert judged(SAID, tier, home) is None


@pytest.mark.parametrize(
    "fault",
    [
        SAID.model_copy(update={"message": "mat1 and mat2 shapes cannot be multiplied"}),
        SAID.model_copy(update={"message": "CUDA out of memory. Tried to allocate 30.00 GiB."}),
        SAID.model_copy(update={"cause": "time"}),
    ],
)
def test_the_card_is_not_tried_for_what_cannot_be_its_fault(driver: Driver, home: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(device, "_answer", lambda *_: pytest.fail("the card was tried"))
    assert judged(fault, "none", home) is None


def test_on_a_cpu_nothing_is_tried(torch: PlayTorch, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_answer", lambda *_: pytest.fail("the card was tried"))
    assert isinstance(found := find_device("cpu", (), "none", home), Device)
    assert found.machine.device == "cpu"
