"""Which recipes a run has trained already, worked out from the ledger's titles and the incumbent: another way to the same recipe is not a new idea."""

import ast
import re
from typing import Any

from agents.playbook.recipe import Recipe, Recipes
from schema.team import LedgerRow

# `translate 4 -> 6`, `size None -> [96, 72]`, `optimizer sgd -> adamw`
VALUE = r"(\[.*?\]|[^ ,()]+)"
STEP = re.compile(rf"(\w+) {VALUE} -> {VALUE}")


def trained_recipes(ledger: list[LedgerRow], best: int, incumbent: Recipes) -> list[Recipe]:
    """Every candidate whose verdict is final, as one flat recipe; found backwards from the incumbent through what was accepted."""
    known = {best: flat(incumbent)}
    for row in reversed(ledger):
        if row.verdict == "accepted" and row.iteration in known and row.base is not None:
            known[row.base] = known[row.iteration] | {key: old for key, old, _ in steps(row.move)}
    settled = [row for row in ledger if row.base in known and row.verdict not in {"inconclusive", "cut"}]
    candidates = [
        known[row.base] | {key: new for key, _, new in steps(row.move)} for row in settled if row.base is not None
    ]
    return [*known.values(), *candidates]


def flat(recipes: Recipes) -> Recipe:
    """The three recipes in one: their keys are distinct."""
    return {**recipes.data, **recipes.model, **recipes.training}


def steps(titles: str) -> list[tuple[str, Any, Any]]:
    """Key, value before and value after of every change that the titles name."""
    return [(key, _value(old), _value(new)) for key, old, new in STEP.findall(titles)]


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text  # words stand in titles without quotes
