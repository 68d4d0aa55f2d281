"""Names that a component defines although another part of the script has them: it gets names of its own, and nothing is lost by it."""

import ast
import re
from collections.abc import Iterator, Mapping, Set
from typing import NamedTuple

from sandbox.contract import FACES, bindings, script_bindings
from schema.pipeline import Component
from schema.source import parse_source

Scope = (
    ast.FunctionDef
    | ast.AsyncFunctionDef
    | ast.Lambda
    | ast.ClassDef
    | ast.ListComp
    | ast.SetComp
    | ast.DictComp
    | ast.GeneratorExp
)


class Edit(NamedTuple):
    """Characters `start` to `end` of a line (from 1), in bytes of UTF-8 as `ast` counts them, are replaced."""

    line: int
    start: int
    end: int
    text: str


def without_clashes(component: Component, code: str, others: Mapping[Component, str]) -> str:
    """Return the component's source text with other names for what the script or one of the `others` (source texts) defines already.

    What is not Python comes back as it is: the checks say what is wrong with it.
    """
    try:
        tree = parse_source(code)
        taken = script_bindings()
        for other, text in others.items():
            if other != component:
                taken |= bindings(other, parse_source(text))
    except SyntaxError:
        return code
    own = bindings(component, tree)
    clashing = sorted(
        name for name, what in own.items() if taken.get(name, what) != what and name != FACES[component][0]
    )
    renamed = {name: _free(f"{name}_{component}", own.keys() | taken.keys()) for name in clashing}
    edits = [edit for node in tree.body for edit in _edits(node, renamed, frozenset(), frozenset())]
    return _edited(code, edits) if edits else code


def _free(name: str, taken: Set[str]) -> str:
    return next(one for one in (name, *(f"{name}_{n}" for n in range(2, 10_000))) if one not in taken)


def _edits(node: ast.AST, renamed: dict[str, str], hidden: frozenset[str], here: frozenset[str]) -> Iterator[Edit]:
    """Where `renamed` names are meant. `hidden` are those that a function around has of its own; `here` also those of the class
    whose body this is, which functions within do not see.
    """
    meant = renamed.keys() - here
    if isinstance(node, ast.Name) and node.id in meant:
        yield Edit(node.lineno, node.col_offset, node.col_offset + len(node.id.encode()), renamed[node.id])
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name in meant:
        yield Edit(node.lineno, node.col_offset, -1, renamed[node.name])
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from _import_edits(node, {name: renamed[name] for name in meant})
    if isinstance(node, ast.Global):
        names = ", ".join(renamed.get(name, name) for name in node.names)
        yield Edit(node.lineno, node.col_offset, node.end_col_offset or 0, f"global {names}")
    outside: set[ast.AST] = set()
    within, inside = hidden, here
    if isinstance(node, Scope):
        outside, own = set(_outside(node)), _own_names(node)
        within = hidden if isinstance(node, ast.ClassDef) else hidden | own
        inside = hidden | own
    for inner in ast.iter_child_nodes(node):
        if inner in outside:
            yield from _edits(inner, renamed, hidden, here)
        else:
            yield from _edits(inner, renamed, within, inside)


def _outside(node: Scope) -> Iterator[ast.AST]:
    """Parts of a function or class that are evaluated where it stands."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from (*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d))
        yield from (node.returns,) if node.returns else ()
    elif isinstance(node, ast.Lambda):
        yield from (*node.args.defaults, *(d for d in node.args.kw_defaults if d))
    elif isinstance(node, ast.ClassDef):
        yield from (*node.decorator_list, *node.bases, *node.keywords)


def _own_names(scope: Scope) -> frozenset[str]:
    """Names that mean something else in a scope: parameters, and what it binds without saying `global`."""
    found: set[str] = set()
    declared: set[str] = set()
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        args = scope.args
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        found |= {arg.arg for arg in every if arg}
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.Global):
            declared |= set(node.names)
        if not isinstance(node, Scope):
            waiting += ast.iter_child_nodes(node)
    return frozenset(found - declared)


def _import_edits(node: ast.Import | ast.ImportFrom, renamed: dict[str, str]) -> Iterator[Edit]:
    for alias in node.names:
        bound, end = alias.asname or alias.name, alias.end_col_offset or 0
        if bound in renamed:
            text = renamed[bound] if alias.asname else f" as {renamed[bound]}"
            yield Edit(alias.end_lineno or alias.lineno, end - len((alias.asname or "").encode()), end, text)


def _edited(code: str, edits: list[Edit]) -> str:
    """From the last to the first, so that positions hold."""
    lines = [line.encode() for line in code.split("\n")]
    for edit in sorted(set(edits), reverse=True):
        line = lines[edit.line - 1]
        start, end = edit.start, edit.end
        if end < 0:  # the name after `def`, `async def` or `class`
            found = re.compile(rb"(?:async\s+def|def|class)\s+(\w+)").match(line, start)
            if found is None:
                continue
            start, end = found.span(1)
        lines[edit.line - 1] = line[:start] + edit.text.encode() + line[end:]
    return b"\n".join(lines).decode()
