"""Kafka records to columns of valid events, and refusals for the rest.

The fast reader sees each value first, and from the first envelope on it looks for others. What it refuses may be an
envelope all the same: then the event in it is read, and the record keeps its value. What else it refuses is judged by
the pydantic model, whose errors explain the refusal and from whose acceptance the reader learns. Then whole columns are
checked: the contract under which a record falls, and its event time.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, compress, repeat
from operator import attrgetter
from typing import Any, Final, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from contracts.columns import EVENT
from contracts.combinations import Combinations, resolve
from contracts.dead_letters import TIMESTAMP_HEADER
from contracts.event_batches import Rows, event_batch
from contracts.events import MODELS, Event, Kind
from contracts.flags import Contract, ContractBook
from contracts.refusals import Problem, Record, Refusal, problem, problems_of, refuse
from contracts.structs import FastReader, Struct
from contracts.times import EARLIEST, LATEST, parse_time, parse_times
from contracts.wire import Broken, in_headers, opened, read_at_once

__all__ = ["Decoded", "Decoder", "Record", "Refusal"]

_APPEND_TIME: Final = 1  # Kafka's timestamp type: the broker's clock; 0 is the producer's

_VALUE, _TIMESTAMP, _HEADERS = attrgetter("value"), attrgetter("timestamp"), attrgetter("headers")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch: each record is either a row of `events` or one of `refused`, both in offset order."""

    events: pa.RecordBatch  # of the EVENT schema
    refused: tuple[Refusal, ...]
    versions: frozenset[str]  # of the contracts under which events were accepted


Headers = Sequence[tuple[str, bytes | None]]


class _Read(NamedTuple):
    """Records that hold a valid event, column by column."""

    records: Sequence[Record]
    headers: list[Headers]
    values: list[bytes]
    structs: list[Struct]


