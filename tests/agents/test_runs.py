"""Whole runs of the playbook team without trainings: no pipeline twice, no label-changing candidate ever, repairs that differ, and an end."""

import pytest

from agents.playbook.expert import Playbook
from schema.pipeline import COMPONENTS, Component, Fault, Pipeline
from schema.score import Verdict
from schema.team import Brief, LedgerRow, Proposal, RepairTask, WriteTask
from tests.agents.briefs import make_brief, make_evidence, make_row

TEAM = Playbook()
ENOUGH = 60  # iterations: a run whose changes are always kept has no end of ideas
TRASH = ["cardboard", "glass", "metal", "paper", "plastic", "trash"]
TASKS: dict[str, Brief] = {
    "photographs": make_brief(images=8000),
    "digits": make_brief(list("0123456789"), images=1150, side=8, channels=1),
    "orientations": make_brief([f"orientation_{i:02d}" for i in range(40)], images=3200, side=64, channels=1),
    "letters": make_brief([f"kha {i}" for i in range(108)], images=5508, channels=1),
    "transfer": make_brief(TRASH, images=1600, side=(144, 192), weights=["mobilenetv2_100", "resnet18"], imbalance=4.0),
    "large": make_brief(TRASH, images=1600, side=(144, 192), imbalance=4.0, metric="balanced_accuracy"),
    "gpu": make_brief(images=50_000, cuda=True, cores=16, train_seconds=1200),
    "above": make_brief(["forest", "river"], images=2000, side=64, description="satellite images"),
    "unknown": make_brief(["class_1", "class_2"], images=300, side=128),
}


def first_pipeline(brief: Brief) -> Pipeline:
    return Pipeline.model_validate(TEAM.design(brief).components)


def carried_out(brief: Brief, pipeline: Pipeline, proposal: Proposal) -> Pipeline:
    """What the engineers make of a proposal."""
    for component in COMPONENTS:
        if proposal.component in {component, "all"}:
            sources: dict[Component, str] = {c: pipeline.code(c) for c in COMPONENTS}
            task = WriteTask(brief=brief, component=component, design="", pipeline=sources, proposal=proposal)
            pipeline = pipeline.with_code(component, TEAM.write(task).code)
    return pipeline


def played(
    brief: Brief, verdicts: list[Verdict], train: float = 0.95, validation: float = 0.8
) -> tuple[list[LedgerRow], list[Pipeline], Proposal]:
    """A run, or its beginning, in which the verdicts come round in a cycle. Returns the ledger, the candidates and the last answer."""
    incumbent, best = first_pipeline(brief), 0
    ledger: list[LedgerRow] = []
    candidates: list[Pipeline] = []
    proposal = Proposal(action="stop")
    for iteration in range(1, ENOUGH + 1):
        seen = make_evidence(
            brief, incumbent, ledger=ledger, best=best, train_accuracy=train, validation_accuracy=validation
        )
        proposal = TEAM.analyse(seen)
        if proposal.action == "stop":
            return ledger, candidates, proposal
        candidates.append(carried_out(brief, incumbent, proposal))
        verdict = verdicts[iteration % len(verdicts)]
        ledger.append(make_row(proposal, iteration, best, verdict))
        if verdict == "accepted":
            incumbent, best = candidates[-1], iteration
    return ledger, candidates, proposal


@pytest.mark.parametrize("task", TASKS)
def test_a_proposal_leaves_the_other_components_byte_identical(task: str) -> None:
    brief, pipeline = TASKS[task], first_pipeline(TASKS[task])
    proposal = TEAM.analyse(make_evidence(brief, pipeline))
    candidate = carried_out(brief, pipeline, proposal)
    assert [c for c in COMPONENTS if candidate.code(c) != pipeline.code(c)] == [proposal.component]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("verdicts", [["accepted", "rejected", "inconclusive"], ["failed"]], ids=str)
def test_the_same_change_is_never_tried_twice_on_the_same_incumbent(task: str, verdicts: list[Verdict]) -> None:
    ledger, _, _ = played(TASKS[task], verdicts)
    tried = [(row.base, row.move) for row in ledger]
    assert len(tried) == len(set(tried))


@pytest.mark.parametrize("task", TASKS)
def test_a_run_whose_changes_all_fail_ends_by_itself(task: str) -> None:
    ledger, _, last = played(TASKS[task], ["failed"])
    assert (last.action, len(ledger) < ENOUGH) == ("stop", True)
    assert last.diagnosis


@pytest.mark.parametrize("task", TASKS)
def test_no_pipeline_is_trained_twice_whichever_way_it_was_reached(task: str) -> None:
    _, candidates, _ = played(TASKS[task], ["accepted", "rejected", "rejected"])
    sources = [pipeline.fingerprint for pipeline in [first_pipeline(TASKS[task]), *candidates]]
    assert len(sources) == len(set(sources))


