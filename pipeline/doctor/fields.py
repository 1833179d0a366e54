"""What identifies an event: its timestamp, its ID, and whether it came once."""

from collections.abc import Iterator, Sequence
from typing import Final

from contracts.dead_letters import TIMESTAMP_HEADER
from pipeline.doctor.findings import FaultId, Finding, InOrder, Remark, share
from pipeline.doctor.reading import Reading, Row

__all__ = ["fields"]

LEAST: Final = 20
"""Events of a topic without timestamp or eventId: fewer were sent by hand."""

LEAST_SHARE: Final = 0.05
"""Of the topic's events."""

LEAST_COPIES: Final = 10
"""Events of a topic that came before: a restart of a producer leaves a few."""

LEAST_COPIED: Final = 0.01
"""Of the topic's events."""

_TIMES: Final = frozenset({TIMESTAMP_HEADER, "ce_time"})
_BODY_TIMES: Final = (b'"timestamp"', b'"time"')  # the second is that of CloudEvents

_SAYING: Final = {
    "missing_timestamps": "carry no timestamp",
    "missing_event_ids": "carry no eventId",
    "duplicates": "came before",
    "reused_event_ids": "have the eventId of another event of their unit",
}


def fields(reading: Reading) -> Iterator[Remark]:
    """Tell of events without timestamp or ID, and of those that came more than once."""
    found: dict[FaultId, list[tuple[str, list[Row], int]]] = {}
    for kind, topic in reading.sample.kinds():
        rows = [row for row in reading.of_kind[kind] if row.event is not None]
        duplicates, reused = _repeated(rows)
        for fault, some, least, part in (
            ("missing_timestamps", [row for row in rows if not _has_time(row)], LEAST, LEAST_SHARE),
            ("missing_event_ids", [row for row in rows if not _has_id(row)], LEAST, LEAST_SHARE),
            ("duplicates", duplicates, LEAST_COPIES, LEAST_COPIED),
            ("reused_event_ids", reused, LEAST_COPIES, LEAST_COPIED),
        ):
            if len(some) >= least and len(some) >= part * len(rows):
                found.setdefault(fault, []).append((topic.name, some, len(rows)))  # type: ignore[arg-type]  # four of them
    for fault, several in found.items():
        count, of = sum(len(some) for _, some, _ in several), sum(total for _, _, total in several)
        names = " and ".join(name for name, _, _ in several)
        lines = [f"{name}: {share(len(some), total)} events" for name, some, total in several if len(several) > 1]
        if fault == "missing_timestamps":
            lines += [
                f"{name} stamps records on arrival: that is the time that counts"
                for name, some, _ in several
                if some[0].record.timestamp_type == 1
            ]
        what = f"Events of {names} {_SAYING[fault]}: {share(count, of)}."
        yield Finding(fault, what, lines, count, of, several[0][1][0].place)
    if not found and any(row.event is not None for row in reading.rows):
        yield InOrder("events carry timestamp and eventId, and come once")


def _has_time(row: Row) -> bool:
    """Return whether an event says when it happened: its time is another than its record's, or the field is there."""
    if row.event is not None and row.event.time != row.record.timestamp * 1_000:
        return True
    value = row.record.value or b""
    return any(name in value for name in _BODY_TIMES) or any(name in _TIMES for name, _ in row.record.headers)


def _has_id(row: Row) -> bool:
    return row.event is not None and row.event.event_id is not None


def _repeated(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the events that are those of a row before again, and those that only have the ID of one.

    What has an ID is the same event if nothing but the bytes around it differs; what has none, if the bytes are equal.
    """
    by_id: dict[tuple[str, str, str], Row] = {}
    by_value: set[tuple[str, int, bytes | None]] = set()
    duplicates: list[Row] = []
    reused: list[Row] = []
    for row in rows:
        event = row.event
        if event is None:
            continue
        if event.event_id is None:
            bytes_at = (event.unit_id, event.time, row.record.value)
            if bytes_at in by_value:
                duplicates.append(row)
            by_value.add(bytes_at)
            continue
        named = (event.flag_key, event.unit_id, event.event_id)
        first = by_id.setdefault(named, row)
        if first is not row:
            (duplicates if first.event == event else reused).append(row)
    return duplicates, reused
