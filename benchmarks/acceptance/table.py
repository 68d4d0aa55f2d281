"""The tables of RESULTS.md."""

from collections.abc import Callable

import numpy as np

from benchmarks.acceptance.race import EARLY, SHIPPED, Setting
from benchmarks.acceptance.world import BASES, CHASED, LONG, LONG_SIZES, MIXES, SEED_SHARES, SIZES, TRAININGS, Floats

Outcomes = dict[str, dict[Setting, dict[str, Floats]]]

_INTRODUCTION = """# Which acceptance rule ends with the best classifier?

Command: `python -m benchmarks.acceptance --batches {batches}`. Seeds: {seeds}. {runs} simulated runs of each rule in each of {cells} cells: {mixes} mixes of changes ({mix_names}),
first accuracies {bases}, seed sd {shares} of the error, {sizes} validation images. Every rule may spend {trainings} trainings after the
first pipeline's, extra seeds included, and meets the same images, candidates and seeds. The world is `world.py`, the decisions are
those of `sandbox/gains.py` and `sandbox/acceptance.py`. Bold: the rules as `--accept` offers them.

**Gain** is the true accuracy of the model taken home (all images, its own seed) minus that of the first one, in points; **error removed** is the same as a share of the
first pipeline's error, so that cells of all accuracies count alike: the criterion. **Regret** is the error removed by the best rule of a cell minus by this one, in the worst cell.
The oracle is left out of both comparisons. Per run: changes **kept**, those of them that truly help **nothing** or harm, those that did not score
**higher**; **claims**, which are kept changes whose shrunken interval lies above 0, and the **false** ones among them. **Inside**: kept changes whose true gain lies in
its shrunken 95 % interval. **Steps**: what the expected gains of the kept changes add up to, in points, beside the true **gain**. **Back**: runs that took an earlier incumbent
home. **Optimism**: the winner's shown validation score minus its true one, and after subtracting its estimated luck, in points. **Seeds**: trainings spent on second seeds.

In `nothing` no change does anything. In `adaptive` three of ten candidates were made to mend mistakes on the very images that decide: they mend {chased:.0%} of them there, and nothing elsewhere.
**expected, the last incumbent** is the default as it was before this table: it never looks back."""

_READING = """## Reading

- Best in mean over the grid: **{best}** ({best_share:.2f} % of the error removed; `better` {better:.2f}, `paired` {paired:.2f}). Smallest worst-case regret of the offered
  rules: **{safest}**. The default of `--accept` is `{default}`.
- The gain over `better` comes from the incumbent's luck: a pipeline that won by chance shows too good a score, and blocks true gains after it. A fixed or learned prior
  without luck is too strict, and loses.
- One more seed of both pipelines brings `expected` {seeds:+.2f} in mean and {seeds_few:+.2f} with {fewest} images: it is bought only where the images are few, and each costs candidates not tried. Buying twice as eagerly: {eager:+.2f}.
- The mix `measured` has the effects of real changes (EFFECTS.md); the others are assumed, and show where a rule breaks. There `expected` removes {measured:.2f} % of the error, `better` {measured_better:.2f}, `paired` {measured_paired:.2f}.
- A prior half as wide (single changes scatter by 0.03, as was assumed before there was a table of real ones) brings {narrow:+.2f} in mean, {narrow_measured:+.2f} with the measured mix and {narrow_hostile:+.2f} where nearly all
  changes harm; one 1.7 times as wide {wide:+.2f}, {wide_measured:+.2f} and {wide_hostile:+.2f}.
- Folds, whose trainings are counted: {folds}. They pay with the fewest images in the longest runs (decision 0013).
- What the ledger teaches about the prior brings {learned:+.2f} in mean over the default prior, and changes the worst-case regret from {fixed_regret:.1f} to {regret:.1f}.
- Without its floor (a change that scored lower by more than half a standard error is never kept) `expected` would gain {floor:+.2f}: the floor is for the reader, whom a verdict must not astonish.
- Looking back at the end, and taking an earlier incumbent home where it is believed better, brings {back:+.2f} at {trainings} trainings. At {long} it decides: {late:.1f} % of the error are removed instead of
  {late_before:.1f} (`better` {late_better:.1f}), and where nearly all changes harm {hostile:+.1f} % instead of {hostile_before:+.1f}. Without it a long run walks downhill: each step is compared with the last incumbent alone.
- The expected gains of single steps cannot be added up: where no change does anything, they come to {steps:.1f} points after {long} trainings, and the truth is {gain:.1f}. Reports claim the paired
  difference on the sealed images instead.
- In `hostile` (19 of 20 candidates useless) only caution pays: there `paired` is the best of the three."""


