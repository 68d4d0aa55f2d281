"""What `report.md` says: plain Markdown from the store's numbers."""

from nodes.environment import described
from nodes.score_notes import (
    baseline,
    claim,
    class_recalls,
    difference_text,
    gain_shares,
    score_notes,
    shown_score,
    verdict_text,
    weights_text,
    what_happened,
)
from schema.dataset import DatasetProfile
from schema.run import Environment, Final, RunRow, Totals
from schema.score import Score
from schema.settings import higher_is_better
from schema.team import LedgerRow
from schema.text import markdown_text, one_line

MOST_CLASSES = 50  # rows of the table of classes, the most missed first
NAME, SENTENCE = 60, 1000  # most characters of a name, and of a text


def report_text(run: RunRow, ledger: list[LedgerRow], totals: Totals) -> str:
    parts = [
        f"# {markdown_text(run.name, NAME)}",
        _headline(run, ledger),
        *([_dataset(run.profile)] if run.profile else []),
    ]
    parts += [part for part in [_classes(run), _race(run)] if part]
    parts += [_ledger(ledger), _gains(run, ledger), _costs(run, totals)]
    parts += [_environment(run.environment)] if run.environment else []
    return "\n\n".join(parts) + "\n"


def _headline(run: RunRow, ledger: list[LedgerRow]) -> str:
    if run.first is None or run.best is None:
        return f"No pipeline ran to its end.\n\n    {one_line(run.reason, SENTENCE)}"  # as code: to be read as it is
    told = [markdown_text(text, SENTENCE) for text in (what_happened(run, ledger), claim(run)) if text]
    lines = [
        "\n\n".join(told),
        "",
        f"Metric: {run.settings.metric}{'' if higher_is_better(run.settings.metric) else ' (lower is better)'}. "
        f"Written by: {markdown_text(run.settings.model, NAME)}. Sandbox: {run.sandbox}. "
        f"Ended because {markdown_text(run.reason, SENTENCE)}.",
        "",
        f"| pipeline, its first training | {_heads(run)} |",
        "|---|---|---|",
        _final_row("first", run.first),
        _final_row("winner", run.best),
    ]
    if run.best.weights:
        lines += ["", f"Fine-tuned from pretrained weights: {markdown_text(weights_text(run.best), SENTENCE)}."]
    if run.settings.select_on == "test":
        lines += [
            "",
            "**The test split decided which changes were kept (`--select-on test`), so both scores are optimistic.**",
        ]
    lines += [line for note in score_notes(run) for line in ("", f"**{markdown_text(note, 2000)}**")]
    return "\n".join(lines)


def _heads(run: RunRow) -> str:
    if run.settings.select_on == "test":
        return "test (decides) | test"
    scored = run.best.validation if run.best else None
    folded = scored and run.profile and scored.n > run.profile.size("validation")
    return f"validation (decides{'; its trainings in all folds' if folded else ''}) | test (sealed until the end)"


def _final_row(name: str, final: Final) -> str:
    return f"| {name} (iteration {final.iteration}) | {_interval(final.validation)} | {_interval(final.test)} |"


def _interval(score: Score | None) -> str:
    return "not available" if score is None else f"{score.value:.4f} [{score.low:.4f}, {score.high:.4f}] n={score.n}"


def _dataset(profile: DatasetProfile) -> str:
    sizes = ", ".join(f"{split} {profile.size(split)}" for split in ("train", "validation", "test"))
    lines = [
        "## Data",
        f"{markdown_text(profile.name, NAME)}: {len(profile.classes)} classes, {sizes}; stored at {profile.width}x{profile.height}, "
        f"{'grey' if profile.channels == 1 else 'colour'}; largest class {profile.imbalance:.1f} times the smallest.",
        f"Duplicates: {profile.duplicates.exact} exact, {profile.duplicates.near} near, "
        f"{profile.duplicates.across_splits} across the given splits, {profile.duplicates.contradicting} with contradicting labels. "
        f"Set aside: {profile.set_aside_total}.",
    ]
    lines += [
        f"- {markdown_text(aside.file, 200)}: {markdown_text(aside.reason, 200)}" for aside in profile.set_aside[:10]
    ]
    return "\n\n".join(lines[:3]) + ("\n" + "\n".join(lines[3:]) if lines[3:] else "")


