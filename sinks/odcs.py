"""The tables of a lake as a data contract in the Open Data Contract Standard (ODCS) 3.2.0: Parquet files for analysts.

Columns and their texts are those of `sinks.tables` and `sinks.dictionary`. The checks in it are what `evidence verify`
holds the lake to, as far as one query can say them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import pyarrow as pa

from contracts.dead_letters import STAGES
from contracts.flag_files import State
from contracts.flags import Contract
from sinks.dictionary import COLUMNS, FLAGS, REASONS, REFUSALS, RELATIONS
from sinks.tables import TABLES

__all__ = ["Freshness", "odcs"]

_KEYS: Final = {
    "facts": ("flag_key", "unit_id", "variation", "window_start"),
    "events": ("topic", "partition", "offset"),
    "unjoined": ("topic", "partition", "offset"),
    "refused": ("topic", "partition", "offset"),
}
"""What no two rows of a table share."""

_VALUES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("facts", "state"): dict.fromkeys(get_args(State), ""),
    ("facts", "flags"): FLAGS,
    ("events", "kind"): dict.fromkeys(("exposure", "outcome", "guardrail"), ""),
    ("events", "severity"): dict.fromkeys(("info", "warning", "severe"), ""),
    ("unjoined", "reason"): {reason: f"The record {text}." for reason, text in REASONS.items()},
    ("refused", "reason"): {reason: f"The record {text}." for reason, text in REFUSALS.items()},
    ("refused", "stage"): dict.fromkeys(sorted(STAGES - {"close"}), ""),
}
"""The columns that hold one of a few words, and what each says."""

_NEVER: Final[Mapping[str, Mapping[str, str]]] = {
    "facts": {
        "clean <> (len(flags) = 0)": "A fact is clean exactly if it has no flag.",
        "window_end <= window_start": "A window ends after it begins.",
        "last_exposure_at < window_start OR last_exposure_at >= window_end": "All exposures lie in the window.",
        "exposures < 1 OR fallbacks > exposures": "A fact has an exposure, and no more fallbacks than exposures.",
        "dt <> CAST(window_start AT TIME ZONE 'UTC' AS DATE)": "A file lies in the directory of its day.",
    },
    "events": {
        "mismatched <> (variation <> fact_variation)": "A record is mismatched exactly if it names another variation.",
    },
}
"""Conditions of no row, and what that means."""

_SIMPLE: Final[Mapping[pa.DataType, tuple[str, str]]] = {
    pa.string(): ("string", "VARCHAR"),
    pa.bool_(): ("boolean", "BOOLEAN"),
    pa.int32(): ("integer", "INTEGER"),
    pa.int64(): ("integer", "BIGINT"),
    pa.float64(): ("number", "DOUBLE"),
    pa.date32(): ("date", "DATE"),
}
"""By Arrow type: ODCS's logical type, and the SQL type that tools make of it."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old what is in the lake may be, in µs."""

    close_interval: int
    allowed_lateness: int
    out_of_orderness: int


def odcs(lake: str, freshness: Freshness, contracts: Iterable[Contract], version: str) -> dict[str, Any]:
    """Return the contract of the tables at a path; `version` is that of this software."""
    book = sorted(contracts, key=lambda contract: contract.flag_key)
    return {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "urn:evidence:lake",
        "name": "evidence",
        "version": version,
        "status": "active",
        "domain": "experimentation",
        "description": {
            "purpose": "Evidence for release decisions about model routes: what ran, what came of it, what went wrong.",
            "usage": "Files appear whole and committed and never change; a glob over them is right at any time. "
            "Readouts take clean facts of one epoch: contract versions whose facts may be read together.",
            "limitations": "Facts come after their window. A contract change does not reach back. Values of unjoined "
            "records stand as they came.",
        },
        "servers": [
            {"server": "lake", "type": "local", "path": f"{lake}/tables/{{model}}/**/*.parquet", "format": "parquet"}
        ],
        "schema": [_table(table, schema, book) for table, schema in TABLES.items()],
        "slaProperties": _promises(freshness),
    }


