"""The embedded team: no model, no key, no network. It is not a language model; it is the baseline that one has to beat.

It keeps no memory of its own: the pipeline's source and the ledger tell it where the run is.
"""

from dataclasses import dataclass

from agents.playbook.labels import symmetry
from agents.playbook.moves import MOVES, Move
from agents.playbook.recipe import Recipe, Recipes, first_recipes, naive_recipes, recipe_in
from agents.playbook.render import render
from agents.playbook.tried import flat, trained_recipes
from agents.playbook.view import View, view_of
from schema.pipeline import COMPONENTS, Component
from schema.team import LONGER, Brief, Design, Evidence, LedgerRow, Outcome, Proposal, RepairTask, WriteTask, Written

SHRINK = {"time", "memory"}


@dataclass(frozen=True, slots=True)
class Playbook:
    """A fixed set of moves, chosen by evidence. Deterministic."""

    def check(self) -> None:
        """There is nothing that could be wrong with it."""

    def design(self, brief: Brief) -> Design:
        zero_shot = brief.strategy == "zero-shot"
        recipes = naive_recipes(brief) if zero_shot else first_recipes(brief)
        in_turn = brief.init == "bottom-up" and not zero_shot
        text = "One plain pipeline, trained once." if zero_shot else _design_text(brief)
        components = {} if in_turn else {c: render(c, recipes.of(c)) for c in COMPONENTS}
        return Design(text=text, components=components)

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
        """Too slow or too large: shrink. Anything else: back to what a first pipeline would have, or plainer. Never the code that just failed."""
        component, brief = task.write.component, task.write.brief
        recipe = recipe_in(component, task.code)
        ladder = _ladder(component, brief)
        # Never up again: what stands above the rung that has just failed has failed before.
        rungs = [rung + 1 for rung, (candidate, _) in enumerate(ladder) if candidate == recipe]
        ladder = ladder[max([task.attempt - 1, *rungs]) :]
        if recipe and (task.fault.cause in SHRINK or task.fault.kind == "OutOfMemoryError"):
            ladder.insert(0, (_shrunk(component, recipe, brief), f"made smaller after a {task.fault.kind} fault"))
        fresh = [(render(component, candidate), note) for candidate, note in ladder]
        code, note = next((one for one in fresh if one[0] != task.code), (task.code, "there is nothing plainer to try"))
        return Written(code=code, note=note)

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


def _design_text(brief: Brief) -> str:
    recipes, profile, safe = first_recipes(brief), brief.profile, symmetry(brief)
    start = (
        f"fine-tune {recipes.model['name']}{_frozen(recipes)}, its head first"
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


def _frozen(recipes: Recipes) -> str:
    return (
        f" (the first {100 * recipes.model['freeze']:.0f} % of its layers stay as they are)"
        if recipes.model["freeze"]
        else ""
    )


def _holds_a_training(evidence: Evidence) -> bool:
    """What is to use the whole time of a training is not proposed where the budget does not hold it."""
    need = min(evidence.brief.train_seconds, LONGER * evidence.training.seconds)
    return evidence.seconds_left is None or evidence.seconds_left >= need


def _admissible(view: View) -> list[Move]:
    """Moves whose precondition holds, that change something, and that were not tried before in this context."""
    evidence = view.evidence
    trained = trained_recipes(evidence.ledger, evidence.best_iteration, view.recipes)
    return [
        move
        for move in MOVES
        if move.applies(view)
        and (not move.longer or _holds_a_training(evidence))
        and flat(view.recipes) | move.change(view) not in trained
        and not any(_settles(row, move.title(view), view) for row in evidence.ledger)
    ]


def _settles(row: LedgerRow, title: str, view: View) -> bool:
    """A change that was tried is not tried again; an inconclusive one may be, once the incumbent is another."""
    if title not in row.move.split(" + "):
        return False
    if row.verdict == "cut":
        return False
    return row.verdict != "inconclusive" or row.base == view.evidence.best_iteration


def _value(move: Move, view: View) -> float:
    """What it usually brings, how loudly the evidence calls for it, and what its component's and its own changes have yielded in this run."""
    rows = [row for row in view.evidence.ledger if row.verdict != "first"]
    own = [row for row in rows if row.component == move.component]
    kept = sum(row.verdict == "accepted" for row in own)
    same = [row for row in rows if row.move.startswith(f"{move.name} (")]
    repeated = 0.5 ** sum(row.verdict != "accepted" and not _promising(row) for row in same)
    return move.prior * move.strength(view) * (1.5 + kept) / (2.5 + len(own)) * repeated


def _promising(row: LedgerRow) -> bool:
    """It was better, but not surely: worth another look once the incumbent is another."""
    return row.verdict == "inconclusive" and (row.delta or 0.0) > 0


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
    judged = "held-out validation" if view.recipes.training["everything"] else "inner validation"
    return (
        f"Training accuracy {view.train_accuracy:.3f}, {judged} {view.inner_accuracy:.3f} (gap {view.gap:+.3f}, "
        f"last fifth {view.rising:+.3f}), {view.epochs} epochs in {view.evidence.training.seconds:.0f} s of {view.evidence.brief.train_seconds:.0f} s, "
        f"worst class recall {view.worst_recall:.2f}, {100 * view.confused:.0f} % of the mistakes between three pairs of classes"
    )


def _ladder(component: Component, brief: Brief) -> list[tuple[Recipe, str]]:
    """What a failed component is replaced by, plainer from rung to rung."""
    bare = brief.model_copy(update={"weights": {}, "race": None})
    rungs = [
        (first_recipes(brief).of(component), "back to the first recipe"),
        (first_recipes(bare).of(component), "without pretrained weights"),
        (naive_recipes(brief).of(component), "as plain as can be"),
    ]
    for _ in range(4):
        rungs.append((_shrunk(component, rungs[-1][0], brief), "as plain as can be, and smaller"))
    return [rung for number, rung in enumerate(rungs) if rung[0] not in [earlier for earlier, _ in rungs[:number]]]


def _shrunk(component: Component, recipe: Recipe, brief: Brief) -> Recipe:
    """About half the cost; the same where there is nothing to shrink."""
    if component == "model" and "width" in recipe:
        return {**recipe, "width": max(2, recipe["width"] // 2), "depth": max(1, recipe["depth"] - 1)}
    if component == "training":
        return {**recipe, "batch": max(8, recipe["batch"] // 2), "epochs": max(1, recipe["epochs"] // 2)}
    if component == "data":
        size = recipe["size"] or [brief.profile.height, brief.profile.width]
        return {**recipe, "views": [], "size": [max(8, side * 3 // 4) for side in size]}
    return recipe