def summary(outcomes: Outcomes) -> str:
    """The main table, as Markdown."""
    header = "| rule | error removed % | gain | steps | worst regret | kept | nothing | not higher | claims | false | inside % | back % | optimism | corrected | seeds |"
    lines = [header, "|---" + "|---:" * 14 + "|"]
    return "\n".join([*lines, *(_row(rule, outcomes) for rule in outcomes)])


def report(outcomes: Outcomes, long: Outcomes, batches: int, runs: int) -> str:
    cells = list(next(iter(outcomes.values())))
    introduction = _INTRODUCTION.format(
        batches=batches,
        seeds=f"0 to {batches - 1}, {runs} runs each",
        runs=batches * runs,
        cells=len(cells),
        mixes=len(MIXES),
        mix_names=", ".join(mix.name for mix in MIXES),
        bases=", ".join(f"{base:g}" for base in BASES),
        shares=" and ".join(f"{share:.1%}" for share in SEED_SHARES),
        sizes=" / ".join(f"{size:,}" for size in SIZES),
        trainings=TRAININGS,
        chased=CHASED,
    )
    parts = [
        introduction,
        summary(outcomes),
        "## Error removed (%), by validation images",
        _by(outcomes, lambda c: f"{c.n:,}"),
    ]
    parts += ["## Error removed (%), by mix of changes", _by(outcomes, lambda c: c.mix)]
    parts += ["## Error removed (%), by first accuracy and seed sd (% of the error)"]
    parts += [_by(outcomes, lambda c: f"{c.base:g}, {c.seed_share:.1%}")]
    parts += ["## Gain in points at a first accuracy of 0.9, by validation images", _points(outcomes)]
    parts += [f"## Error removed (%) after the first {EARLY} trainings", _early(outcomes)]
    parts += [
        f"## {LONG} trainings",
        "First accuracy 0.9, seed sd 2.5 % of the error.",
        summary(long),
        "Error removed (%), by validation images:",
        _by(long, lambda c: f"{c.n:,}"),
        "Error removed (%), by mix of changes:",
        _by(long, lambda c: c.mix),
        _reading(outcomes, long),
    ]
    return "\n\n".join(parts) + "\n"


def _row(rule: str, outcomes: Outcomes) -> str:
    mean = {
        name: _mean(outcomes[rule], name)
        for name in ("kept", "useless", "lower", "claims", "false", "trusty", "seeds", "back", "steps")
    }
    gain, shown, corrected = (100 * _mean(outcomes[rule], name) for name in ("gain", "shown", "corrected"))
    removed, error = _with_error(outcomes[rule])
    inside = 100 * mean["trusty"] / max(mean["kept"], 1e-9)
    cells = (
        f"{removed:.2f} ± {error:.2f}",
        f"{gain:.2f}",
        f"{100 * mean['steps']:.2f}",
        "-" if rule.startswith("oracle") else f"{_regret(rule, outcomes):.1f}",
        *(f"{mean[name]:.2f}" for name in ("kept", "useless", "lower")),
        *(f"{mean[name]:.3f}" for name in ("claims", "false")),
        f"{inside:.0f}",
        f"{100 * mean['back']:.0f}",
        f"{shown:+.2f}",
        f"{corrected:+.2f}",
        f"{mean['seeds']:.1f}",
    )
    return f"| {_title(rule)} | " + " | ".join(cells) + " |"


def _by(outcomes: Outcomes, group: Callable[[Setting], str]) -> str:
    groups = list(dict.fromkeys(group(cell) for cell in next(iter(outcomes.values()))))
    lines = ["| rule | " + " | ".join(groups) + " |", "|---" + "|---:" * len(groups) + "|"]
    for rule, cells in outcomes.items():
        parts = [{cell: found for cell, found in cells.items() if group(cell) == name} for name in groups]
        lines.append(f"| {_title(rule)} | " + " | ".join(f"{_removed(part):.2f}" for part in parts) + " |")
    return "\n".join(lines)


