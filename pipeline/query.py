"""Answers of `evidence query`: one statement over the views of a lake."""

from collections.abc import Sequence
from contextlib import closing, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from shutil import get_terminal_size
from typing import Any, Final

import duckdb

from contracts.errors import EvidenceError
from pipeline.terminal import safe
from sinks.dictionary import RELATIONS
from sinks.views import connect

__all__ = ["Answer", "ask"]

SHOWN_ROWS: Final = 1_000
"""Whoever asks for more rows wants to do something with them, and takes --json."""

NARROW_ROWS: Final = 20
"""So many rows are shown a column a line where they are too wide for a table; more would be hard to read."""

TRIES: Final = 3
"""How often a statement is run of which a file is gone: a compaction has replaced it since the tables were listed."""

WIDTH: Final = 200
"""How wide a table may be that does not go to a terminal."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement returned, as values and as a table to read.

    `text` shows at most SHOWN_ROWS rows; no value in it can do anything to a terminal.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]
    text: str


def ask(lake: Path, sql: str) -> Answer:
    """Run the statement; EvidenceError says in one line what DuckDB has against it.

    It is run again where table files were replaced under it by a compaction.
    """
    for _ in range(TRIES - 1):
        with suppress(_Replaced):
            return _ask(lake, sql)
    return _ask(lake, sql)


class _Replaced(EvidenceError):
    """A file is gone that was there when the statement began."""


def _ask(lake: Path, sql: str) -> Answer:
    with closing(connect(lake)) as connection:
        try:
            relation = connection.sql(sql)
            if relation is None:  # a statement without result
                return Answer((), (), "done")
            rows = relation.fetchall()
            return Answer(relation.columns, rows, _text(relation, rows))
        except duckdb.Error as error:
            said = " ".join(str(error).split())
            gone = isinstance(error, duckdb.IOException) and "No such file" in said
            kind = _Replaced if gone else EvidenceError
            raise kind(f"{said}; the views are: {', '.join(_views(connection))}") from None


def _text(relation: duckdb.DuckDBPyRelation, rows: Sequence[tuple[Any, ...]]) -> str:
    table = StringIO()
    with redirect_stdout(table):
        relation.show(max_rows=SHOWN_ROWS, max_width=get_terminal_size((WIDTH, 0)).columns)
    text = "\n".join(map(safe, table.getvalue().rstrip().split("\n")))
    whole = all(f" {column} " in text for column in relation.columns)
    return text if whole or len(rows) > NARROW_ROWS else _narrow(relation.columns, rows)


def _narrow(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    """Return a line a value, and an empty line between rows."""
    width = max(map(len, columns))
    return "\n\n".join(
        "\n".join(f"{column:>{width}} = {safe(str(value))}" for column, value in zip(columns, row, strict=True))
        for row in rows
    )


def _views(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return what a statement may name, those for analysts first."""
    found = connection.sql("SELECT view_name FROM duckdb_views() WHERE view_name LIKE 'metrics\\_%' ESCAPE '\\'")
    return [*RELATIONS, *sorted(name for (name,) in found.fetchall())]
