"""`python -m benchmarks.mistakes [NAME ...]`: every mistake through the checks and a real smoke run; writes RESULTS.md beside this file."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.mistakes.corpus import MISTAKES, Mistake
from benchmarks.mistakes.good import GOOD
from dataset.decode import SOURCE
from sandbox import artifacts, job
from sandbox.assemble import assemble
from sandbox.check import check
from sandbox.isolation.tiers import choose
from sandbox.pretrained.broker import fault as fault_for
from sandbox.pretrained.broker import fetch, missing_in
from schema.job import JobSpec, Limits, Step
from schema.pipeline import Fault, Pipeline
from schema.pretrained import Pretrained

LIMITS = Limits(train_seconds=60, smoke_seconds=12, memory_bytes=3 * 2**30, disk_bytes=2**28, output_bytes=4 * 2**20)
EPOCHS = 6


class Seen(NamedTuple):
    fault: Fault | None
    check_seconds: float
    check_cpu: float
    seconds: float  # check and job
    accuracy: float | None = None


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        labels = write_digits(root / "data")
        run = root / "run"
        (run / "iterations").mkdir(parents=True)
        job.warm(run, spec_of("", root, "warm-up", ("smoke",)).access)
        try:
            observe(GOOD["plain"], root, labels, "warm-up", ("smoke",))
            good = {name: observe(pipeline, root, labels, name) for name, pipeline in GOOD.items()}
            chosen = [m for m in MISTAKES if not names or m.name in names]
            seen = []
            for number, mistake in enumerate(chosen):
                steps: tuple[Step, ...] = ("smoke",) if mistake.error else ("smoke", "train", "predict")
                seen.append((mistake, observe(mistake.pipeline, root, labels, f"m{number}", steps)))
                print(row(*seen[-1]), flush=True)
        finally:
            job.shutdown(run)
    text = report(good, seen)
    if not names:
        Path(__file__).with_name("RESULTS.md").write_text(text, encoding="utf-8")
    print(text)


def write_digits(folder: Path) -> np.ndarray:
    """scikit-learn's digits as a prepared data set; returns the validation labels."""
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    train, validation = order[:1100], order[1100:1450]
    (folder / "train").mkdir(parents=True)
    (folder / "heldout").mkdir()
    np.save(folder / "train/images.npy", images[train])
    np.save(folder / "train/labels.npy", digits.target[train].astype(np.int64))
    np.save(folder / "train/inner.npy", np.arange(len(train)) % 10 == 9)
    np.save(folder / "heldout/validation.npy", images[validation])
    pixels = images[train] / 255
    facts = {"classes": [str(c) for c in range(10)], "channels": 1, "height": 8, "width": 8, "resize": "none"}
    facts |= {"mean": [float(pixels.mean())], "std": [float(pixels.std())]}
    facts["counts"] = np.bincount(digits.target[train][np.arange(len(train)) % 10 != 9], minlength=10).tolist()
    (folder / "train/dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    return np.asarray(digits.target[validation], dtype=np.int64)


def observe(
    pipeline: Pipeline,
    root: Path,
    labels: np.ndarray,
    name: str,
    steps: tuple[Step, ...] = ("smoke", "train", "predict"),
) -> Seen:
    began, cpu = time.monotonic(), cpu_seconds()
    script = assemble(pipeline, SOURCE, title=name)
    fault = check(pipeline, script) or lacking(pipeline)
    checked, cpu = time.monotonic() - began, cpu_seconds() - cpu
    if fault:
        return Seen(fault, checked, cpu, checked)
    directory = root / "run/iterations" / name.replace(" ", "-") / "jobs/1-s0"
    job.start(directory, spec_of(script, root, name, steps))
    result = job.wait(directory)
    seconds = checked + sum(step.seconds for step in result.steps)
    if result.fault or "predict" not in steps:
        return Seen(result.fault, checked, cpu, seconds)
    rows = artifacts.probabilities(directory, "validation", len(labels), 10)
    if isinstance(rows, Fault):
        return Seen(rows, checked, cpu, seconds)
    return Seen(None, checked, cpu, seconds, float((rows.argmax(1) == labels).mean()))


def lacking(pipeline: Pipeline) -> Fault | None:
    """Without a network no pretrained weights can be had, and none are on disk here."""
    wanted = missing_in(pipeline, Pretrained())
    _, failed = fetch(list(wanted), Pretrained()) if wanted else (None, {})
    return next((fault_for(*wanted[what], what, why, Pretrained()) for what, why in failed.items()), None)


def cpu_seconds() -> float:
    """Of this process and the tools that it has waited for: a busy neighbour does not lengthen it."""
    return sum(os.times()[:4])


def spec_of(script: str, root: Path, name: str, steps: tuple[Step, ...]) -> JobSpec:
    return JobSpec(
        name=name,
        pipeline=script,
        data=str(root / "data/train"),
        heldout={"validation": str(root / "data/heldout/validation.npy")},
        steps=steps,
        device="cpu",
        threads=max(1, len(os.sched_getaffinity(0)) - 1),
        epochs=EPOCHS,
        precision="float32",
        channels_last=False,
        tier=choose("auto", root),
        limits=LIMITS,
    )


def row(mistake: Mistake, seen: Seen) -> str:
    fault = seen.fault
    where = f"{fault.stage} · {fault.kind}" if fault else "passes"
    blamed = "–" if fault is None else "right" if fault.component == mistake.component else f"**{fault.component}**"
    message = "" if fault is None else fault.message.replace("|", "\\|").replace("\n", " ")[:110]
    place = f"{mistake.component}, {mistake.base}"
    return f"| {mistake.kind} | {mistake.name} | {place} | {where} | {seen.seconds:.2f} | {blamed} | {message} |"


def report(good: dict[str, Seen], seen: list[tuple[Mistake, Seen]]) -> str:
    errors = [(m, s) for m, s in seen if m.error]
    caught = [(m, s) for m, s in errors if s.fault]
    before_run = [s for _, s in caught if s.fault and s.fault.stage in {"parse", "contract"}]
    right = [s for m, s in caught if s.fault and s.fault.component == m.component]
    alarms = [name for name, s in good.items() if s.fault]
    runs = [(m, s) for m, s in seen if not m.error]
    share = len(caught) / max(1, len(errors))
    checks = sorted(s.check_seconds for s in good.values())
    cpu = sorted(s.check_cpu for s in good.values())
    times = sorted(s.seconds for _, s in caught)
    return "\n".join(
        [
            "# Mistakes that language models make, and what catches them",
            "",
            "`python -m benchmarks.mistakes` writes this file: each faulty component is a good one with one edit (corpus.py), taken through the cheap checks and,",
            f"where they pass it, a real smoke run on scikit-learn's digits (limits: {LIMITS.smoke_seconds:.0f} s, {LIMITS.memory_bytes / 2**30:.0f} GB, {LIMITS.output_bytes / 2**20:.0f} MB of output).",
            "",
            "| | |",
            "|---|---|",
            f"| caught before a full training | **{len(caught)} of {len(errors)}** ({share:.0%}; goal 95 %) |",
            f"| … without running anything (parse, contract, ruff, ty) | {len(before_run)} of {len(errors)} |",
            f"| blamed on the right component | **{len(right)} of {len(caught)}** ({len(right) / max(1, len(caught)):.0%}; goal 95 %) |",
            f"| false alarms on good pipelines | **{len(alarms)} of {len(good)}** {', '.join(alarms)} |",
            f"| the cheap checks on a good pipeline | median {checks[len(checks) // 2]:.2f} s, slowest {checks[-1]:.2f} s (goal 0.6 s); processor time median {cpu[len(cpu) // 2]:.2f} s, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores |",
            f"| until a mistake is known | median {times[len(times) // 2]:.2f} s, slowest {times[-1]:.2f} s |"
            if times
            else "",
            "",
            "## Errors",
            "",
            "| kind | mistake | component, base | caught by | seconds | blame | message |",
            "|---|---|---|---|---|---|---|",
            *(row(m, s) for m, s in errors),
            "",
            "## Wrong, but running: they have to lose",
            "",
            f"Validation accuracy after {EPOCHS} epochs; the same pipeline without the mistake is beside it.",
            "",
            "| kind | mistake | component, base | without the mistake | with it | |",
            "|---|---|---|---|---|---|",
            *(lost(m, s, good[m.base]) for m, s in runs),
            "",
            "## Good pipelines",
            "",
            "| pipeline | checks, s | all, s | accuracy | fault |",
            "|---|---|---|---|---|",
            *(
                f"| {name} | {s.check_seconds:.2f} | {s.seconds:.1f} | {s.accuracy or 0:.3f} | {s.fault or 'none'} |"
                for name, s in good.items()
            ),
            "",
            NOTES,
        ]
    )


NOTES = """## What this does not show

- Files written outside the work directory: without an isolation tier nothing forbids them. One mistake of this kind fails because its folder does not exist; the other writes
  beside its work folder, is not stopped, and scores what it would have scored.
- The corpus and the checks were made together: mistakes of other kinds, or of another writer, will be caught somewhat less often.
- Mistakes that only show after the second epoch (a history indexed too far, a phase that begins later) pass the smoke run and end in the training.
- Forgetting `model.eval()` cannot spoil a score: the script's own prediction calls it. It only disturbs the choice of the best epoch.
"""


def lost(mistake: Mistake, seen: Seen, good: Seen) -> str:
    place = f"{mistake.component}, {mistake.base}"
    if seen.accuracy is None or good.accuracy is None:
        return f"| {mistake.kind} | {mistake.name} | {place} | {good.accuracy} | {seen.fault} | stopped |"
    verdict = "loses" if seen.accuracy < good.accuracy else "equal" if seen.accuracy == good.accuracy else "**wins**"
    return f"| {mistake.kind} | {mistake.name} | {place} | {good.accuracy:.3f} | {seen.accuracy:.3f} | {verdict} |"


if __name__ == "__main__":
    main(sys.argv[1:])
