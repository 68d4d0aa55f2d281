"""Prompts from the Markdown templates in agents/prompts. What comes from the person's data or from generated code is quoted, cleaned and bounded."""

import json
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from agents.llm import words
from agents.llm.answers import components_of
from agents.llm.figures import curve_table, epochs_of, figures, mistakes, plan_of, shown
from agents.llm.history import epochs, history, undecided
from schema.pipeline import COMPONENTS, Component, Fault
from schema.settings import Role, higher_is_better
from schema.team import Brief, Evidence, Outcome, RepairTask, WriteTask
from schema.text import duration, one_line, plain

FOLDER = Path(__file__).resolve().parent.parent / "prompts"
DESCRIPTION, ERROR, LINE = 4000, 3000, 1500  # characters
SLOW = {"time", "memory"}


def design_prompt(brief: Brief) -> list[BaseMessage]:
    if brief.strategy == "zero-shot":
        profile = brief.profile
        facts = {"classes": len(profile.classes), "channels": profile.channels, "height": profile.height}
        asked = _render("zero_shot.md", **facts, width=profile.width, minutes=duration(brief.train_seconds))
        return [HumanMessage(asked + _orders("architect", brief))]
    return [_system("architect", brief), HumanMessage(_render("design.md", components=brief.init == "unified"))]


def write_prompt(task: WriteTask) -> list[BaseMessage]:
    own = task.component in task.pipeline
    if task.proposal is None:
        text = _render("takeover.md", **_current(task, design=True), own=own)
    else:
        everyone = task.proposal.component == "all"
        asked = task.proposal.model_dump(include={"diagnosis", "hypothesis", "instruction"})
        text = _render("write.md", **_current(task), **asked, all=everyone, earlier=task.earlier)
    return [_system(task.component, task.brief), HumanMessage(text)]


def repair_prompt(task: RepairTask) -> list[BaseMessage]:
    fault, write = task.fault, task.write
    own = [f for f in task.earlier if f.component in {fault.component, None}]
    again = any(_same(fault, f) for f in own)
    text = _render(
        "repair.md",
        **_current(write) | {"pipeline": _others(write)},  # its own follows with numbered lines
        attempt=task.attempt + 1,
        code=task.code,
        line=fault.line,
        error=_error(fault),
        earlier="\n".join(str(f) for f in own),
        again=again,
        example=f"```python\n{example()[write.component]}```" if again else "",
        instruction=write.proposal.instruction if write.proposal else "",
        slow=fault.cause in SLOW or fault.kind == "OutOfMemoryError",
    )
    return [_system(write.component, write.brief), HumanMessage(text)]


def analyse_prompt(evidence: Evidence) -> list[BaseMessage]:
    brief, training = evidence.brief, evidence.training
    text = _render(
        "analyse.md",
        iteration=evidence.iteration,
        iterations=brief.iterations,
        left="" if evidence.seconds_left is None else f"{duration(evidence.seconds_left)} of the run's time are left",
        best=evidence.best_iteration,
        pipeline={component: evidence.pipeline.code(component) for component in COMPONENTS},
        figures=figures(evidence),
        curve=curve_table(training.curve),
        n=training.inner.n if training.inner else 0,
        mistakes=mistakes(training.inner, brief.profile.classes) if training.inner else "",
        shown=shown(evidence.shown) if evidence.shown else "",
        learned="loaders.everything" in evidence.pipeline.training,
        history=history(evidence.ledger),
        undecided=", ".join(map(str, undecided(evidence.ledger))),
        all=brief.strategy == "global",
    )
    if evidence.shown is None:
        return [_system("analyst", brief), HumanMessage(text)]
    return [_system("analyst", brief), picture_message(text, evidence.shown.png)]


