"""What changes really do: the effect on the test images of every candidate of finished runs, and what follows for the prior.

    python -m benchmarks.acceptance.effects RUN [RUN ...]

The runs are those of $IMPROVE_HOME, however they were made (playbook or language model). Each candidate that was compared is compared
once more with the pipeline that it changed, on the sealed images: paired, over all trainings of the two. The rows are added
to EFFECTS.csv beside this file (a run that is there already is replaced); EFFECTS.md has the table by kind of change, with
a fit of Student's t with 4 degrees of freedom to the effects behind the noise, as shares of the error.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm, rankdata, spearmanr
from scipy.stats import t as student

from checkpoints.store import Store, open_store
from dataset.prepare import load_labels
from nodes.context import job_dir, trained_attempt
from sandbox import artifacts
from sandbox.acceptance import compare, prior_from
from sandbox.gains import headroom
from schema.dataset import DatasetProfile, Split

ROWS, TABLE = (Path(__file__).with_name(name) for name in ("EFFECTS.csv", "EFFECTS.md"))
TAIL = 4.0
ENOUGH = 8  # candidates of a kind for a fit of its own
# By words in the name of a change.
KINDS = {
    "test-time views": ("views",),
    "resolution": ("resolution", "resize", "pixels"),
    "backbone": ("backbone", "pretrained", "padding"),
    "capacity": ("wider", "narrower", "deeper", "shallower", "squeeze", "pooling", "layers", "width", "depth"),
    "regularisation": ("dropout", "decay", "smoothing", "mixup", "cutmix", "cutout", "mixing", "averag", "ema"),
    "augmentation": ("flip", "turn", "translation", "rotation", "warp", "crop", "jitter", "zoom", "augment"),
    "schedule": ("longer", "shorter", "rate", "warm", "cosine", "linear", "batch", "optim", "adam", "sgd", "epoch"),
    "use of the data": ("everything", "balanced", "weighted", "best-weights", "classes"),
}


class Effect(NamedTuple):
    """One candidate. `share` is the part of the error of the pipeline before that it removed on the test images."""

    run: str
    data: str
    train: int
    test: int
    team: str
    component: str
    kind: str
    change: str
    verdict: str
    before: float
    difference: float
    error: float
    share: float
    share_error: float
    validation: float  # the measured difference that decided
    validation_error: float
    loss: float  # how much lower the log loss is on the validation images, in nats
    loss_error: float


def kind_of(change: str) -> str:
    name = change.lower().split(" (")[0]
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")


def effects_of(run: str, store: Store) -> list[Effect]:
    """Return the effects of a run's candidates that were compared and have predictions of the test images."""
    row, found = store.run(run), []
    if row.profile is None:
        return []
    labels, deciding = (load_labels(row.profile, split) for split in ("test", "validation"))
    metric = row.settings.metric
    for one in store.ledger(run):
        if one.base is None or one.delta is None or one.standard_error is None:
            continue
        sides, seen = (
            [_probabilities(run, iteration, store, row.profile, split) for iteration in (one.base, one.iteration)]
            for split in ("test", "validation")
        )
        if not all([*sides, *seen]):
            continue
        loss = compare("log_loss", deciding, seen[0], seen[1], prior_from([], "log_loss"))
        compared = compare(metric, labels, sides[0], sides[1], prior_from([], metric))
        before = compared.incumbent or 0.0
        left = float(headroom(metric, np.array([before]), np.array([1 / len(labels)]))[0])
        found.append(
            Effect(
                run=run,
                data=row.profile.name,
                train=row.profile.size("train"),
                test=len(labels),
                team=row.settings.model,
                component=one.component,
                kind=kind_of(one.move),
                change=one.move,
                verdict=one.verdict,
                before=before,
                difference=compared.delta,
                error=compared.standard_error,
                share=compared.delta / left,
                share_error=compared.standard_error / left,
                validation=one.delta,
                validation_error=one.standard_error,
                loss=loss.delta,
                loss_error=loss.standard_error,
            )
        )
    return found


def _probabilities(
    run: str, iteration: int, store: Store, profile: DatasetProfile, split: Split
) -> list[NDArray[np.float64]]:
    attempt = trained_attempt(run, iteration, store)
    seeds = [job.seed for job in store.jobs(run, iteration) if job.attempt == attempt and job.result.ok]
    read = [
        artifacts.probabilities(job_dir(run, iteration, attempt, seed), split, profile.size(split), profile.num_classes)
        for seed in sorted(seeds)
    ]
    return [rows for rows in read if isinstance(rows, np.ndarray)]


class Fit(NamedTuple):
    """Student's t with TAIL degrees of freedom."""

    mean: float
    scale: float
    likelihood: float  # natural logarithm