def _classes(run: RunRow) -> str:
    """The classes with their recall, and the most frequent mistakes, of the split that the headline ends with."""
    shown, profile = shown_score(run), run.profile
    if shown is None or profile is None:
        return ""
    score, split = shown
    recalls = class_recalls(score, split, profile)
    lines = [
        f"## Classes ({split})",
        "",
        f"Recall: of the images of a class, the share that was recognised. Naming the largest class every time would give an accuracy of {baseline(split, profile):.4f}.",
        "",
        "| class | images | recall |",
        "|---|---|---|",
        *(f"| {markdown_text(one.name, NAME)} | {one.n} | {one.recall:.4f} |" for one in recalls[:MOST_CLASSES]),
    ]
    if len(recalls) > MOST_CLASSES:
        lines += [
            "",
            f"And {len(recalls) - MOST_CLASSES:,} more classes, with higher recall: `improve show {run.name} --json`.",
        ]
    if score.confusions:
        lines += ["", "| true class | taken for | images |", "|---|---|---|"]
        lines += [
            f"| {markdown_text(c.truth, NAME)} | {markdown_text(c.predicted, NAME)} | {c.count} |"
            for c in score.confusions
        ]
    return "\n".join(lines)


def _race(run: RunRow) -> str:
    """What was compared before the first pipeline; nothing if there was nothing to compare."""
    if run.race is None:
        return ""
    lines = [
        "## Where it began",
        "",
        "Accuracy of a linear head on what each pretrained network sees without having learned anything of these images, on training images that "
        "the head was not solved on; of a network from scratch that of a short training, on inner validation images.",
        "",
        "| network | images of | accuracy | training images | images a second |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {markdown_text(one.name, NAME)}{' (same padding)' if one.pad_type else ''} | {one.width} x {one.height} | {one.accuracy:.4f} | {one.images} | {one.images_per_second:.0f} |"
        for one in run.race.entries
    ]
    lines += ["", *(f"- {markdown_text(note, 300)}" for note in run.race.notes)] if run.race.notes else []
    return "\n".join([*lines, "", f"It took {run.race.seconds:.0f} seconds."])


def _ledger(ledger: list[LedgerRow]) -> str:
    lines = [
        "## What was tried",
        "",
        "Validation: mean over the trainings of a pipeline; against: the incumbent's in the same comparison. Expected: what the change was thought to bring when it was decided on; these figures cannot be added up.",
        "",
        "| # | component | change | verdict | validation | against | difference | expected true gain [95 %] | attempts | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.iteration} | {row.component} | {markdown_text(row.move, 200)} | {verdict_text(row)} | {_number(row.validation)} | {_number(row.against)} | {_signed(row.delta)} "
        f"| {_expected(row)} | {row.attempts} | {row.seconds / 60:.1f} |"
        for row in ledger
    ]
    return "\n".join(lines)


def _gains(run: RunRow, ledger: list[LedgerRow]) -> str:
    """Who had which part in the difference between winner and first pipeline: that was measured once, and is not a sum of steps."""
    found = run.best.over_first if run.best else None
    shares = gain_shares(ledger, run.best.iteration) if run.best and found and found.delta > 0 else {}
    lines = ["## Gains by component", "", "| component | tried | kept | share of the gain |", "|---|---|---|---|"]
    for component in sorted({row.component for row in ledger if row.verdict != "first"}):
        rows = [row for row in ledger if row.component == component and row.verdict not in {"first", "cut", "skipped"}]
        share = sum(shares.get(row.iteration, 0.0) for row in rows)
        part = f"{100 * share:.0f} % ({difference_text(found.metric, share * found.delta)})" if found and share else ""
        lines.append(f"| {component} | {len(rows)} | {sum(row.verdict == 'accepted' for row in rows)} | {part} |")
    if found and found.delta <= 0:
        lines += ["", "The sealed images show no gain that could be shared out."]
    elif found and shares:
        lines += [
            "",
            f"The gain is the winner's difference to the first pipeline on the sealed images: {difference_text(found.metric, found.delta)} (see the top for how sure that is).",
        ]
    return "\n".join(lines)


def _costs(run: RunRow, totals: Totals) -> str:
    return (
        f"## Cost\n\n{totals.seconds / 60:.1f} minutes, of which {totals.training_seconds / 60:.1f} in training; "
        f"{totals.jobs} {'job' if totals.jobs == 1 else 'jobs'}; {totals.tokens:,} tokens{_money(totals)}. Seed {run.settings.seed}."
    )


def _environment(environment: Environment) -> str:
    lines = [f"- {markdown_text(line, SENTENCE)}" for line in described(environment)[:2]]
    for change in environment.changes:
        lines += [
            "",
            f"**Iteration {change.iteration} and what follows ran after this had changed (`--force`):**",
            "",
        ]
        lines += [f"- {markdown_text(line, SENTENCE)}" for line in change.lines]
    return "\n".join(["## Environment", "", *lines])


def _money(totals: Totals) -> str:
    if not totals.tokens:
        return ""
    return ", at prices that are not known" if totals.cost is None else f" for ${totals.cost:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


def _expected(row: LedgerRow) -> str:
    if row.expected is None or row.low is None or row.high is None:
        return ""
    return f"{row.expected:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
