"""One decoded event as a plain value, and the Arrow tables that the close reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from contracts.columns import EVENT, utf8

__all__ = ["EPOCH", "HOUR", "SECOND", "Event", "coded_table", "events_of", "plain_table"]

SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
EPOCH: Final = 1_780_272_000 * SECOND  # 2026-06-01T00:00:00Z, hour 0 of the generated streams


@dataclass(frozen=True, slots=True)
class Event:
    """One valid record: the columns of `contracts.columns.EVENT`, times in µs since the epoch."""

    kind: str
    topic: str
    offset: int
    event_time: int
    flag_key: str
    unit_id: str
    variation: str
    contract_version: str
    value: bytes
    event: str = "done"
    record_time: int = EPOCH
    event_id: str | None = None
    attributes: Mapping[str, str] | None = None
    segments: tuple[str, ...] | None = None
    assignment_unit: str | None = None
    model_route: str | None = None
    prompt_version: str | None = None
    retrieval_profile: str | None = None
    fallback_used: bool | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    guardrail: str | None = None
    severity: str | None = None
    confirmed: bool | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def columns(self) -> dict[str, Any]:
        """Return the row as pyarrow takes it."""
        row = {name: getattr(self, name) for name in EVENT.names}
        row["attributes"] = None if self.attributes is None else list(self.attributes.items())
        row["segments"] = None if self.segments is None else list(self.segments)
        row["values"] = None if self.kind == "exposure" else list(self.values.items())
        row["headers"] = [{"key": name, "value": text} for name, text in self.headers]
        return row


def plain_table(events: Iterable[Event]) -> pa.Table:
    """Return the events with strings written out, in the order given, as a segment holds them."""
    return pa.Table.from_pylist([event.columns() for event in events], schema=utf8(EVENT))


def coded_table(events: Iterable[Event]) -> pa.Table:
    """Return the events with dictionary codes, in the order given, as the decoder makes them."""
    return plain_table(events).cast(EVENT)


def events_of(table: pa.Table) -> list[Event]:
    """Return the rows of a table of events, coded or plain."""
    table = table.cast(utf8(EVENT))
    for name in ("record_time", "event_time"):
        table = table.set_column(table.schema.get_field_index(name), name, pc.cast(table[name], pa.int64()))
    return [_event_of(row) for row in table.to_pylist()]


def _event_of(row: dict[str, Any]) -> Event:
    row["attributes"] = None if row["attributes"] is None else dict(row["attributes"])
    row["segments"] = None if row["segments"] is None else tuple(row["segments"])
    row["values"] = dict(row["values"] or ())
    row["headers"] = tuple((header["key"], header["value"]) for header in row["headers"] or ())
    return Event(**row)
