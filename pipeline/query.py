"""Answers of `evidence query`: one statement over the views of a lake."""

from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb

from contracts.errors import EvidenceError
from sinks.views import connect

__all__ = ["Answer", "ask"]

# Whoever asks for more rows wants to do something with them, and takes --json.
SHOWN_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement returned, as values and as a table to read; `text` shows at most SHOWN_ROWS rows."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    text: str


def ask(lake: Path, sql: str) -> Answer:
    """Run the statement; EvidenceError says in one line what DuckDB has against it."""
    with closing(connect(lake)) as connection:
        try:
            relation = connection.sql(sql)
            if relation is None:  # a statement without result
                return Answer((), (), "done")
            return Answer(relation.columns, relation.fetchall(), _text(relation))
        except duckdb.Error as error:
            said = " ".join(str(error).split())
            raise EvidenceError(f"{said}; the views are: {', '.join(_views(connection))}") from None


def _text(relation: duckdb.DuckDBPyRelation) -> str:
    text = StringIO()
    with redirect_stdout(text):
        relation.show(max_rows=SHOWN_ROWS, max_width=200)
    return text.getvalue().rstrip()


def _views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY view_name")
    return [name for (name,) in found.fetchall()]
