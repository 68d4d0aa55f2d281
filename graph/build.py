"""The graph: the whole control flow on one page. Node names are part of the file format: a renamed node orphans old runs."""

from collections.abc import Hashable
from typing import Any

from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph import routes
from graph.server_limits import check_allowed
from graph.step import first_step, step
from nodes.assemble import assemble
from nodes.decide import decide
from nodes.engineers import data_engineer, model_engineer, training_engineer
from nodes.performance_analyst import performance_analyst
from nodes.profile import profile
from nodes.project_architect import project_architect
from nodes.race import race
from nodes.repair import repair
from nodes.report import report
from nodes.review import review
from nodes.sandbox import sandbox
from nodes.services import Services
from nodes.summarize import summarize
from schema.settings import Settings, make_settings
from schema.state import State

Edges = dict[Hashable, str]


class RunGraph(StateGraph[State, None, Settings, State]):
    """A graph whose input is checked: LangGraph drops a field that it does not know, and a misspelt one would be a run of other settings."""

    def compile(self, *arguments: Any, **options: Any) -> CompiledStateGraph[State, None, Settings, State]:
        compiled = super().compile(*arguments, **options)
        compiled.nodes[START].bound = RunnableLambda(checked_input, name=START)
        return compiled


def checked_input(given: Any) -> Any:
    """Raises SettingRefused, which names the field."""
    if isinstance(given, dict):
        check_allowed(make_settings(given))
    return given


def build_graph(services: Services, *, driven: bool = False) -> RunGraph:
    """Every node and edge of DESIGN.md section 2, and one more: `decide` asks for another seed where the scores leave it undecided."""
    graph = RunGraph(State, input_schema=Settings)
    engineers: Edges = {component: node for component, node in routes.ENGINEERS.items()}  # noqa: C416 - a dict of another key type

    graph.add_node("profile", first_step(profile, services), input_schema=Settings)
    for node in (
        race,
        project_architect,
        data_engineer,
        model_engineer,
        training_engineer,
        assemble,
        review,
        sandbox,
        repair,
        decide,
        summarize,
        performance_analyst,
        report,
    ):
        graph.add_node(node.__name__, step(node, services, driven=driven))

    graph.add_edge(START, "profile")
    graph.add_edge("profile", "race")
    graph.add_edge("race", "project_architect")
    graph.add_edge("project_architect", "data_engineer")
    for name in routes.ENGINEERS.values():
        graph.add_conditional_edges(name, routes.next_engineer, {**_after(name), "assemble": "assemble"})
    graph.add_conditional_edges("assemble", routes.after_assemble, {"check failed": "repair", "fits": "review"})
    graph.add_conditional_edges("review", routes.after_review, {"approve": "sandbox", **engineers, "skip": "decide"})
    graph.add_conditional_edges("sandbox", routes.after_sandbox, {"failed": "repair", "scored": "decide"})
    graph.add_conditional_edges("repair", routes.after_repair, {**engineers, "out of attempts": "decide"})
    graph.add_conditional_edges(
        "decide",
        routes.after_decide,
        {
            **dict.fromkeys(("first", "accepted", "rejected", "failed", "inconclusive", "skipped", "cut"), "summarize"),
            "undecided: one more seed": "sandbox",
        },
    )
    graph.add_conditional_edges(
        "summarize", routes.after_summarize, {"next": "performance_analyst", "finished": "report"}
    )
    graph.add_conditional_edges(
        "performance_analyst", routes.after_analyst, {**engineers, "all": "data_engineer", "stop": "report"}
    )
    graph.add_edge("report", END)
    return graph


def _after(name: str) -> Edges:
    """The engineers that may follow one: those after it in the order of writing."""
    names = list(routes.ENGINEERS.items())
    position = [node for _, node in names].index(name)
    return {component: node for component, node in names[position + 1 :]}  # noqa: C416 - as above


# For `langgraph dev` and for `graph.invoke` in a script: no checkpointer here, the server brings its own (langgraph.json).
graph = build_graph(Services()).compile(name="improve")