def _points(outcomes: Outcomes) -> str:
    lines = ["| rule | " + " | ".join(f"{n:,}" for n in SIZES) + " |", "|---" + "|---:" * len(SIZES) + "|"]
    for rule, cells in outcomes.items():
        row = []
        for n in SIZES:
            gains = np.mean(
                [found["gain"] for cell, found in cells.items() if cell.n == n and cell.base == 0.9], axis=0
            )
            row.append(f"{100 * gains.mean():.2f} ± {100 * gains.std() / np.sqrt(len(gains)):.2f}")
        lines.append(f"| {_title(rule)} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _early(outcomes: Outcomes) -> str:
    row = " | ".join(f"{_removed(outcomes[rule], 'early'):.2f}" for rule in SHIPPED)
    return "| " + " | ".join(SHIPPED) + " |\n" + "|---:" * len(SHIPPED) + "|\n| " + row + " |"


def _reading(outcomes: Outcomes, long: Outcomes) -> str:
    removed = {rule: _removed(cells) for rule, cells in outcomes.items()}
    late = {rule: _removed(cells) for rule, cells in long.items()}
    hostile = {rule: _removed({c: f for c, f in cells.items() if c.mix == "hostile"}) for rule, cells in long.items()}
    idle = {rule: {c: f for c, f in cells.items() if c.mix == "nothing"} for rule, cells in long.items()}
    best = max(SHIPPED, key=lambda rule: removed[rule])
    measured, harsh = (
        {rule: _removed({c: f for c, f in cells.items() if c.mix == mix}) for rule, cells in outcomes.items()}
        for mix in ("measured", "hostile")
    )
    narrow, wide = "expected, prior half as wide", "expected, prior 1.7 times as wide"
    return _READING.format(
        measured=measured["expected"],
        measured_better=measured["better"],
        measured_paired=measured["paired"],
        narrow=removed[narrow] - removed["expected"],
        narrow_measured=measured[narrow] - measured["expected"],
        narrow_hostile=harsh[narrow] - harsh["expected"],
        wide=removed[wide] - removed["expected"],
        wide_measured=measured[wide] - measured["expected"],
        wide_hostile=harsh[wide] - harsh["expected"],
        folds="; ".join(
            f"with {n} images {_by_size(outcomes, n)} in {TRAININGS} trainings, {_by_size(long, n)} in {LONG}"
            for n in LONG_SIZES[:2]
        ),
        best=best,
        best_share=removed[best],
        better=removed["better"],
        paired=removed["paired"],
        safest=min(SHIPPED, key=lambda rule: _regret(rule, outcomes)),
        default=best,
        trainings=TRAININGS,
        seeds=removed["expected"] - removed["expected, no seeds"],
        seeds_few=_of_size(outcomes, "expected", SIZES[0]) - _of_size(outcomes, "expected, no seeds", SIZES[0]),
        fewest=SIZES[0],
        eager=removed["expected, twice the seeds' range"] - removed["expected"],
        learned=removed["expected"] - removed["expected, fixed prior"],
        fixed_regret=_regret("expected, fixed prior", outcomes),
        regret=_regret("expected", outcomes),
        floor=removed["expected, any lower score"] - removed["expected"],
        back=removed["expected"] - removed["expected, the last incumbent"],
        late=late["expected"],
        late_before=late["expected, the last incumbent"],
        late_better=late["better"],
        hostile=hostile["expected"],
        hostile_before=hostile["expected, the last incumbent"],
        long=LONG,
        steps=100 * _mean(idle["expected"], "steps"),
        gain=100 * _mean(idle["expected"], "gain"),
    )


def _by_size(outcomes: Outcomes, n: int) -> str:
    """Error removed with one part, three and five folds."""
    rules = {"one part": "expected", "three": "expected, 3 folds", "five": "expected, 5 folds"}
    return ", ".join(f"{name} {_of_size(outcomes, rule, n):.1f} %" for name, rule in rules.items())


def _of_size(outcomes: Outcomes, rule: str, n: int) -> float:
    return _removed({cell: found for cell, found in outcomes[rule].items() if cell.n == n})


def _title(rule: str) -> str:
    return f"**{rule}**" if rule in SHIPPED else rule


def _mean(cells: dict[Setting, dict[str, Floats]], name: str) -> float:
    return float(np.mean([found[name].mean() for found in cells.values()]))


def _removed(cells: dict[Setting, dict[str, Floats]], name: str = "gain") -> float:
    return float(np.mean([100 * found[name].mean() / (1 - cell.base) for cell, found in cells.items()]))


def _with_error(cells: dict[Setting, dict[str, Floats]]) -> tuple[float, float]:
    """Mean over the grid and its standard error over runs: a run meets every cell with the same images."""
    runs = np.mean([100 * found["gain"] / (1 - cell.base) for cell, found in cells.items()], axis=0)
    return float(runs.mean()), float(runs.std(ddof=1) / np.sqrt(len(runs)))


def _regret(rule: str, outcomes: Outcomes) -> float:
    """In the worst cell, how much less of the error this rule removes than the best rule there."""

    def removed(name: str, cell: Setting) -> float:
        return float(100 * outcomes[name][cell]["gain"].mean() / (1 - cell.base))

    rivals = [name for name in outcomes if not name.startswith("oracle")]
    return max(max(removed(name, cell) for name in rivals) - removed(rule, cell) for cell in outcomes[rule])
