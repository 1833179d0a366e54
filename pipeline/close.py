"""The close: decides everything up to a watermark, in SQL over the open events of a partition.

Beside this module, `close_active.sql`, `close_fates.sql` and `close_facts.sql` are the whole of the join; each reads
what the ones before it found. Here their inputs become small tables, and their results rows of the lake's. No clock, no
Kafka, and no files but the ones named in `Due`.
"""

import atexit
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from contracts.columns import EVENT, utf8
from contracts.errors import StorageUnavailable
from pipeline import close_tables
from pipeline.sources import PLACES, Places, Source, rows_at
from sinks import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contracts.flags import Contract

__all__ = ["Closed", "Decided", "Due", "Horizon", "close", "close_through"]

_NEVER: Final = -(2**62)  # before any event: no watermark yet
_ROWS_A_BATCH: Final = 16_384  # Arrow offsets are 32 bits: small batches leave 128 KiB for each value
_PARTS: Final = ("close_active.sql", "close_fates.sql", "close_facts.sql")
_DECIDING: Final = [  # what becomes of an event, but for the facts
    *("kind", "flag_key", "unit_id", "variation", "contract_version"),
    *("event_time", "event_id", "topic", "offset", "value"),
]


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far a flag's events reach: its longest window of any version so far, and what is decided (both µs).

    Events at or before `decided_through` that an earlier close has seen are decided; None before the first close.
    """

    longest_window: int
    decided_through: int | None


@dataclass(frozen=True, slots=True)
class Due:
    """All that a close of one partition reads. Times are µs since the epoch, durations µs.

    Events are rows of `contracts.columns.EVENT`: in `old` whatever earlier closes left undecided, in `new` everything
    since, which is judged here first; of both together, files come before tables in memory.
    `horizons` has every flag, `contracts` every version that the events name. `residue` has the rows of earlier closes.
    """

    partition: int
    closed_through: int | None
    watermark: int
    allowed_lateness: int
    horizons: Mapping[str, Horizon]
    contracts: Mapping[str, "Contract"]
    old: Sequence[Source]
    new: Sequence[Source]
    residue: Sequence[Source]

    @property
    def sources(self) -> Sequence[Source]:
        """All sources of events, in the order by which places number them."""
        return [*self.old, *self.new]


@dataclass(frozen=True, slots=True)
class Decided:
    """Which new events of a source a close decided.

    `rows` are row numbers, ascending. A later close that meets such an event again knows that it is decided by its time
    or by the closed window that has it, unless some are `forgotten`: then they must not be shown to it.
    """

    rows: Places
    forgotten: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """What a close decided, as tables of `sinks.tables`, and what it leaves to later ones.

    Each new event is in exactly one of `events` and `unjoined`, or waits for a later close. `decided` says which do not
    wait, for each source of `Due.new` in its order. `residue` has the windows closed here, `dead_letters` a copy of
    each unjoined record that tells of broken telemetry.
    """

    facts: pa.Table
    events: pa.Table
    unjoined: pa.Table
    residue: pa.Table
    decided: Sequence[Decided]
    dead_letters: pa.Table
    horizons: Mapping[str, Horizon]


def close(due: Due, *, memory_limit: str = "1GB", temp_directory: str | None = None) -> Closed:
    """Decide all windows and events that are due at `due.watermark`; facts come sorted by flag and window start.

    A pure function of `due`. Blocks for some 0.1 s, 0.05 µs an open event, and 3 µs an event of a unit of which
    something is decided; beyond `memory_limit` it spills to `temp_directory`. Raises ValueError where the watermark
    lies before `closed_through`, or a contract's window beyond the horizon of its flag; StorageUnavailable where memory
    or the disk to spill to does not suffice.
    """
    if due.closed_through is not None and due.watermark < due.closed_through:
        raise ValueError(f"watermark {due.watermark} lies before closed_through {due.closed_through}")
    for contract in due.contracts.values():
        horizon = due.horizons.get(contract.flag_key)
        if horizon is None or horizon.longest_window < contract.window_us:
            raise ValueError(f"the horizon of {contract.flag_key} is shorter than the window of {contract.version}")
    sources = due.sources
    with _script(due, memory_limit, temp_directory) as script:
        joined, unjoined, decided = map(script.verdicts, ("joined", "unjoined", "decided"))
        joined = close_tables.joined_rows(joined, sources)
        windows = script.facts(joined)
    facts = close_tables.facts(windows, joined, [*due.contracts.values()], _metric_names(due))
    return Closed(
        facts=facts,
        events=close_tables.events(joined, due.partition),
        unjoined=close_tables.unjoined(unjoined, sources, due.partition),
        residue=facts.select(tables.RESIDUE.names),
        decided=_by_source(decided, range(len(due.old), len(sources))),
        dead_letters=close_tables.dead_letters(unjoined, sources),
        horizons={flag: _after(horizon, due) for flag, horizon in due.horizons.items()},
    )


def close_through(due: Due, *, memory_limit: str = "1GB", temp_directory: str | None = None) -> int | None:
    """Return the watermark (µs) at which nothing of `due` stays undecided, or None where nothing is open.

    It is the greatest event time, plus longest window and lateness, of any open event; `due.watermark` plays no part.
    """
    with _script(replace(due, watermark=_NEVER), memory_limit, temp_directory, every_unit=True) as script:
        greatest: int | None = script.rows("last_ripening")["ripens"][0].as_py()
        return greatest


def _by_source(decided: pa.Table, sources: range) -> list[Decided]:
    places, forgotten = decided["place"].to_numpy(), decided["forgotten"].to_numpy()
    ends = np.searchsorted(places, np.arange(sources.start, sources.stop + 1) * PLACES)
    return [
        Decided(places[first:end] - number * PLACES, bool(forgotten[first:end].any()))
        for number, (first, end) in zip(sources, pairwise(ends), strict=True)
    ]


def _after(horizon: Horizon, due: Due) -> Horizon:
    decided = due.watermark - horizon.longest_window - due.allowed_lateness
    if horizon.decided_through is not None:
        decided = max(decided, horizon.decided_through)
    return replace(horizon, decided_through=decided)


@dataclass(frozen=True, slots=True)
class _Script:
    """The script of a close, run up to the fates of events."""

    connection: duckdb.DuckDBPyConnection
    last: Sequence[duckdb.Statement]

    def rows(self, view: str) -> pa.Table:
        """Return the rows of a view that the script left behind."""
        return self.connection.table(view).to_arrow_table(batch_size=_ROWS_A_BATCH)

    def verdicts(self, view: str) -> pa.Table:
        """Return the rows of a view that tells events by their places, in the order of these."""
        rows = self.rows(view)
        order = np.argsort(rows["place"].to_numpy(), kind="stable")  # 0.1 ms, not 10: nearly all is in order
        return rows.take(pa.array(order))

    def facts(self, joined: pa.Table) -> pa.Table:
        """Run the last part, given the joined events as `close_tables.joined_rows` has them; return its facts."""
        _register(self.connection, "joined_event", joined)
        *before, facts = self.last
        _run(self.connection, before)
        return self.connection.sql(facts.query).to_arrow_table(batch_size=_ROWS_A_BATCH)


@contextmanager
def _script(
    due: Due, memory_limit: str, temp_directory: str | None, *, every_unit: bool = False
) -> "Iterator[_Script]":
    """Run the script over `due` as far as it goes without facts."""
    variables = {
        "first_new": len(due.old),
        "sources": len(due.sources),
        "closed_through": _NEVER if due.closed_through is None else due.closed_through,
        "watermark": due.watermark,
        "never": _NEVER,
        "allowed_lateness": due.allowed_lateness,
        "every_unit": every_unit,
    }
    engine = _engine(memory_limit, temp_directory)
    active, fates, facts = engine.parts
    with _short_of_room(memory_limit), engine.database.cursor() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, value in variables.items():
            connection.execute(f"SET VARIABLE {name} = {value}")
        for name, table in _inputs(due).items():
            connection.register(name, table)
        _union(connection, "open_event", due.sources, utf8(EVENT))
        _union(connection, "residue", due.residue, tables.RESIDUE)
        _run(connection, active)
        _record(connection, due.sources)
        _run(connection, fates)
        yield _Script(connection, facts)


def _run(connection: duckdb.DuckDBPyConnection, statements: Sequence[duckdb.Statement]) -> None:
    for statement in statements:
        connection.execute(statement)


class _Engine(NamedTuple):
    """The database of which each close uses a connection of its own, and the parts of the script, parsed."""

    database: duckdb.DuckDBPyConnection
    parts: Sequence[Sequence[duckdb.Statement]]


@lru_cache(maxsize=1)
def _engine(memory_limit: str, temp_directory: str | None) -> _Engine:
    """Return the engine of all closes.

    It is kept: as a database ends, DuckDB gives free memory of the whole process back to the system, and to parse the
    script takes 12 ms.
    """
    config: dict[str, Any] = {
        "memory_limit": memory_limit,
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "threads": 1,  # a worker is for one core; with a second thread it takes a tenth more CPU time in all
        "async_threads": 0,  # idle, they give memory back too
    }
    if temp_directory is not None:
        config["temp_directory"] = temp_directory
    database = duckdb.connect(config=config)
    texts = [files(__package__).joinpath(part).read_text("utf-8") for part in _PARTS]
    return _Engine(database, [database.extract_statements(text) for text in texts])


atexit.register(_engine.cache_clear)  # what lives on at exit is reported as a leak


@contextmanager
def _short_of_room(memory_limit: str) -> "Iterator[None]":
    """Say what to do where memory, or the disk that it spills to, is not enough."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise StorageUnavailable(
            f"a close does not fit into {memory_limit} of memory; raise EVIDENCE_MEMORY_LIMIT"
        ) from error
    except duckdb.IOException as error:
        why = str(error).partition("\n")[0]
        raise StorageUnavailable(
            f"a close cannot spill: {why}; free space there, or name a larger disk in TMPDIR"
        ) from error


