"""Trainings with a planted bottleneck, and what an analyst makes of them.

    python -m benchmarks.bottlenecks --record                       trains them for real, and keeps what the analyst sees
    python -m benchmarks.bottlenecks --model openai:NAME [...]      asks a language model what to change in each

`tests/agents/test_bottlenecks.py` holds that each recorded prompt names its own bottleneck, and no other's.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agents.team import Line, make_team
from benchmarks.bottlenecks.situations import SITUATIONS, Situation
from checkpoints.home import prices_path
from graph.run import run
from nodes.services import Services
from schema.pipeline import COMPONENTS
from schema.settings import make_settings
from schema.team import Brief, Design, Evidence, Outcome, Proposal, RepairTask, Spent, WriteTask, Written

FOLDER = Path(__file__).with_name("situations")


class Planted:
    """A team that gives the planted pipeline, and keeps what its analyst is shown."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self.seen: Evidence | None = None

    def check(self) -> None:
        pass

    def design(self, brief: Brief) -> Design:  # noqa: ARG002 - as a team's
        return Design(text="planted", components={c: self._situation.pipeline.code(c) for c in COMPONENTS})

    def write(self, task: WriteTask) -> Written:
        return Written(code=task.pipeline[task.component])

    def repair(self, task: RepairTask) -> Written:
        return Written(code=task.code)

    def analyse(self, evidence: Evidence) -> Proposal:
        self.seen = evidence
        return Proposal(action="stop", diagnosis="recorded")

    def summarise(self, outcome: Outcome) -> str:
        return outcome.row.move


def record(situation: Situation) -> Evidence:
    """Train it, and return what the analyst is shown; paths of this machine are left out."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / situation.name
        situation.images(images)
        os.environ["IMPROVE_HOME"] = f"{folder}/home"
        (Path(folder) / "home").mkdir()
        (Path(folder) / "home/split.secret").write_bytes(bytes(32))
        team = Planted(situation)
        told = {"dataset": str(images), "iterations": 1, "train_seconds": 10.0, "device": "cpu", "folds": 1}
        run(make_settings(told | situation.settings), services=Services(team=lambda *_: team))
    if team.seen is None:
        raise RuntimeError(f"{situation.name}: the run has shown its analyst nothing")
    brief = team.seen.brief
    profile = brief.profile.model_copy(update={"directory": "", "reading": ""})
    hardware = brief.hardware.model_copy(update={"name": "a processor"})
    return team.seen.model_copy(update={"brief": brief.model_copy(update={"profile": profile, "hardware": hardware})})


def recorded(situation: Situation) -> Evidence:
    return Evidence.model_validate_json((FOLDER / f"{situation.name}.json").read_bytes())


def helps(situation: Situation, proposal: Proposal) -> bool:
    """Whether a proposal goes for what holds the pipeline back, by its words."""
    text = " ".join((proposal.move, proposal.hypothesis, proposal.instruction)).lower()
    return proposal.action == "change" and any(re.search(word, text) for word in situation.remedies)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bottlenecks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", action="store_true")
    what.add_argument("--model")
    parser.add_argument("--base-url")
    chosen = parser.parse_args(arguments)
    if chosen.record:
        for situation in SITUATIONS:
            text = record(situation).model_dump_json(indent=1)
            (FOLDER / f"{situation.name}.json").write_text(text + "\n", encoding="utf-8")
            print(f"{situation.name}: recorded")
        return 0
    settings = make_settings({"dataset": "recorded", "model": chosen.model, "base_url": chosen.base_url})
    line = Line(tell=lambda _: None, record=lambda _: None, spent=Spent, stopping=lambda: False, prices=prices_path())
    team, hits = make_team(settings, line), 0
    for situation in SITUATIONS:
        proposal = team.analyse(recorded(situation))
        hits += helps(situation, proposal)
        told = "helps" if helps(situation, proposal) else "elsewhere"
        print(f"{situation.name:12} {told:10} {proposal.component}: {proposal.move} · {proposal.diagnosis[:150]}")
    print(f"{hits} of {len(SITUATIONS)} proposals go for the planted bottleneck ({chosen.model})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
