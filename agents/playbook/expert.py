"""The embedded team: no model, no key, no network. It is not a language model; it is the baseline that one has to beat.

It keeps no memory of its own: the pipeline's source and the ledger tell it where the run is.
"""

from dataclasses import dataclass

from agents.playbook.labels import symmetry
from agents.playbook.moves import MOVES, Move, View, view_of
from agents.playbook.recipe import Recipe, first_recipes, recipe_in
from agents.playbook.render import render
from schema.pipeline import COMPONENTS, Component, Pipeline
from schema.team import Brief, Design, Evidence, LedgerRow, Outcome, Proposal, RepairTask, Usage, WriteTask, Written

SHRINK = {"time", "memory", "OutOfMemoryError"}


@dataclass(frozen=True, slots=True)
class Playbook:
    """A fixed set of moves, chosen by evidence. Deterministic."""

    name: str = "playbook"

    def design(self, brief: Brief) -> Design:
        recipes = first_recipes(brief)
        pipeline = Pipeline.model_validate({c: render(c, recipes.of(c)) for c in COMPONENTS})
        return Design(text=_design_text(brief), pipeline=None if brief.init == "bottom-up" else pipeline)

    def write(self, task: WriteTask) -> Written:
        component, current = task.component, task.pipeline.get(task.component)
        if task.proposal is None:
            return Written(
                code=current or render(component, first_recipes(task.brief).of(component)), note="as designed"
            )
        recipe = (recipe_in(component, current) if current else None) or first_recipes(task.brief).of(component)
        changed, note = dict(recipe), []
        for line in task.proposal.instruction.split("\n"):
            change = _instruction(line, component)
            changed |= change
            note += [f"{key} = {value}" for key, value in change.items()]
        return Written(code=render(component, changed), note=", ".join(note) or "unchanged")

    def repair(self, task: RepairTask) -> Written:
        """Too slow or too large: shrink. Anything else: back to what a first pipeline would have."""
        component = task.write.component
        recipe = recipe_in(component, task.code)
        if recipe and task.fault.kind in SHRINK:
            return Written(
                code=render(component, _shrunk(component, recipe)), note=f"made smaller after a {task.fault.kind} fault"
            )
        first = first_recipes(task.write.brief).of(component)
        code = render(component, first)
        if code == task.code:
            code = render(component, _shrunk(component, first))
        return Written(code=code, note="back to the first recipe")

    def analyse(self, evidence: Evidence) -> Proposal:
        view = view_of(evidence)
        ranked = sorted(_admissible(view), key=lambda m: (-_value(m, view), m.name))
        if evidence.brief.strategy == "global":
            return _all_three(ranked, view)
        if ranked:
            return _proposal(ranked[0], view)
        return Proposal(
            action="stop", diagnosis=f"all {len(MOVES)} moves that this task admits were tried on this pipeline"
        )

    def summarise(self, outcome: Outcome) -> str:
        row = outcome.row
        if outcome.fault:
            return f"{row.move}: {outcome.fault.kind} in the {outcome.fault.component or 'pipeline'} after {row.attempts} attempts"
        change = f", {row.delta:+.4f} ({outcome.reason})" if row.delta is not None else ""
        return f"{row.move}: {row.verdict}{change}"

    def take_usage(self) -> list[Usage]:
        return []


def _design_text(brief: Brief) -> str:
    recipes, profile, safe = first_recipes(brief), brief.profile, symmetry(brief)
    start = (
        f"fine-tune {recipes.model['name']} from the weights on disk"
        if recipes.model.get("pretrained")
        else f"train a small residual network of width {recipes.model['width']} from scratch"
    )
    size = recipes.data["size"] or [profile.height, profile.width]
    mirror = "are used" if recipes.data["flip"] else "are not used"
    return (
        f"{profile.size('train')} training images of {len(profile.classes)} classes, seen at {size[1]} x {size[0]}: {start}. "
        f"Mirror images {mirror}: {'; '.join(safe.because)}. "
        f"{recipes.training['optimizer'].upper()} with a {recipes.training['schedule']} schedule over at most {recipes.training['epochs']} epochs."
    )


def _admissible(view: View) -> list[Move]:
    """Moves whose precondition holds, that change something, and that were not tried before in this context."""
    found = []
    for move in MOVES:
        if move.applies(view) and move.changed(view) != view.recipes.of(move.component):
            title = move.title(view)
            if not any(_settles(row, title, view) for row in view.evidence.ledger):
                found.append(move)
    return found


def _settles(row: LedgerRow, title: str, view: View) -> bool:
    """A change that was tried is not tried again; an inconclusive one may be, once the incumbent is another."""
    if title not in row.move.split(" + "):
        return False
    return row.verdict != "inconclusive" or row.base == view.evidence.best_iteration


def _value(move: Move, view: View) -> float:
    """What it usually brings, how loudly the evidence calls for it, and what its component's and its own changes have yielded in this run."""
    rows = [row for row in view.evidence.ledger if row.verdict != "first"]
    own = [row for row in rows if row.component == move.component]
    kept = sum(row.verdict == "accepted" for row in own)
    same = [row for row in rows if row.move.startswith(f"{move.name} (")]
    repeated = 0.5 ** sum(row.verdict != "accepted" for row in same)
    return move.prior * move.strength(view) * (1.5 + kept) / (2.5 + len(own)) * repeated


def _proposal(move: Move, view: View) -> Proposal:
    return Proposal(
        action="change",
        component=move.component,
        move=move.title(view),
        diagnosis=f"{_numbers(view)}. Sign looked for: {move.evidence}.",
        hypothesis=f"{move.name} is admissible here ({move.needs}) and usually helps when {move.evidence}.",
        instruction=_line(move, view),
        longer=move.longer,
    )


def _all_three(ranked: list[Move], view: View) -> Proposal:
    """The best move of each component at once."""
    best = [next((m for m in ranked if m.component == component), None) for component in COMPONENTS]
    chosen = [move for move in best if move]
    if not chosen:
        return Proposal(action="stop", diagnosis="no component has a move left")
    return Proposal(
        action="change",
        component="all",
        move=" + ".join(move.title(view) for move in chosen),
        diagnosis=_numbers(view),
        hypothesis="; ".join(f"{move.component}: {move.evidence}" for move in chosen),
        instruction="\n".join(_line(move, view) for move in chosen),
        longer=any(move.longer for move in chosen),
    )


def _line(move: Move, view: View) -> str:
    return f"{move.component}: {move.change(view)!r}"


def _instruction(line: str, component: Component) -> Recipe:
    name, _, literal = line.partition(": ")
    found = recipe_in("data", f"DATA = {literal}") if name == component else None
    return found or {}


def _numbers(view: View) -> str:
    return (
        f"Training accuracy {view.train_accuracy:.3f}, inner validation {view.inner_accuracy:.3f} (gap {view.gap:+.3f}, "
        f"last fifth {view.rising:+.3f}), {view.epochs} epochs in {view.evidence.training.seconds:.0f} s of {view.evidence.brief.train_seconds:.0f} s, "
        f"worst class recall {view.worst_recall:.2f}"
    )


def _shrunk(component: Component, recipe: Recipe) -> Recipe:
    if component == "model" and "width" in recipe:
        return {**recipe, "width": max(8, recipe["width"] // 2)}
    if component == "training":
        return {**recipe, "batch": max(8, recipe["batch"] // 2), "epochs": max(1, recipe["epochs"] // 2)}
    if component == "data" and recipe.get("size"):
        return {**recipe, "size": [max(8, side * 3 // 4) for side in recipe["size"]]}
    return recipe