def _record(connection: duckdb.DuckDBPyConnection, sources: Sequence[Source]) -> None:
    """Make the view `record` of the second part, from the places that the first one found.

    A few events among many are read here, from the row groups that have them; DuckDB would look at every row again.
    """
    if connection.sql("SELECT getvariable('few')").fetchall() == [(True,)]:
        places = np.sort(connection.sql("SELECT place FROM touched").to_arrow_table()["place"].to_numpy())
        _register(connection, "record", rows_at(sources, places, _DECIDING).append_column("place", pa.array(places)))
    else:
        connection.execute(
            "CREATE TEMP VIEW record AS FROM open_event WHERE list_contains(getvariable('touched_sources'), source)"
        )


def _register(connection: duckdb.DuckDBPyConnection, view: str, table: pa.Table) -> None:
    """Make a view of the table, which has `place`: with `source`, and lists of entries for maps."""
    connection.register(f"{view}_rows", _entries(table))
    located = f"SELECT *, (place // {PLACES})::UBIGINT AS source FROM {view}_rows"  # noqa: S608 (names are ours)
    connection.execute(f"CREATE TEMP VIEW {view} AS {located}")


def _union(connection: duckdb.DuckDBPyConnection, view: str, sources: Sequence[Source], schema: pa.Schema) -> None:
    """Make a view over all rows of the sources: all files are one scan, tables one a schema.

    `source` is the number of the source, and `place` the number of the row: that of the source, then that within it.
    Maps become lists of entries: DuckDB checks each map it takes from Arrow for duplicate keys, at 0.4 µs an entry.
    """
    columns = [f'"{field.name}"' for field in schema]
    scans = []
    if paths := [source for source in sources if isinstance(source, str)]:
        quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        read = [
            f"map_entries({name}) AS {name}" if pa.types.is_map(field.type) else name
            for name, field in zip(columns, schema, strict=True)
        ]
        read += ["file_index AS source", f"file_index::BIGINT * {PLACES} + file_row_number AS place"]
        scans.append(f"SELECT {', '.join(read)} FROM read_parquet([{quoted}])")  # noqa: S608 (columns are ours)
    for number, table in enumerate(_tables(sources, schema)):
        _register(connection, f"{view}_{number}", table)
        scans.append(f"SELECT {', '.join(columns)}, source, place FROM {view}_{number}")  # noqa: S608 (names are ours)
    connection.execute(f"CREATE TEMP VIEW {view} AS {' UNION ALL '.join(scans)}")


