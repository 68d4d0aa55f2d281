"""The corpus of mistakes: every edit applies, and what the smoke step has to notice is noticed and blamed on the right component."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.mistakes.__main__ import observe, write_digits
from benchmarks.mistakes.corpus import MISTAKES, Mistake
from sandbox import job


def test_corpus_is_large_and_every_edit_applies() -> None:
    assert sum(mistake.error for mistake in MISTAKES) >= 40
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)
    assert all(mistake.pipeline for mistake in MISTAKES)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, np.ndarray]]:
    root = tmp_path_factory.mktemp("mistakes")
    labels = write_digits(root / "data")
    (root / "run" / "iterations").mkdir(parents=True)
    yield root, labels
    job.shutdown(root / "run")


SMOKED = (
    "forward",
    "only in a branch",
    "Normalize of three channels",
    "eval of another size than train",
    "mixing with another number",
    "history instead of the model",
    "log of zero",
    "no step of the optimiser",
    "stepped per batch but planned too short",
    "debug output in a loop",
    "SystemExit after training",
)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", [m for m in MISTAKES if m.name in SMOKED], ids=lambda m: m.name)
def test_smoke_run_notices_and_blames(mistake: Mistake, digits: tuple[Path, np.ndarray]) -> None:
    seen = observe(mistake.pipeline, *digits, mistake.name, ("smoke",))
    assert seen.fault is not None
    assert (seen.fault.stage, seen.fault.component) == ("smoke", mistake.component), seen.fault
