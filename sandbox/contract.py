"""What each component has to define, and what it may not: found from its syntax tree, before anything runs."""

import ast
import builtins
from collections.abc import Mapping
from difflib import get_close_matches

from sandbox.assemble import toolbox_names
from schema.pipeline import COMPONENTS, Component, Fault, Pipeline

FACES: dict[Component, tuple[str, tuple[str, ...]]] = {
    "data": ("build_transforms", ("info",)),
    "model": ("build_model", ("info",)),
    "training": ("train", ("model", "loaders", "info", "log")),
}
LARGEST = 60_000  # characters


def contract_fault(pipeline: Pipeline, weights: Mapping[str, str]) -> Fault | None:
    """The first way in which a component breaks the contract."""
    trees: dict[Component, ast.Module] = {}
    for component in COMPONENTS:
        tree = parsed(component, pipeline.code(component))
        if isinstance(tree, Fault):
            return tree
        trees[component] = tree
    for component, tree in trees.items():
        fault = _face(component, tree) or _work_at_import(component, tree) or _weights(component, tree, weights)
        if fault:
            return fault
    return _clashes(trees)


def parsed(component: Component, code: str) -> ast.Module | Fault:
    if len(code) > LARGEST:
        return _fault(component, "size", None, f"The component has {len(code)} characters; at most {LARGEST} are read.")
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        shown = code.split("\n")[line - 1].strip()[:200] if line and line <= code.count("\n") + 1 else ""
        message = f"{getattr(error, 'msg', error)} in line {line}: {shown}"
        return Fault(stage="parse", kind="SyntaxError", component=component, line=line, message=message)


def _face(component: Component, tree: ast.Module) -> Fault | None:
    name, parameters = FACES[component]
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    expected = f"def {name}({', '.join(parameters)})"
    if not found:
        own = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        return _fault(
            component,
            "missing",
            None,
            f"The {component} component must define `{expected}`. It defines: {', '.join(own) or 'nothing'}.",
        )
    node = found[-1]
    takes = [*node.args.posonlyargs, *node.args.args]
    required = len(takes) - len(node.args.defaults)
    if len(takes) < len(parameters) or required > len(parameters):
        given = ", ".join(argument.arg for argument in takes)
        return _fault(
            component,
            "parameters",
            node.lineno,
            f"`{name}` takes ({given}); it is called as `{name}({', '.join(parameters)})`.",
        )
    if not any(isinstance(inner, ast.Return) and inner.value is not None for inner in _own_nodes(node)):
        what = {"data": "Transforms", "model": "the model", "training": "the trained model"}[component]
        return _fault(component, "return", node.lineno, f"`{name}` never returns a value; it must return {what}.")
    return None


def _own_nodes(function: ast.FunctionDef) -> list[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    found, waiting = [], list(function.body)
    while waiting:
        node: ast.AST = waiting.pop()
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            waiting += list(ast.iter_child_nodes(node))  # type: ignore[arg-type]
    return found


def _work_at_import(component: Component, tree: ast.Module) -> Fault | None:
    """Components are definitions; what they do, they do when called."""
    for node in tree.body:
        if isinstance(node, ast.For | ast.While | ast.With | ast.Expr) and not _is_text(node):
            return _fault(
                component,
                "import",
                node.lineno,
                f"Line {node.lineno} does work when the script is loaded: {ast.unparse(node)[:120]!r}. Put it into a function.",
            )
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            return _fault(component, "import", node.lineno, "The script has its own main; remove `if __name__ == ...`.")
    return None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _weights(component: Component, tree: ast.Module, weights: Mapping[str, str]) -> Fault | None:
    """Pretrained weights asked for by a constant name have to be on disk: a job has no network."""
    there = ", ".join(sorted(weights)) or "none"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func).rsplit(".", 1)[-1]
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if _is_true(keywords.get("pretrained")):
            way = "call timm.create_model without pretrained and then load_pretrained(model, info, name)"
            return _fault(
                component,
                "weights",
                node.lineno,
                f"`{called}(pretrained=True)` would download weights, and a job has no network; {way}. On disk: {there}.",
            )
        given = keywords.get("weights")
        if (
            given is not None
            and not (isinstance(given, ast.Constant) and given.value is None)
            and "models" in ast.unparse(node.func)
        ):
            return _fault(
                component,
                "weights",
                node.lineno,
                f"`{called}(weights=...)` would download weights, and a job has no network. On disk: {there}.",
            )
        name = _name_asked_for(called, node)
        if name is not None and name not in weights:
            return _fault(
                component, "weights", node.lineno, f"No pretrained weights for {name!r} on disk; there are: {there}."
            )
    return None


def _name_asked_for(called: str, node: ast.Call) -> str | None:
    position = {"load_pretrained": 2, "pretrained": 0}.get(called)
    if position is None or len(node.args) <= position:
        return None
    argument = node.args[position]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _clashes(trees: Mapping[Component, ast.Module]) -> Fault | None:
    """All components share one script: a name defined twice would silently be the later one."""
    owner: dict[str, str] = dict.fromkeys(toolbox_names(), "the toolbox")
    for component, tree in trees.items():
        for node in tree.body:
            for name in _defined(node):
                if owner.get(name, component) != component:
                    return _fault(
                        component,
                        "clash",
                        node.lineno,
                        f"`{name}` is already defined by {owner[name]}; use that, or choose another name.",
                    )
                owner[name] = f"the {component} component" if owner.get(name) is None else owner[name]
                owner[name] = component
    return None


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def suggestions(name: str) -> str:
    """A hint for an unknown name."""
    close = get_close_matches(name, [*toolbox_names(), *dir(builtins), "torch", "nn", "F"], n=3)
    return f" Did you mean {', '.join(close)}?" if close else ""


def _fault(component: Component, kind: str, line: int | None, message: str) -> Fault:
    return Fault(stage="contract", kind=kind, component=component, line=line, message=message)
