"""One of the runs: python -m benchmarks.queue.driver DATA NAME JOBS_PER_CPU"""

import sys

from graph.run import run
from nodes.services import Services
from schema.settings import Settings
from tests.scripted import PIPELINE, TRAINING, ScriptedTeam

LINES = """log):
    import time
    print("training begins", time.monotonic(), flush=True)
    time.sleep(0.5)
    try:
        return fitted(model, loaders, info, log)
    finally:
        print("training ends", time.monotonic(), flush=True)


def fitted(model, loaders, info, log):
"""
TIMED = TRAINING.replace("log):\n", LINES)


def main(data: str, name: str, together: int) -> None:
    team = ScriptedTeam([("training", [TIMED.replace("epochs=1", "epochs=4")])], PIPELINE.with_code("training", TIMED))
    settings = Settings(
        dataset=data,
        iterations=1,
        train_seconds=20,
        accept="better",
        device="cpu",
        jobs_per_cpu=together,
        folds=1,
        until_budget=True,
    )
    run(settings, name=name, services=Services(team=lambda *_: team))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