@pytest.mark.parametrize("task", ["digits", "orientations", "letters"])
@pytest.mark.parametrize("verdicts", [["accepted"], ["rejected"]], ids=str)
def test_where_a_mirror_image_is_another_class_no_candidate_mirrors(task: str, verdicts: list[Verdict]) -> None:
    _, candidates, _ = played(TASKS[task], verdicts, train=1.0, validation=0.6)
    assert candidates
    assert not any("random_flip" in candidate.data or "flip_view" in candidate.data for candidate in candidates)


@pytest.mark.parametrize("verdicts", [["accepted"], ["rejected"]], ids=str)
def test_where_the_class_is_an_angle_no_candidate_turns(verdicts: list[Verdict]) -> None:
    _, candidates, _ = played(TASKS["orientations"], verdicts, train=1.0, validation=0.6)
    assert not any("random_rotate" in candidate.data for candidate in candidates)


def test_where_the_class_is_a_size_no_candidate_zooms() -> None:
    brief = make_brief([f"scale_{i}" for i in range(6)], images=3000, side=64)
    _, candidates, _ = played(brief, ["accepted"], train=1.0, validation=0.6)
    warped = [line for c in candidates for line in c.data.splitlines() if "random_rotate_and_zoom(" in line]
    assert all(line.endswith(", 0.0)") for line in warped)


def test_without_any_hint_mirroring_is_offered_to_be_judged_and_not_part_of_the_start() -> None:
    ledger, _, _ = played(TASKS["unknown"], ["rejected"], train=1.0, validation=0.6)
    assert any(row.move.startswith("flip (") for row in ledger)
    assert "random_flip" not in first_pipeline(TASKS["unknown"]).data


def test_the_analyst_is_deterministic() -> None:
    evidence = make_evidence(TASKS["photographs"], first_pipeline(TASKS["photographs"]))
    assert TEAM.analyse(evidence) == Playbook().analyse(evidence)


def test_several_backbones_on_disk_are_tried() -> None:
    ledger, _, _ = played(TASKS["transfer"], ["rejected"])
    assert any(row.move.startswith("other-backbone") for row in ledger)


def test_rare_classes_weigh_more_where_the_metric_counts_classes() -> None:
    assert "class_weights" in first_pipeline(TASKS["large"]).training
    assert "class_weights" not in first_pipeline(TASKS["transfer"]).training


def test_the_global_strategy_changes_all_components_and_ends() -> None:
    brief = make_brief(images=8000, strategy="global")
    ledger, candidates, _ = played(brief, ["accepted", "rejected"])
    assert all(candidates[0].code(c) != first_pipeline(brief).code(c) for c in COMPONENTS)
    assert {row.component for row in ledger} == {"all"}


def test_zero_shot_is_one_plain_pipeline_even_bottom_up() -> None:
    design = TEAM.design(make_brief(strategy="zero-shot", init="bottom-up"))
    assert "random_" not in design.components["data"]


def test_bottom_up_leaves_the_writing_to_the_engineers() -> None:
    assert TEAM.design(make_brief(init="bottom-up")).components == {}


def test_what_takes_longer_is_not_proposed_if_the_budget_does_not_hold_it() -> None:
    brief = TASKS["photographs"]
    pipeline = first_pipeline(brief)

    def proposals(seconds_left: float) -> list[Proposal]:
        """One after the other, each tried and rejected."""
        found: list[Proposal] = []
        ledger: list[LedgerRow] = []
        while (
            proposal := TEAM.analyse(make_evidence(brief, pipeline, ledger=ledger, seconds_left=seconds_left))
        ).action != "stop":
            found.append(proposal)
            ledger.append(make_row(proposal, len(ledger) + 1, 0, "rejected"))
        return found

    assert any(proposal.longer for proposal in proposals(1e6))
    assert not any(proposal.longer for proposal in proposals(30.0))


def test_a_change_that_was_cut_is_proposed_again() -> None:
    brief = TASKS["photographs"]
    pipeline = first_pipeline(brief)
    first = TEAM.analyse(make_evidence(brief, pipeline))
    after_cut, after_rejected = ([make_row(first, 1, 0, verdict)] for verdict in ("cut", "rejected"))

    def moves(ledger: list[LedgerRow]) -> list[str]:
        found: list[str] = []
        while (proposal := TEAM.analyse(make_evidence(brief, pipeline, ledger=ledger))).action != "stop":
            found.append(proposal.move)
            ledger = [*ledger, make_row(proposal, len(ledger) + 1, 0, "rejected")]
        return found

    assert first.move in moves(after_cut)
    assert first.move not in moves(after_rejected)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("kind", ["time", "memory", "OutOfMemoryError", "TypeError", "NonFiniteLoss"])
@pytest.mark.parametrize("task", TASKS)
def test_a_repair_never_gives_back_code_that_failed(task: str, kind: str, component: Component) -> None:
    brief = TASKS[task]
    code = first_pipeline(brief).code(component)
    failed: list[str] = []
    for attempt in (1, 2):  # as many as three attempts leave room for
        write = WriteTask(brief=brief, component=component, design="", pipeline={component: code})
        fault = Fault(stage="train", kind=kind, component=component, message="x")
        failed.append(code)
        code = TEAM.repair(RepairTask(write=write, code=code, fault=fault, attempt=attempt)).code
        assert code not in failed
