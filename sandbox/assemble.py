"""Three components and our parts become one free-standing, readable script: what runs is what the person takes home."""

import ast
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from schema.pipeline import COMPONENTS, Component, Pipeline
from schema.source import parse_source

PARTS = Path(__file__).with_name("script")
TOOLBOX = ("augment", "toolbox")  # a script has of these only what its components use
PART_NAMES = ("info", *TOOLBOX, "clock", "allowance", "loaders", "checkpoint", "logbook", "measure", "main")
QUALIFIED = re.compile(r"\b(?:torch\.|nn\.|optim\.|lr_scheduler\.)+(?=[A-Z])")  # what stands before the name of a type
MARK = "# ===== {} ====="


class Piece(NamedTuple):
    """A top-level statement with the comment lines above it."""

    names: frozenset[str]  # what it defines
    uses: frozenset[str]  # names it reads
    text: str


def assemble(pipeline: Pipeline, decode_source: str, title: str, defaults: Mapping[str, Any] | None = None) -> str:
    """The script's text. Of the toolbox, only what the components need is there. `defaults` are the settings of a bare `train`."""
    sources = {component: _without_future(pipeline.code(component)) for component in COMPONENTS}
    fixed = [*_pieces("info"), *_last_pieces(), *_main(defaults or {})]
    decode_pieces = _split(decode_source)
    wanted = {name for source in sources.values() for name in _names_read(source)}
    wanted |= {name for piece in [*fixed, *decode_pieces] for name in piece.uses}
    tools = _needed((piece for part in TOOLBOX for piece in _pieces(part)), wanted)
    body = [
        *(piece.text for piece in _pieces("info")),
        *(piece.text for piece in tools),
        *(f"{MARK.format(component)}\n\n{sources[component].rstrip()}" for component in COMPONENTS),
        MARK.format("end"),
        *(piece.text for piece in [*decode_pieces, *_last_pieces(), *_main(defaults or {})]),
    ]
    imports = _imports([*fixed, *tools, *decode_pieces], [*PART_NAMES], decode_source)
    return "\n\n\n".join([_header(title), "\n".join(imports), *body]) + "\n"


def _last_pieces() -> list["Piece"]:
    """What follows the components, before the command line."""
    return [
        piece
        for part in ("clock", "allowance", "loaders", "checkpoint", "logbook", "measure")
        for piece in _pieces(part)
    ]


def sections(script: str) -> dict[Component, range]:
    """Line numbers (from 1) of each component's own text."""
    lines = script.split("\n")
    marks = {line: number for number, line in enumerate(lines, start=1)}
    starts = [marks[MARK.format(name)] for name in (*COMPONENTS, "end")]
    found: dict[Component, range] = {}
    for component, start, end in zip(COMPONENTS, starts, starts[1:], strict=False):
        found[component] = range(start + 2, end)  # the mark, an empty line, then the component's first line
    return found


def foreign(script: str, pipeline: Pipeline) -> list[Component]:
    """The components of which the script has another text than the pipeline."""
    lines = script.split("\n")
    try:
        found = {name: "\n".join(lines[place.start - 1 : place.stop - 1]) for name, place in sections(script).items()}
    except KeyError:  # a mark was taken out
        return list(COMPONENTS)
    return [name for name in COMPONENTS if found[name].strip() != _without_future(pipeline.code(name)).strip()]


def toolbox_names() -> frozenset[str]:
    """What the script defines besides the components: they may call it, and may not define it again."""
    return frozenset(name for part in PART_NAMES for piece in _pieces(part) for name in piece.names)


