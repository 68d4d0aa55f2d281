"""What the language models of a run took, by role, and the quantities of the paper's cost model (Xue et al., arXiv 2502.18530, section 3.1) measured on it.

Where the paper slips, we say so. f(T) is not increasing from the start: f(T+1) - f(T) = beta - alpha gamma^(T+1), which is negative at first for the
paper's own example (0.3, 0.1, 0.5), so that T* is 3 there (a whole number, by its definition) and not about 2.5. The number of steps that a budget buys
is the inverse of a step's cost: N_global / N_local = (c0 + x) / (c0 + p x), as Lemma 3.2 itself uses it, and not the other way round. And g(k), which the
paper calls cumulative, is the cost of the start and of the k-th iteration.
"""

import math
from collections import defaultdict

from pydantic import Field

from nodes.score_notes import gain_shares
from schema.pipeline import COMPONENTS
from schema.record import Record
from schema.run import CallRow, RunRow
from schema.team import LedgerRow

MODULES = len(COMPONENTS)  # p of the paper
PAPER = {"alpha": 0.3, "beta": 0.1, "gamma": 0.5}  # its example
MOST_STEPS = 10_000


class RoleCost(Record):
    """What one role of one model took."""

    role: str
    model: str
    calls: int
    unusable: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    tokens_reasoning: int
    seconds: float
    cost: float | None


class CostModel(Record):
    """Tokens; gains in units of the metric per iteration."""

    run: str
    strategy: str
    iterations: int = Field(description="After the first pipeline")
    roles: list[RoleCost]
    tokens: int
    cost: float | None
    c0: int = Field(description="Tokens of the start: greeting, design, first pipeline and its repairs")
    c1: float | None = Field(
        description="Tokens of updating one module in the first iteration after it, by least squares"
    )
    c2: float | None = Field(description="By which a module's update grows from iteration to iteration")
    x: float | None = Field(description="c1 + c2 (k - 1) at the last iteration k")
    steps_ratio: float | None = Field(
        description="(c0 + x) / (c0 + p x): global steps for each local one at equal cost"
    )
    beta: float | None = Field(
        description="Mean gain per iteration: what was gained on the sealed images in all, by their number"
    )
    alpha: float | None = Field(description="Of alpha gamma^t, fitted to the run's own gains")
    gamma: float | None
    gap: list[float] = Field(description="f(1), f(2), ... up to the last iteration")
    crossover: int | None = Field(description="T*, the first T with f(T) >= 0; None where there is none")


def cost_model(run: RunRow, ledger: list[LedgerRow], calls: list[CallRow]) -> CostModel:
    tried = [row for row in ledger if row.iteration > 0]
    per_iteration: defaultdict[int, int] = defaultdict(int)
    for call in calls:
        per_iteration[call.iteration] += call.usage.tokens_in + call.usage.tokens_out
    c0 = per_iteration[0]
    updated = MODULES if run.settings.strategy == "global" else 1
    steps = [(row.iteration, per_iteration[row.iteration] / updated) for row in tried if per_iteration[row.iteration]]
    c1, c2 = _line(steps)
    x = None if c1 is None or c2 is None else c1 + c2 * (steps[-1][0] - 1)
    gains = _gains(run, tried)
    beta = sum(gains) / len(gains) if gains else None
    alpha, gamma = decay(gains)
    known = beta is not None and alpha is not None and gamma is not None
    prices = [call.usage.cost for call in calls]
    return CostModel(
        run=run.name,
        strategy=run.settings.strategy,
        iterations=len(tried),
        roles=_roles(calls),
        tokens=sum(per_iteration.values()),
        cost=None if None in prices else sum(price for price in prices if price is not None),
        c0=c0,
        c1=c1,
        c2=c2,
        x=x,
        steps_ratio=None if x is None or c0 + MODULES * x <= 0 else (c0 + x) / (c0 + MODULES * x),
        beta=beta,
        alpha=alpha,
        gamma=gamma,
        gap=[f(t, alpha, beta, gamma) for t in range(1, len(tried) + 1)] if known else [],  # type: ignore[arg-type]
        crossover=crossover(alpha, beta, gamma) if known else None,  # type: ignore[arg-type]
    )


def _gains(run: RunRow, tried: list[LedgerRow]) -> list[float]:
    """Of each iteration, in units of the metric: its share of what the winner has really gained over the first pipeline."""
    found = run.best.over_first if run.best else None
    shares = gain_shares(tried, run.best.iteration) if run.best else {}
    total = max(0.0, found.delta) if found else 0.0
    return [total * shares.get(row.iteration, 0.0) for row in tried]


def f(steps: int, alpha: float, beta: float, gamma: float) -> float:
    """Theorem 3.1: the gain of `steps` local steps of beta each, less that of as many global ones of alpha gamma^t, 0 < gamma < 1."""
    return beta * steps - alpha * gamma * (1 - gamma**steps) / (1 - gamma)


def crossover(alpha: float, beta: float, gamma: float) -> int | None:
    """T*: the first T >= 1 with f(T) >= 0. None where beta is not positive, or it lies beyond 10,000 steps."""
    if beta <= 0:
        return None
    return next((steps for steps in range(1, MOST_STEPS) if f(steps, alpha, beta, gamma) >= 0), None)


