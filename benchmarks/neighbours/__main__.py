"""How fast a training on all cores is beside busy programs, by how long its threads spin while they wait for each other.

python -m benchmarks.neighbours [ROUNDS]      default: 5; writes benchmarks/neighbours/RESULTS.md

In each round every setting trains for a few seconds, alone and beside one and two programs that compute without end; the ratios are to libgomp's
default in the same round. Nothing else should run.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OUT = Path(__file__).with_name("RESULTS.md")
SECONDS = 3.0
SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's default": {},
    "GOMP_SPINCOUNT=100000": {"GOMP_SPINCOUNT": "100000"},
    "GOMP_SPINCOUNT=30000": {"GOMP_SPINCOUNT": "30000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}
NEIGHBOURS = (0, 1, 2)
TRAINING = f"""
import time

import torch
from torch import nn


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


model = nn.Sequential(block(3, 32), block(32, 64), block(64, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
images, labels = torch.randn(64, 3, 32, 32), torch.randint(0, 10, (64,))


def step():
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


for _ in range(3):
    step()
began, steps = time.perf_counter(), 0
while time.perf_counter() - began < {SECONDS}:
    step()
    steps += 1
print(64 * steps / (time.perf_counter() - began))
"""


@contextmanager
def busy(count: int) -> Iterator[None]:
    programs = [subprocess.Popen([sys.executable, "-c", "while True:\n    pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def images_per_second(setting: dict[str, str]) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), **setting}
    done = subprocess.run([sys.executable, "-c", TRAINING], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(rounds: int) -> None:
    found: dict[tuple[int, str], list[float]] = {(n, name): [] for n in NEIGHBOURS for name in SETTINGS}
    for _ in range(rounds):
        for count in NEIGHBOURS:
            with busy(count):
                for name, setting in SETTINGS.items():
                    found[count, name].append(images_per_second(setting))
    default = next(iter(SETTINGS))
    lines = [
        f"# {(__doc__ or '').splitlines()[0]}",
        "",
        f"Command: `python -m benchmarks.neighbours {rounds}`, on {len(os.sched_getaffinity(0))} cores. Median of {rounds} rounds: images per second, and the ratio to the default in the same round.",
        "",
        "| threads wait | " + " | ".join(("alone", "beside one", "beside two")) + " |",
        "|---|---:|---:|---:|",
    ]
    for name in SETTINGS:
        cells = []
        for count in NEIGHBOURS:
            own, base = found[count, name], found[count, default]
            ratio = statistics.median(a / b for a, b in zip(own, base, strict=True))
            cells.append(f"{statistics.median(own):,.0f} ({ratio:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(OUT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