def _tables(sources: Sequence[Source], schema: pa.Schema) -> list[pa.Table]:
    """Put together the tables in memory that have equal schemas, with `place`; for no source at all, an empty one."""
    alike: dict[pa.Schema, list[pa.Table]] = {}
    for number, source in enumerate(sources):
        if not isinstance(source, str):
            placed = _placed(source.replace_schema_metadata(None), number)
            alike.setdefault(placed.schema, []).append(placed)
    return [pa.concat_tables(each) for each in alike.values()] if sources else [_placed(schema.empty_table(), 0)]


def _placed(table: pa.Table, number: int) -> pa.Table:
    return table.append_column("place", pa.array(np.arange(len(table)) + number * PLACES))


def _entries(table: pa.Table) -> pa.Table:
    """Turn maps into lists of entries; copies nothing."""
    fields = [
        field.with_type(pa.list_(pa.struct([("key", field.type.key_type), ("value", field.type.item_type)])))
        if pa.types.is_map(field.type)
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


# ── The small tables of the script ────────────────────────────────────────────────────────────────────────────────────

_CONTRACT: Final = pa.schema(
    [
        ("version", pa.int32()),
        ("contract_version", pa.string()),
        ("flag_key", pa.string()),
        ("experiment_key", pa.string()),
        ("window_us", pa.int64()),
        ("assignment_unit", pa.string()),
        ("eligible_segment", pa.string()),
        ("exclusions", pa.list_(pa.string())),
        ("attributes", pa.list_(pa.string())),
        ("has_states", pa.bool_()),
    ]
)
_ROUTE: Final = pa.schema(
    [
        ("version", pa.int32()),
        ("variation", pa.string()),
        ("model_route", pa.string()),
        ("prompt_version", pa.string()),
        ("retrieval_profile", pa.string()),
    ]
)
_LADDER: Final = pa.schema(
    [("version", pa.int32()), ("state", pa.string()), ("begins", pa.int64()), ("until", pa.int64())]
)
_METRIC: Final = pa.schema(
    [
        ("version", pa.int32()),
        ("number", pa.int32()),
        ("event", pa.string()),
        ("field", pa.string()),
        ("aggregate", pa.string()),
        ("window_us", pa.int64()),
    ]
)
_HORIZON: Final = pa.schema(
    [("flag_key", pa.string()), ("longest_window", pa.int64()), ("decided_through", pa.int64())]
)


def _inputs(due: Due) -> dict[str, pa.Table]:
    contracts = list(enumerate(due.contracts.values()))
    names = _metric_names(due)
    return {
        "contract": _table(_CONTRACT, (_contract(code, contract) for code, contract in contracts)),
        "route": _table(
            _ROUTE,
            (
                (code, variation, route.model_route, route.prompt_version, route.retrieval_profile)
                for code, contract in contracts
                for variation, route in contract.variations.items()
            ),
        ),
        "ladder": _table(_LADDER, (row for code, contract in contracts for row in _ladder(code, contract))),
        "metric": _table(
            _METRIC,
            (
                (code, names.index(metric.name), metric.event, metric.field, metric.aggregate, metric.window_us)
                for code, contract in contracts
                for metric in contract.metrics
            ),
        ),
        "horizon": _table(_HORIZON, ((f, h.longest_window, h.decided_through) for f, h in due.horizons.items())),
    }


def _metric_names(due: Due) -> list[str]:
    return sorted({metric.name for contract in due.contracts.values() for metric in contract.metrics})


def _contract(code: int, contract: "Contract") -> tuple[object, ...]:
    return (
        code,
        contract.version,
        contract.flag_key,
        contract.experiment_key,
        contract.window_us,
        contract.assignment_unit,
        contract.eligible_segment,
        list(contract.exclusions),
        None if contract.attributes is None else list(contract.attributes),
        bool(contract.states),
    )


def _ladder(code: int, contract: "Contract") -> "Iterator[tuple[object, ...]]":
    """Yield each state with its span; the last one has no end."""
    begins = [begin for _, begin in contract.states]
    for (state, begin), end in zip(contract.states, [*begins[1:], -_NEVER], strict=False):
        yield code, state, begin, end


def _table(schema: pa.Schema, rows: "Iterable[tuple[object, ...]]") -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
