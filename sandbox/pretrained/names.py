"""Which pretrained weights a component asks for, read from its syntax tree: nothing of it runs."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

FROM_FILE = {"pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"}
DOWNLOADS = {"load_state_dict_from_url", "download_url_to_file"}
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
NOT_WEIGHTS = {"transforms", "meta"}  # of a torchvision enum: they are known without a file


@dataclass(frozen=True, slots=True)
class Asked:
    """`what` is `timm:NAME`, `hub:REPOSITORY`, `torchvision:MODEL:WEIGHTS`, `torchvision:ENUM.MEMBER` or `url:URL`; `file` where
    `info.pretrained` has to know it."""

    what: str
    line: int
    file: bool = False


def asked_for(tree: ast.Module) -> list[Asked]:
    """In the order of their lines, each once. Names that are put together at run time are found there (sandbox/harness.py)."""
    found = list(_asked_in(tree, {}))
    skipped = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in NOT_WEIGHTS
    }
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in skipped]
    found += [Asked(f"torchvision:{enum}", node.lineno) for node in attributes if (enum := _enum_member(node))]
    first: dict[tuple[str, bool], Asked] = {}
    for asked in sorted(found, key=lambda one: one.line):
        first.setdefault((asked.what, asked.file), asked)
    return list(first.values())


def _asked_in(scope: ast.AST, outer: dict[str, str | None]) -> Iterator[Asked]:
    known = outer | _bound_in(scope)
    for node in _own_nodes(scope):
        yield from _asked_in(node, known) if isinstance(node, SCOPES) else _asked_by(node, known)


def _asked_by(node: ast.AST, known: dict[str, str | None]) -> Iterator[Asked]:
    if not isinstance(node, ast.Call):
        return
    where, _, called = ast.unparse(node.func).rpartition(".")
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}

    def text(position: int, *names: str) -> str | None:
        given = (
            node.args[position]
            if len(node.args) > position
            else next((keywords[n] for n in names if n in keywords), None)
        )
        return known.get(given.id) if isinstance(given, ast.Name) else _text(given)

    if called in {"load_pretrained", "pretrained"} and (
        name := text(*((2, "name") if called == "load_pretrained" else (0, "name")))
    ):
        yield Asked(f"timm:{name}", node.lineno, file=True)
    elif called in DOWNLOADS and (url := text(0, "url")):
        yield Asked(f"url:{url}", node.lineno)
    elif called == "create_model" and not FROM_FILE & set(keywords):
        given = node.args[1] if len(node.args) > 1 else keywords.get("pretrained")
        if _may_be_true(given) and (name := text(0, "model_name")):
            yield Asked(_of_timm(name), node.lineno)
    else:  # a model function of torchvision; other functions have a `weights`, too ("quadratic")
        model = text(0, "name") if called == "get_model" else called
        weights = text(len(node.args), "weights")
        if model and weights and (weights.isupper() or "_Weights." in weights):
            yield Asked(f"torchvision:{weights}" if "." in weights else f"torchvision:{model}:{weights}", node.lineno)
        elif model and "models" in where and _may_be_true(keywords.get("pretrained")):
            yield Asked(f"torchvision:{model}:IMAGENET1K_V1", node.lineno)


def _of_timm(name: str) -> str:
    """`hf-hub:` and `hf_hub:` before a repository mean the hub, without timm's own table."""
    scheme, _, rest = name.partition(":")
    return f"hub:{rest}" if rest and scheme in {"hf-hub", "hf_hub"} else f"timm:{name}"


def _may_be_true(node: ast.expr | None) -> bool:
    """Absent is False; an expression, such as `not info.restoring`, may be true."""
    return node is not None and not (isinstance(node, ast.Constant) and not node.value)


def _enum_member(node: ast.Attribute) -> str | None:
    """`ResNet18_Weights.DEFAULT`, whatever stands before it."""
    owner = node.value
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return f"{name}.{node.attr}" if name.endswith("_Weights") and node.attr.isupper() else None


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """All below it, but nothing of the functions within it and classes within it."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, SCOPES):
            yield from _own_nodes(node)


def _bound_in(scope: ast.AST) -> dict[str, str | None]:
    """The variables of a function or of the module: with their text, where they are given one text and nothing else."""
    values: dict[str, list[ast.expr | None]] = {}
    for node in _own_nodes(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                _bind(target, node.value, values)
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr | ast.comprehension):
            plain = isinstance(node, ast.AnnAssign | ast.NamedExpr)
            _bind(node.target, node.value if plain else None, values)  # type: ignore[union-attr]
        elif isinstance(node, ast.arg):
            values.setdefault(node.arg, []).append(None)
    return {name: _text(bound[0]) if len(bound) == 1 else None for name, bound in values.items()}


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _bind(target: ast.expr, value: ast.expr | None, values: dict[str, list[ast.expr | None]]) -> None:
    if isinstance(target, ast.Tuple | ast.List):
        each = (
            value.elts
            if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
            else [None] * len(target.elts)
        )
        for one, own in zip(target.elts, each, strict=True):
            _bind(one, own, values)
    elif isinstance(target, ast.Name):
        values.setdefault(target.id, []).append(value)
