"""Memory that ran out, told to the engineer: what was asked for, what there is, what was running, and what would fit."""

from dataclasses import replace

import pytest

from dataset.decode import SOURCE
from sandbox.assemble import assemble
from sandbox.attribution import fault_from
from sandbox.out_of_memory import Use, explained, shape_of
from schema.job import Card, Limits
from schema.pipeline import Fault, Stage
from tests.scripted import PIPELINE

SCRIPT = assemble(PIPELINE, SOURCE, title="test")
GB = 2**30
CARD = Card(uuid="GPU-1", name="Card", minor=0, memory_bytes=24 * GB)
USE = Use(limit=8 * GB, peak=3 * GB, machine=16 * GB, batch=(256, 3, 224, 224))
ON_CARD = Use(
    limit=8 * GB, peak=GB, machine=16 * GB, card=CARD, card_peak=22 * GB, card_others=GB // 2, batch=(256, 3, 224, 224)
)
# What torch says, with the paths and addresses that come with it.
OF_CUDA = (
    "CUDA out of memory. Tried to allocate 3.06 GiB. GPU 0 has a total capacity of 23.65 GiB of which 1.02 GiB is free. "
    "Including non-PyTorch memory, this process has 22.61 GiB memory in use. Of the allocated memory 21.90 GiB is allocated by PyTorch, and "
    "261.43 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting "
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  "
    "(https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
)
OF_CPU = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "51539607552 bytes. Error code 12 (Cannot allocate memory)"
)
OF_NUMPY = "Unable to allocate 7.28 TiB for an array with shape (1000000, 1000000) and data type float64"


def raised(kind: str, message: str, stage: Stage = "train") -> Fault:
    account = {"kind": kind, "message": message, "frames": []}
    limits = Limits(train_seconds=60, memory_bytes=USE.limit)
    return fault_from(stage, account, "", SCRIPT, exit_status=1, limit=None, limits=limits)


def test_of_a_card_its_size_who_has_it_and_a_batch_that_fits() -> None:
    told = explained(raised("OutOfMemoryError", OF_CUDA), ON_CARD).message
    assert "Tried to allocate 3.06 GiB" in told
    assert "The card has 24.0 GiB; this step was seen with 22.0 GiB of it, and other programs hold 0.5 GiB." in told
    assert "Batches of 256 at 224 x 224 were running: a smaller batch size fits (64)" in told


@pytest.mark.parametrize(
    ("kind", "message", "fits"),
    [
        ("RuntimeError", OF_CPU, "a smaller batch size fits (16)"),  # 5 GB are left: 48 GB / 16 would do
        ("MemoryError", OF_NUMPY, "a smaller batch size fits (1)"),
        ("MemoryError", "", "halve the batch size (128)"),
    ],
)
def test_of_the_machine_what_the_step_had_and_may_have(kind: str, message: str, fits: str) -> None:
    told = explained(raised(kind, message), USE).message
    assert "The step was seen with 3.0 GiB of the 8.0 GiB that a job may use." in told
    assert fits in told


def test_a_step_that_the_machine_could_not_hold_is_told_what_was_left() -> None:
    fault = Fault(stage="train", kind="memory", cause="memory", message="it was ended.")
    use = Use(limit=14 * GB, peak=9 * GB, machine=16 * GB, scarce=200 * 2**20, batch=(8, 3, 32, 32))
    told = explained(fault, use).message
    assert "200 MiB of 16.0 GiB were left, and this step had 9.0 GiB" in told
    assert "halve the batch size (4)" in told


def test_killed_by_the_kernel_memory_is_the_first_suspect() -> None:
    fault = Fault(stage="train", kind="died", cause="died", message="the process ended and left no account")
    told = explained(fault, replace(USE, exit=-9)).message
    assert "the machine's memory runs out. The step was seen with 3.0 GiB" in told
    assert explained(fault, replace(USE, exit=-11)) == fault


def test_prediction_has_batches_of_its_own() -> None:
    assert "fewer views" in explained(raised("OutOfMemoryError", OF_CUDA, "predict"), ON_CARD).message


def test_a_fault_of_another_kind_stays_as_it_is() -> None:
    fault = raised("ValueError", "no")
    assert explained(fault, USE) == fault


@pytest.mark.parametrize(
    "raw", [None, "256", [1, 2, 3], [0, 3, 8, 8], [1, 3, 8, "8"], [True, 3, 8, 8], [10**9, 3, 8, 8], {}]
)
def test_a_shape_that_is_none_is_not_told(raw: object) -> None:
    assert shape_of(raw) == ()
    assert shape_of([4, 3, 8, 8]) == (4, 3, 8, 8)
