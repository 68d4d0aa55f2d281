"""What the person takes home: the script, the weights, and how to use them without IMPROVE."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

from checkpoints.store import Store
from improve.api import load
from improve.show import as_json, final_line
from schema.errors import InputError

NEEDED = ("torch", "torchvision", "timm", "numpy", "safetensors", "pillow")
MARKER = "improve-export.json"


def export(name: str, to: Path, store: Store) -> list[Path]:
    """The files written. Refuses a folder that holds something else."""
    result = load(name)
    if not result.weights.exists():
        raise InputError(f"Run {name!r} has no trained pipeline yet. `improve show {name}` tells where it is.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())) and not (to / MARKER).exists():
        raise InputError(
            f"{to} exists and is no earlier export. Choose an empty or new folder: improve export {name} --to DIR"
        )
    texts = {
        "requirements.txt": "".join(f"{package}=={version(package)}\n" for package in NEEDED),
        "README.md": _readme(name, final_line(store.run(name))),
        MARKER: json.dumps(as_json(name, store), indent=2),
    }
    sources = [source for source in (result.script, result.weights, result.report) if source.exists()]
    try:
        to.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copyfile(source, to / source.name)
        for file, text in texts.items():
            (to / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{error.filename or to} cannot be written: {error.strerror}. Choose another folder: improve export {name} --to DIR"
        ) from None
    return [*(to / source.name for source in sources), *(to / file for file in texts)]


def _readme(name: str, line: str) -> str:
    return f"""# {name}

{line}

    pip install -r requirements.txt
    python pipeline.py predict --weights weights.safetensors photo.jpg
    python pipeline.py train --data FOLDER --out OUT      # FOLDER has one folder of images per class

`pipeline.py` is the whole classifier: read its sections data, model and training. `report.md` tells how it was found,
`{MARKER}` has the numbers.
"""
