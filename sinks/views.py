"""The lake in DuckDB: one connection, read-only views, for analysts and for `evidence query`.

The table views read whatever files lie below `tables/` when a query runs. The rest (`account`, `exposures_open`,
`manifests` and those they are made of), and the numbers of epochs, stand on what was there at the time of connecting.
A worker may go on meanwhile: segments that it lets go stay for ten minutes, so a query that runs is not disturbed;
connect again for new results. Small table files give way to large ones at once: a query that had listed them before,
and finds one gone, fails with an IOException ("No such file or directory"); run it again. It never returns a wrong
answer. Column descriptions are comments (`SELECT column_name, comment FROM duckdb_columns()`).
"""
# ruff: noqa: S608 - SQL is put together from our own names, and from texts that `_quoted` or `_literal` went over

import glob
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from contracts.columns import EVENT, TIMESTAMP, utf8
from contracts.errors import LakeError
from contracts.flags import Contract, load_contract
from sinks.archives import undelivered
from sinks.dictionary import COLUMNS, RELATIONS
from sinks.epochs import epochs, undecided
from sinks.lineage import LAKE_FILE, lineages, read_lake
from sinks.manifest import Manifest
from sinks.storage import LocalStorage, Storage
from sinks.tables import EXPORTED, FACTS, TABLES

__all__ = ["connect"]

_TRIES: Final = 3

_VIEWS: Final = Path(__file__).with_name("views.sql")

_MANIFESTS: Final = pa.schema(
    [
        ("partition", pa.int32()),
        ("seq", pa.int64()),
        ("committed_at", TIMESTAMP),
        ("watermark", TIMESTAMP),
        ("closed_through", TIMESTAMP),
        ("stopped", pa.string()),
        ("stopped_topic", pa.string()),
        ("stopped_at", TIMESTAMP),
        ("segments", pa.int64()),
        ("segment_rows", pa.int64()),
        ("unpublished", pa.int64()),
        ("totals", pa.map_(pa.string(), pa.int64())),
        ("group", pa.string()),
        ("writer", pa.string()),
        ("pipeline_version", pa.string()),
        ("lake_id", pa.string()),
    ]
)

_TOPICS: Final = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("kind", pa.string()),
        ("first_offset", pa.int64()),
        ("next_offset", pa.int64()),
        ("closed_offset", pa.int64()),
    ]
)

_CONTRACTS: Final = pa.schema(
    [
        ("flag_key", pa.string()),
        ("epoch", pa.int64()),
        ("contract_version", pa.string()),
        ("experiment_key", pa.string()),
        ("text", pa.string()),
    ]
)

_UNDELIVERED: Final = pa.schema(
    [("topic", pa.string()), ("partition", pa.int32()), ("first_offset", pa.int64()), ("next_offset", pa.int64())]
)


def connect(lake: Path | str) -> duckdb.DuckDBPyConnection:
    """Return an in-memory DuckDB connection with the views of the lake; close it after use.

    Nothing in it writes to the lake. `LakeError` if there is no lake at the path, `DamagedFile` if a manifest, a
    segment or a contract is not what was written, `StorageUnavailable` if it cannot be read.
    """
    root = Path(lake)
    storage = LocalStorage(root)
    if not storage.exists(LAKE_FILE):
        raise LakeError(f"{root} holds no lake; name one with EVIDENCE_LAKE, or start a worker to make it")
    read_lake(storage)
    for _ in range(_TRIES - 1):
        with suppress(duckdb.IOException):  # a view looks into a file, which a compaction may just have replaced
            return _connected(storage)
    return _connected(storage)


