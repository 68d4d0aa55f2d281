"""What the loop itself costs: wall time per iteration with jobs that take no time, and bytes per checkpoint, as the run gets longer.

python -m benchmarks.overhead [ITERATIONS ...]      default: 10 100 1000; writes benchmarks/overhead/RESULTS.md
"""

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from checkpoints.home import checkpoints_path, experiments_url
from graph.run import run
from nodes.services import Services
from schema.events import Event, JobProgress, Settled
from schema.job import Access, JobResult, JobSpec, Plan, StepOutcome
from schema.settings import Settings
from tests.scripted import TRAINING, ScriptedTeam, image_folder

OUT = Path(__file__).with_name("RESULTS.md")


class InstantJobs:
    """Jobs whose result is there at once: random predictions, and the files that a real one leaves."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def warm(self, run_dir: Path, access: Access, /) -> None:
        pass

    def shutdown(self, run_dir: Path, /) -> None:
        pass

    def start(self, directory: Path, spec: JobSpec, /) -> None:
        work = directory / "work"
        work.mkdir(parents=True, exist_ok=True)
        for split, array in spec.heldout.items():
            rows = self.random.dirichlet(np.ones(2), len(np.load(array, mmap_mode="r")))
            np.save(work / f"{split}.npy", rows.astype(np.float32))
        (work / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 0.1, "validation_accuracy": 0.5}\n')
        (work / "smoke.json").write_text(Plan(epochs=1, threads=1, images_per_second=1.0).model_dump_json())
        (directory / "job.json").write_text(spec.model_dump_json())
        steps = [StepOutcome(step="train", seconds=0.0, exit=0)]
        (directory / "result.json").write_text(
            JobResult(ok=True, steps=steps, seconds=0.0, tier=spec.tier).model_dump_json()
        )

    def wait(
        self,
        directory: Path,
        /,
        on_progress: Callable[[JobProgress], None] | None,  # noqa: ARG002 - the interface
        stop: Callable[[], bool] | None,  # noqa: ARG002 - the interface
    ) -> JobResult:
        found = self.result(directory)
        assert found
        return found

    def stop(self, directory: Path, /) -> None:
        pass

    def result(self, directory: Path, /) -> JobResult | None:
        path = directory / "result.json"
        return JobResult.model_validate_json(path.read_bytes()) if path.exists() else None

    def spec(self, directory: Path, /) -> JobSpec:
        return JobSpec.model_validate_json((directory / "job.json").read_bytes())


def measure(iterations: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMPROVE_HOME"] = str(Path(folder) / "home")
        data = image_folder(Path(folder) / "photos")
        team = ScriptedTeam([("training", [f"{TRAINING}\n# change {i}\n"]) for i in range(iterations)])
        services = Services(team=lambda *_: team, jobs=InstantJobs())
        settled: list[float] = []

        def note(event: Event) -> None:
            if isinstance(event, Settled):
                settled.append(time.monotonic())

        settings = Settings(dataset=str(data), iterations=iterations, accept="better", device="cpu")
        run(settings, name="overhead", on_event=note, services=services)
        steps = np.diff(settled)
        tenth = max(1, len(steps) // 10)
        with sqlite3.connect(checkpoints_path()) as connection:
            count, size = connection.execute("SELECT count(*), sum(length(checkpoint)) FROM checkpoints").fetchone()
            largest = connection.execute("SELECT max(length(checkpoint)) FROM checkpoints").fetchone()[0]
        connection.close()
        store = Path(experiments_url().removeprefix("sqlite:///")).stat().st_size
        return {
            "iterations": iterations,
            "first": float(np.median(steps[:tenth])),
            "last": float(np.median(steps[-tenth:])),
            "checkpoints": count,
            "mean": size / count / 1024,
            "largest": largest / 1024,
            "store": store / iterations / 1024,
        }


def main(counts: list[int]) -> None:
    lines = [
        "# What the loop itself costs",
        "",
        f"`python -m benchmarks.overhead {' '.join(map(str, counts))}` writes this file. Jobs take no time; each iteration is five nodes, the checks of",
        "its component (ruff and ty) among them. Seconds per iteration: median of the first and of the last tenth.",
        "",
        "| iterations | s/iteration, first tenth | last tenth | checkpoints | KB each | largest KB | store KB/iteration |",
        "|---|---|---|---|---|---|---|",
    ]
    for count in counts:
        m = measure(count)
        lines.append(
            f"| {count} | {m['first']:.2f} | {m['last']:.2f} | {m['checkpoints']:.0f} | {m['mean']:.1f} | {m['largest']:.1f} | {m['store']:.1f} |"
        )
        print(lines[-1], flush=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [10, 100, 1000])
