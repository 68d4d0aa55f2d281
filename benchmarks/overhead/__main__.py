"""What the loop itself costs, as the run gets longer: wall time per iteration with jobs that take no time, and room on disk, in both data bases.

python -m benchmarks.overhead [ITERATIONS ...]      default: 10 100 1000; writes benchmarks/overhead/RESULTS.md
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from checkpoints.checkpointer import PLAIN
from checkpoints.retention import database_sizes, prune_runs
from checkpoints.saver import open_checkpointer
from checkpoints.store import open_store
from graph.run import run
from nodes.services import Services
from schema.events import Event, JobProgress, Settled
from schema.job import Access, JobResult, JobSpec, Plan, StepOutcome
from schema.settings import Settings
from tests.checkpoints.server import Server, binaries
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


def measure(iterations: int, url: str | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMPROVE_HOME"] = str(Path(folder) / "home")
        os.environ["IMPROVE_DB_URL"] = url or ""
        data = image_folder(Path(folder) / "photos")
        team = ScriptedTeam([("training", [f"{TRAINING}\n# change {i}\n"]) for i in range(iterations)])
        services = Services(team=lambda *_: team, jobs=InstantJobs())
        settled: list[float] = []

        def note(event: Event) -> None:
            if isinstance(event, Settled):
                settled.append(time.monotonic())

        settings = Settings(
            dataset=str(data), iterations=iterations, accept="better", device="cpu", folds=1, until_budget=True
        )
        run(settings, name="overhead", on_event=note, services=services)
        steps = np.diff(settled)
        tenth = max(1, len(steps) // 10)
        thread = {"configurable": {"thread_id": open_store().run("overhead").thread}}
        with open_checkpointer() as saver:
            states = [PLAIN.dumps_typed(found.checkpoint)[1] for found in saver.list(thread)]
            checkpoints = saver.size()
        prune_runs()
        sizes = list(database_sizes().values())
        return {
            "first": float(np.median(steps[:tenth])),
            "last": float(np.median(steps[-tenth:])),
            "checkpoints": len(states),
            "state": sum(map(len, states)) / len(states) / 1024,
            "largest": max(map(len, states)) / 1024,
            "disk": checkpoints / len(states) / 1024,
            "pruned": sizes[0] / 1024,
            "store": sizes[1] / iterations / 1024,
        }


def main(counts: list[int]) -> None:
    lines = [
        "# What the loop itself costs",
        "",
        f"`python -m benchmarks.overhead {' '.join(map(str, counts))}` writes this file. Jobs take no time; each iteration is six nodes, the checks of",
        "its component (ruff and ty) among them. Seconds per iteration: median of the first and of the last tenth. The PostgreSQL server is one of the benchmark's own,",
        "on the same machine, without fsync: its times are not those of a server in use.",
        "",
        "| data base | iterations | s/iteration, first tenth | last tenth | checkpoints | KB of state each | largest KB | KB on disk each | checkpoints after pruning, KB | store KB/iteration |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        bin_dir = binaries()
        server = Server(Path(folder), bin_dir) if bin_dir else None
        for count in counts:
            for kind in ("SQLite", *(["PostgreSQL"] if server else [])):
                url = server.url(server.new_database()) if server and kind == "PostgreSQL" else None
                m = measure(count, url)
                numbers = f"{m['first']:.2f} | {m['last']:.2f} | {m['checkpoints']} | {m['state']:.1f} | {m['largest']:.1f} | {m['disk']:.1f} | {m['pruned']:.0f} | {m['store']:.1f}"
                lines.append(f"| {kind} | {count} | {numbers} |")
                print(lines[-1], flush=True)
                OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if server:
            server.stop()


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or [10, 100, 1000])