def _promises(freshness: Freshness) -> list[dict[str, Any]]:
    after = freshness.allowed_lateness + freshness.out_of_orderness + freshness.close_interval
    said = "A fact is there so long after its window, while records come: lateness, out-of-orderness, a close."
    kept = {"property": "retention", "value": "unlimited", "description": "Nothing deletes rows."}
    return [
        {"property": "latency", "value": after // 1_000_000, "unit": "s", "element": "facts", "description": said},
        {
            "property": "frequency",
            "value": freshness.close_interval // 1_000_000,
            "unit": "s",
            "element": "facts",
            "description": "Windows that are due are closed at least so often.",
        },
        *({**kept, "element": table} for table in TABLES),
    ]


def _table(table: str, schema: pa.Schema, book: Iterable[Contract]) -> dict[str, Any]:
    columns = [_column(table, field) for field in [*schema, pa.field("dt", pa.date32(), nullable=False)]]
    described: dict[str, Any] = {
        "id": table,
        "name": table,
        "physicalName": table,
        "physicalType": "parquet",
        "logicalType": "object",
        "description": RELATIONS[table],
        "dataGranularityDescription": RELATIONS[table].split(".")[0] + ".",
        "properties": columns,
        "quality": [
            _unique(table),
            *(_never(table, condition, says) for condition, says in _NEVER.get(table, {}).items()),
        ],
    }
    if table == "facts" and (metrics := _metrics(book)):
        described["customProperties"] = [{"property": "metrics", "value": metrics}]
    if table == "events":
        described["relationships"] = [
            {
                "type": "foreignKey",
                "from": [f"events.{name}" for name in ("flag_key", "unit_id", "fact_variation", "window_start")],
                "to": [f"facts.{name}" for name in _KEYS["facts"]],
            }
        ]
    return described


def _column(table: str, field: pa.Field) -> dict[str, Any]:
    column = {
        "id": field.name,
        "name": field.name,
        **_type(field.type),
        "description": COLUMNS[table][field.name],
        "required": not field.nullable,
    }
    if field.name in _KEYS[table]:
        column |= {"primaryKey": True, "primaryKeyPosition": _KEYS[table].index(field.name) + 1}
    if field.name == "dt":
        column |= {"partitioned": True, "partitionKeyPosition": 1}
    if (words := _VALUES.get((table, field.name))) is not None:
        listed = [{"value": word} | ({"description": says} if says else {}) for word, says in words.items()]
        (column["items"] if column["logicalType"] == "array" else column)["enum"] = listed
    return column


def _type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_timestamp(kind):
        options = {"timezone": True, "defaultTimezone": "Etc/UTC"}
        return {"logicalType": "timestamp", "physicalType": "TIMESTAMP", "logicalTypeOptions": options}
    if pa.types.is_map(kind):
        key, value = _type(kind.key_type), _type(kind.item_type)
        physical = f"MAP({key['physicalType']}, {value['physicalType']})"
        return {"logicalType": "map", "physicalType": physical, "map": {"key": key, "value": value}}
    if pa.types.is_list(kind):
        items = _type(kind.value_type)
        return {"logicalType": "array", "physicalType": f"ARRAY({items['physicalType']})", "items": items}
    logical, physical = _SIMPLE[kind]
    return {"logicalType": logical, "physicalType": physical}


def _unique(table: str) -> dict[str, Any]:
    return {
        "id": "unique",
        "type": "library",
        "metric": "duplicateValues",
        "arguments": {"properties": list(_KEYS[table])},
        "mustBe": 0,
        "unit": "rows",
        "dimension": "uniqueness",
        "severity": "error",
        "description": "Each is published exactly once.",
    }


def _never(table: str, condition: str, says: str) -> dict[str, Any]:
    return {
        "type": "sql",
        "query": f"SELECT count(*) FROM {table} WHERE {condition}",  # noqa: S608 - our own words
        "mustBe": 0,
        "dimension": "consistency",
        "severity": "error",
        "description": says,
    }


def _metrics(book: Iterable[Contract]) -> list[dict[str, Any]]:
    """Return what each metric of a flag means, for whoever reads the map `metrics` of facts."""
    return [
        {
            "flagKey": contract.flag_key,
            "name": metric.name,
            "event": metric.event,
            **({"field": metric.field} if metric.field is not None else {}),
            "kind": metric.kind,
            "aggregate": metric.aggregate,
            **({"quantile": metric.quantile} if metric.quantile is not None else {}),
            "windowSeconds": metric.window_us / 1_000_000,
            "goal": metric.goal,
        }
        for contract in book
        for metric in contract.metrics
    ]
