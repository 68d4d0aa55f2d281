"""Do folds pay? The error that is removed with one part, three and five folds, by how many trainings a run holds and how many images decide.

    python -m benchmarks.acceptance.folds        under a minute; writes FOLDS.md

As `python -m benchmarks.acceptance`, for the default rule: mean over all mixes of changes, first accuracies 0.8 and 0.9, a seed's sd 2.5 % of the
error. A fold costs a training.
"""

from pathlib import Path

import numpy as np

from benchmarks.acceptance.race import RULES, Setting, race
from benchmarks.acceptance.world import MIXES, draw, images

TABLE = Path(__file__).with_name("FOLDS.md")
RUNS = 40
ACCURACIES, SEED_SHARE = (0.8, 0.9), 0.025
IMAGES, TRAININGS = (40, 70, 100, 150, 200), (20, 40, 100)
NAMES = {1: "expected", 3: "expected, 3 folds", 5: "expected, 5 folds"}


def removed(trainings: int) -> dict[tuple[int, int], tuple[float, float]]:
    """By images and folds: per cent of the error, mean over all mixes and with the measured one."""
    rng = np.random.default_rng([0, 20])
    difficulty = images(rng, RUNS, max(NAMES) * max(IMAGES), trainings)
    worlds = {mix.name: draw(rng, mix, RUNS, trainings) for mix in MIXES}
    rules = {folds: next(rule for rule in RULES if rule.name == name) for folds, name in NAMES.items()}
    found = {}
    for n in IMAGES:
        for folds, rule in rules.items():
            shares = {
                mix: float(
                    np.mean(
                        [
                            100 * race(rule, Setting(mix, base, SEED_SHARE, n), difficulty, world)["gain"] / (1 - base)
                            for base in ACCURACIES
                        ]
                    )
                )
                for mix, world in worlds.items()
            }
            found[n, folds] = (float(np.mean(list(shares.values()))), shares["measured"])
    return found


def main() -> None:
    lines = [
        "# Do folds pay?",
        "",
        "Command: `python -m benchmarks.acceptance.folds`. Error removed in %: mean over all mixes of changes (in brackets: with the measured one).",
        "",
        "| trainings | images that decide | one part | three folds | five folds |",
        "|---:|---:|---:|---:|---:|",
    ]
    for trainings in TRAININGS:
        found = removed(trainings)
        for n in IMAGES:
            cells = " | ".join(f"{found[n, folds][0]:.1f} ({found[n, folds][1]:.1f})" for folds in NAMES)
            lines.append(f"| {trainings} | {n} | {cells} |")
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
