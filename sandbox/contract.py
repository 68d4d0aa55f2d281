"""What each component has to define, and what it may not: found from its syntax tree, before anything runs."""

import ast
import warnings
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache

from sandbox.assemble import MARK, PARTS, TOOLBOX, toolbox_names
from sandbox.pretrained.disk import known_to_timm
from schema.pipeline import COMPONENTS, Component, Fault, Pipeline
from schema.source import parse_source

FACES: dict[Component, tuple[str, tuple[str, ...]]] = {
    "data": ("build_transforms", ("info",)),
    "model": ("build_model", ("info",)),
    "training": ("train", ("model", "loaders", "info", "log")),
}
ROOMS = frozenset(
    {"agents", "checkpoints", "dataset", "graph", "improve", "nodes", "sandbox", "schema", *TOOLBOX, "pipeline"}
)
ASKING = frozenset({"input", "breakpoint", "exit", "quit", "sys.exit", "os._exit", "pdb.set_trace"})


def contract_fault(pipeline: Pipeline) -> Fault | None:
    """The first way in which a component breaks the contract."""
    trees: dict[Component, ast.Module] = {}
    for component in COMPONENTS:
        tree = parsed(component, pipeline.code(component))
        if isinstance(tree, Fault):
            return tree
        if fault := _marks(component, pipeline.code(component)):
            return fault
        trees[component] = tree
    for component, tree in trees.items():
        rules = (_face, _work_at_import, _imports, _asks, _models)
        if fault := next((found for rule in rules if (found := rule(component, tree))), None):
            return fault
    return _clashes(trees)


def parsed(component: Component, code: str) -> ast.Module | Fault:
    try:
        tree = parse_source(code)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(tree, component, "exec", dont_inherit=True)  # finds `return` outside a function and the like
        return tree
    except SyntaxError as error:
        line = error.lineno
        shown = code.split("\n")[line - 1].strip()[:200] if line and line <= code.count("\n") + 1 else ""
        fence = " Give the source text alone, without Markdown fences." if shown.startswith("```") else ""
        message = f"{error.msg} in line {line}: {shown}{fence}" if line else f"{error.msg}."
        return Fault(stage="parse", kind="SyntaxError", component=component, line=line, message=message)


def _marks(component: Component, code: str) -> Fault | None:
    """By these lines faults find their component; one in the wrong place would blame another."""
    marks = {MARK.format(name) for name in (*COMPONENTS, "end")}
    line = next((number for number, text in enumerate(code.split("\n"), start=1) if text in marks), None)
    message = "This line marks a section of the script, which is written around the component: remove it."
    return _fault(component, "mark", line, message) if line else None


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
    """Components are definitions; what they do, they do when called. A setting such as `torch.set_float32_matmul_precision("high")` may stay."""
    imported = {name for node in tree.body for name, _ in _import_targets(node)}
    for node in tree.body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            return _fault(component, "import", node.lineno, "The script has its own main; remove `if __name__ == ...`.")
        setting = isinstance(node, ast.Expr) and ast.unparse(node).split(".")[0] in imported
        if isinstance(node, ast.For | ast.While | ast.With | ast.Expr) and not _is_text(node) and not setting:
            return _fault(
                component,
                "import",
                node.lineno,
                f"Line {node.lineno} does work when the script is loaded: {ast.unparse(node)[:120]!r}. Put it into a function.",
            )
    return None


def _imports(component: Component, tree: ast.Module) -> Fault | None:
    """The script is free-standing: the toolbox is inlined, and names have to be visible."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            message = f"`{ast.unparse(node)}` hides which names it brings; import them by name."
            return _fault(component, "import", node.lineno, message)
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            if relative or any(module.split(".")[0] in ROOMS for module in modules):
                message = f"`{ast.unparse(node)}`: the toolbox and the other components are in the same script already; remove this import."
                return _fault(component, "import", node.lineno, message)
    return None


def _asks(component: Component, tree: ast.Module) -> Fault | None:
    """Nobody sits at a job's terminal, and a job that leaves by itself is a failure."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in ASKING:
            message = f"`{called}(...)` waits for a person or ends the process; raise an exception or return instead."
            return _fault(component, "interactive", node.lineno, message)
    return None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _models(component: Component, tree: ast.Module) -> Fault | None:
    """Every `timm.create_model` names a model that timm knows."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return next((fault for node in calls if (fault := _unknown_model(component, node))), None)


def _unknown_model(component: Component, node: ast.Call) -> Fault | None:
    called = ast.unparse(node.func).rsplit(".", 1)[-1]
    named = node.args[0] if called == "create_model" and node.args else None
    if not isinstance(named, ast.Constant) or not isinstance(named.value, str):
        return None
    name = named.value.split(".")[0]
    known = known_to_timm()
    if ":" in name or "/" in name or name in known:
        return None
    close = ", ".join(get_close_matches(name, known, n=5)) or "none"
    return _fault(component, "model", node.lineno, f"timm has no model {named.value!r}. Names close to it: {close}.")


def _clashes(trees: Mapping[Component, ast.Module]) -> Fault | None:
    """All components share one script: a name that is bound twice would silently be the later one."""
    ours = "the script around the components"
    owner = {name: (ours, what) for name, what in {**dict.fromkeys(toolbox_names(), ""), **_script_imports()}.items()}
    for component, tree in trees.items():
        for node in tree.body:
            for name, what in [*((name, f"{component}:{name}") for name in _defined(node)), *_import_targets(node)]:
                before, meant = owner.setdefault(name, (f"the {component} component", what))
                own = before == f"the {component} component"
                if meant != what and not own:
                    shown = f" (as {meant})" if meant and ":" not in meant else ""
                    message = f"`{name}` is already defined by {before}{shown}, and all share one script; use that, or choose another name."
                    return _fault(component, "clash", node.lineno, message)
    return None


def script_bindings() -> dict[str, str]:
    """Return the names that the script around the components has, and what each of them stands for."""
    return {name: f"script:{name}" for name in toolbox_names()} | _script_imports()


def bindings(owner: str, tree: ast.Module) -> dict[str, str]:
    """Return the names that a component binds at its top level, and what each of them stands for: an import of the same is the same."""
    found: dict[str, str] = {}
    for node in tree.body:
        found |= {name: f"{owner}:{name}" for name in _defined(node)} | dict(_import_targets(node))
    return found


@cache
def _script_imports() -> dict[str, str]:
    """What the parts of the script import: a component that binds `time` or `F` to something else would break them."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted(PARTS.glob("*.py"))]
    found = {name: what for tree in trees for node in tree.body for name, what in _import_targets(node)}
    return {name: what for name, what in found.items() if not what.startswith("sandbox.")}


def _import_targets(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Each name that an import binds, and what it then stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [
        name.id
        for target in targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    ]


def _fault(component: Component, kind: str, line: int | None, message: str) -> Fault:
    return Fault(stage="contract", kind=kind, component=component, line=line, message=message)
