"""The checks that cost half a second: syntax and contract, then ruff for undefined names, then ty for wrong arguments and removed names."""

import ast
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox.assemble import sections
from sandbox.contract import contract_fault
from sandbox.findings import Finding, from_ruff, from_ty
from schema.pipeline import Component, Fault, Pipeline

# Each of these is an error when it runs (undefined names, broken formats, misplaced statements, repeated keywords); style is nobody's business here.
RUFF_RULES = (
    "E9,F821,F822,F823,F502,F503,F505,F507,F521,F524,F633,F701,F702,F704,F706,F707,F901,"
    "PLE0100,PLE0101,PLE0115,PLE0117,PLE0118,PLE0241,PLE0302,PLE1132"
)
# ty sees the contract's parameters with their types, so that `info.num_class` is found though the engineer wrote no annotations.
FACES = {
    "def build_transforms(info):": 'def build_transforms(info: "Info"):',
    "def build_model(info):": 'def build_model(info: "Info"):',
    "def train(model, loaders, info, log):": 'def train(model, loaders: "Loaders", info: "Info", log: "Log"):',
}
TIMEOUT = 60
MESSAGE, EXCERPT = 900, 900  # characters
MORE = 4  # further findings in the same component that are shown


def check(pipeline: Pipeline, script: str) -> Fault | None:
    """The first fault that can be found without running anything; None where the pipeline fits."""
    return contract_fault(pipeline) or _fault(_findings(script), script)


def _findings(script: str) -> list[Finding]:
    """Of ruff and ty, side by side; a tool that does not answer in time finds nothing."""
    typed = signatures(script)
    for face, annotated in FACES.items():
        typed = typed.replace(f"\n{face}", f"\n{annotated}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pipeline.py").write_text(typed, encoding="utf-8")
        ty = ["check", "--python", sys.prefix, "--output-format", "full", "--color", "never", "--exit-zero", "."]
        ruff = ["check", "--isolated", "--no-cache", "--select", RUFF_RULES, "--output-format", "json", "pipeline.py"]
        running = [_start("ruff", ruff, folder), _start("ty", ty, folder)]
        ruff_answer, ty_answer = (_answer(process) for process in running)
    return [*from_ruff(ruff_answer), *from_ty(ty_answer, typed)]


def signatures(script: str) -> str:
    """The components as they are, and of our own functions the signatures alone, line for line: ty needs a third less time for it."""
    theirs = {row for rows in sections(script).values() for row in rows}
    lines = script.split("\n")
    top = ast.parse(script).body
    methods = [inner for outer in top if isinstance(outer, ast.ClassDef) for inner in outer.body]
    for node in (*top, *methods):
        if not isinstance(node, ast.FunctionDef) or node.lineno in theirs or node.name == "__init__":
            continue  # an __init__ says which attributes there are
        first, last = node.body[0], node.end_lineno or node.lineno
        if first.lineno > node.lineno:
            rest = [""] * (last - first.lineno)
            lines[first.lineno - 1 : last] = [" " * first.col_offset + "raise NotImplementedError", *rest]
    return "\n".join(lines)


def _start(tool: str, arguments: list[str], folder: str) -> subprocess.Popen[str]:
    """The tool of this environment; no settings of the person or the machine reach it."""
    return subprocess.Popen(
        [Path(sys.executable).parent / tool, *arguments],
        cwd=folder,
        env={"HOME": folder, "XDG_CONFIG_HOME": folder},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _answer(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=TIMEOUT)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ""


def _fault(findings: list[Finding], script: str) -> Fault | None:
    """The first finding inside a component, with what else is wrong there: one repair should mend it all."""
    lines = script.split("\n")
    placed = [(place, found) for found in findings if (place := _place(found.row, script))]
    if not placed:
        return None
    (component, line), first = placed[0]
    here = {place[1] for place, _ in placed if place[0] == component}
    own = {number: lines[row - 1].strip()[:200] for number in here if (row := _row(component, number, script))}
    others = {found.message: place[1] for place, found in placed[1:] if place[0] == component}
    more = [f"line {n}: {own[n]}\n  also: {text[:200]}" for text, n in list(others.items())[:MORE]]
    return Fault(
        stage="contract",
        kind=first.rule,
        component=component,
        line=line,
        message=first.message[:MESSAGE],
        excerpt="\n".join([f"line {line}: {own[line]}", *more])[:EXCERPT],
    )


def _place(row: int, script: str) -> tuple[Component, int] | None:
    for component, rows in sections(script).items():
        if row in rows:
            return component, row - rows.start + 1
    return None


def _row(component: Component, line: int, script: str) -> int:
    return sections(script)[component].start + line - 1
