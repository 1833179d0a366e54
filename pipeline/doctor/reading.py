"""A sample as the rules see it: each record with the event that a worker makes of it, or the refusal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, repeat
from typing import Any, Final, NamedTuple

import msgspec

from contracts.columns import KINDS
from contracts.dead_letters import ORIGIN_HEADER, REPLAYED_HEADER
from contracts.decode import Decoded, Decoder
from contracts.events import Kind
from contracts.flags import ContractBook
from contracts.refusals import Refusal
from contracts.wire import Broken, opened
from contracts.wire.registry import unframed
from pipeline.dlq.places import Place
from pipeline.doctor.sample import NO_PRODUCER, Record, Sample, Topic

__all__ = ["Event", "Limits", "Producer", "Ran", "Reading", "Row", "read"]

_NAMING: Final = (
    "producer",
    "service.name",
    "service-name",
    "service",
    "application",
    "client.id",
    "client-id",
    "source",
    "ce_source",
)
"""Headers by which clients commonly tell who they are, in lower case; the first that is there counts."""

_LONGEST_NAME: Final = 80  # characters of a producer's name that are kept
_OURS: Final = frozenset({ORIGIN_HEADER, REPLAYED_HEADER})


class Producer(NamedTuple):
    """Who sent a record, as far as that can be known, and by what it is known."""

    by: str  # producer ID, header …, CloudEvents source, event
    name: str

    @property
    def is_sender(self) -> bool:
        """Whether it is a client; else it is only a type of event, which several may send."""
        return self.by != "event"

    def __str__(self) -> str:
        """Return it as it is told."""
        return f"{self.by} {self.name}" if self.is_sender else f"unnamed producers of {self.name}"


class Ran(NamedTuple):
    """What an exposure says of the unit and of what ran."""

    assignment_unit: str | None
    model_route: str | None
    prompt_version: str | None
    retrieval_profile: str | None
    segments: Sequence[str]


class Event(NamedTuple):
    """What the rules need of a valid event; times in µs."""

    time: int
    flag_key: str
    unit_id: str
    variation: str
    event: str
    event_id: str | None
    fallback_used: bool | None
    metrics: tuple[str, ...]
    """The wire names of its numbers and booleans."""
    ran: Ran | None
    """Of exposures alone."""


class Row(NamedTuple):
    """One record: `event` is None where it is refused, `refusal` where it is not."""

    kind: Kind
    topic: Topic
    partition: int
    record: Record
    event: Event | None
    refusal: Refusal | None

    @property
    def place(self) -> Place:
        """Where it lies."""
        return Place(self.topic.name, self.partition, self.record.offset)

    def body(self) -> Mapping[str, Any]:
        """Return the event in its value as JSON, without any judgement; empty where there is no JSON object.

        Envelopes are opened where they can be.
        """
        value = self.record.value or b""
        try:
            body = msgspec.json.decode(opened(self.kind, value, self.record.headers) or value)
        except (Broken, ValueError, RecursionError):
            return {}
        return body if isinstance(body, dict) else {}

    def producer(self) -> Producer:
        """Return who sent it: the idempotent producer's ID, else a header, else CloudEvents' source, else the event."""
        if self.record.producer_id != NO_PRODUCER:
            named = _named(self.record)
            return Producer("producer ID", f"{self.record.producer_id}" + (f" ({named.name})" if named else ""))
        found = _named(self.record)
        if found is not None:
            return found
        if self.event is not None:
            return Producer("event", self.event.event)
        event = self.body().get("event")
        return Producer("event", event[:_LONGEST_NAME] if isinstance(event, str) else "(unreadable)")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker refuses, and how late it accepts, by its settings."""

    max_value_bytes: int
    max_future_us: int


