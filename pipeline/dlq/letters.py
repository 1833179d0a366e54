"""A dead letter as it is read back from its topic."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from contracts.columns import KINDS
from contracts.dead_letters import replay_count
from contracts.times import parse_time
from contracts.wire import Broken, in_headers, opened
from pipeline.dlq.origins import trace
from pipeline.dlq.places import Place
from pipeline.verify.topics import Record

__all__ = ["Fault", "Letter", "Named", "named", "read_letter"]

Headers = Sequence[tuple[str, bytes | None]]

_LONGEST_NAME: Final = 200  # characters of a flag key or variation that are kept for lists
_PARSED_BYTES: Final = 1 << 20  # of a value, to look for its flag


class Fault(NamedTuple):
    """What is wrong with one field."""

    path: str
    message: str
    kind: str


class Named(NamedTuple):
    """What a value says, whether it is valid or not; None where it does not say."""

    flag: str | None
    unit: str | None
    variation: str | None
    timed: bool
    """Whether it says when it happened."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. Times in µs."""

    place: Place
    """Where it lies itself."""
    family: str
    """Whose headers it has; empty where nobody's."""
    topic: str | None
    """The topic of the record that failed."""
    origin: Place | None
    """Where that record lies."""
    reason: str
    stage: str
    message: str
    details: str
    group: str
    version: str
    failed_at: int
    timestamp: int | None
    """The record's own time; None where it is lost."""
    replays: int
    cut: bool
    """Whether a part of the value is missing."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    """The record's own headers, in order."""

    @property
    def identity(self) -> Place:
        """What tells it from others: where its record was, else where it lies."""
        return self.origin or self.place

    def faults(self) -> list[Fault]:
        """Return what is wrong with each field, where the letter tells."""
        with suppress(ValueError, TypeError, RecursionError):
            listed = json.loads(self.details)
            return [
                Fault(".".join(map(str, each["loc"])) or "(value)", str(each["msg"]), str(each["type"]))
                for each in listed
                if isinstance(each, dict) and {"loc", "msg", "type"} <= each.keys()
            ]
        return []


def read_letter(place: Place, record: Record) -> Letter:
    """Read a record of a dead-letter topic. Raises nothing, whatever its bytes."""
    found = trace(record.headers)
    headers = dict(record.headers)
    lies_since = max(record.timestamp, 0) * 1_000
    kept = record.timestamp >= 0 and not record.appended  # a topic with the broker's times loses those of records
    return Letter(
        place=place,
        family=found.family,
        topic=found.origin.topic if found.origin else None,
        origin=found.origin.place if found.origin else None,
        reason=found.reason or "unknown",
        stage=_text(headers.get("evidence.dlq.stage")),
        message=found.message,
        details=_text(headers.get("evidence.dlq.details")),
        group=found.group,
        version=_text(headers.get("evidence.dlq.pipeline_version")),
        failed_at=_time(_text(headers.get("evidence.dlq.failed_at")), lies_since),
        timestamp=lies_since if found.keeps_time and kept else found.timestamp,
        replays=replay_count(record.headers),
        cut=headers.get("evidence.dlq.truncated") is not None,
        key=record.key,
        value=record.value,
        headers=tuple(found.own),
    )


def named(value: bytes | None, headers: Headers) -> Named:
    """Return what a record says that it is about, in an envelope or not. Raises nothing."""
    body: Any = None
    if value is not None and len(value) <= _PARSED_BYTES:
        body = _body(value)
        if in_headers(headers) or not isinstance(body, dict) or "unitId" not in body:
            body = _body(_opened(value, headers)) or body
    if not isinstance(body, dict):
        return Named(None, None, None, timed=False)
    return Named(
        _name(body.get("flagKey")) or _name(body.get("experimentKey")),
        _name(body.get("unitId")),
        _name(body.get("variation")),
        timed=body.get("timestamp") is not None,
    )


def _body(text: bytes) -> Any:  # noqa: ANN401 -- as JSON is read
    with suppress(ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return msgspec.json.decode(text)
    return None


def _opened(value: bytes, headers: Headers) -> bytes:
    """Return the event in an envelope, whatever its topic; nothing where there is none."""
    for kind in KINDS:
        with suppress(Broken):
            return opened(kind, value, headers) or b""
    return b""


def _name(value: object) -> str | None:
    return value[:_LONGEST_NAME] if isinstance(value, str) else None


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", errors="replace")


def _time(text: str, otherwise: int) -> int:
    try:
        return parse_time(text)
    except ValueError:
        return otherwise
