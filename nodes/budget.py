"""What a run may spend on language models, and whether another iteration fits: no call begins that the budget does not hold."""

from collections import defaultdict

from checkpoints.store import Store
from schema.pipeline import Fault
from schema.settings import Settings


def fault_of_budget(reason: str) -> Fault:
    """Nobody's mistake: the iteration under way is given up, and the run ends with what it has."""
    return Fault(stage="contract", kind="budget", cause="spent", message=reason)


def reason_to_stop(settings: Settings, store: Store, run: str) -> str | None:
    """Set where less is left than the cheapest of the run's iterations has taken."""
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
