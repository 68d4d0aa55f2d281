"""The table of moves in docs/playbook.md, made from the moves themselves: `python -m agents.playbook.document > docs/playbook.md`."""

from agents.playbook.moves import MOVES

HEAD = """# The playbook's moves

The embedded team is not a language model. It starts from what comes furthest in a race of pretrained networks at several image sizes and a network
from scratch ([decision 0014](decisions/0014-race.md)), and then tries these moves, one at a time. Networks that it fetches are those of
[agents/playbook/backbones.toml](../agents/playbook/backbones.toml), all under licences that allow every use; others on disk race with them.
A move is admissible where its precondition holds; of those, the one is tried whose evidence, usual benefit and yield in this run so far are highest. A change that was
rejected is not tried again; an inconclusive one may be, once the incumbent is another. When no move is left, the run stops.

Augmentations that could change a label are never used: whether a mirror image keeps it is measured in the race, where a network has learned enough to tell; whether a turn or a mirror
does is reasoned from the class names and your description (`--describe`), which goes before all else, and every doubt counts against it (`agents/playbook/labels.py`).
"""


def document() -> str:
    rows = [f"| {m.component} | {m.name} | {m.needs} | {m.evidence} |" for m in MOVES]
    return (
        "\n".join(
            [
                HEAD,
                f"{len(MOVES)} moves:",
                "",
                "| component | move | precondition | evidence that calls for it |",
                "|---|---|---|---|",
                *rows,
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    print(document(), end="")  # noqa: T201 - the output
