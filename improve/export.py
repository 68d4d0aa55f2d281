"""What the person takes home: the script, the weights, and all that a stranger needs to use them, to check the score, and to train again."""

import ast
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from checkpoints.store import Store
from dataset.manifest import FILES
from improve.api import load
from improve.export_readme import readme
from improve.show import as_json
from nodes.data import arrays_at
from schema.errors import InputError
from schema.run import Environment, RunRow

NEEDED = ("torch", "torchvision", "timm", "numpy", "safetensors", "pillow")
IMPORTED_AS = {"sklearn": "scikit-learn", "scipy": "scipy"}  # what a pipeline may use besides
MARKER = "improve-export.json"


def export(name: str, to: Path, store: Store) -> list[Path]:
    """The files written. Refuses a folder that holds something else."""
    row, result = store.run(name), load(name)
    if not result.weights.exists():
        raise InputError(f"Run {name!r} has no trained pipeline yet. `improve show {name}` tells where it is.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())) and not (to / MARKER).exists():
        raise InputError(
            f"{to} exists and is no earlier export. Choose an empty or new folder: improve export {name} --to DIR"
        )
    environment = row.environment.at(int(result.script.parent.name)) if row.environment else None
    arrays = arrays_at(row.profile) if row.profile else None
    sources = {path.name: path for path in (result.script, result.weights, result.report)}
    sources |= {"split.csv": arrays / FILES} if arrays else {}
    there = {file: source for file, source in sources.items() if source.exists()}
    texts = {
        "requirements.txt": _requirements(result.script.read_text(encoding="utf-8"), environment),
        "settings.json": json.dumps(_settings(row), indent=2),
        "README.md": readme(row, environment, has_split="split.csv" in there),
        MARKER: json.dumps(as_json(name, store), indent=2),
    }
    if environment:
        texts["environment.json"] = environment.model_dump_json(indent=2)
    try:
        to.mkdir(parents=True, exist_ok=True)
        for file, source in there.items():
            shutil.copyfile(source, to / file)
        for file, text in texts.items():
            (to / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{error.filename or to} cannot be written: {error.strerror}. Choose another folder: improve export {name} --to DIR"
        ) from None
    return [to / file for file in (*there, *texts)]


def _requirements(script: str, environment: Environment | None) -> str:
    """The versions that it was trained with; today's for a run of before they were kept."""
    nodes = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    used = {IMPORTED_AS[top] for top in (name.split(".")[0] for name in names) if top in IMPORTED_AS}
    kept = environment.packages if environment else {}
    return "".join(f"{package}=={kept.get(package) or version(package)}\n" for package in (*NEEDED, *sorted(used)))


def _settings(row: RunRow) -> dict[str, Any]:
    """As the run had them, with the seed. Of places on the person's machine and in their network, names alone."""
    kept = row.settings.model_dump(mode="json", exclude={"base_url"})
    for place in ("dataset", "labels", "weights_dir"):
        kept[place] = kept[place] and Path(kept[place]).name
    return kept
