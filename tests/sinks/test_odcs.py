"""The data contract of the tables is valid ODCS, and true of the tables."""

from typing import Any, Final

import duckdb
import jsonschema
import pyarrow as pa
import pytest

from sinks.dictionary import COLUMNS
from sinks.odcs import Freshness, odcs
from sinks.tables import TABLES
from tests.contracts.records import CONTRACT
from tests.sinks.rows import DAY, HOUR, NOON, rows_of
from tests.standards import standard

MINUTE: Final = 60_000_000
DOCUMENT: Final = odcs("lake", Freshness(5 * MINUTE, HOUR, MINUTE), [CONTRACT], "0.1.0")
DESCRIBED: Final[dict[str, dict[str, Any]]] = {table["name"]: table for table in DOCUMENT["schema"]}


@pytest.mark.parametrize("contracts", [[], [CONTRACT]], ids=["none", "one"])
def test_the_document_is_valid_odcs(contracts: list[Any]) -> None:
    document = odcs("/some/lake", Freshness(5 * MINUTE, HOUR, MINUTE), contracts, "0.1.0")
    validator = jsonschema.Draft201909Validator(standard("odcs-3.2.0"))
    assert [error.message for error in validator.iter_errors(document)] == []


def test_ids_are_unique_where_they_stand() -> None:
    for table in DOCUMENT["schema"]:
        ids = [column["id"] for column in table["properties"]]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_those_of_the_table(name: str) -> None:
    columns = DESCRIBED[name]["properties"]
    assert [column["name"] for column in columns] == [*TABLES[name].names, "dt"]
    for column, field in zip(columns, [*TABLES[name], pa.field("dt", pa.date32(), nullable=False)], strict=True):
        assert column["description"] == COLUMNS[name][field.name]
        assert column["required"] is not field.nullable
        if pa.types.is_map(field.type):
            assert column["logicalType"] == "map"
            assert column["map"]["key"]["logicalType"] == "string"
        if pa.types.is_timestamp(field.type):
            assert column["logicalTypeOptions"] == {"timezone": True, "defaultTimezone": "Etc/UTC"}


def test_metrics_are_described_as_the_contract_has_them() -> None:
    [metrics] = DESCRIBED["facts"]["customProperties"]
    assert metrics["value"][2] == {
        "flagKey": "support_answer_model_route",
        "name": "latency",
        "event": "support_conversation_outcome",
        "field": "latencyMs",
        "kind": "quantile",
        "aggregate": "max",
        "quantile": 0.95,
        "windowSeconds": 3600.0,
        "goal": "decrease",
    }


def test_the_promises_are_those_of_the_settings() -> None:
    promised = {each["property"]: each["value"] for each in DOCUMENT["slaProperties"]}
    assert promised == {"latency": 3960, "frequency": 300, "retention": "unlimited"}


FACT: Final[dict[str, Any]] = {
    "window_start": NOON,
    "window_end": NOON + DAY,
    "last_exposure_at": NOON + HOUR,
    "exposures": 2,
    "clean": True,
}


def broken(name: str, row: dict[str, Any], day: str = "2026-06-07") -> list[str]:
    """Return what the checks say of a table with one row."""
    rows = rows_of(TABLES[name], row).append_column("dt", pa.array([day], pa.string()).cast(pa.date32()))
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'Asia/Tokyo'")
    connection.register(name, rows)
    found = [
        check["description"]
        for check in DESCRIBED[name]["quality"]
        if check["type"] == "sql" and connection.sql(check["query"]).fetchall() != [(check["mustBe"],)]
    ]
    connection.close()
    return found


@pytest.mark.parametrize(
    ("change", "day", "said"),
    [
        ({}, "2026-06-07", []),
        ({"clean": False}, "2026-06-07", ["A fact is clean exactly if it has no flag."]),
        ({"clean": False, "flags": ["crossover"]}, "2026-06-07", []),
        ({"window_end": NOON}, "2026-06-07", ["A window ends after it begins.", "All exposures lie in the window."]),
        ({"last_exposure_at": NOON + DAY}, "2026-06-07", ["All exposures lie in the window."]),
        ({"fallbacks": 3}, "2026-06-07", ["A fact has an exposure, and no more fallbacks than exposures."]),
        ({}, "2026-06-08", ["A file lies in the directory of its day."]),
    ],
)
def test_checks_find_facts_that_cannot_be(change: dict[str, Any], day: str, said: list[str]) -> None:
    assert broken("facts", FACT | change, day) == said


def test_checks_find_events_that_cannot_be() -> None:
    row = {"variation": "a", "fact_variation": "b", "mismatched": False}
    assert broken("events", row) == ["A record is mismatched exactly if it names another variation."]
    assert broken("events", row | {"mismatched": True}) == []
