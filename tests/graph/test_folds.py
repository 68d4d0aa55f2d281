"""A small data set is judged in folds: each training holds out another part, and all of them decide together."""

import os
from pathlib import Path

import numpy as np
import pytest

from checkpoints.home import run_dir
from checkpoints.store import open_store
from dataset.folds import fold_directory
from graph.run import resume, run
from nodes.report_text import report_text
from nodes.services import Services
from schema.errors import InputError, RunStopped
from schema.events import Event, Proposed
from schema.settings import Settings
from tests.scripted import MODEL, PIPELINE, ScriptedTeam, image_folder

# Half of the images are of no help: the first pipeline errs, and the second one errs otherwise.
FAINT, FOLDS = 12, 2
WIDER = MODEL.replace("nn.Linear(", "nn.Dropout(0.1), nn.Linear(")
BROKEN_IN_A_FOLD = PIPELINE.training.replace(
    "    optimizer", "    if info.seed == 1:\n        raise ValueError('only in the last fold')\n    optimizer", 1
)


def settings(data: Path, **own: object) -> Settings:
    told = {
        "dataset": str(data),
        "iterations": 2,
        "train_seconds": 20,
        "device": "cpu",
        "folds": FOLDS,
        "until_budget": True,
    }
    return Settings.model_validate(told | own)


def services(*answers: tuple[str, list[str]]) -> Services:
    team = ScriptedTeam(list(answers))  # type: ignore[arg-type]
    return Services(team=lambda *_: team)


class Folded:
    """What a run in folds left behind, read while its home is there."""

    def __init__(self, home: Path, data: Path) -> None:
        os.environ["IMPROVE_HOME"] = str(home)
        name = run(
            settings(data), name="folded", services=services(("model", [WIDER]), ("training", [BROKEN_IN_A_FOLD]))
        )
        store = open_store()
        self.ledger = store.ledger(name)
        self.first = store.score(name, 0, 0, "validation")
        self.seeds = {row.iteration: [job.seed for job in store.jobs(name, row.iteration)] for row in self.ledger}
        profile = store.run(name).profile
        assert profile
        self.parts = [np.load(fold_directory(profile, fold) / "heldout/validation.npy") for fold in range(FOLDS)]
        self.test = profile.size("test")
        jobs = [run_dir(name) / f"iterations/0000/jobs/1-s{fold}" for fold in range(FOLDS)]
        self.answered = [[len(np.load(job / f"work/{s}.npy")) for s in ("validation", "test")] for job in jobs]
        self.specs = [(job / "job.json").read_text() for job in jobs]
        self.report = report_text(store.run(name), self.ledger, store.totals(name))


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Folded:
    root = tmp_path_factory.mktemp("run")
    return Folded(root / "home", image_folder(root / "photos", per_class=40, light=FAINT))


def test_each_pipeline_is_trained_once_in_each_fold(folded: Folded) -> None:
    assert folded.seeds[0] == folded.seeds[1] == [0, 1]


def test_the_report_says_that_the_validation_score_is_that_of_all_folds(folded: Folded) -> None:
    assert "validation (decides; its trainings in all folds)" in folded.report


def test_each_training_answers_the_part_that_it_has_not_learned_from(folded: Folded) -> None:
    assert folded.answered == [[len(part), folded.test] for part in folded.parts]
    first, second = ({image.tobytes() for image in part} for part in folded.parts)
    assert not first & second


def test_the_score_and_the_comparison_are_of_all_folds_together(folded: Folded) -> None:
    assert folded.first
    assert folded.first.n == sum(len(part) for part in folded.parts)
    assert folded.ledger[0].validation == folded.ledger[1].against == folded.first.value


def test_a_training_that_fails_in_a_further_fold_leaves_the_others_to_compare(folded: Folded) -> None:
    assert folded.ledger[2].verdict in {"accepted", "rejected"}
    assert folded.ledger[2].delta is not None


def test_no_job_is_shown_a_label_of_what_it_is_to_answer(folded: Folded) -> None:
    whole, first = folded.specs
    assert "private" not in whole + first
    assert "folds/" not in whole
    assert "folds/1" in first


@pytest.mark.slow
def test_a_run_that_was_stopped_between_two_folds_goes_on_with_the_same_number(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "photos", per_class=40, light=FAINT)
    seen: list[Event] = []

    def stop_at_the_first_proposal(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Proposed):
            raise RunStopped("for the test", run="stopped")

    with pytest.raises(RunStopped):
        run(
            settings(data, iterations=1),
            name="stopped",
            on_event=stop_at_the_first_proposal,
            services=services(("model", [WIDER])),
        )
    resume("stopped", services=services(("model", [WIDER])))
    assert [job.seed for job in open_store().jobs("stopped", 1)] == [0, 1]


@pytest.mark.parametrize(
    ("own", "said"),
    [({"select_on": "test"}, "is one part"), ({"strategy": "zero-shot"}, "compares nothing")],
)
def test_folds_that_cannot_be_had_are_refused_before_anything_is_trained(
    own: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        run(settings(image_folder(tmp_path / "photos"), **own), services=services())
