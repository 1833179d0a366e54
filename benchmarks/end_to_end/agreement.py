"""Compares the facts of all contenders row by row, over the windows that each of them had to close."""

from types import TracebackType
from typing import Final, Self

import duckdb

from benchmarks.end_to_end.load import CLOSED_THROUGH, OPEN_FOR
from benchmarks.peers.arguments import COLUMNS

__all__ = ["Agreement", "Disagreement"]

# later windows may have closed here and not there: partitions end at different times
_OPENED_BY: Final = f"epoch_ms({CLOSED_THROUGH - OPEN_FOR})::TIMESTAMPTZ"


class Disagreement(Exception):
    """A contender has other facts than the first one; the message shows some of them."""


class Agreement:
    """The facts that the first contender wrote, to which those of every run must be equal, in each column."""

    def __init__(self) -> None:
        """Start without facts."""
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._first = ""
        self.rows = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Forget the facts."""
        self._connection.close()

    def check(self, label: str, query: str) -> None:
        """Hold the facts of a query with the columns `COLUMNS` against those that came first. Raises Disagreement."""
        text = f"SELECT {', '.join(COLUMNS)} FROM ({query}) WHERE window_start <= {_OPENED_BY}"  # noqa: S608
        if not self._first:
            self._connection.execute(f"CREATE TABLE facts AS {text}")
            self._first = label
            self.rows = self._connection.table("facts").count("*").fetchall()[0][0]
            return
        differences = self._connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE others AS {text};
            WITH
            lacking AS (FROM facts EXCEPT ALL FROM others),
            surplus AS (FROM others EXCEPT ALL FROM facts)
            SELECT 'only ' || $first, * FROM lacking UNION ALL SELECT 'only ' || $other, * FROM surplus
            ORDER BY flag_key, unit_id LIMIT 6
            """,  # noqa: S608
            {"first": self._first, "other": label},
        ).fetchall()
        if differences:
            shown = "\n".join(map(str, differences))
            raise Disagreement(f"{label} and {self._first} do not have the same facts:\n{shown}")
