"""What was tried, for the analyst: a table from the store's numbers that stays the same length however long the run."""

from collections.abc import Iterable

from schema.pipeline import COMPONENTS
from schema.team import LedgerRow
from schema.text import one_line

LATEST, KEPT, OPEN = 10, 3, 2  # rows in full: the last, before them the accepted, before them the inconclusive
MOVES = 6  # names of rejected changes per component
NAME, SUMMARY = 50, 200  # characters
UNDECIDED = ("inconclusive", "cut")  # verdicts that say nothing against the change


def history(ledger: list[LedgerRow]) -> str:
    """Rows in full for what matters still, one line per component for all the rest."""
    if not ledger:
        return "Nothing yet."
    rows = shown(ledger)
    lines = [
        "Validation and the incumbent's in the same comparison are means over their trainings; their difference has its standard error. Gained and lost: held-out images that only the one "
        "or only the other has right. Expected: what was thought to be gained in truth.",
        "",
        "| # | component | change | verdict | epochs | images/s | train loss, accuracy | validation | against | difference | gained, lost | expected | learned |",
        "|" + "---|" * 13,
    ]
    lines += [_row(row) for row in rows]
    folded = [row for row in ledger if row not in rows]
    if folded:
        lines += [
            "",
            f"Before these, {len(folded)} more iterations. What was learned per component, over the whole run:",
        ]
        lines += [_learned(component, ledger, rows) for component in (*COMPONENTS, "all") if _of(component, ledger)]
    return "\n".join(lines)


def shown(ledger: list[LedgerRow]) -> list[LedgerRow]:
    """In the order in which they happened."""
    latest = ledger[-LATEST:]
    before = ledger[:-LATEST]
    kept = [row for row in before if row.verdict in {"accepted", "first"}][-KEPT:]
    open_ = [row for row in before if row.verdict in UNDECIDED][-OPEN:]
    return [row for row in ledger if row in kept or row in open_ or row in latest]


def undecided(ledger: list[LedgerRow]) -> list[int]:
    """Iterations that may be tried once more: of one component, shown in the table."""
    return [row.iteration for row in shown(ledger) if row.verdict in UNDECIDED and row.component != "all"]


def _row(row: LedgerRow) -> str:
    cells = (
        str(row.iteration),
        row.component,
        one_line(row.move, NAME),
        row.verdict,
        epochs(row),
        "" if row.images_per_second is None else f"{row.images_per_second:.0f}",
        ", ".join(f"{one:.3f}" for one in (row.train_loss, row.train_accuracy) if one is not None),
        "" if row.validation is None else f"{row.validation:.4f}",
        "" if row.against is None else f"{row.against:.4f}",
        "" if row.delta is None else f"{row.delta:+.4f} ± {row.standard_error or 0:.4f}",
        "" if row.gained is None else f"+{row.gained}, -{row.lost}",
        "" if row.expected is None else f"{row.expected:+.4f}",
        one_line(row.summary, SUMMARY),
    )
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def epochs(row: LedgerRow) -> str:
    """`10 of 22 epochs`, if it did not get to its end: it may be good all the same."""
    if row.epochs is None:
        return ""
    return f"cut: {row.epochs} of {row.planned or 'more'}" if row.cut else str(row.epochs)


def _learned(component: str, ledger: list[LedgerRow], rows: list[LedgerRow]) -> str:
    """How often, how many were kept, what helped most, and what is not worth another try. Gains of single steps are not added up."""
    own = _of(component, ledger)
    kept = [row for row in own if row.verdict == "accepted"]
    best = sorted(kept, key=lambda row: -(row.expected or 0.0))[:3]
    rejected = [row for row in own if row.verdict in {"rejected", "failed"} and row not in rows]
    helped = f"; most by {_names(best)}" if best else ""
    useless = f"; without success {_names(reversed(rejected), MOVES)}" if rejected else ""
    failed = sum(row.verdict == "failed" for row in own)
    broken = f", {failed} failed" if failed else ""
    return f"- {component}: {len(own)} tried, {len(kept)} kept{broken}{helped}{useless}"


def _of(component: str, ledger: list[LedgerRow]) -> list[LedgerRow]:
    return [row for row in ledger if row.component == component and row.verdict != "first"]


def _names(rows: Iterable[LedgerRow], most: int = 3) -> str:
    names = list(dict.fromkeys(one_line(row.move, NAME) for row in rows))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
