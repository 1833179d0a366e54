"""How two runs of the join are compared: rows as multisets."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tests.properties.oracle import Row, Rows

__all__ = ["TABLES", "differences", "fates", "frozen", "row_differences", "without_offsets"]

TABLES: Final = ("facts", "events", "unjoined", "dead_letters")


def frozen(cell: Any) -> Any:  # noqa: ANN401 - any cell of a row
    """Return a cell, or a row, in a form that can be counted."""
    if isinstance(cell, dict):
        return tuple(sorted((name, frozen(inner)) for name, inner in cell.items()))
    if isinstance(cell, list | tuple):
        return tuple(frozen(inner) for inner in cell)
    return cell


def row_differences(title: str, expected: Iterable[Row], actual: Iterable[Row]) -> list[str]:
    """Return a line for each row that only one of the two multisets holds."""
    left, right = Counter(map(frozen, expected)), Counter(map(frozen, actual))
    signed = [("missing", left - right), ("unexpected", right - left)]
    return [f"{title}: {sign} {dict(row)}" for sign, rows in signed for row in rows.elements()]


def differences(expected: Rows, actual: Rows, tables: Sequence[str] = TABLES) -> list[str]:
    """Return a line for each row that only one of the two runs published."""
    return [
        line for table in tables for line in row_differences(table, getattr(expected, table), getattr(actual, table))
    ]


def without_offsets(rows: Rows) -> Rows:
    """Return the rows without offsets, which follow the order of arrival."""

    def strip(table: Iterable[Row]) -> list[Row]:
        return [{name: cell for name, cell in row.items() if name != "offset"} for row in table]

    return Rows(*(strip(getattr(rows, table)) for table in TABLES))


def fates(rows: Rows) -> Counter[tuple[str, int]]:
    """Return how many fates each record has, by topic and offset."""
    return Counter((row["topic"], row["offset"]) for row in rows.events + rows.unjoined)
