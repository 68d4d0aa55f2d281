"""Every folder tree that docs/dataset.md draws is read as it says there."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.dataset.trees import plant, read, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dataset.md"
DRAWN = re.compile(r"<!-- layout: ([\w-]+)(?:; options: (.*?))? -->\n```\n(.*?)```", re.DOTALL)
EACH = 8  # files that stand for `...`
LABELS = ("cat", "dog")


@dataclass(frozen=True)
class Tree:
    layout: str
    options: dict[str, str]
    lines: list[str]


def trees() -> list[Tree]:
    found = []
    for layout, options, drawing in DRAWN.findall(PAGE.read_text(encoding="utf-8")):
        words = shlex.split(options.replace("|", r"\|"))
        given = {
            name.removeprefix("--").replace("-", "_"): value
            for name, value in zip(words[::2], words[1::2], strict=True)
        }
        found.append(Tree(layout, given, drawing.splitlines()))
    return found


def grow(tree: Tree, root: Path) -> Path:
    """Make the files of the drawing; `...` is more of the file before it, and beside a table stand its columns."""
    folders: list[str] = []
    tables: list[tuple[str, list[str]]] = []
    images: list[str] = []
    for line in tree.lines:
        depth = (len(line) - len(line.lstrip())) // 4
        name, _, columns = line.strip().partition(" ")
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
        elif columns:
            tables.append(("/".join([*folders, name]), columns.strip().split(",")))
        elif name == "...":
            before, number, after = re.fullmatch(r"(.*?)(\d+)(\.\w+)", images[-1]).groups()  # type: ignore[union-attr]
            images += [f"{before}{int(number) + i:03d}{after}" for i in range(1, EACH)]
        else:
            images.append("/".join([*folders, name]))
    plant(root, *images)
    for path, columns in tables:
        named = [image for image in images if "test" not in image]
        table(
            root / path, [columns, *([cell(column, i, image) for column in columns] for i, image in enumerate(named))]
        )
    return root / folders[0]


def cell(column: str, row: int, image: str) -> str:
    label = LABELS[row % 2]
    return {
        "filename": Path(image).name,
        "id_code": Path(image).stem,
        "image_id": Path(image).stem,
        "label": label,
        "diagnosis": label,
        "split": "test" if row % 4 > 1 else "train",
        "healthy": str(int(label == "cat")),
        "rust": str(int(label == "dog")),
    }[column]


@pytest.mark.parametrize("tree", trees(), ids=lambda tree: f"{tree.lines[0]}{tree.layout}")
def test_a_tree_of_the_page_is_read_as_drawn(tree: Tree, tmp_path: Path) -> None:
    listing = read(grow(tree, tmp_path), **tree.options)
    assert listing.layout == tree.layout
    assert len(listing.classes) == 2
    assert len(listing.samples) >= EACH


def test_the_page_draws_the_usual_trees() -> None:
    assert {tree.layout for tree in trees()} == {"class-folders", "split-folders", "table", "file-names"}
