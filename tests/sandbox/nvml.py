"""An NVIDIA driver's library, played: what it answers is what a test says."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from sandbox import gpu

GB = 2**30
WITH_A_DRIVER = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler to make a driver's library with")


@dataclass
class Driver:
    """Cards by index; `processes` are (pid, bytes or None) on the first."""

    uuids: list[str] = field(default_factory=lambda: ["GPU-aa11", "GPU-ab22", "GPU-cc33"])
    minors: list[int] = field(default_factory=lambda: [2, 0, 1])
    used: dict[int, int] = field(default_factory=dict)  # bytes, by index
    refuses: dict[str, int] = field(default_factory=dict)  # question -> NVML_ERROR_*; "question index" for one card
    slices: dict[int, list[str | None]] = field(
        default_factory=dict
    )  # of cards in MIG mode; None: a number without one
    mode: int = pynvml.NVML_COMPUTEMODE_DEFAULT
    cuda: int = 13020
    version: str = "615.10"
    capability: tuple[int, int] = (9, 0)
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    here: bool = True


@contextmanager
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    told = Driver()

    def init() -> None:
        if not told.here:
            raise pynvml.NVMLError(told.refuses.get("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))

    def asked(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any) -> Any:
            of_one = f"{name} {arguments[0]}" if arguments else name
            refused = told.refuses.get(name, told.refuses.get(of_one))
            if refused is not None:
                raise pynvml.NVMLError(refused)
            return answer(*arguments)

        return ask

    def by_index(index: int) -> int:
        if index >= len(told.uuids):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return index

    def by_uuid(uuid: str) -> int | tuple[int, int]:
        for index, slices in told.slices.items():
            if uuid in slices:
                return index, slices.index(uuid)
        if uuid not in told.uuids:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return told.uuids.index(uuid)

    def whole(handle: int | tuple[int, int]) -> int:
        if isinstance(handle, int):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return handle[0]

    def mig_mode(handle: int | tuple[int, int]) -> list[int]:
        if not told.slices or not isinstance(handle, int):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(handle in told.slices)] * 2

    def slice_of(handle: int, number: int) -> tuple[int, int]:
        if told.slices[handle][number] is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return handle, number

    def uuid_of(handle: int | tuple[int, int]) -> str | None:
        return told.uuids[handle] if isinstance(handle, int) else told.slices[handle[0]][handle[1]]

    answers = {
        "nvmlInit": init,
        "nvmlDeviceGetCount": lambda: len(told.uuids),
        "nvmlDeviceGetHandleByIndex": by_index,
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceGetIndex": lambda handle: handle,
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": whole,
        "nvmlDeviceGetUUID": uuid_of,
        "nvmlDeviceGetMigMode": mig_mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda handle: len(told.slices[handle]),
        "nvmlDeviceGetMigDeviceHandleByIndex": slice_of,
        "nvmlDeviceGetCudaComputeCapability": lambda _handle: told.capability,
        "nvmlDeviceGetComputeMode": lambda _handle: told.mode,
        "nvmlSystemGetDriverVersion": lambda: told.version,
        "nvmlSystemGetCudaDriverVersion": lambda: told.cuda,
        "nvmlDeviceGetName": lambda handle: f"Card {handle}",
        "nvmlDeviceGetMinorNumber": lambda handle: told.minors[handle],
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=24 * GB, used=told.used.get(handle, 0)),
        "nvmlDeviceGetComputeRunningProcesses": lambda _handle: [
            SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in told.processes
        ],
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, asked(name, answer))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu._start_driver.cache_clear()
    yield told
    gpu._start_driver.cache_clear()


# A driver of CUDA 12.4 with one card, for whole processes.
NVML = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
static char card; static unsigned long long looks;
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strcpy(text, "550.54.15"); return 0; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12040; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &card; return index ? 2 : 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) { *handle = &card; return strcmp(uuid, "GPU-played") ? 6 : 0; }
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *handle, void **whole) { return 2; }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { strcpy(text, "GPU-played"); return 0; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { strcpy(text, "Played"); return 0; }
int nvmlDeviceGetMinorNumber(void *handle, unsigned *minor) { *minor = 0; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, void *processes) { return 3; }
int nvmlDeviceGetMemoryInfo(void *handle, memory *told) {
    told->total = 24ull << 30; told->used = ++looks << 27; told->free = told->total - told->used; return 0;
}
"""
LIBCUDA = """
#include <string.h>
#include <stdint.h>
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuInit(unsigned flags) { return 0; }
int refuse(void) { return 3; }
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    if (status) *status = 0;
    *function = !strcmp(name, "cuDriverGetVersion") ? (void *)cuDriverGetVersion
        : !strcmp(name, "cuInit") ? (void *)cuInit
        : !strcmp(name, "cuGetProcAddress") ? (void *)cuGetProcAddress_v2 : (void *)refuse;
    return 0;
}
int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}
"""


def libraries(folder: Path, *names: str) -> Path:
    """Make libraries of the driver of these names; the folder for LD_LIBRARY_PATH."""
    sources = {"libnvidia-ml.so.1": NVML, "libcuda.so.1": LIBCUDA}
    made = folder / "driver"
    made.mkdir()
    for name in names:
        command = ["cc", "-shared", "-fPIC", "-o", made / name, "-x", "c", "-"]
        subprocess.run(command, input=sources[name].encode(), check=True)
    return made