def toolbox_signatures() -> dict[str, str]:
    """Name -> `def` line of every public function and class of the toolbox, for messages and prompts."""
    nodes = [node for part in TOOLBOX for node in ast.parse((PARTS / f"{part}.py").read_text(encoding="utf-8")).body]
    found = {}
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found[node.name] = f"{node.name}({ast.unparse(node.args)})"
        elif isinstance(node, ast.ClassDef):
            start = next(item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
            found[node.name] = f"{node.name}({ast.unparse(start.args).removeprefix('self, ')})"
    return found


@cache
def toolbox_reference() -> tuple[str, ...]:
    """`signature -> result: first line of its docstring` of the toolbox's functions and classes, for prompts: types in short."""
    trees = [ast.parse((PARTS / f"{part}.py").read_text(encoding="utf-8")) for part in TOOLBOX]
    nodes = {
        node.name: node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    found = []
    for name, signature in toolbox_signatures().items():
        node = nodes[name]
        gives = f" -> {ast.unparse(node.returns)}" if isinstance(node, ast.FunctionDef) and node.returns else ""
        about = (ast.get_docstring(node) or "").split("\n")[0]
        found.append(f"{QUALIFIED.sub('', signature + gives)}{f': {about}' if about else ''}")
    return tuple(found)


def _header(title: str) -> str:
    return f'''"""{title}: an image classifier in three parts (data, model, training), trained and used on its own.

    python pipeline.py train --data FOLDER --out OUT          FOLDER has one folder of images per class
    python pipeline.py predict --weights OUT/weights.safetensors IMAGE...

Needs torch, torchvision, timm and numpy. Written by IMPROVE; read the sections marked data, model and training first.
"""'''


@cache
def _pieces(part: str) -> tuple[Piece, ...]:
    return _split((PARTS / f"{part}.py").read_text(encoding="utf-8"))


def _main(defaults: Mapping[str, Any]) -> tuple[Piece, ...]:
    filled = f"DEFAULTS: dict[str, Any] = {dict(defaults)!r}"
    return tuple(
        piece._replace(text=filled) if piece.text.startswith("DEFAULTS:") else piece for piece in _pieces("main")
    )


def _split(source: str) -> tuple[Piece, ...]:
    """Top-level statements but for imports and the module's docstring."""
    lines, found, after = source.split("\n"), [], 0
    for node in ast.parse(source).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
        while first > after and lines[first - 1].startswith("#"):
            first -= 1
        after = node.end_lineno or node.lineno
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            continue
        text = "\n".join(line for line in lines[first:after] if "ruff: noqa" not in line)
        found.append(Piece(frozenset(_defined(node)), frozenset(_read(node)), _plain(text)))
    return tuple(found)


def _plain(text: str) -> str:
    """Without the notes to our own linters."""
    return "\n".join(line.split("  # noqa")[0].split("  # type: ignore")[0] for line in text.split("\n"))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _read(node: ast.AST) -> list[str]:
    return [name.id for name in ast.walk(node) if isinstance(name, ast.Name)]


def _names_read(source: str) -> list[str]:
    try:
        return _read(parse_source(source))
    except SyntaxError:
        return []  # the checks report it; the script is only needed for its line numbers


def _needed(pieces: Iterable[Piece], wanted: set[str]) -> list[Piece]:
    """The pieces that define wanted names, and what they use in turn, in their own order."""
    pieces = list(pieces)
    while True:
        kept = [piece for piece in pieces if piece.names & wanted]
        grown = wanted | {name for piece in kept for name in piece.uses}
        if grown == wanted:
            return kept
        wanted = grown


def _imports(pieces: list[Piece], parts: list[str], decode_source: str) -> list[str]:
    """The import lines that the pieces use, standard library first."""
    used = {name for piece in pieces for name in piece.uses} | {"nn", "torch"}
    sources = [(PARTS / f"{part}.py").read_text(encoding="utf-8") for part in parts]
    plain: set[str] = set()
    named: dict[str, set[str]] = {}
    for source in [*sources, decode_source]:
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                plain |= {
                    ast.unparse(ast.Import([a])) for a in node.names if (a.asname or a.name).split(".")[0] in used
                }
            elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("sandbox"):
                named.setdefault(node.module or "", set()).update(
                    ast.unparse(alias) for alias in node.names if (alias.asname or alias.name) in used
                )
    lines = plain | {f"from {module} import {', '.join(sorted(names))}" for module, names in named.items() if names}
    return sorted(lines, key=lambda line: (line.split()[1].split(".")[0] in _INSTALLED, line.startswith("from"), line))


_INSTALLED = {"torch", "numpy", "safetensors", "timm", "torchvision", "PIL"}


def _without_future(source: str) -> str:
    """Annotations need no `from __future__` on the Pythons we support, and it would have to come first in the script."""
    return "\n".join("" if line.startswith("from __future__") else line for line in source.split("\n"))
