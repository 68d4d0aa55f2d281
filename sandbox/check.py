"""The checks that cost half a second: syntax and contract, then ruff for undefined names, then ty for wrong arguments and removed names."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.assemble import sections, toolbox_signatures
from sandbox.contract import contract_fault, suggestions
from schema.pipeline import Component, Fault, Pipeline

# Each of these is an error when it runs; style is nobody's business here.
RUFF_RULES = "F821,F822,F823,F502,F507,F706,F704,E9,PLE0116,PLE0118,PLE0100,PLE0101"
# ty's certain mistakes. The rest of its rules guess at types that PyTorch leaves open.
TY_RULES = frozenset(
    {
        "unresolved-import",
        "unresolved-reference",
        "unknown-argument",
        "missing-argument",
        "too-many-positional-arguments",
        "parameter-already-assigned",
        "not-iterable",
        "call-non-callable",
    }
)
TOOLS = Path(sys.executable).parent
TIMEOUT = 60


def check(pipeline: Pipeline, script: str, *, weights: Mapping[str, str]) -> Fault | None:
    """The first fault that can be found without running anything; None where the pipeline fits."""
    return contract_fault(pipeline, weights) or _lint(script)


def _lint(script: str) -> Fault | None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.py"
        file.write_text(script, encoding="utf-8")
        typed = subprocess.Popen(
            [
                TOOLS / "ty",
                "check",
                "--python",
                sys.prefix,
                "--output-format",
                "gitlab",
                "--exit-zero",
                "--no-progress",
                file.name,
            ],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        ruff = subprocess.run(
            [
                TOOLS / "ruff",
                "check",
                "--isolated",
                "--no-cache",
                "--select",
                RUFF_RULES,
                "--output-format",
                "json",
                file.name,
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        try:
            answer, _ = typed.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            typed.kill()
            answer = "[]"
    return _from_ruff(ruff.stdout, script) or _from_ty(answer, script)


def _from_ruff(answer: str, script: str) -> Fault | None:
    for found in json.loads(answer or "[]"):
        place = _place(int(found["location"]["row"]), script)
        if place:
            name = re.search(r"`(\w+)`", found["message"])
            hint = suggestions(name.group(1)) if name and found["code"] == "F821" else ""
            return _fault(
                place, str(found["code"]), f"{found['message']}.{hint}", script, int(found["location"]["row"])
            )
    return None


def _from_ty(answer: str, script: str) -> Fault | None:
    try:
        rows: list[dict[str, Any]] = json.loads(answer or "[]")
    except ValueError:
        return None
    for found in rows:
        rule, row = str(found.get("check_name")), int(found["location"]["positions"]["begin"]["line"])
        text = str(found.get("description", "")).removeprefix(f"{rule}: ")
        place = _place(row, script)
        if place and (rule in TY_RULES or (rule == "unresolved-attribute" and "Module `" in text)):
            return _fault(place, rule, f"{text}.{_signature(script, row)}", script, row)
    return None


def _signature(script: str, row: int) -> str:
    """The signature of a toolbox function that the line calls."""
    line = script.split("\n")[row - 1]
    known = toolbox_signatures()
    called = next((name for name in re.findall(r"(\w+)\(", line) if name in known), None)
    return f" The signature is {known[called]}." if called else ""


def _place(row: int, script: str) -> tuple[Component, int] | None:
    for component, lines in sections(script).items():
        if row in lines:
            return component, row - lines.start + 1
    return None


def _fault(place: tuple[Component, int], kind: str, message: str, script: str, row: int) -> Fault:
    component, line = place
    source = script.split("\n")[row - 1].strip()[:200]
    return Fault(
        stage="contract",
        kind=kind,
        component=component,
        line=line,
        message=message[:800],
        excerpt=f"line {line}: {source}",
    )
