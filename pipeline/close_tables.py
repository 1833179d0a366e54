"""What a close decided, as rows of the lake's tables: its verdicts, beside what the events themselves say.

The script tells events by their place, in whose order its verdicts come. Their texts come from the sources as codes and
go to the files as codes: DuckDB would copy each text of each row twice, and hash it, which took a third of the close.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.columns import EVENT, utf8
from contracts.wire.registry import unframed
from pipeline.sources import Source, rows_at
from sinks import tables

if TYPE_CHECKING:
    from contracts.flags import Contract

__all__ = ["DEAD_LETTERS", "dead_letters", "events", "facts", "joined_rows", "unjoined"]

DEAD_LETTERS: Final = pa.schema(
    [
        pa.field("reason", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        *(utf8(EVENT).field(name) for name in ("topic", "offset", "record_time", "key", "value", "headers")),
    ]
)
"""What a close sends to the dead-letter topic: the record as it came, with the reason `late` or `no_exposure`."""


Columns: TypeAlias = dict[str, pa.ChunkedArray | pa.Array]

_OF_FACTS: Final = [name for name in tables.FACTS.names if name in EVENT.names and name != "attributes"]
"""What a fact has of its opening exposure; of the attributes, the script picks those that the contract names."""


def joined_rows(joined: pa.Table, sources: Sequence[Source]) -> pa.Table:
    """Return the joined events, rows of the view `joined`, and what these themselves say.

    It has all that facts are made of, so that files are read once: Arrow reads maps twice as fast as DuckDB.
    """
    columns = _beside(joined, sources, (*tables.EVENTS.names, *_OF_FACTS, "attributes", "segments"))
    values = columns["values"] = _never_null(columns["values"].combine_chunks())
    columns["fields"] = pa.ListArray.from_arrays(values.offsets, values.keys)
    columns["numbers"] = pa.ListArray.from_arrays(values.offsets, values.items)
    return pa.table(columns)


def facts(windows: pa.Table, joined: pa.Table, contracts: Sequence["Contract"], metrics: Sequence[str]) -> pa.Table:
    """Return the facts of closed windows, which tell contracts and metrics by number, in the order of the table."""
    windows, openers = _ordered(windows, joined)
    columns = _columns(openers) | _columns(windows)
    experiments = pa.array([contract.experiment_key for contract in contracts], pa.string())
    columns["experiment_key"] = experiments.take(columns["opened_under"].combine_chunks()).dictionary_encode()
    names = pa.array(metrics, pa.string())
    columns["metrics"] = _map(columns["metrics"].combine_chunks(), names)
    columns["attributes"] = _map(columns["attributes"].combine_chunks())
    return _table(columns, tables.FACTS)


def events(joined: pa.Table, partition: int) -> pa.Table:
    """Return the joined events as they are kept."""
    columns = _columns(joined)
    elsewhere = columns["window_variation"]
    own = columns["variation"]
    columns["fact_variation"] = pc.coalesce(elsewhere, own) if elsewhere.null_count < len(elsewhere) else own
    columns["partition"] = _repeated(partition, pa.int32(), joined)
    return _table(columns, tables.EVENTS)


def unjoined(verdicts: pa.Table, sources: Sequence[Source], partition: int) -> pa.Table:
    """Return the events that belong to no fact, rows of the view `unjoined`."""
    columns = _beside(verdicts, sources, tables.UNJOINED.names)
    columns["value"] = _unframed(columns["value"]).cast(pa.string())
    columns["partition"] = _repeated(partition, pa.int32(), verdicts)
    return _table(columns, tables.UNJOINED)


def dead_letters(verdicts: pa.Table, sources: Sequence[Source]) -> pa.Table:
    """Return a copy of the records of which rows of the view `unjoined` say that telemetry is broken."""
    broken = verdicts.filter(pc.is_in(verdicts["reason"], pa.array(["late", "no_exposure"])))
    columns = _beside(broken, sources, DEAD_LETTERS.names)
    columns["stage"] = _repeated("close", pa.string(), broken)
    return _table(columns, DEAD_LETTERS)


def _unframed(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the values without the schema-registry framing that some may begin with, which need not be text."""
    if not pc.any(pc.is_in(pc.binary_slice(values, 0, 1), pa.array([b"\0", b"\1"]))).as_py():
        return values
    bare = [(value, unframed(value)) for value in values.to_pylist()]
    return pa.chunked_array([[value if payload is None else payload for value, payload in bare]], pa.binary())


def _beside(verdicts: pa.Table, sources: Sequence[Source], names: Sequence[str]) -> Columns:
    """Return the verdicts, and those of the named columns that the events at their places have."""
    own = [name for name in EVENT.names if name in names]
    return _columns(verdicts) | _columns(rows_at(sources, verdicts["place"].to_numpy(), own))


def _columns(rows: pa.Table) -> Columns:
    return dict(zip(rows.column_names, rows.columns, strict=True))


def _table(columns: Columns, schema: pa.Schema) -> pa.Table:
    """Return the columns under the schema, but for texts that are codes."""
    given = [columns[field.name] for field in schema]
    fields = [
        field.with_type(column.type) if pa.types.is_dictionary(column.type) else field
        for field, column in zip(schema, given, strict=True)
    ]
    return pa.table(given, names=schema.names).cast(pa.schema(fields))


def _ordered(windows: pa.Table, joined: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the windows in the order of facts, and what these have of the opening exposures."""
    openers = np.searchsorted(joined["place"].to_numpy(), windows["place"].to_numpy())
    names = joined.select(["flag_key", "unit_id", "variation"]).take(pa.array(openers))
    keys = {name: names[name].cast(pa.string()) for name in names.column_names}
    order = pc.sort_indices(
        pa.table(keys | {"window_start": windows["window_start"]}),
        [(name, "ascending") for name in ("flag_key", "window_start", "unit_id", "variation")],
    )
    return windows.take(order), joined.select(_OF_FACTS).take(pa.array(openers[order.to_numpy()]))


def _repeated(value: Any, kind: pa.DataType, rows: pa.Table) -> pa.ChunkedArray:  # noqa: ANN401 -- of that kind
    return pa.chunked_array([pa.repeat(pa.scalar(value, kind), len(rows))])


def _map(entries: pa.ListArray, names: pa.StringArray | None = None) -> pa.MapArray:
    """Return the lists of entries as maps, none of which is null; `names` has what their keys number."""
    keys, values = entries.values.flatten()
    return pa.MapArray.from_arrays(entries.offsets, keys if names is None else names.take(keys), values)


def _never_null(maps: pa.MapArray) -> pa.MapArray:
    """Return empty maps for those that are null."""
    return pa.MapArray.from_arrays(maps.offsets, maps.keys, maps.items) if maps.null_count else maps
