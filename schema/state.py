"""The shared state: plain JSON only, ids for what is settled, bodies only for what is being worked on (docs/decisions/0002-state.md)."""

import operator
from typing import Annotated, Any

from typing_extensions import TypedDict

from schema.pipeline import Component

SCHEMA_VERSION = 2


class State(TypedDict, total=False):
    """One run. Records of `schema` appear dumped (`model_dump(mode="json")`); settled iterations live in the experiment store."""

    schema_version: int
    run: str  # the run's name
    settings: dict[str, Any]  # schema.settings.Settings, frozen at `profile`: a resume needs no arguments
    hardware: dict[str, Any]  # schema.team.Hardware
    weights: dict[str, Any]  # schema.pretrained.Pretrained
    train_limit: float  # seconds of a training that the person allows, which a budget may lower in the settings
    clock: Annotated[float, operator.add]  # seconds spent inside nodes, over all resumes
    iteration: int  # 0 is the first pipeline
    settled: int  # the iteration before it, in this branch of the run; -1 where there is none
    iteration_clock: float  # `clock` when the iteration began
    attempt: int  # from 1, within the iteration
    proposal: dict[str, Any] | None  # schema.team.Proposal
    queue: list[Component]  # engineers that still have to write
    draft: dict[Component, str]  # source of the components that differ from the incumbent's
    fault: dict[str, Any] | None  # schema.pipeline.Fault of the latest attempt
    faults: list[dict[str, Any]]  # of the earlier attempts of this iteration
    seeds: int  # trainings per pipeline that this comparison wants
    folds: (
        int  # trainings of each pipeline, in each of which another part of the images is held out; 1: one part decides
    )
    comparison: dict[str, Any] | None  # schema.score.Comparison
    reviewed: str  # the person's answer before the training: approve, edit or skip
    verdict: str | None
    reason: str
    base: int | None  # the incumbent that this iteration is compared with
    best: int | None  # the incumbent after the verdict
    stop: str | None  # why the run ends
