"""What language models are sent and send: tokens per iteration by role and strategy on the same scripted model, and the analyst's prompt as the run gets longer.

python -m benchmarks.tokens [ITERATIONS]      default: 500 for the long run; writes benchmarks/tokens/RESULTS.md
"""

import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.overhead.__main__ import InstantJobs
from checkpoints.store import open_store
from graph.run import run
from improve.costs import CostModel, cost_model
from nodes.services import Services
from schema.run import CallRow
from schema.settings import Settings, Strategy
from tests.agents.server import Ask, Reply, fenced, good, judgement, serving
from tests.scripted import image_folder

OUT = Path(__file__).with_name("RESULTS.md")
STRATEGIES: tuple[Strategy, ...] = ("iterative", "global", "zero-shot")
ROLES = ("architect", "data", "model", "training", "analyst", "summariser")
SHORT = 20  # iterations, as in the paper
PADDING = "\n".join(f"# line {i} of a component of the usual length: some sixty characters each" for i in range(40))
SUMMARY = "The change was carried out as instructed, and taught that more of it is not worth another try here."


def typical(ask: Ask) -> Reply:
    """A model whose components have the length that those of real models have: some 60 lines."""
    if ask.role == "analyst":
        component = "all" if '"all"' in ask.text else ("data", "model", "training")[ask.iteration % 3]
        long = dict.fromkeys(
            ("diagnosis", "hypothesis", "instruction"),
            "A sentence of the usual length, with numbers such as 0.8123. " * 3,
        )
        return Reply(judgement(component=component, move=f"a-change-with-a-name-{ask.iteration}", **long))
    reply = good(ask)
    if ask.role == "summariser":
        return Reply(SUMMARY)
    if reply.text and "```python" in reply.text:
        return Reply(reply.text.replace("\n```", f"\n{PADDING}\n```").replace("```python\n" + PADDING, "```python"))
    if ask.turn == "zero-shot":
        return Reply(f"{fenced(ZERO_SHOT)}")
    return reply


ZERO_SHOT = f"""
import torch


def build_transforms(info):
    def prepare(images):
        return normalize(images, info)
    return Transforms(train=prepare, eval=prepare)


def build_model(info):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(info.channels * info.height * info.width, info.num_classes))


def train(model, loaders, info, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return fit(model, loaders.train, loaders, info, log, epochs=1, optimizer=optimizer)


{PADDING}
"""


def measure(strategy: Strategy, iterations: int) -> tuple[list[CallRow], CostModel]:
    with tempfile.TemporaryDirectory() as folder, serving(typical) as server:
        os.environ["IMPROVE_HOME"] = str(Path(folder) / "home")
        settings = Settings(
            dataset=str(image_folder(Path(folder) / "photos")),
            model="openai:scripted",
            base_url=server.url,
            strategy=strategy,
            iterations=iterations,
            max_seeds=1,
            device="cpu",
            until_budget=True,
        )
        name = run(settings, name=strategy, services=Services(jobs=InstantJobs()))
        store = open_store()
        calls = store.calls(name)
        return calls, cost_model(store.run(name), store.ledger(name), calls)


def by_role(calls: list[CallRow], iterations: int) -> dict[str, tuple[float, float]]:
    """Tokens in and out per iteration; of zero-shot, of its one training."""
    found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for call in calls:
        if call.iteration > 0 or iterations == 0:
            found[call.usage.role][0] += call.usage.tokens_in
            found[call.usage.role][1] += call.usage.tokens_out
    return {role: (a / max(1, iterations), b / max(1, iterations)) for role, (a, b) in found.items()}


def table(strategies: dict[Strategy, tuple[list[CallRow], CostModel]]) -> list[str]:
    lines = ["| role | " + " | ".join(strategies) + " |", "|---" * (len(strategies) + 1) + "|"]
    columns = {s: by_role(calls, found.iterations) for s, (calls, found) in strategies.items()}
    for role in ROLES:
        cells = [
            f"{columns[s][role][0]:,.0f} + {columns[s][role][1]:,.0f}" if role in columns[s] else "" for s in strategies
        ]
        lines.append(f"| {role} | " + " | ".join(cells) + " |")
    totals = [f"**{sum(a + b for a, b in columns[s].values()):,.0f}**" for s in strategies]
    lines.append("| **all, per iteration** | " + " | ".join(totals) + " |")
    models = [found for _, found in strategies.values()]
    lines.append("| start (c0) | " + " | ".join(f"{found.c0:,}" for found in models) + " |")
    lines.append(
        "| updating a module (c1) | " + " | ".join("" if m.c1 is None else f"{m.c1:,.0f}" for m in models) + " |"
    )
    lines.append(
        "| its growth per iteration (c2) | "
        + " | ".join("" if m.c2 is None else f"{m.c2:+,.1f}" for m in models)
        + " |"
    )
    lines.append("| whole run | " + " | ".join(f"{found.tokens:,}" for found in models) + " |")
    return lines


def main(long: int) -> None:
    strategies = {strategy: measure(strategy, 0 if strategy == "zero-shot" else SHORT) for strategy in STRATEGIES}
    calls, _ = measure("iterative", long)
    prompts = {call.iteration: call.usage.tokens_in for call in calls if call.usage.role == "analyst"}
    shown = [number for number in (1, 5, 10, 20, 50, 100, 200, 500, 1000) if number in prompts]
    text = "\n".join([
        "# Tokens",
        "",
        f"`python -m benchmarks.tokens {long}` writes this file. The same scripted model behind a real server and the real client, trainings that take no time; a token is taken for",
        "four characters, on both sides. Components have some 45 lines.",
        "",
        f"## Per iteration by role, in + out, over {SHORT} iterations",
        "",
        "Of `zero-shot`, its one training. A global iteration asks three engineers where an iterative one asks one.",
        "",
        *table(strategies),
        "",
        f"## The analyst's prompt in a run of {long} iterations",
        "",
        "| iteration | " + " | ".join(map(str, shown)) + " |",
        "|---" * (len(shown) + 1) + "|",
        "| tokens | " + " | ".join(f"{prompts[number]:,}" for number in shown) + " |",
        "",
        "The history keeps the latest iterations, the accepted and the inconclusive ones in full, and folds the rest into a line per component.",
    ])  # fmt: skip
    OUT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