class Decoder:
    """Decodes records under one set of contracts. For one thread at a time; learns what usual records look like."""

    def __init__(self, book: ContractBook, max_value_bytes: int, max_future_us: int) -> None:
        """Bind the contracts, the longest value that is parsed, and how far ahead of the clock an event may be."""
        self._book = book
        self._max_value_bytes = max_value_bytes
        self._max_future = max_future_us
        fields = {metric.field for contract in book for metric in contract.metrics if metric.field is not None}
        self._readers: Mapping[Kind, FastReader] = {kind: FastReader(kind, fields) for kind in MODELS}
        self._names: Mapping[Kind, Combinations] = {kind: Combinations(kind, book) for kind in MODELS}

    def decode(self, kind: Kind, topic: str, records: Sequence[Record], now_us: int) -> Decoded:
        """Decode records of one partition of one topic, given in offset order.

        `now_us` is the clock's time, to which event times are compared that have no append time beside them. Raises
        nothing for any record: a fault that one of them causes refuses that one as `internal`.
        """
        if not records:
            return Decoded(_none(), (), frozenset())
        try:
            return self._decode(kind, topic, records, now_us)
        except MemoryError:
            raise
        except Exception as fault:  # noqa: BLE001 -- whatever one record does, the others pass
            if len(records) == 1:
                unforeseen = problem(type(fault).__name__, (), f"unforeseen {type(fault).__name__} in the decoder")
                return Decoded(_none(), (refuse(records[0], "internal", "decode", [unforeseen]),), frozenset())
            half = len(records) // 2
            return _joined([self.decode(kind, topic, part, now_us) for part in (records[:half], records[half:])])

    def _decode(self, kind: Kind, topic: str, records: Sequence[Record], now_us: int) -> Decoded:
        refused: list[Refusal] = []
        records, values, column = self._parsable(records, refused)
        read = self._read(kind, records, values, refused)
        records, headers, values, structs = read
        count, names = len(structs), self._names[kind]
        combinations = names.numbers(structs)
        milliseconds = np.fromiter(map(_TIMESTAMP, records), np.int64, count)
        record_times = np.clip(milliseconds, 0, LATEST // 1000) * 1000
        event_times = record_times.copy()
        wrong = self._place_in_time(kind, read, event_times, now_us)
        if names.unresolved:
            for row in _where(np.isin(combinations, list(names.unresolved))):
                if row not in wrong or wrong[row].reason == "future_timestamp":  # else it is no event at all
                    reason, why = names.unresolved[int(combinations[row])]
                    wrong[row] = refuse(records[row], reason, "validate", [why])
        if wrong:
            refused.extend(wrong.values())
            right = np.ones(count, dtype=np.bool_)
            right[list(wrong)] = False
            records, headers, values, structs = (
                list(compress(each, right)) for each in (records, headers, values, structs)
            )
            combinations, event_times, record_times = combinations[right], event_times[right], record_times[right]
        refused.sort(key=lambda refusal: refusal.record.offset)
        if len(column) != len(values):
            column = pa.array(values, pa.binary())
        rows = Rows(records, headers, column, structs, combinations, event_times, record_times)
        events = event_batch(kind, topic, rows, names, self._readers[kind])
        return Decoded(events, tuple(refused), names.versions(combinations))

    def _parsable(
        self, records: Sequence[Record], refused: list[Refusal]
    ) -> tuple[Sequence[Record], list[bytes], pa.BinaryArray]:
        """Return the records whose values can be parsed, with the values, listed and as a column; refuse the others."""
        most = self._max_value_bytes
        values: list[Any] = list(map(_VALUE, records))
        column = pa.array(values, pa.binary())
        if not column.null_count and pc.max(pc.binary_length(column)).as_py() <= most:
            return records, values, column
        kept = [value is not None and len(value) <= most for value in values]
        for record, value in zip(records, values, strict=True):
            if value is None:
                empty = problem("tombstone", (), "Input should have a value; a record without one deletes nothing")
                refused.append(refuse(record, "tombstone", "decode", [empty]))
            elif len(value) > most:
                large = problem("too_large", (), f"Input should have at most {most} bytes, it has {len(value)}")
                refused.append(refuse(record, "too_large", "decode", [large]))
        return list(compress(records, kept)), list(compress(values, kept)), column.filter(pa.array(kept))

    def _read(self, kind: Kind, records: Sequence[Record], values: list[bytes], refused: list[Refusal]) -> _Read:
        """Return the records that hold a valid event; refuse the others."""
        headers: list[Headers] = list(map(_HEADERS, records))
        reader = self._readers[kind]
        # Headers decide for a whole batch: what they call a CloudEvent may look like a plain event.
        enveloped = headed = any(headers) and any(map(in_headers, headers))
        rest, beside = iter(values), iter(headers) if headed else repeat(())
        read: list[Struct | Event | Refusal] = []
        texts = list(values)  # what was judged: the events in place of the envelopes
        judged = False
        while len(read) < len(values):
            try:
                # An exception leaves in the list what was read before it, and in the iterators what comes after it.
                if enveloped:
                    read.extend(map(read_at_once, repeat(reader), rest, beside))
                else:
                    read.extend(map(reader.decode, rest))
            except Exception:  # noqa: BLE001 -- several types, all of which say: ask the model
                row = len(read)
                found, judgement = self._judge(kind, records[row])
                enveloped = headed or found is not None
                texts[row] = found or texts[row]
                read.append(judgement)
                judged = True
        if not judged:
            return _Read(records, headers, values, read)
        refused.extend(each for each in read if isinstance(each, Refusal))
        valid = [not isinstance(each, Refusal) for each in read]
        settled = list(map(reader.settle, compress(read, valid), compress(texts, valid)))
        return _Read(
            list(compress(records, valid)), list(compress(headers, valid)), list(compress(values, valid)), settled
        )

    def _judge(self, kind: Kind, record: Record) -> tuple[bytes | None, Struct | Event | Refusal]:
        """Read what is in the record's envelope, else let the model read the value; return both.

        No event of the contract is ever recognised as an envelope, so looking for one first changes nothing, and is
        quick: the model takes long to say all that is wrong with a large envelope.
        """
        value = record.value or b""
        try:
            found = opened(kind, value, record.headers)
        except Broken as broken:
            return b"", refuse(record, broken.reason, broken.stage, broken.problems)
        if found is None:
            return None, self._validated(kind, record, value)
        with suppress(Exception):  # whatever the reader raises only says: ask the model
            return found, self._readers[kind].decode(found)
        return found, self._validated(kind, record, found)

    def _validated(self, kind: Kind, record: Record, text: bytes) -> Event | Refusal:
        """Let the model read the text."""
        try:
            return self._model(kind, text)
        except ValidationError as invalid:
            problems = problems_of(invalid)
        if problems[0]["type"] == "json_invalid":
            return refuse(record, "not_json", "decode", problems)
        return refuse(record, "schema_violation", "validate", problems)

    def _model(self, kind: Kind, text: bytes) -> Event:
        """Let the model read the text, and the fast reader learn from it; ValidationError if it is no event."""
        event = MODELS[kind].model_validate_json(text)
        if isinstance(resolve(self._book, event.flag_key, event.experiment_key, event.variation), Contract):
            self._readers[kind].learn(event)
        return event

    def _place_in_time(self, kind: Kind, rows: _Read, times: npt.NDArray[np.int64], now_us: int) -> dict[int, Refusal]:
        """Change `times` from the records' own to those of the events; return the refusals by row."""
        records, record_times = rows.records, times.copy()
        wrong: dict[int, Refusal] = {}
        stamps = pa.array([struct.timestamp for struct in rows.structs], pa.string())
        given = stamps.is_valid().to_numpy(zero_copy_only=False)
        read = np.ones(len(times), dtype=np.bool_)
        times[given], read[given] = parse_times(stamps.drop_null() if stamps.null_count else stamps)
        for row in _marked(rows.headers) if stamps.null_count else ():
            if not given[row]:
                times[row] = _marked_time(records[row])
        for row in _where(~given & (times < EARLIEST)):
            wrong[row] = refuse(records[row], "schema_violation", "validate", [_timeless(records[row])])
        for row in _where(given & (~read | (times < EARLIEST))):
            # The model refuses every time that the column refuses.
            text = opened(kind, rows.values[row], rows.headers[row]) or rows.values[row]
            wrong[row] = cast("Refusal", self._validated(kind, records[row], text))
        # In a usual batch nothing is ahead of both clocks; which of them counts is asked only of what is.
        for row in _where(times > np.minimum(record_times, now_us) + self._max_future):
            clock = int(record_times[row]) if records[row].timestamp_type == _APPEND_TIME else now_us
            ahead = int(times[row]) - clock
            if row not in wrong and (ahead > self._max_future or times[row] > LATEST):
                early = problem(
                    "future_timestamp", ("timestamp",), f"Input is {ahead // 1_000_000} s ahead of the clock"
                )
                wrong[row] = refuse(records[row], "future_timestamp", "validate", [early])
        return wrong


def _marks(headers: Headers) -> list[bytes | None]:
    return [value for name, value in headers if name == TIMESTAMP_HEADER]


def _marked(headers: Sequence[Headers]) -> list[int]:
    """Return the rows whose record has its event time in a header."""
    return [row for row, each in enumerate(headers) if each and _marks(each)]


def _marked_time(record: Record) -> int:
    """Return the event time in a header, the last one if there are several; 0 if it is none."""
    try:
        return parse_time((_marks(record.headers)[-1] or b"").decode())
    except ValueError:
        return 0


def _timeless(record: Record) -> Problem:
    if _marks(record.headers):
        text = "Input should be an RFC 3339 time in or after the year 2000"
        return problem("time_parsing", ("headers", TIMESTAMP_HEADER), text)
    return problem("missing", ("timestamp",), "Field required, as the record's own time is before the year 2000")


def _where(mask: npt.NDArray[np.bool_]) -> list[int]:
    rows: list[int] = np.flatnonzero(mask).tolist()
    return rows


def _none() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in EVENT], schema=EVENT)


def _joined(parts: Sequence[Decoded]) -> Decoded:
    table = pa.Table.from_batches([part.events for part in parts]).unify_dictionaries().combine_chunks()
    return Decoded(
        (table.to_batches() or [_none()])[0],
        tuple(chain.from_iterable(part.refused for part in parts)),
        frozenset[str]().union(*(part.versions for part in parts)),
    )
