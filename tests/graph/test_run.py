"""A whole run with real jobs: the loop, repair, giving up, stopping and going on."""

import json
import os
from pathlib import Path

import psutil
import pytest

from checkpoints.home import run_dir
from checkpoints.store import open_store
from graph.run import resume, run
from improve.show import as_json, final_line
from nodes.sandbox import QUIET, _taken
from nodes.services import Services
from sandbox import job
from schema.errors import NothingToResume, RunNameTaken, RunStopped, UnknownRun
from schema.events import Event, NodeEntered
from schema.job import Plan
from schema.settings import Settings
from schema.team import LedgerRow
from tests.scripted import MODEL, PIPELINE, TRAINING, ScriptedTeam, image_folder

BETTER = TRAINING.replace("epochs=1", "epochs=8")
CRASHES = MODEL.replace("info.num_classes", "info.num_classes + 1")


class Finished:
    """What a run of one accepted, one repaired and one failed iteration left behind."""

    def __init__(self, home: Path, data: Path) -> None:
        os.environ["IMPROVE_HOME"] = str(home)
        self.team = ScriptedTeam(
            [
                ("training", [BETTER]),
                ("model", ["x = undefined_name\n", MODEL + "\n# repaired\n"]),
                ("model", [CRASHES]),
            ]
        )
        self.events: list[Event] = []
        settings = Settings(
            dataset=str(data),
            iterations=5,
            train_seconds=20,
            accept="better",
            max_attempts=2,
            device="cpu",
            folds=1,
            until_budget=True,
        )
        services = Services(team=lambda *_: self.team)
        self.name = run(settings, name="scripted", on_event=self.events.append, services=services)
        store = open_store()
        self.ledger: list[LedgerRow] = store.ledger(self.name)
        self.pipelines = {row.iteration: store.pipeline(self.name, row.iteration) for row in self.ledger}
        self.shown = as_json(self.name, store)
        self.line = final_line(store.run(self.name))
        self.folder = run_dir(self.name)
        self.report = (self.folder / "report.md").read_text()
        self.seen = self.team.seen


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("run")
    return Finished(root / "home", image_folder(root / "photos"))


def test_every_iteration_has_its_verdict(finished: Finished) -> None:
    assert finished.ledger[0].verdict == "first"
    assert finished.ledger[1].verdict in {"accepted", "rejected"}
    assert finished.ledger[3].verdict == "failed"


def test_a_candidate_is_compared_under_what_the_incumbent_ran_with(finished: Finished) -> None:
    jobs = finished.folder / "iterations"
    plan = json.loads((jobs / "0000/jobs/1-s0/work/smoke.json").read_text())
    same_model = json.loads((jobs / "0001/jobs/1-s0/job.json").read_text())
    other_model = json.loads((jobs / "0002/jobs/2-s0/job.json").read_text())
    assert {key: same_model[key] for key in ("epochs", "precision", "channels_last", "threads", "settled")} == {
        **{key: plan[key] for key in ("epochs", "precision", "channels_last", "threads")},
        "settled": True,
    }
    assert (other_model["epochs"], other_model["settled"]) == (plan["epochs"], False)


def test_a_candidate_is_given_how_long_the_incumbent_really_trained(finished: Finished) -> None:
    """The plan is the incumbent's own word; these seconds are ours."""
    incumbent = json.loads((finished.folder / "iterations/0000/jobs/1-s0/result.json").read_text())
    candidate = json.loads((finished.folder / "iterations/0001/jobs/1-s0/job.json").read_text())
    [trained] = [step for step in incumbent["steps"] if step["step"] == "train"]
    quiet = trained["alone"] > QUIET * trained["seconds"]  # else nobody knows how long it was
    assert candidate["least_seconds"] == (trained["alone"] if quiet else 0.0)


def test_a_plan_for_more_threads_than_cores_is_not_handed_on() -> None:
    plan = Plan(epochs=3, threads=4096, images_per_second=1.0)
    assert _taken(plan, {"epochs", "threads"}, cores=8) == {"epochs": 3, "threads": 8}
    assert _taken(plan, {"epochs"}, cores=8) == {"epochs": 3}


def test_a_finished_run_leaves_no_process_behind(finished: Finished) -> None:
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(finished.folder) in " ".join(p.info["cmdline"] or [])
    ]


def test_a_fault_goes_to_the_engineer_who_made_it(finished: Finished) -> None:
    assert finished.ledger[2].attempts == 2
    assert any("model" in fault for fault in finished.seen)


def test_an_iteration_ends_when_its_attempts_do(finished: Finished) -> None:
    assert finished.ledger[3].attempts == 2


