"""What a run may spend, and whether another iteration fits: none begins that the rest of a budget does not hold in full."""

from collections import defaultdict
from statistics import median

from checkpoints.store import Store
from schema.pipeline import Fault
from schema.settings import Settings
from schema.text import duration

ENOUGH = 0.9  # of what an iteration has lately taken: they differ
RECENT = 5  # iterations


def fault_of_budget(reason: str) -> Fault:
    """Nobody's mistake: the iteration under way is given up, and the run ends with what it has."""
    return Fault(stage="contract", kind="budget", cause="spent", message=reason)


def reason_to_stop(settings: Settings, store: Store, run: str, clock: float) -> str | None:
    """Say what is left of a budget if it is less than an iteration takes. `clock`: seconds that the run has taken so far."""
    return _short_of_time(settings, store, run, clock) or _short_of_money(settings, store, run)


def _short_of_time(settings: Settings, store: Store, run: str, clock: float) -> str | None:
    if settings.budget_seconds is None:
        return None
    left, need = settings.budget_seconds - clock, ENOUGH * iteration_seconds(store, run)
    if left <= 0:
        return f"the budget of {duration(settings.budget_seconds)} is spent"
    if left < need:
        return f"{duration(left)} of the budget are left, and an iteration takes about {duration(need / ENOUGH)}"
    return None


def iteration_seconds(store: Store, run: str) -> float:
    """Return how long an iteration with a training has lately taken; 0 if there was none."""
    trained = [row.seconds for row in store.ledger(run) if row.training_seconds > 0]
    return median(trained[-RECENT:]) if trained else 0.0


def _short_of_money(settings: Settings, store: Store, run: str) -> str | None:
    """Set if less is left than the cheapest of the run's iterations has taken."""
    spent, cheapest = store.spent(run), _cheapest(store, run)
    if settings.max_tokens is not None and (left := settings.max_tokens - spent.tokens) < max(1, cheapest[0]):
        return _text(f"{max(0, left):,} of the {settings.max_tokens:,} tokens are left", f"{cheapest[0]:,}")
    if settings.max_cost is not None and spent.cost is not None:
        left_cost = settings.max_cost - spent.cost
        if left_cost <= cheapest[1]:
            return _text(f"${max(0.0, left_cost):.2f} of ${settings.max_cost:.2f} is left", f"${cheapest[1]:.2f}")
    return None


def _text(left: str, cheapest: str) -> str:
    return f"{left}, and an iteration takes at least {cheapest}"


def _cheapest(store: Store, run: str) -> tuple[int, float]:
    """Tokens and dollars of the cheapest iteration that is over, the first pipeline left out; zeros where there is none."""
    tokens: defaultdict[int, int] = defaultdict(int)
    costs: defaultdict[int, float] = defaultdict(float)
    over = {row.iteration for row in store.ledger(run) if row.iteration > 0}
    for call in store.calls(run):
        if call.iteration in over:
            tokens[call.iteration] += call.usage.tokens_in + call.usage.tokens_out
            costs[call.iteration] += call.usage.cost or 0.0
    return min(tokens.values(), default=0), min(costs.values(), default=0.0)
