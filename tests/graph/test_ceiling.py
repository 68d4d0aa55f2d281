"""Where not even a perfect pipeline could be told from the best one, a run ends and says so, unless the person wants it to go on."""

from pathlib import Path

import numpy as np

from benchmarks.overhead.__main__ import InstantJobs
from checkpoints.store import open_store
from graph.run import resume, run
from nodes.services import Services
from schema.job import JobSpec
from tests.graph.test_resume import photos, settings  # noqa: F401 - a fixture
from tests.scripted import TRAINING, ScriptedTeam


class PerfectJobs(InstantJobs):
    """Every image is answered right."""

    def start(self, directory: Path, spec: JobSpec, /) -> None:
        super().start(directory, spec)
        folder = Path(spec.data).parent
        for split in ("validation", "test"):
            np.save(
                directory / f"work/{split}.npy",
                np.eye(2, dtype=np.float32)[np.load(folder / f"private/{split}_labels.npy")],
            )


def services() -> Services:
    team, jobs = ScriptedTeam([("training", [TRAINING + "\n# again\n"])]), PerfectJobs()
    return Services(team=lambda *_: team, jobs=jobs)


def test_a_run_without_mistakes_ends_with_the_reason_and_goes_on_when_asked(photos: Path) -> None:  # noqa: F811
    run(settings(photos, until_budget=False), name="r", services=services())
    row = open_store().run("r")
    assert row.status == "finished"
    assert row.reason.startswith("the best pipeline makes no mistake on the 10 images that decide")
    assert row.reason.endswith("improve resume r --until-budget")
    assert [one.verdict for one in open_store().ledger("r")] == ["first"]

    resume("r", until_budget=True, services=services())
    assert len(open_store().ledger("r")) == 2
