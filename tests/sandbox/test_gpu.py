"""Cards as the driver tells of them: which a run may use, and what of their memory is whose.

The driver is played, because this suite has to run where there is none.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil
import pynvml
import pytest

from sandbox import gpu, job
from sandbox.environment import environment
from sandbox.hardware import hardware
from sandbox.isolation import paths, tiers
from sandbox.turns import cards_of
from schema.errors import SettingsError
from schema.job import Access, Card, JobResult, Limits
from schema.settings import Tier
from tests.sandbox.conformance.driver import Suite, training
from tests.sandbox.nvml import WITH_A_DRIVER, Driver, libraries, played

GB = 2**30


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    with played(monkeypatch) as told:
        yield told


@pytest.mark.parametrize(
    ("chosen", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("0, 1", [0, 1]),
        ("1,1", [1]),
        ("0,7,1", [0]),
        ("GPU-c", [2]),
        ("GPU-a", []),
        ("GPU-ab22,GPU-aa", [1, 0]),
        ("MIG-unknown", []),
        ("nonsense", []),
    ],
)
def test_the_cards_that_the_person_leaves(
    driver: Driver, chosen: str | None, indices: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [card.uuid for card in gpu.cards()] == [driver.uuids[index] for index in indices]


def test_the_machine_is_described_by_the_first_card_left(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    told = hardware("auto")
    assert (told.device, told.name, told.gpu_memory_bytes) == ("cuda", "Card 1", 24 * GB)
    assert hardware("cpu").device == "cpu"


@pytest.mark.parametrize("way", ["no driver", "none left"])
def test_without_a_card_a_cpu_is_used_and_cuda_refused(
    driver: Driver, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.here = way != "no driver"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware("auto").device == "cpu"
    with pytest.raises(SettingsError, match="CUDA_VISIBLE_DEVICES"):
        hardware("cuda")


def test_a_job_gets_the_node_and_the_name_of_its_card_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.setattr(
        paths, "Path", lambda path: Path(path) if path.startswith(str(tmp_path)) else tmp_path / path[1:]
    )
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "null"):
        (tmp_path / "dev" / name).touch()
    assert [Path(path).name for path in paths.devices(gpu=True, card=1)] == ["null", "nvidiactl", "nvidia1"]
    assert [Path(path).name for path in paths.devices(gpu=False)] == ["null"]
    assert environment(tmp_path, 1, "/tmp", "GPU-aa11")["CUDA_VISIBLE_DEVICES"] == "GPU-aa11"


@pytest.mark.parametrize(
    ("entries", "indices"), [((), [0, 1, 2]), (("2", "0"), [2, 0]), (("GPU-ab22",), [1]), (("0", "GPU-aa11"), [0])]
)
def test_the_cards_that_a_run_may_use(driver: Driver, entries: tuple[str, ...], indices: list[int]) -> None:
    assert [card.uuid for card in gpu.chosen(entries)] == [driver.uuids[index] for index in indices]


@pytest.mark.parametrize("entry", ["7", "GPU-zz", "GPU-a", "all", "-1"])
def test_a_card_that_does_not_exist_is_named_beside_those_that_do(driver: Driver, entry: str) -> None:
    there = r"0 Card 0 \(GPU-aa11\); 1 Card 1 \(GPU-ab22\); 2 Card 2 \(GPU-cc33\)"
    with pytest.raises(SettingsError, match=rf"--gpus 0,{entry}: there is no GPU {entry}\. .*{there}"):
        hardware("auto", ("0", entry))


def test_a_card_that_cuda_visible_devices_hides_does_not_exist(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(SettingsError, match=r"no GPU 0\. .*leaves: 1 Card 1 \(GPU-ab22\)\. Give"):
        gpu.chosen(("0",))


@pytest.mark.parametrize("device", ["auto", "cuda", "cpu"])
def test_cards_where_there_are_none_or_a_cpu_is_asked_for(
    driver: Driver, device: Literal["auto", "cpu", "cuda"]
) -> None:
    driver.here = device == "cpu"
    with pytest.raises(SettingsError, match="--gpus 0"):
        hardware(device, ("0",))


@pytest.mark.parametrize(
    ("processes", "used", "before", "taken"),
    [
        ([(10, 3 * GB), (11, GB), (99, 8 * GB)], 12 * GB, 8 * GB, 4 * GB),
        ([(70010, 3 * GB)], 5 * GB, 2 * GB, 3 * GB),  # a container: other numbers
        ([(10, None)], 5 * GB, 2 * GB, 3 * GB),  # a driver that does not tell
        ([], GB, 2 * GB, 0),
    ],
)
def test_what_a_step_has_taken_of_its_card(
    driver: Driver, processes: list[tuple[int, int | None]], used: int, before: int, taken: int
) -> None:
    driver.processes, driver.used = processes, {0: used}
    assert gpu.taken_by(gpu.cards()[0], {10, 11, 12}, before) == taken


def test_a_card_that_has_gone_is_not_a_fault(driver: Driver) -> None:
    gone = Card(uuid="GPU-fell-off-the-bus", name="", minor=0, memory_bytes=GB)
    assert gpu.in_use(gone) == gpu.taken_by(gone, {1}, 0) == 0


def test_on_wsl_a_card_has_no_node_of_its_own(driver: Driver) -> None:
    driver.refuses = {"nvmlDeviceGetMinorNumber": pynvml.NVML_ERROR_NOT_SUPPORTED}
    assert [card.minor for card in gpu.cards()] == [None, None, None]
    assert hardware("auto").device == "cuda"


def test_a_card_that_shares_the_machines_memory_has_all_of_it(driver: Driver) -> None:
    driver.refuses = {"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NOT_SUPPORTED}
    assert hardware("auto").gpu_memory_bytes == psutil.virtual_memory().total
    assert gpu.in_use(gpu.cards()[0]) == 0


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_NO_PERMISSION])
def test_a_card_that_does_not_answer_is_left_out_and_told(driver: Driver, error: int) -> None:
    driver.refuses = {"nvmlDeviceGetUUID 1": error}
    assert [card.uuid for card in gpu.cards()] == ["GPU-aa11", "GPU-cc33"]
    assert gpu.look().unusable == [f"GPU 1 does not answer: {pynvml.NVMLError(error)}."]


def test_a_driver_that_was_updated_is_told_where_a_gpu_is_asked_for(driver: Driver) -> None:
    driver.here, driver.refuses = False, {"nvmlInit": pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH}
    gpu._start_driver.cache_clear()
    with pytest.raises(SettingsError, match="RM has detected an NVML/RM version mismatch.*restart the machine"):
        hardware("cuda")


SLICED = {0: ["MIG-1", None, "MIG-3"], 2: [None]}


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (None, ["MIG-1", "MIG-3", "GPU-ab22"]),
        ("0", ["MIG-1", "MIG-3"]),
        ("MIG-3,1", ["MIG-3", "GPU-ab22"]),
        ("GPU-aa11", ["MIG-1", "MIG-3"]),
    ],
)
def test_of_a_card_in_mig_mode_its_slices_are_listed(
    driver: Driver, chosen: str | None, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.slices = SLICED
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [card.uuid for card in gpu.cards()] == found
    assert {card.minor for card in gpu.cards() if card.uuid.startswith("MIG")} <= {2}


def test_a_run_may_be_given_the_slices_of_a_card_or_one_of_them(driver: Driver) -> None:
    driver.slices = SLICED
    assert gpu.uuids(("0",)) == ("MIG-1", "MIG-3")
    assert gpu.uuids(("MIG-3",)) == ("MIG-3",)


def test_a_card_in_mig_mode_without_a_slice_is_told(driver: Driver) -> None:
    driver.slices = SLICED
    assert gpu.look().unusable == [
        "GPU 2 is in MIG mode and has no MIG device: make one (sudo nvidia-smi mig -i 2 -cgi 0 -C), "
        "or leave that mode (sudo nvidia-smi -i 2 -mig 0)."
    ]


def test_jobs_prefer_the_card_with_the_most_room_and_stay_where_they_are_warm_unless_it_is_crowded(
    driver: Driver,
) -> None:
    driver.used = {0: 20 * GB, 1: 3 * GB, 2: GB}
    wanted = Access(tier="none", read=(), gpu=True, limits=Limits(train_seconds=1, memory_bytes=GB))
    first, second, third = gpu.cards()
    assert list(cards_of(wanted, None).values()) == [third, second, first]
    assert list(cards_of(wanted, second).values()) == [second, third, first]  # a warm process is worth two GB
    assert list(cards_of(wanted, first).values()) == [third, second, first]  # and not a card that is full


HUNGRY = """
import os
import torch
assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-played"
raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 30.00 GiB. GPU 0 has a total capacity of 24.00 GiB of which 17.50 GiB is free.")
"""


LOST = """
import torch
raise torch.AcceleratorError("CUDA error: the launch timed out and was terminated")
"""


def run_on_a_card(body: str, tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobResult:
    """The library that answers is made here; the supervisor that asks it, the sandbox and the job are the real ones."""
    if tier != "none" and not (found := tiers.probe(tier, tmp_path)).works:
        pytest.skip(f"{tier}: {found.text}")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries(tmp_path, "libnvidia-ml.so.1")))
    suite = Suite(tier, tmp_path / "suite")
    directory = suite.directory("job")
    try:
        wanted = suite.spec("job", training(body), ("smoke",), {})
        job.start(directory, wanted.model_copy(update={"device": "auto"}))
        return job.wait(directory)
    finally:
        job.shutdown(suite.run)


@pytest.mark.slow
@WITH_A_DRIVER
@pytest.mark.parametrize("tier", ["bwrap", "landlock", "none"])
def test_a_whole_job_has_one_card_to_itself_and_is_told_what_was_asked_and_free(
    tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_on_a_card(HUNGRY, tier, tmp_path, monkeypatch)
    assert result.fault is not None
    assert result.fault.kind == "OutOfMemoryError", result.fault
    assert result.fault.component == "training"
    assert "Tried to allocate 30.00 GiB" in result.fault.message
    assert "17.50 GiB is free" in result.fault.message
    assert re.search(r"The card has 24.0 GiB; this step was seen with [\d.]+ [MG]iB of it", result.fault.message)
    assert result.peak_gpu_bytes > 0


@pytest.mark.slow
@WITH_A_DRIVER
@pytest.mark.parametrize("tier", ["bwrap", "landlock", "none"])
def test_a_job_whose_card_is_lost_is_not_blamed(tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the played library there is no card, so the card does not compute when the supervisor tries it."""
    result = run_on_a_card(LOST, tier, tmp_path, monkeypatch)
    assert result.fault is not None
    assert (result.fault.cause, result.fault.component) == ("device", None)
    assert job.undone(result)
    assert "GPU Played cannot be used: its driver 550.54.15 supports CUDA up to 12.4" in result.fault.message
