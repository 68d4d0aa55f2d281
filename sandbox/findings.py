"""What ruff and ty found, kept where it is certain to fail, and told with the way out: close names, parameters, what is installed."""

import ast
import builtins
import json
import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sandbox.assemble import TOOLBOX, toolbox_names


class Finding(NamedTuple):
    rule: str
    row: int  # line of the script, from 1
    message: str


# ty's certain mistakes: over timm, torchvision, torch.nn and torch.optim (250,000 lines that run) these raise no or next to no alarm, where
# invalid-argument-type alone raises 5,900. Some rules had other names in earlier releases.
CERTAIN = frozenset(
    {
        "unknown-argument",
        "missing-argument",
        "too-many-positional-arguments",
        "parameter-already-assigned",
        "positional-only-parameter-as-kwarg",
    }
)
IMPORTS = frozenset({"import-not-found", "unresolved-import", "missing-module-member"})
ATTRIBUTES = frozenset({"missing-attribute", "unresolved-attribute"})
CALLS = frozenset({"not-callable", "call-non-callable"})
# Types whose attributes are all known. An nn.Module may hold anything, and a union may be narrowed by what ty does not see.
CLOSED = frozenset(
    {"Info", "Loaders", "Loader", "Log", "Transforms", "EMA", "Tensor", "SGD", "Adam", "AdamW", "RMSprop"}
)
BLOCK = re.compile(
    r"^(?:error|warning)\[([a-z-]+)\]: ([^\n]+)\n +--> pipeline\.py:(\d+):\d+\n(.*?)(?=^\S+\[|\Z)",
    re.MULTILINE | re.DOTALL,
)
SIGNATURE = re.compile(r"signature here\n +--> (.+?):(\d+):\d+")
OURS = (*TOOLBOX, "improve", "sandbox", "pipeline", "contract", "components", "info", "data", "model", "training")


def from_ruff(answer: str) -> list[Finding]:
    try:
        rows = json.loads(answer or "[]")
    except ValueError:
        return []
    return [
        Finding(row["code"] or "SyntaxError", row["location"]["row"], f"{row['message']}.{_name_hint(row)}")
        for row in rows
    ]


def _name_hint(row: dict[str, str]) -> str:
    named = re.search(r"Undefined name `(\w+)`", row["message"])
    return suggestions(named.group(1)) if named else ""


def suggestions(name: str) -> str:
    """A hint for an unknown name."""
    close = get_close_matches(name, [*toolbox_names(), *dir(builtins), "torch", "nn", "F"], n=3)
    return f" Did you mean {', '.join(close)}?" if close else " Import or define it in this component."


def from_ty(answer: str, script: str) -> list[Finding]:
    """Findings of ty's full report that are mistakes for certain."""
    found = []
    for rule, message, row, rest in BLOCK.findall(answer):
        hint = _certain(rule, message, int(row), script, rest)
        if hint is not None:
            found.append(Finding(rule, int(row), f"{message}.{hint}"))
    return found


def _certain(rule: str, message: str, row: int, script: str, rest: str) -> str | None:
    """The way out of a certain mistake; None where it may be none."""
    if rule in CERTAIN:
        return _signature(rest, script)
    if rule in CALLS:
        return " Import the function or class from it." if "`<module '" in message else None
    if (rule in IMPORTS or (rule in ATTRIBUTES and message.startswith("Module"))) and row not in _guarded(script):
        return _module_hint(message, script)
    closed = re.match(r"Object of type `(\w+)` has no attribute `(\w+)`", message)
    if rule in ATTRIBUTES and closed and closed[1] in CLOSED and not _asked_for(closed[2], script):
        return _attribute_hint(closed[1], closed[2], script)
    return None


def _module_hint(message: str, script: str) -> str | None:
    absent = re.search(r"imported module `([\w.]+)`", message)
    if absent:
        if absent[1].split(".")[0] in OURS:
            return " The toolbox is already in the script and needs no import."
        return " It is not installed here; torch, torchvision, timm, numpy and PIL are."
    member = re.search(r"Module `([\w.]+)` has no member `(\w+)`", message)
    if member is None or member[2].startswith("_") or "._" in member[1] or _asked_for(member[2], script):
        return None
    if member[1] == "PIL.Image" and member[2].isupper():
        return None  # PIL defines its constants when it is imported
    close = get_close_matches(member[2], module_names(member[1]), n=4, cutoff=0.5)
    return f" Close to it there: {', '.join(close)}." if close else " No name there is close to it."


def _attribute_hint(owner: str, name: str, script: str) -> str:
    known = _members(owner, script)
    close = get_close_matches(name, known, n=3, cutoff=0.4)
    listed = f" It has: {', '.join(known)}." if known else ""
    return (f" Did you mean {', '.join(close)}?" if close else "") + listed


def _asked_for(name: str, script: str) -> bool:
    """The code itself looks whether the name is there."""
    return re.search(rf"(?:has|get)attr\([^()]*[\"']{name}[\"']", script) is not None


def _members(owner: str, script: str) -> list[str]:
    """Public fields and methods of a class of the script."""
    for node in ast.parse(script).body:
        if isinstance(node, ast.ClassDef) and node.name == owner:
            fields = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
            methods = [n.name for n in node.body if isinstance(n, ast.FunctionDef)]
            return [name for name in [*fields, *methods] if not name.startswith("_")]
    return []


def _guarded(script: str) -> set[int]:
    """Lines in a `try` whose failure is caught: an import that may be missing."""
    rows: set[int] = set()
    for node in ast.walk(ast.parse(script)):
        if isinstance(node, ast.Try) and any(_catches_all(handler) for handler in node.handlers):
            rows |= {n for part in node.body for n in range(part.lineno, (part.end_lineno or part.lineno) + 1)}
    return rows


def _catches_all(handler: ast.ExceptHandler) -> bool:
    caught = "" if handler.type is None else ast.unparse(handler.type)
    return (
        handler.type is None
        or re.search(r"ImportError|ModuleNotFoundError|AttributeError|Exception", caught) is not None
    )


def _signature(rest: str, script: str) -> str:
    """The parameters of what was called, read from where ty says it is defined."""
    where = SIGNATURE.search(rest)
    if where is None:
        return ""
    source = script if where[1] == "pipeline.py" else _source(where[1])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.lineno == int(where[2]):
            names = [*_parameters(node.args)]
            return f" The parameters are ({', '.join(name for name in names if name != 'self')})."
    return ""


def _source(path: str) -> str:
    file = Path(path)
    inside = file.is_file() and file.resolve().is_relative_to(Path(sys.prefix).resolve())
    return file.read_text(encoding="utf-8") if inside else ""


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    """`name` or `name=default` of each, without annotations."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    for argument, default in zip(positional, defaults, strict=True):
        yield argument.arg if default is None else f"{argument.arg}={ast.unparse(default)}"
    if arguments.vararg or arguments.kwonlyargs:
        yield f"*{arguments.vararg.arg if arguments.vararg else ''}"
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield argument.arg if value is None else f"{argument.arg}={ast.unparse(value)}"
    if arguments.kwarg:
        yield f"**{arguments.kwarg.arg}"


@cache
def module_names(module: str) -> tuple[str, ...]:
    """Public names of an installed module, read from its source: importing it would run for seconds."""
    for root in map(Path, sys.path):
        base = root.joinpath(*module.split("."))
        for file in (base / "__init__.py", base.with_suffix(".py")):
            if file.is_file():
                return tuple(
                    sorted({name for name in _bound(ast.parse(file.read_bytes())) if not name.startswith("_")})
                )
    return ()


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
