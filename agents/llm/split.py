"""One source text becomes the components that it holds, by what each of their functions uses: models like to write everything in one go."""

import ast
from collections.abc import Iterator

from schema.pipeline import COMPONENTS, Component
from schema.source import parse_source

FACES: dict[Component, str] = {"data": "build_transforms", "model": "build_model", "training": "train"}


def faces_in(source: str) -> list[Component]:
    """The components whose function the text defines; none where it is no Python."""
    tree = _parsed(source)
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} if tree else set()
    return [component for component in COMPONENTS if FACES[component] in defined]


def split(source: str) -> dict[Component, str]:
    """Every component whose function is there, with what it uses. What two of them use goes to the first: they share one script.

    What no component uses (a main, an example call) is left out.
    """
    tree, found = _parsed(source), faces_in(source)
    if tree is None:
        return {}
    lines = source.split("\n")
    taken: set[int] = set()
    parts: dict[Component, str] = {}
    for component in found:
        needed = _needed(tree, FACES[component]) - taken
        taken |= {number for number in needed if not isinstance(tree.body[number], ast.Import | ast.ImportFrom)}
        nodes = [tree.body[number] for number in sorted(needed)]
        imports = [_text(node, lines) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        rest = [_text(node, lines) for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom)]
        parts[component] = "\n\n\n".join(["\n".join(imports), *rest]).strip("\n") + "\n"
    return parts


def own_part(source: str, component: Component) -> str:
    """The text itself where it defines this component alone, else its part."""
    return source if faces_in(source) == [component] else split(source)[component]


def _parsed(source: str) -> ast.Module | None:
    try:
        return parse_source(source)
    except SyntaxError:
        return None


def _needed(tree: ast.Module, face: str) -> set[int]:
    """Numbers of the statements that a function comes from or uses, in turn."""
    defining = {name: number for number, node in enumerate(tree.body) for name in _bound(node)}
    waiting, needed = [face], set()
    while waiting:
        number = defining.get(waiting.pop())
        if number is not None and number not in needed:
            needed.add(number)
            waiting += [node.id for node in ast.walk(tree.body[number]) if isinstance(node, ast.Name)]
    return needed


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0]
    else:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id


def _text(node: ast.stmt, lines: list[str]) -> str:
    """With the comments and decorators above it."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
    while first > 0 and lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])
