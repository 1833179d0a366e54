"""Small manifests, stamps and table rows, for tests to change where it matters to them."""

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from contracts.columns import EVENT, TIMESTAMP, utf8
from sinks.manifest import Manifest, TopicState
from sinks.parquet import Stamp
from sinks.tables import TABLES

__all__ = ["DAY", "HOUR", "NOON", "events", "manifest", "rows_of", "stamp", "table", "topic"]

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
NOON: Final = 1_780_833_600_000_000  # 2026-06-07T12:00:00Z


def topic(name: str = "exposures", **fields: Any) -> TopicState:  # noqa: ANN401 - any field
    values = {"topic_id": f"id of {name}", "partitions": 12, "first_offset": 0, "next_offset": 100, "closed_offset": 0}
    return TopicState(name=name, **{**values, **fields})


def manifest(seq: int = 1, **fields: Any) -> Manifest:  # noqa: ANN401 - any field
    values: dict[str, Any] = {
        "lake_id": "lake",
        "partition": 3,
        "pipeline_version": "0.1.0",
        "group": "evidence",
        "writer": "a",
        "committed_at": NOON,
        "topics": {"exposure": topic()},
    }
    return Manifest(seq=seq, **{**values, **fields})


def stamp(seq: int = 1, **fields: Any) -> Stamp:  # noqa: ANN401 - any field
    values: dict[str, Any] = {
        "lake_id": "lake",
        "partition": 3,
        "writer": "a",
        "pipeline_version": "0.1.0",
        "offsets": {"exposures": (0, 100)},
    }
    return Stamp(seq=seq, **{**values, **fields})


def table(name: str, *rows: Mapping[str, Any]) -> pa.Table:
    """Return rows of a table of the lake; a column that a row leaves out has some value of its type."""
    return rows_of(TABLES[name], *rows)


def events(*rows: Mapping[str, Any]) -> pa.Table:
    """Return rows as segments keep them."""
    return rows_of(utf8(EVENT), *rows)


def rows_of(schema: pa.Schema, *rows: Mapping[str, Any]) -> pa.Table:
    some = {field.name: None if field.nullable else _some(field.type) for field in schema}
    if unknown := {name for row in rows for name in row} - some.keys():
        raise ValueError(f"no such columns: {unknown}")
    columns = [pa.array([{**some, **row}[field.name] for row in rows], field.type) for field in schema]
    return pa.table(columns, schema=schema)


def _some(kind: pa.DataType) -> object:
    values: dict[pa.DataType, object] = {
        pa.string(): "a",
        pa.binary(): b"{}",
        pa.bool_(): False,
        pa.int32(): 3,
        pa.int64(): 0,
        TIMESTAMP: NOON,
    }
    return values.get(kind, [])