@dataclass(frozen=True)
class Reading:
    """The sample, decoded. Copies that workers and replays made are left out: their producer is this software."""

    sample: Sample
    book: ContractBook
    rows: Sequence[Row]

    @cached_property
    def of_kind(self) -> Mapping[Kind, Sequence[Row]]:
        """The rows by kind of topic."""
        return {kind: [row for row in self.rows if row.kind == kind] for kind in KINDS}

    @cached_property
    def exposures(self) -> Mapping[str, Sequence[Row]]:
        """The valid exposures by flag."""
        found: dict[str, list[Row]] = {}
        for row in self.of_kind["exposure"]:
            if row.event is not None:
                found.setdefault(row.event.flag_key, []).append(row)
        return found

    @cached_property
    def flag_of(self) -> Mapping[int, str]:
        """The flag of every refused row that names one, by the row's number, whether there is such a flag or not."""
        return {number: key for number, row in enumerate(self.rows) if row.refusal and (key := self._flag_named(row))}

    @cached_property
    def refused(self) -> Mapping[str, int]:
        """How many exposures of each flag are refused."""
        counts: dict[str, int] = {}
        for number, key in self.flag_of.items():
            if self.rows[number].kind == "exposure":
                counts[key] = counts.get(key, 0) + 1
        return counts

    def _flag_named(self, row: Row) -> str | None:
        body = row.body()
        experiment = body.get("experimentKey")
        if isinstance(experiment, str) and experiment in self.book.experiments:
            return self.book.experiments[experiment].flag_key
        key = body.get("flagKey") or experiment
        return key if isinstance(key, str) else None


def read(sample: Sample, book: ContractBook, limits: Limits) -> Reading:
    """Decode the sample under the contracts, at the time it was taken."""
    decoder = Decoder(book, limits.max_value_bytes, limits.max_future_us)
    rows: list[Row] = []
    for kind, topic in sample.kinds():
        for partition, records in sorted(topic.records.items()):
            own = [record for record in records if not record.headers or not _is_copy(record)]
            decoded = decoder.decode(kind, topic.name, own, sample.taken_us)
            events = dict(_events(decoded))
            refusals = {refusal.record.offset: refusal for refusal in decoded.refused}
            rows += [
                Row(kind, topic, partition, record, events.get(record.offset), refusals.get(record.offset))
                for record in own
            ]
    return Reading(sample, book, rows)


def _is_copy(record: Record) -> bool:
    return any(name in _OURS for name, _ in record.headers)


def _events(decoded: Decoded) -> Iterator[tuple[int, Event]]:
    batch = decoded.events
    names = ("flag_key", "unit_id", "variation", "event", "event_id", "fallback_used")
    columns = [batch["event_time"].cast("int64").to_pylist(), *(batch[name].to_pylist() for name in names)]
    return zip(batch["offset"].to_pylist(), map(Event, *columns, _metrics(batch), _ran(batch)), strict=True)


def _ran(batch: Any) -> Iterator[Ran | None]:  # noqa: ANN401 - pyarrow is untyped
    """Yield what each row's exposure says; None for events of other kinds."""
    if batch["model_route"].null_count == len(batch):
        yield from repeat(None, len(batch))
        return
    names = ("assignment_unit", "model_route", "prompt_version", "retrieval_profile")
    segments = (tuple(each or ()) for each in batch["segments"].to_pylist())
    yield from map(Ran, *(batch[name].to_pylist() for name in names), segments)


def _metrics(batch: Any) -> Iterator[tuple[str, ...]]:  # noqa: ANN401 - pyarrow is untyped
    """Yield the names in each row's map of values; rows without a map have none."""
    values = batch["values"]
    if values.null_count == len(values):
        yield from [()] * len(values)
        return
    keys, ends = values.keys.to_pylist(), values.offsets.to_pylist()
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for start, end in zip(ends, chain(ends[1:]), strict=False):
        names = tuple(keys[start:end])
        yield known.setdefault(names, names)


def _named(record: Record) -> Producer | None:
    """Return who the record says has sent it, by its headers or as a CloudEvent."""
    if record.headers and (named := _by_headers(tuple(record.headers))):
        return named
    if record.value and b'"specversion"' in record.value:
        try:
            source = msgspec.json.decode(unframed(record.value) or record.value)["source"]
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        return Producer("CloudEvents source", source[:_LONGEST_NAME]) if isinstance(source, str) else None
    return None


@lru_cache(maxsize=4_096)
def _by_headers(headers: Sequence[tuple[str, bytes | None]]) -> Producer | None:
    given = {name.lower(): value for name, value in headers if value}
    for name in _NAMING:
        if name in given:
            by = "CloudEvents source" if name == "ce_source" else f"header {name}"
            return Producer(by, given[name].decode("utf-8", errors="backslashreplace")[:_LONGEST_NAME])
    return None
