"""`python -m benchmarks.acceptance` writes RESULTS.md beside this file (about a quarter of an hour on two cores); `--quick` prints a rough table instead."""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.acceptance.race import RULES, Setting, race
from benchmarks.acceptance.table import report, summary
from benchmarks.acceptance.world import (
    BASES,
    LONG,
    LONG_SIZES,
    MIXES,
    SEED_SHARES,
    SIZES,
    TRAININGS,
    Floats,
    draw,
    images,
)

BATCH = 40  # runs side by side: their images fill 270 MB
LONG_BASE, LONG_SEEDS = 0.9, 0.025  # of the long runs
RESULTS = Path(__file__).with_name("RESULTS.md")
Outcomes = dict[str, dict[Setting, dict[str, Floats]]]


class Task(NamedTuple):
    seed: int
    runs: int
    sizes: tuple[int, ...]
    trainings: int = TRAININGS


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 runs, one size, nothing written")
    parser.add_argument("--batches", type=int, default=8, help=f"of {BATCH} runs each (8)")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        print(summary(batch(Task(seed=0, runs=20, sizes=(200,)))))
        return 0
    tasks = [Task(seed, BATCH, SIZES) for seed in range(chosen.batches)]
    long = [Task(seed, BATCH, LONG_SIZES, LONG) for seed in range(chosen.batches)]
    with ProcessPoolExecutor(chosen.processes) as pool:
        outcomes = joined(list(pool.map(batch, tasks)))
        long_outcomes = joined(list(pool.map(batch, long)))
    RESULTS.write_text(report(outcomes, long_outcomes, chosen.batches, BATCH), encoding="utf-8")
    print(summary(outcomes))
    return 0


def batch(task: Task) -> Outcomes:
    """All rules in all cells of the grid, on the same images, candidates and seeds."""
    rng = np.random.default_rng([task.seed, 20])
    difficulty = images(rng, task.runs, max(task.sizes), task.trainings)
    worlds = {mix.name: draw(rng, mix, task.runs, task.trainings) for mix in MIXES}
    usual = task.trainings == TRAININGS
    bases, shares = (BASES, SEED_SHARES) if usual else ((LONG_BASE,), (LONG_SEEDS,))
    grid = [Setting(*cell) for cell in product(worlds, bases, shares, task.sizes)]
    return {rule.name: {cell: race(rule, cell, difficulty, worlds[cell.mix]) for cell in grid} for rule in RULES}


def joined(parts: list[Outcomes]) -> Outcomes:
    def over_runs(rule: str, cell: Setting) -> dict[str, Floats]:
        names = parts[0][rule][cell]
        return {name: np.concatenate([part[rule][cell][name] for part in parts]) for name in names}

    return {rule: {cell: over_runs(rule, cell) for cell in cells} for rule, cells in parts[0].items()}


if __name__ == "__main__":
    sys.exit(main())
