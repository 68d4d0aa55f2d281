"""The main job on real image sets: does the winner beat the first pipeline on test images that nobody looked at?

`python -m benchmarks.image_sets FOLDER --weights-dir DIR` runs `improve run` on every archive in FOLDER (one after the other: each wants the machine for itself) and prints the table
of benchmarks/RESULTS.md. A finished run of the name `bench-SET` in $IMPROVE_HOME is not run again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

HEADER = """| set | train / val. / test | first, val. | best, val. | first, test | winner, test | verdicts | minutes | neither training nor installing |
|---|---|---|---|---|---|---|---|---|"""


def improve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = "import sys; from improve.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=False)


def shown(name: str) -> dict[str, Any] | None:
    done = improve("show", name, "--json")
    run: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return run if run and run["status"] == "finished" else None


def result(archive: Path, options: list[str]) -> dict[str, Any]:
    name = f"bench-{archive.stem}"
    labels = archive.with_name(f"{archive.stem}.labels_train.csv")
    given = ["--labels", str(labels)] if labels.exists() else []
    if shown(name) is None:
        done = improve("run", str(archive), "--name", name, *given, *options)
        sys.stderr.write(done.stdout[-300:] + done.stderr[-2000:])
    found = shown(name)
    return found or sys.exit(f"{name} did not finish: improve resume {name}")


def line(name: str, run: dict[str, Any]) -> str:
    first, best, totals = run["first"], run["best"], run["totals"]
    verdicts = [row["verdict"] for row in run["iterations"][1:]]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(sorted(verdicts)))
    images = " / ".join(str(run["dataset"]["counts"][split]) for split in ("train", "validation", "test"))
    other = 1 - totals["training_seconds"] / totals["seconds"]
    return (
        f"| {name} | {images} | {first['validation']:.4f} | {best['validation']:.4f} | {_test(first)} | {_test(best)} | {counts} "
        f"| {totals['seconds'] / 60:.1f} | {100 * other:.0f} % |"
    )


def _test(final: dict[str, Any]) -> str:
    interval = binomtest(round(final["test"] * final["n"]), final["n"]).proportion_ci(method="wilson")
    return f"{final['test']:.4f} [{interval.low:.3f}, {interval.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of archives; SET.labels_train.csv beside one is its --labels")
    parser.add_argument("--only", action="append", help="this set (may come several times)")
    parser.add_argument("--iterations", default="6")
    parser.add_argument("--train-limit", default="2m")
    parser.add_argument("--weights-dir")
    chosen = parser.parse_args()
    options = ["--iterations", chosen.iterations, "--train-limit", chosen.train_limit]
    options += ["--weights-dir", chosen.weights_dir] if chosen.weights_dir else []
    print(HEADER, flush=True)
    for archive in sorted(chosen.folder.glob("*.zip")):
        if not chosen.only or archive.stem in chosen.only:
            print(line(archive.stem, result(archive, options)), flush=True)


if __name__ == "__main__":
    main()
