"""The environment that generated code sees: a short list, never the person's own variables."""

import os
import site
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# glibc gives big blocks back to the kernel at every free; keeping them makes image arithmetic 2 to 4.5 times faster (benchmarks/data_path).
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}
# Threads that wait for each other spin by default for about a millisecond each time, on cores that they need themselves where other programs are
# busy: a training on all cores was 4 to 20 times as slow beside two of them. This many turns cost nothing on a quiet machine (benchmarks/neighbours).
SPINNING = {"GOMP_SPINCOUNT": "30000"}
KEPT = (
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "IMPROVE_LANDLOCK_ABI",  # sandbox/isolation/landlock.py
)


def environment(work: Path, threads: int, tmp: str, card: str | None = None) -> dict[str, str]:
    """For the warm process and all its children. `work` and `tmp` are theirs to write; whatever is compiled is kept in `work`, for one job.
    `card` is the UUID of the GPU that they have; None: those that we have."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    caches = {
        "XDG_CACHE_HOME": "",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
        "TRITON_CACHE_DIR": "triton",
        "CUDA_CACHE_PATH": "cuda",
    }
    return {
        **kept,
        **({"CUDA_VISIBLE_DEVICES": card} if card else {}),
        **ALLOCATOR,
        **SPINNING,
        **{name: str(work / "cache" / folder) for name, folder in caches.items()},
        **({"PYTHONUSERBASE": site.getuserbase()} if site.ENABLE_USER_SITE else {"PYTHONNOUSERSITE": "1"}),
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"]),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "HOME": str(work),
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "TMPDIR": tmp,
        "HF_HUB_CACHE": str(work.parent / "cache" / "hub"),
        "TORCH_HOME": str(work.parent / "cache" / "torch"),
        "PYTHONPATH": str(work.parent / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
    }