def fitted(effects: list[Effect]) -> Fit:
    """Return the Student's t that makes effects with this noise the most likely, by a grid."""
    shares, errors = (np.array([getattr(e, name) for e in effects]) for name in ("share", "share_error"))
    means, scales = np.linspace(-0.2, 0.2, 41), np.geomspace(0.003, 0.5, 40)
    nodes = np.linspace(-6, 6, 97)
    weights = norm.pdf(nodes) * (nodes[1] - nodes[0])
    truth = shares[:, None] - errors[:, None] * nodes  # [effects, nodes]
    best = Fit(0.0, 0.0, -np.inf)
    for mean in means:
        for scale in scales:
            density = (student.pdf((truth - mean) / scale, TAIL) / scale) @ weights
            likelihood = float(np.log(density + 1e-300).sum())
            if likelihood > best.likelihood:
                best = Fit(float(mean), float(scale), likelihood)
    return best


def by_kind(effects: list[Effect]) -> str:
    """Say whether kinds of change differ by more than chance (likelihood ratio, against one fit for all)."""
    own = [[e for e in effects if e.kind == kind] for kind in sorted({e.kind for e in effects})]
    large = [group for group in own if len(group) >= ENOUGH]
    together = [effect for group in large for effect in group]
    if len(large) < 2:
        return ""
    ratio = 2 * (sum(fitted(group).likelihood for group in large) - fitted(together).likelihood)
    more = 2 * (len(large) - 1)
    p_value = float(chi2.sf(ratio, more))
    return (
        f"Kinds told apart? A fit for each of the {len(large)} kinds with {ENOUGH} candidates or more, instead of one for all of them: "
        f"likelihood ratio {ratio:.1f} with {more} more parameters, p = {p_value:.2f}."
    )


def loss_tells_more(effects: list[Effect]) -> str:
    """Say what the difference in log loss on the images that decide adds to that in the metric: does it foretell the test images?"""
    test, score, loss = (
        rankdata([getattr(e, value) / max(getattr(e, error), 1e-9) for e in effects])
        for value, error in (("share", "share_error"), ("validation", "validation_error"), ("loss", "loss_error"))
    )
    rest = [ranks - np.polyval(np.polyfit(score, ranks, 1), score) for ranks in (test, loss)]
    partial = float(np.corrcoef(*rest)[0, 1])
    error = 1 / np.sqrt(len(effects) - 3)
    return (
        f"Log loss as a tie-break? Rank correlation with the effect on the test images: {spearmanr(test, score).statistic:.2f} for the score on the images "
        f"that decide, {spearmanr(test, loss).statistic:.2f} for the log loss on them; what the loss adds to the score: {partial:+.2f} ± {error:.2f}."
    )


def table(effects: list[Effect]) -> str:
    lines = [
        "# What changes really do",
        "",
        f"Command: `python -m benchmarks.acceptance.effects RUN ...`; {len(effects)} candidates of {len({e.run for e in effects})} runs on "
        f"{len({e.data for e in effects})} data sets (EFFECTS.csv). Effects are shares of the error that the pipeline before had on the test images: 0.1 removes a tenth of it.",
        "",
        "| kind | candidates | kept | median share | middle half | largest, smallest | fitted mean | fitted scale |",
        "|---|---:|---:|---:|---|---|---:|---:|",
    ]
    kinds = ["all", *sorted({effect.kind for effect in effects})]
    for kind in kinds:
        own = [effect for effect in effects if kind in {"all", effect.kind}]
        shares = np.array([effect.share for effect in own])
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75])
        fit = fitted(own) if len(own) >= ENOUGH else None
        told = f"{fit.mean:+.3f} | {fit.scale:.3f}" if fit else "| "
        kept = sum(effect.verdict == "accepted" for effect in own)
        lines.append(
            f"| {kind} | {len(own)} | {kept} | {middle:+.3f} | {low:+.3f} to {high:+.3f} | {shares.max():+.3f}, {shares.min():+.3f} | {told} |"
        )
    lines += ["", sentence] if (sentence := by_kind(effects)) else []
    if len(effects) >= ENOUGH:
        lines += ["", loss_tells_more(effects)]
    kept_rows = [effect for effect in effects if effect.verdict == "accepted"]
    if kept_rows:
        better = np.mean([effect.difference > 0 for effect in kept_rows])
        lines += [
            "",
            f"Of {len(kept_rows)} changes that were kept, {100 * better:.0f} % scored higher on the test images, too.",
        ]
    return "\n".join(lines) + "\n"


def known() -> list[Effect]:
    if not ROWS.exists():
        return []
    with ROWS.open(encoding="utf-8", newline="") as file:
        return [_typed(row) for row in csv.DictReader(file)]


def _typed(row: dict[str, str]) -> Effect:
    kinds = Effect.__annotations__
    return Effect(**{name: kinds[name](value) for name, value in row.items()})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance.effects", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("runs", nargs="+")
    chosen = parser.parse_args(arguments)
    store = open_store()
    effects = [effect for effect in known() if effect.run not in chosen.runs]
    for run in chosen.runs:
        effects += effects_of(run, store)
    with ROWS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Effect._fields)
        writer.writerows([tuple(f"{v:.6g}" if isinstance(v, float) else v for v in effect) for effect in effects])
    TABLE.write_text(table(effects), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