def picture_message(text: str, png: bytes) -> HumanMessage:
    """In the form of OpenAI's protocol, which the clients of the other providers translate."""
    address = "data:image/png;base64," + b64encode(png).decode("ascii")
    return HumanMessage([{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": address}}])


def summarise_prompt(outcome: Outcome) -> list[BaseMessage]:
    row, proposal = outcome.row, outcome.proposal
    text = _render(
        "summarise.md",
        iteration=row.iteration,
        component=row.component,
        move=row.move,
        hypothesis=proposal.hypothesis if proposal else "",
        instruction=proposal.instruction if proposal else "",
        verdict=row.verdict,
        score="" if row.validation is None else f"{row.validation:.4f}",
        against="" if row.against is None else f"{row.against:.4f}",
        attempts=row.attempts,
        epochs=epochs(row),
        reason=outcome.reason,
        fault=str(outcome.fault) if outcome.fault else "",
    )
    return [SystemMessage(_render("summariser.md")), HumanMessage(text)]


def unusable_prompt(problem: str, *, cut: bool) -> HumanMessage:
    return HumanMessage(_render("unusable.md", problem=problem, cut=cut))


@cache
def example() -> dict[Component, str]:
    """The complete pipeline that the prompts show, by component."""
    return components_of((FOLDER / "example.md").read_text(encoding="utf-8"))


def _system(role: Role, brief: Brief) -> SystemMessage:
    """The same for all roles up to its last part, and the same for the whole run: providers cache such a prefix."""
    pretrained = brief.hub or bool(brief.weights)
    return SystemMessage(_team(brief) + _render(f"{role}.md", pretrained=pretrained) + _orders(role, brief))


def _orders(role: Role, brief: Brief) -> str:
    """At the very end: the text before it is the same for all roles."""
    orders = brief.orders.get(role, "")
    return _render("orders.md", orders=orders) if orders else ""


def _team(brief: Brief) -> str:
    profile = brief.profile
    return _render(
        "team.md",
        metric=brief.metric.replace("_", " "),
        lower=not higher_is_better(brief.metric),
        minutes=duration(brief.train_seconds),
        strategy=brief.strategy,
        name=profile.name,
        classes=profile.classes,
        train=profile.size("train"),
        inner=profile.inner,
        batch_size=words.batch_size(profile),
        validation=profile.size("validation"),
        test=profile.size("test"),
        channels=profile.channels,
        height=profile.height,
        width=profile.width,
        sizes=words.sizes(profile),
        mean=[round(value, 3) for value in profile.mean],
        std=[round(value, 3) for value in profile.std],
        imbalance=f"{profile.imbalance:.1f}",
        duplicates=words.duplicates(profile),
        class_table=words.class_table(profile),
        warnings=profile.warnings[: words.MOST_WARNINGS],
        description=plain(brief.description)[:DESCRIPTION],
        machine=words.machine(brief.hardware),
        speed=words.speed(brief.hardware),
        packages=words.packages(),
        weights=words.weights(brief),
        toolbox=brief.toolbox,
    )


def _current(task: WriteTask, *, design: bool = False) -> dict[str, Any]:
    training = task.training
    return {
        "component": task.component,
        "design": task.design if design else "",
        "pipeline": {c: task.pipeline[c] for c in COMPONENTS if c in task.pipeline},
        "plan": plan_of(training) if training else "",
        "epochs": epochs_of(training) if training else 0,
        "seconds": f"{training.seconds:.0f}" if training else "",
    }


def _others(task: WriteTask) -> dict[Component, str]:
    return {c: task.pipeline[c] for c in COMPONENTS if c in task.pipeline and c != task.component}


def _error(fault: Fault) -> str:
    excerpt = f"\n{fault.excerpt}" if fault.excerpt else ""
    return plain(f"{fault.stage}: {fault.kind}: {fault.message}{excerpt}")[:ERROR]


def _same(one: Fault, other: Fault) -> bool:
    return (one.kind, one.message[:80]) == (other.kind, other.message[:80])


def _render(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> Environment:
    """Nothing is escaped, because no browser reads it; a name that is not given is an error."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701
    )
    templates.filters |= {
        "quoted": lambda text: json.dumps(one_line(text, LINE), ensure_ascii=False),
        "line": lambda text: one_line(text, LINE),
        "cited": lambda text: "\n".join(f"> {line}" for line in plain(text).split("\n")),
        "numbered": lambda code: "\n".join(
            f"{number:4} | {line}" for number, line in enumerate(code.split("\n"), start=1)
        ),
    }
    return templates
