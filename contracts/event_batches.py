"""Valid events as one Arrow batch of the columns in `contracts.columns`."""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from math import isnan
from operator import attrgetter
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.columns import EVENT, TIMESTAMP
from contracts.combinations import Combinations
from contracts.events import Kind
from contracts.refusals import Record
from contracts.structs import FastReader, Struct

__all__ = ["Rows", "event_batch"]

_HEADER: Final = EVENT.field("headers").type.value_type


@dataclass(frozen=True, slots=True)
class Rows:
    """Events that were read, column by column: all of one length, in the order of the records."""

    records: Sequence[Record]
    headers: Sequence[Sequence[tuple[str, bytes | None]]]
    values: pa.BinaryArray
    structs: Sequence[Struct]
    combinations: npt.NDArray[np.int32]
    event_times: npt.NDArray[np.int64]  # µs
    record_times: npt.NDArray[np.int64]  # µs


def event_batch(kind: Kind, topic: str, rows: Rows, names: Combinations, reader: FastReader) -> pa.RecordBatch:
    """Return the rows as one batch of the EVENT schema.

    An attribute map, list of segments or list of headers that the record does not have is null; so is an empty list
    of headers, which Kafka does not tell from none.
    """
    records, structs, count = rows.records, rows.structs, len(rows.structs)
    columns: dict[str, pa.Array] = {
        "kind": _constant(kind, 1 << count.bit_length())[:count],
        "topic": _constant(topic, 1 << count.bit_length())[:count],
        "offset": pa.array(_offsets_of(records)),
        "record_time": pa.array(rows.record_times).view(TIMESTAMP),
        "event_time": pa.array(rows.event_times).view(TIMESTAMP),
        "unit_id": pa.array([struct.unit_id for struct in structs], pa.string()),
        "event_id": pa.array([struct.event_id or None for struct in structs], pa.string()),
        "attributes": _maps([struct.attributes for struct in structs]),
        "segments": _lists([struct.segments for struct in structs]),
        "value": rows.values,
        "key": pa.array([record.key for record in records], pa.binary()),
        "headers": _headers(rows.headers),
    }
    columns |= {name: names.column(name, rows.combinations) for name in names.columns}
    columns |= _OWN_COLUMNS[kind](structs, reader)
    arrays = [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in EVENT]
    return pa.RecordBatch.from_arrays(arrays, schema=EVENT)


def _exposure(structs: Sequence[Struct], _reader: FastReader) -> dict[str, pa.Array]:
    return {"fallback_used": pa.array([struct.fallback_used for struct in structs], pa.bool_())}


def _outcome(structs: Sequence[Struct], reader: FastReader) -> dict[str, pa.Array]:
    """Spread the metrics into one map a row, in the order in which the reader learned their names.

    A metric that an event does not have reads as NaN, which no event can hold.
    """
    names, count = reader.metrics, len(structs)
    grid = np.empty((count, len(names)), dtype=np.float64)
    for place in range(len(names)):
        grid[:, place] = np.fromiter(map(attrgetter(f"metric_{place}"), structs), np.float64, count)
    absent = np.isnan(grid)
    if reader.wide in set(map(type, structs)):
        return {"values": _wide_maps(structs, names, grid)}
    if names and not absent.any():
        return {"values": _even_maps(names, grid.ravel())}
    present = ~absent
    ends = np.zeros(count + 1, dtype=np.int32)
    np.cumsum(present.sum(axis=1), out=ends[1:])
    keys = pa.array(names, pa.string()).take(pa.array(np.nonzero(present)[1]))
    return {"values": pa.MapArray.from_arrays(pa.array(ends), keys, pa.array(grid[present]))}


def _guardrail(structs: Sequence[Struct], _reader: FastReader) -> dict[str, pa.Array]:
    return {
        "values": _even_maps(("value",), np.array([struct.value for struct in structs], dtype=np.float64)),
        "confirmed": pa.array([struct.confirmed for struct in structs], pa.bool_()),
    }