def _connected(storage: LocalStorage) -> duckdb.DuckDBPyConnection:
    manifests = [manifest for lineage in lineages(storage) if (manifest := lineage.readable()) is not None]
    scratch = Path(tempfile.gettempdir()) / f"evidence-duckdb-{os.getpid()}"
    connection = duckdb.connect(config={"temp_directory": str(scratch)})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        contracts = _contracts(storage)
        for table, schema in TABLES.items():
            view = "fact_rows" if table == "facts" else table
            connection.execute(f"CREATE VIEW {view} AS {_table(storage, table, schema)}")
        numbers = epochs(contracts, _first_used(connection, undecided(contracts)))
        connection.execute(f"CREATE VIEW facts AS SELECT *, {_epoch(numbers)} AS epoch FROM fact_rows")
        _keep(connection, "contract_versions", _contract_rows(contracts, numbers))
        for table, schema in EXPORTED.items():
            connection.execute(f"CREATE VIEW exported_{table} AS {_table(storage, table, schema)}")
        connection.execute(f"CREATE VIEW segment_rows AS {_segments(storage, manifests)}")
        connection.execute(f"SET VARIABLE first_live_offset = {_first_live_offset(manifests)}::BIGINT")
        _keep(connection, "manifests", _manifest_rows(storage, manifests))
        _keep(connection, "topics", _topic_rows(manifests))
        _keep(connection, "undelivered", _undelivered_rows(storage, manifests))
        connection.execute(_VIEWS.read_text(encoding="utf-8"))
        for statement in (*_metric_views(contracts), *_comments()):
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def _table(storage: LocalStorage, table: str, schema: pa.Schema) -> str:
    """Return the query of a table view: all its files, or no rows of its types."""
    if not storage.list(f"tables/{table}"):
        return _no_rows([*schema, pa.field("dt", pa.date32())])
    files = _literal(f"{glob.escape(str(storage.root))}/tables/{table}/**/*.parquet")
    return (
        f"SELECT {_typed(schema)}, dt FROM read_parquet({files}, hive_partitioning = true, hive_types = {{'dt': DATE}})"
    )


def _segments(storage: LocalStorage, manifests: Sequence[Manifest]) -> str:
    schema = utf8(EVENT)
    selects = [_no_rows([pa.field("partition", pa.int32()), *schema])]
    for manifest in manifests:
        files = ", ".join(_literal(glob.escape(storage.source(file.name))) for file in manifest.segments)
        if files:
            selects.append(f"SELECT {manifest.partition}::INTEGER, {_typed(schema)} FROM read_parquet([{files}])")
    return " UNION ALL ".join(selects)


def _manifest_rows(storage: Storage, manifests: Sequence[Manifest]) -> pa.Table:
    rows = [
        {
            "partition": each.partition,
            "seq": each.seq,
            "committed_at": each.committed_at,
            "watermark": each.watermark,
            "closed_through": each.closed_through,
            "stopped": each.stopped.reason if each.stopped else None,
            "stopped_topic": each.stopped.topic if each.stopped else None,
            "stopped_at": each.stopped.at if each.stopped else None,
            "segments": len(each.segments),
            "segment_rows": sum(file.rows for file in each.segments),
            "unpublished": sum(not storage.exists(file.name) for file in each.unpublished()),
            "totals": sorted(each.totals.items()),
            "group": each.group,
            "writer": each.writer,
            "pipeline_version": each.pipeline_version,
            "lake_id": each.lake_id,
        }
        for each in manifests
    ]
    return pa.Table.from_pylist(rows, schema=_MANIFESTS)


def _topic_rows(manifests: Sequence[Manifest]) -> pa.Table:
    rows = [
        {
            "topic": topic.name,
            "partition": manifest.partition,
            "kind": kind,
            "first_offset": topic.first_offset,
            "next_offset": topic.next_offset,
            "closed_offset": topic.closed_offset,
        }
        for manifest in manifests
        for kind, topic in manifest.topics.items()
    ]
    return pa.Table.from_pylist(rows, schema=_TOPICS)


def _undelivered_rows(storage: Storage, manifests: Sequence[Manifest]) -> pa.Table:
    parts = [_UNDELIVERED.empty_table()]
    for manifest in manifests:
        ranges = undelivered(storage, manifest)
        partition = pa.repeat(pa.scalar(manifest.partition, pa.int32()), ranges.num_rows)
        parts.append(ranges.add_column(1, _UNDELIVERED.field("partition"), partition).cast(_UNDELIVERED))
    return pa.concat_tables(parts)


def _contracts(storage: Storage) -> list[Contract]:
    """Return every contract version that the lake keeps."""
    return [load_contract(storage.read(file).decode(), file) for file in storage.list("contracts")]