def test_only_the_chosen_component_changes(finished: Finished) -> None:
    best = finished.pipelines[finished.ledger[2].base or 0]
    changed = finished.pipelines[2]
    assert (changed.data, changed.training) == (best.data, best.training)
    assert changed.model != best.model


def test_the_run_ends_when_the_analyst_has_nothing_left(finished: Finished) -> None:
    assert finished.shown["status"] == "finished"
    assert "the script ends" in finished.shown["reason"]


def test_the_json_of_show_has_what_scripts_read(finished: Finished) -> None:
    shown = json.loads(json.dumps(finished.shown))
    assert {
        "run",
        "status",
        "sandbox",
        "metric",
        "first",
        "best",
        "iterations",
        "totals",
        "dataset",
        "paths",
    } <= shown.keys()
    final = {
        "iteration",
        "validation",
        "test",
        "n",
        "weights",
        "split",
        "largest_class_alone",
        "per_class",
        "confusions",
    }
    assert shown["first"].keys() == shown["best"].keys() == final
    assert {one["name"] for one in shown["best"]["per_class"]} == {"left", "right"}
    assert sum(one["n"] for one in shown["best"]["per_class"]) == shown["best"]["n"]
    wanted = {"iteration", "component", "verdict", "validation", "delta", "attempts", "seconds", "summary"}
    assert all(wanted <= row.keys() for row in shown["iterations"])
    assert {"seconds", "training_seconds", "jobs", "tokens", "cost"} <= shown["totals"].keys()


def test_the_last_line_names_the_scores_and_the_run(finished: Finished) -> None:
    best = finished.shown["best"]
    scores = f"test accuracy {best['test']:.4f} (n={best['n']}) · validation {best['validation']:.4f}"
    assert finished.line.startswith(scores)
    assert finished.line.endswith(" · run scripted")


def test_the_winner_is_there_to_take_home(finished: Finished) -> None:
    assert Path(finished.shown["paths"]["script"]).read_text().startswith('"""')
    assert Path(finished.shown["paths"]["weights"]).stat().st_size > 0


def test_the_report_has_the_first_pipeline_beside_the_winner(finished: Finished) -> None:
    assert "| first (iteration 0) |" in finished.report
    assert "| winner (iteration" in finished.report


def test_no_job_ran_twice(finished: Finished) -> None:
    starts = list(finished.folder.glob("iterations/*/jobs/*/starts"))
    assert starts
    assert all(len(path.read_text().splitlines()) == 1 for path in starts)


def test_held_out_labels_are_nowhere_that_a_job_reads(finished: Finished) -> None:
    specs = [json.loads(path.read_text()) for path in finished.folder.glob("iterations/*/jobs/*/job.json")]
    assert specs
    assert not any(
        "private" in text or "labels" in text for spec in specs for text in [spec["data"], *spec["heldout"].values()]
    )


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "photos")
    services = Services(team=lambda *_: ScriptedTeam([("training", [BETTER])]))
    settings = Settings(
        dataset=str(data), iterations=1, train_seconds=20, accept="better", device="cpu", folds=1, until_budget=True
    )

    def stop_at_iteration_1(event: Event) -> None:
        if isinstance(event, NodeEntered) and event.node == "training_engineer" and event.iteration == 1:
            os.kill(os.getpid(), 2)

    with pytest.raises(RunStopped, match="improve resume photos"):
        run(settings, on_event=stop_at_iteration_1, services=services)
    try:
        assert open_store().run("photos").status == "stopped"
        assert resume("photos", services=services) == "photos"
        store = open_store()
        assert [row.iteration for row in store.ledger("photos")] == [0, 1]
        assert store.run("photos").best is not None
        with pytest.raises(NothingToResume, match="--iterations"):
            resume("photos", services=services)
        with pytest.raises(RunNameTaken, match="improve resume photos"):
            run(settings, name="photos", services=services)
    finally:
        job.shutdown(run_dir("photos"))


def test_an_unknown_run_names_close_ones() -> None:
    with pytest.raises(UnknownRun, match="no run yet"):
        resume("nothing")


def test_a_bad_data_set_leaves_no_run_behind(tmp_path: Path, home: Path) -> None:
    (tmp_path / "empty").mkdir()
    from schema.errors import DatasetError

    with pytest.raises(DatasetError, match="is empty"):
        run(
            Settings(dataset=str(tmp_path / "empty")),
            services=Services(team=lambda *_: ScriptedTeam([], first=PIPELINE)),
        )
    assert open_store().runs() == []
    assert not list((home / "runs").iterdir())
