"""A run in numbers: the JSON that scripts read, and the summary that people read. From the experiment store alone."""

from dataclasses import asdict
from typing import Any

from rich.table import Table

from checkpoints.home import bytes_on_disk, run_dir
from checkpoints.lock import is_driven
from checkpoints.store import Store
from improve.api import load
from nodes.score_notes import (
    NORMAL_95,
    accuracy_misleads,
    baseline,
    claim,
    class_recalls,
    confusion_text,
    recall_text,
    score_notes,
    shown_score,
    verdict_text,
    what_happened,
)
from schema.dataset import Split
from schema.run import Final, RunRow
from schema.settings import higher_is_better
from schema.text import one_line


def status_of(row: RunRow) -> str:
    """A run that says running, and that no process drives, was killed: it is stopped, and can be resumed."""
    return "stopped" if row.status == "running" and not is_driven(row.name) else row.status


def readable_bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size = size / 1000
    return f"{size:.1f} GB"


def listed_runs(store: Store) -> list[dict[str, Any]]:
    """What `improve runs` says of each."""
    return [
        {
            "run": row.name,
            "status": status_of(row),
            "created": row.created,
            "dataset": row.settings.dataset,
            "metric": row.settings.metric,
            "test": row.best.test.value if row.best and row.best.test else None,
            "bytes": bytes_on_disk(run_dir(row.name)),
        }
        for row in store.runs()
    ]


def as_json(name: str, store: Store) -> dict[str, Any]:
    row, ledger, totals, result = store.run(name), store.ledger(name), store.totals(name), load(name)
    fields = (
        "iteration",
        "component",
        "move",
        "verdict",
        "validation",
        "against",
        "delta",
        "expected",
        "low",
        "high",
        "attempts",
        "epochs",
        "planned",
        "cut",
        "seconds",
        "summary",
    )
    return {
        "run": name,
        "thread": row.thread or name,
        "status": status_of(row),
        "reason": row.reason,
        "sandbox": row.sandbox,
        "metric": row.settings.metric,
        "higher_is_better": higher_is_better(row.settings.metric),
        "first": _final(row.first, row),
        "best": _final(row.best, row),
        "outcome": what_happened(row, ledger),
        "improvement": _improvement(row),
        "notes": score_notes(row),
        "race": row.race.model_dump(mode="json") if row.race else None,
        "iterations": [r.model_dump(mode="json", include=set(fields)) for r in ledger],
        "totals": totals.model_dump(mode="json"),
        "dataset": _dataset(row),
        "environment": row.environment.model_dump(mode="json") if row.environment else None,
        "paths": {
            "run": str(run_dir(name)),
            "script": str(result.script) if result.script.exists() else None,
            "weights": str(result.weights) if result.weights.exists() else None,
            "report": str(result.report) if result.report.exists() else None,
        },
    }


def _final(final: Final | None, row: RunRow) -> dict[str, Any] | None:
    if final is None:
        return None
    test = final.test
    facts = {
        "iteration": final.iteration,
        "validation": final.validation.value,
        "test": test.value if test else None,
        "n": test.n if test else final.validation.n,
        "weights": final.weights,
    }
    if row.profile is None:
        return facts
    split: Split = "test" if test else row.settings.select_on
    score = test or final.validation
    return facts | {
        "split": split,
        "largest_class_alone": baseline(split, row.profile),
        "per_class": [asdict(one) for one in class_recalls(score, split, row.profile)],
        "confusions": [one.model_dump() for one in score.confusions],
    }


def _improvement(row: RunRow) -> dict[str, Any] | None:
    """The winner's paired difference to the first pipeline on the sealed images; None if they are the same."""
    found = row.best.over_first if row.best else None
    if found is None:
        return None
    margin = NORMAL_95 * found.standard_error
    facts = found.model_dump(
        mode="json", include={"n", "delta", "standard_error", "p_value", "seeds", "incumbent_seeds"}
    )
    return facts | {"low": found.delta - margin, "high": found.delta + margin, "text": claim(row)}


def class_lines(row: RunRow) -> list[str]:
    """How well each class is recognised, and what is taken for what; nothing before there is a winner."""
    shown = shown_score(row)
    if shown is None or row.profile is None:
        return []
    score, split = shown
    mistakes = [f"mistakes ({split}): {confusion_text(score, most=5)}"] if score.confusions else []
    return [f"recall per class ({split}): {recall_text(class_recalls(score, split, row.profile), most=12)}", *mistakes]


def _dataset(row: RunRow) -> dict[str, Any] | None:
    profile = row.profile
    if profile is None:
        return None
    return {
        "name": profile.name,
        "layout": profile.layout,
        "classes": profile.classes,
        "counts": {split: sum(counts) for split, counts in profile.counts.items()},
        "set_aside": profile.set_aside_total,
        "set_aside_files": [aside.model_dump() for aside in profile.set_aside],
        "duplicates": profile.duplicates.model_dump(),
        "imbalance": profile.imbalance,
        "warnings": profile.warnings,
    }


def final_line(row: RunRow) -> str:
    """Say what the model to take home scores: the last line of `run`, `resume` and `demo`.

    The lines before it name a pipeline's mean over its trainings, so that this one says which of the two it means.
    """
    if row.best is None or row.best.test is None:
        return f"no result · run {row.name}"
    metric, test = row.settings.metric, row.best.test
    lower = "" if higher_is_better(metric) else " (lower is better)"
    guess = ""
    if row.profile and accuracy_misleads(row):
        guess = f", the largest class alone {baseline('test', row.profile):.4f}"
    validation, mean = f"{row.best.validation.value:.4f}", f"{row.best.shown or 0.0:.4f}"
    if row.best.shown is not None and mean != validation:
        validation += f" (mean of its pipeline's trainings {mean})"
    return f"test {metric}{lower} {test.value:.4f} (n={test.n}{guess}) · validation {validation} · run {row.name}"


# The columns of the table of changes, the ones that a narrow screen can do without last.
WIDE = 130  # columns of a screen that holds all of them


def ledger_table(name: str, store: Store, width: int = WIDE) -> Table:
    """The changes of a run, for a screen of so many columns: a narrow one gets fewer, so that no word is broken."""
    table = Table(title=None, box=None, pad_edge=False)
    left = {"component", "change", "verdict"}
    every = (
        "#",
        "component",
        "change",
        "verdict",
        "validation",
        "best before",
        "difference",
        "expected gain [95 %]",
        "tries",
        "s",
    )
    shown = every if width >= WIDE else ("#", "component", "change", "verdict", "validation", "best before")
    for column in shown:
        table.add_column(
            column, overflow="fold", justify="left" if column in left else "right", no_wrap=column != "change"
        )
    for row in store.ledger(name):
        interval = "" if row.expected is None else f"{row.expected:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
        cells = {
            "#": str(row.iteration),
            "component": row.component,
            "change": one_line(row.move, 200),
            "verdict": verdict_text(row),
            "validation": "" if row.validation is None else f"{row.validation:.4f}",
            "best before": "" if row.against is None else f"{row.against:.4f}",
            "difference": "" if row.delta is None else f"{row.delta:+.4f}",
            "expected gain [95 %]": interval,
            "tries": str(row.attempts),
            "s": f"{row.seconds:.0f}",
        }
        table.add_row(*(cells[column] for column in shown))
    return table