def _first_used(connection: duckdb.DuckDBPyConnection, versions: Sequence[str]) -> dict[str, int]:
    """Return when the first window of each of these versions began, in µs; none of those without a fact."""
    if not versions:
        return {}  # nothing to tell apart, and no file to look into
    asked = "SELECT contract_version, epoch_us(min(window_start)) FROM fact_rows WHERE contract_version IN ? GROUP BY 1"
    return dict(connection.execute(asked, [list(versions)]).fetchall())


def _epoch(numbers: Mapping[str, int]) -> str:
    """Return the expression of a fact's epoch; null for a contract that the lake did not have at connecting."""
    groups: dict[int, list[str]] = {}
    for version, number in sorted(numbers.items()):
        groups.setdefault(number, []).append(_literal(version))
    cases = "".join(f" WHEN contract_version IN ({', '.join(groups[n])}) THEN {n}" for n in sorted(groups))
    return f"CAST(CASE{cases} END AS BIGINT)" if cases else "CAST(NULL AS BIGINT)"


def _contract_rows(contracts: Iterable[Contract], numbers: Mapping[str, int]) -> pa.Table:
    rows = [
        {
            "flag_key": each.flag_key,
            "epoch": numbers[each.version],
            "contract_version": each.version,
            "experiment_key": each.experiment_key,
            "text": each.text,
        }
        for each in contracts
    ]
    return pa.Table.from_pylist(rows, schema=_CONTRACTS)


def _metric_views(contracts: Iterable[Contract]) -> Iterator[str]:
    """Yield the statement of one view for each flag that has metrics: its facts, each metric a column."""
    metrics: dict[str, dict[str, None]] = {}
    for contract in contracts:
        metrics.setdefault(contract.flag_key, {}).update(dict.fromkeys(metric.name for metric in contract.metrics))
    views: set[str] = set()
    for flag_key, names in sorted(metrics.items()):
        view = _free(f"metrics_{re.sub(r'[^0-9a-z]', '_', flag_key.lower())}", views)
        taken = {*FACTS.names, "dt", "epoch"}
        columns = "".join(f", metrics[{_literal(name)}] AS {_quoted(_free(name, taken))}" for name in names)
        if names:
            yield f"CREATE VIEW {_quoted(view)} AS SELECT *{columns} FROM facts WHERE flag_key = {_literal(flag_key)}"


def _comments() -> Iterator[str]:
    for relation, description in RELATIONS.items():
        kind = "TABLE" if relation in {"manifests", "topics"} else "VIEW"
        yield f"COMMENT ON {kind} {relation} IS {_literal(description)}"
        for column, text in COLUMNS[relation].items():
            yield f"COMMENT ON COLUMN {relation}.{_quoted(column)} IS {_literal(text)}"


def _first_live_offset(manifests: Iterable[Manifest]) -> int:
    """Return an offset below which no event is open, so that a look for decided ones need not read older files."""
    return min((first for each in manifests for file in each.segments for first, _ in file.offsets.values()), default=0)


def _keep(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    connection.register("_rows", rows)
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM _rows")
    connection.unregister("_rows")


def _no_rows(fields: Iterable[pa.Field]) -> str:
    return f"SELECT {', '.join(f'NULL::{_type(f.type)} AS {_quoted(f.name)}' for f in fields)} WHERE false"


def _typed(schema: pa.Schema) -> str:
    return ", ".join(f"{_quoted(field.name)}::{_type(field.type)} AS {_quoted(field.name)}" for field in schema)


def _type(kind: pa.DataType) -> str:
    """Return the DuckDB type of an Arrow type of ours."""
    if pa.types.is_map(kind):
        return f"MAP({_type(kind.key_type)}, {_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{_quoted(each.name)} {_type(each.type)}' for each in kind.fields)})"
    return _TYPES[kind]


_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    TIMESTAMP: "TIMESTAMPTZ",
}


def _free(name: str, taken: set[str]) -> str:
    """Return the name, or one made from it, that is not taken (case aside), and take it."""
    free = name
    number = 2
    while free.lower() in taken:
        free = f"{name}_{number}"
        number += 1
    taken.add(free.lower())
    return free


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