def decay(gains: list[float]) -> tuple[float | None, float | None]:
    """alpha and gamma of alpha gamma^t, t = 1, 2, ..., with the least squared error; none without a gain. gamma by search, alpha in closed form."""
    if not any(gain > 0 for gain in gains):
        return None, None

    def fitted(gamma: float) -> tuple[float, float]:
        powers = [gamma**t for t in range(1, len(gains) + 1)]
        alpha = sum(g * p for g, p in zip(gains, powers, strict=True)) / sum(p * p for p in powers)
        return sum((g - alpha * p) ** 2 for g, p in zip(gains, powers, strict=True)), alpha

    gamma = min((number / 200 for number in range(1, 200)), key=lambda one: fitted(one)[0])
    return fitted(gamma)[1], gamma


def _line(points: list[tuple[int, float]]) -> tuple[float | None, float | None]:
    """c1 and c2 of y = c1 + c2 (k - 1) by least squares; c2 is 0 where there is one point."""
    if not points:
        return None, None
    mean_k = sum(k for k, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((k - mean_k) ** 2 for k, _ in points)
    slope = sum((k - mean_k) * (y - mean_y) for k, y in points) / spread if spread else 0.0
    return mean_y - slope * (mean_k - 1), slope


def _roles(calls: list[CallRow]) -> list[RoleCost]:
    groups: defaultdict[tuple[str, str], list[CallRow]] = defaultdict(list)
    for call in calls:
        groups[call.usage.role, call.usage.model].append(call)
    return [_role(role, model, rows) for (role, model), rows in groups.items()]


def _role(role: str, model: str, calls: list[CallRow]) -> RoleCost:
    usages = [call.usage for call in calls]
    prices = [usage.cost for usage in usages]
    return RoleCost(
        role=role,
        model=model,
        calls=len(usages),
        unusable=sum(bool(usage.problem) for usage in usages),
        tokens_in=sum(usage.tokens_in for usage in usages),
        tokens_cached=sum(usage.tokens_cached for usage in usages),
        tokens_out=sum(usage.tokens_out for usage in usages),
        tokens_reasoning=sum(usage.tokens_reasoning for usage in usages),
        seconds=round(math.fsum(usage.seconds for usage in usages), 1),
        cost=None if None in prices else sum(price for price in prices if price is not None),
    )


def costs_text(found: CostModel) -> str:
    """For a person."""
    if not found.roles:
        return f"run {found.run}: no language model was asked (the playbook costs nothing)."
    lines = [
        f"run {found.run} · strategy {found.strategy} · {found.iterations} iterations · {found.tokens:,} tokens{_dollars(found.cost)}",
        "",
    ]
    head = ("role", "model", "calls", "unusable", "in", "cached", "out", "reasoning", "s", "$")
    rows = [
        (r.role, r.model, r.calls, r.unusable, r.tokens_in, r.tokens_cached, r.tokens_out, r.tokens_reasoning, r.seconds, "?" if r.cost is None else f"{r.cost:.3f}")
        for r in found.roles
    ]  # fmt: skip
    lines += [*_columns([head, *rows]), "", *_theory(found)]
    return "\n".join(lines)


def _theory(found: CostModel) -> list[str]:
    lines = ["The paper's cost model (section 3.1), measured on this run, in tokens:"]
    if found.c1 is None or found.c2 is None or found.x is None or found.steps_ratio is None:
        return [*lines, f"  c0 {found.c0:,} (start). No iteration has been made yet: c1 and c2 are not known."]
    lines += [
        f"  c0 {found.c0:,} (start) · c1 {found.c1:,.0f} (updating one module) · c2 {found.c2:+,.1f} (growth per module and iteration; the history is bounded)",
        f"  Lemma 3.2: (c0 + x) / (c0 + {MODULES} x) = {found.steps_ratio:.3f} with x = {found.x:,.0f}: global steps for each local one at equal cost. (The paper's ratio N_global / N_local in the text is upside down.)",
    ]
    if found.beta is None or found.alpha is None or found.gamma is None:
        return [*lines, "  Theorem 3.1: no accepted gain, so that alpha, beta and gamma cannot be measured."]
    star = "none within 10,000 steps" if found.crossover is None else str(found.crossover)
    gap = ", ".join(f"f({number}) = {value:+.4f}" for number, value in list(enumerate(found.gap, start=1))[:12])
    example = crossover(**PAPER)
    return [
        *lines,
        f"  Theorem 3.1, from this run's own accepted, shrunken gains: beta {found.beta:.5f} (mean per iteration), alpha {found.alpha:.5f} and gamma {found.gamma:.3f} (fit of alpha gamma^t)",
        f"  {gap}{' ...' if len(found.gap) > 12 else ''}",
        f"  T* = {star}. (f falls at first where alpha gamma > beta; for the paper's own example T* is {example}, not about 2.5.)",
    ]


def _columns(rows: list[tuple[object, ...]]) -> list[str]:
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]


def _dollars(cost: float | None) -> str:
    return " · cost not known" if cost is None else f" · ${cost:.3f}"