_OWN_COLUMNS: Final[dict[Kind, Callable[[Sequence[Struct], FastReader], dict[str, pa.Array]]]] = {
    "exposure": _exposure,
    "outcome": _outcome,
    "guardrail": _guardrail,
}


def _offsets_of(records: Sequence[Record]) -> npt.NDArray[np.int64]:
    """Return the offsets; of records without a gap, which is nearly all of them, without asking each one."""
    count = len(records)
    if count and records[-1].offset - records[0].offset == count - 1:
        return np.arange(records[0].offset, records[0].offset + count)
    return np.fromiter(map(attrgetter("offset"), records), np.int64, count)


@lru_cache(maxsize=64)
def _constant(text: str, count: int) -> pa.DictionaryArray:
    """Return one text over and over; as for `_repeated`, ask for a power of two."""
    return pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), pa.array([text], pa.string()))


def _maps(maps: Sequence[dict[str, str] | None]) -> pa.MapArray:
    given = [each for each in maps if each is not None]
    if not given:
        return pa.nulls(len(maps), pa.map_(pa.string(), pa.string()))
    keys = pa.array(list(chain.from_iterable(given)), pa.string())
    items = pa.array(list(chain.from_iterable(map(dict.values, given))), pa.string())
    return pa.MapArray.from_arrays(_offsets(maps, given), keys, items)


def _lists(lists: Sequence[list[str] | None]) -> pa.ListArray:
    given = [each for each in lists if each is not None]
    if not given:
        return pa.nulls(len(lists), pa.list_(pa.string()))
    return pa.ListArray.from_arrays(_offsets(lists, given), pa.array(list(chain.from_iterable(given)), pa.string()))


def _headers(lists: Sequence[Sequence[tuple[str, bytes | None]]]) -> pa.ListArray:
    if not any(lists):
        return pa.nulls(len(lists), pa.list_(_HEADER))
    flat = list(chain.from_iterable(lists))
    keys, values = pa.array([key for key, _ in flat], pa.string()), pa.array([value for _, value in flat], pa.binary())
    pairs = pa.StructArray.from_arrays([keys, values], fields=list(_HEADER))
    return pa.ListArray.from_arrays(_offsets([each or None for each in lists], [each for each in lists if each]), pairs)


def _offsets(every: Sequence[Sized | None], given: Sequence[Sized]) -> pa.Int32Array:
    """Return the offsets of a list column, null where every has None; `given` is `every` without them."""
    present = np.ones(len(every), dtype=np.bool_)
    if len(given) < len(every):
        present[:] = [each is not None for each in every]
    ends = np.zeros(len(every) + 1, dtype=np.int32)
    ends[1:][present] = np.fromiter(map(len, given), dtype=np.int32, count=len(given))
    return pa.array(np.cumsum(ends, dtype=np.int32), mask=np.append(~present, False))


def _even_maps(names: tuple[str, ...], numbers: npt.NDArray[np.float64]) -> pa.MapArray:
    """Return maps that all have the same names, from their numbers row by row."""
    count, width = len(numbers), len(names)
    ends = pa.array(np.arange(0, count + 1, width, dtype=np.int32))
    keys = _repeated(names, 1 << count.bit_length())[:count]
    return pa.MapArray.from_arrays(ends, keys, pa.array(numbers))


@lru_cache(maxsize=16)
def _repeated(names: tuple[str, ...], count: int) -> pa.StringArray:
    """Return the names over and over. Batches differ in length: ask for a power of two, and take a slice."""
    return pa.array(names, pa.string()).take(pa.array(np.resize(np.arange(len(names)), count)))


def _wide_maps(structs: Sequence[Struct], names: Sequence[str], grid: npt.NDArray[np.float64]) -> pa.MapArray:
    """Spread the metrics row by row, where some rows have more than the reader has names for."""
    maps = [
        [(name, number) for name, number in zip(names, numbers, strict=True) if not isnan(number)]
        + [(name, float(number)) for name, number in getattr(struct, "others", {}).items()]
        for struct, numbers in zip(structs, grid.tolist(), strict=True)
    ]
    return pa.array(maps, pa.map_(pa.string(), pa.float64()))
