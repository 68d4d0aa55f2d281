"""Parse Python text that somebody else wrote, within bounds: whatever it says, the process that reads it goes on."""

import ast
import warnings

LARGEST = 60_000  # characters of a component
# Levels of syntax within one another. The deepest of 3,300 files of torch, torchvision and timm has 100, and the next one 50; readers that call
# themselves level by level (ast.unparse among them) come to Python's limit of recursion near 250.
DEEPEST = 120


def parse_source(code: str) -> ast.Module:
    """Return the syntax tree of `code`, at most DEEPEST levels deep.

    Raises SyntaxError, with the line, if the text is no Python, or too long or too deep to be read by whatever comes next.
    """
    if len(code) > LARGEST:
        raise SyntaxError(f"the text has {len(code):,} characters, and at most {LARGEST:,} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape is its author's business
            tree = ast.parse(code)
    except (RecursionError, MemoryError):
        raise SyntaxError(_TOO_DEEP) from None
    except ValueError as error:  # a null byte
        raise SyntaxError(str(error)) from None
    if line := _line_below(tree, DEEPEST):
        raise SyntaxError(_TOO_DEEP, (None, line, None, None))
    return tree


_TOO_DEEP = (
    f"the syntax is nested more than {DEEPEST} levels deep: give the parts of a long expression names of their own"
)


def _line_below(tree: ast.Module, deepest: int) -> int | None:
    """The line of a node that lies deeper, if there is one."""
    waiting: list[tuple[ast.AST, int, int]] = [(tree, 0, 1)]
    while waiting:
        node, depth, line = waiting.pop()
        line = getattr(node, "lineno", line)
        if depth > deepest:
            return line
        waiting += [(inner, depth + 1, line) for inner in ast.iter_child_nodes(node)]
    return None
