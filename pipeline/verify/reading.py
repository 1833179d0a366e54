"""Records to events, a second way: Python's own JSON reader, and each rule of the contract written out by hand.

A record is an event, or has faults: reasons, any of which is a right one to refuse it. Where a record breaks the
contract twice, which of the two is told is nobody's promise.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.dead_letters import ORIGIN_HEADER, TIMESTAMP_HEADER
from contracts.flags import Contract
from contracts.placement import murmur2_partition
from pipeline.verify.rows import Event
from pipeline.verify.times import YEAR_2000, time_of
from pipeline.verify.topics import Record
from pipeline.verify.wire import opened, says_cloudevent
from sinks.manifest import ContractUse

__all__ = ["Faults", "InForce", "Reader", "origins"]

Faults = frozenset[str]
"""Reasons to refuse a record."""

Json = Any  # whatever a JSON text holds

_NAME: Final = 256  # characters
_UNIT: Final = 1_024
_REASON: Final = 1_024
_LATEST_MS: Final = 253_402_300_799_999  # the last millisecond of the year 9999
_HALF_A_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F]")  # half of a character outside of the basic plane, or all


# ── The rules for one field ───────────────────────────────────────────────────────────────────────────────────────────


def _name(value: Json) -> bool:
    return type(value) is str and 0 < len(value) <= _NAME


def _text(most: int) -> Callable[[Json], bool]:
    return lambda value: value is None or (type(value) is str and len(value) <= most)


def _flag(value: Json) -> bool:
    return type(value) is bool


def _number(value: Json) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is int:
        try:
            float(value)
        except OverflowError:
            return False
        return True
    return type(value) is bool


def _never(_: Json) -> bool:
    return False


def _attributes(value: Json) -> bool:
    return value is None or (
        type(value) is dict and all(_name(key) and type(text) is str for key, text in value.items())
    )


def _segments(value: Json) -> bool:
    return value is None or (type(value) is list and all(map(_name, value)))


def _unit(value: Json) -> bool:
    return type(value) is str and 0 < len(value) <= _UNIT


def _text_or_null(value: Json) -> bool:
    return value is None or type(value) is str


def _name_or_null(value: Json) -> bool:
    return value is None or (type(value) is str and 0 < len(value) <= _NAME)


_ALL: Final[Mapping[str, Callable[[Json], bool]]] = {
    "event": _name,
    "unitId": _unit,
    "variation": _name,
    "flagKey": _name_or_null,
    "experimentKey": _name_or_null,
    "timestamp": _text_or_null,  # what time it is, is found out once, where the event is made
    "eventId": _text(_NAME),
    "attributes": _attributes,
    "segments": _segments,
}
_OWN: Final[Mapping[str, Mapping[str, Callable[[Json], bool]]]] = {
    "exposure": {
        "assignmentUnit": _name,
        "modelRoute": _name,
        "promptVersion": _name,
        "retrievalProfile": _name,
        "fallbackUsed": _flag,
        "reason": _text(_REASON),
    },
    "outcome": {},
    "guardrail": {
        "guardrail": _name,
        "value": _number,
        "severity": lambda value: type(value) is str and value in {"info", "warning", "severe"},
        "confirmed": lambda value: value is None or type(value) is bool,
    },
}
_REQUIRED: Final[Mapping[str, frozenset[str]]] = {
    "exposure": frozenset(
        {"event", "unitId", "variation", "assignmentUnit", "modelRoute", "promptVersion", "retrievalProfile"}
        | {"fallbackUsed"}
    ),
    "outcome": frozenset({"event", "unitId", "variation"}),
    "guardrail": frozenset({"event", "unitId", "variation", "guardrail", "value", "severity"}),
}


# ── The contract under which a record falls ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    last: int
    contract: Contract


class InForce:
    """Which contract versions may have been in force at an offset of a topic.

    Manifests tell the first and the last offset that each version validated. Between, it was in force unless a flag
    file was changed to and fro; then several versions may have been, and the audit takes the one that the lake names.
    """

    def __init__(self, topic: str, uses: Mapping[str, ContractUse], contracts: Mapping[str, Contract]) -> None:
        """Bind the versions in use, and those of their contracts that could be read."""
        self._spans = [
            _Span(*use.offsets[topic], contracts[version])
            for version, use in uses.items()
            if topic in use.offsets and version in contracts
        ]
        self._known: dict[tuple[str | None, str | None], list[_Span]] = {}

    def under(self, flag_key: str | None, experiment_key: str | None, offset: int) -> list[Contract]:
        """Return the contracts that may have been in force for the flag, the experiment, or both."""
        named = flag_key, experiment_key
        spans = self._known.get(named)
        if spans is None:
            spans = [span for span in self._spans if _is_named(span.contract, *named)]
            self._known[named] = spans
        return [span.contract for span in spans if span.first <= offset <= span.last]


def _is_named(contract: Contract, flag_key: str | None, experiment_key: str | None) -> bool:
    if experiment_key is not None and contract.experiment_key != experiment_key:
        return False
    return flag_key is None or contract.flag_key == flag_key


# ── Whole records ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Reader:
    """Reads the records of one partition of one topic."""

    def __init__(self, kind: str, topic: str, partition: int, partitions: int, in_force: InForce) -> None:
        """Bind what the records should be, and where they should lie."""
        self._kind = kind
        self._topic = topic
        self._partition = partition
        self._partitions = partitions
        self._in_force = in_force
        self._rules = {**_ALL, **_OWN[kind]}
        self._required = _REQUIRED[kind]
        self._others = _number if kind == "outcome" else _never

    def read(self, records: Sequence[Record]) -> list[Event | Faults]:
        """Return what each record is."""
        read = [self._read(record) for record in records]
        if self._partitions > 1:
            events = [(place, event) for place, event in enumerate(read) if isinstance(event, Event)]
            partitions = murmur2_partition([event.unit_id for _, event in events], self._partitions).tolist()
            for (place, _), partition in zip(events, partitions, strict=True):
                if partition != self._partition:
                    copied = any(name == ORIGIN_HEADER for name, _ in records[place].headers)
                    read[place] = Faults({"misplaced"} if copied else {"misplaced", "rerouted"})
        return read

    def _read(self, record: Record) -> Event | Faults:
        found = self._body(record)
        if isinstance(found, frozenset):
            return found
        body, time = found
        flag_key, experiment_key = body.get("flagKey"), body.get("experimentKey")
        contracts = self._in_force.under(flag_key, experiment_key, record.offset)
        if not contracts:
            return _UNKNOWN_BOTH if flag_key is not None and experiment_key is not None else _UNKNOWN
        fitting = [contract for contract in contracts if body["variation"] in contract.variations]
        if not fitting:
            return _UNKNOWN_VARIATION
        return self._event(body, record, time, fitting)

    def _body(self, record: Record) -> tuple[dict[str, Json], int] | Faults:
        """Return an event that keeps to the rules, as it is or from its envelope, and when it happened."""
        body = _json(record.value)
        time = None if record.headers and says_cloudevent(record.headers) else self._time(body, record)
        if time is None and record.value is not None:
            found = opened(self._kind, record.headers, record.value, _flat_json)
            body = _flat_json(record.value) if found is None else found
            time = self._time(body, record)
        if isinstance(body, frozenset):
            return body
        return _SCHEMA if time is None else (body, time)

    def _time(self, body: Json, record: Record) -> int | None:
        """Return when an event happened; None if it is none."""
        return _event_time(body.get("timestamp"), record) if self._keeps_to_the_rules(body) else None

    def _keeps_to_the_rules(self, body: Json) -> bool:
        if type(body) is not dict or not self._required <= body.keys():
            return False
        rules, others = self._rules, self._others
        for name, value in body.items():
            if not rules.get(name, others)(value):
                return False
        if self._kind == "outcome" and not all(map(_name, body)):
            return False
        return body.get("flagKey") is not None or body.get("experimentKey") is not None

    def _event(self, body: dict[str, Json], record: Record, time: int, contracts: Sequence[Contract]) -> Event:
        event = Event(  # in order; by name it takes twice as long
            self._kind,
            self._topic,
            record.offset,
            time,
            contracts[0].flag_key,
            body["unitId"],
            body["variation"],
            body["event"],
            body.get("eventId") or None,
            [contract.version for contract in contracts],
            record.value or b"",
            {},
        )
        if self._kind == "exposure":
            event.attributes, event.segments = body.get("attributes"), body.get("segments")
            event.assignment_unit, event.model_route = body["assignmentUnit"], body["modelRoute"]
            event.prompt_version, event.retrieval_profile = body["promptVersion"], body["retrievalProfile"]
            event.fallback_used = body["fallbackUsed"]
        elif self._kind == "outcome":
            event.values = {name: float(value) for name, value in body.items() if name not in _ALL}
        else:
            event.values = {"value": float(body["value"])}
            event.guardrail, event.severity = body["guardrail"], body["severity"]
            event.confirmed = body.get("confirmed")
        return event


_TOMBSTONE: Final = Faults({"tombstone"})
_NOT_JSON: Final = Faults({"not_json"})
_SCHEMA: Final = Faults({"schema_violation"})
_ODD: Final = Faults({"not_json", "schema_violation"})  # JSON readers differ in how they refuse what they cannot hold
_DEEP: Final = 100  # levels, which no event has and every reader reads
_UNKNOWN: Final = Faults({"unknown_flag", "unknown_variation"})
_UNKNOWN_BOTH: Final = Faults({"unknown_flag", "unknown_variation", "schema_violation"})
_UNKNOWN_VARIATION: Final = Faults({"unknown_variation"})


_scan: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # what `json.loads` calls, less two searches for blanks


def _json(value: bytes | None) -> Json | Faults:
    if value is None:
        return _TOMBSTONE
    try:
        text = value.decode()
        body, end = _scan(text, 0) if text[:1] == "{" else (None, -1)
        if end != len(text):
            body = json.loads(text)
        if b"\\u" in value and _HALF_A_PAIR.search(value):
            json.dumps(body, ensure_ascii=False).encode()
    except (UnicodeError, json.JSONDecodeError, StopIteration):
        return _NOT_JSON
    except (ValueError, RecursionError):  # more digits, or more brackets, than Python reads
        return _ODD
    return body


def _flat_json(value: bytes) -> Json | Faults:
    """Read JSON as `_json` does; what nests so deep that readers differ about it may be refused as anything."""
    body = _json(value)
    level = [body]
    for _ in range(_DEEP):
        level = [
            inner
            for each in level
            for inner in (each.values() if type(each) is dict else each if type(each) is list else ())
        ]
        if not level:
            return body
    return _ODD


def _event_time(text: str | None, record: Record) -> int | None:
    """Return when it happened: by its body, else by its header, else by the record's own time; None if too early."""
    if text is not None:
        time = time_of(text)
    elif marks := [value for name, value in record.headers if name == TIMESTAMP_HEADER]:
        try:
            time = time_of((marks[-1] or b"").decode())
        except UnicodeError:
            return None
    else:
        time = min(max(record.timestamp, 0), _LATEST_MS) * 1_000
    return time if time is not None and time >= YEAR_2000 else None


def origins(records: Sequence[Record]) -> Iterator[tuple[str, int, int]]:
    """Yield topic, partition and offset of the records of which these are rerouted copies."""
    for record in records:
        for name, value in record.headers:
            if name == ORIGIN_HEADER and value is not None:
                parts = value.decode(errors="replace").rsplit("/", 2)
                if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():  # noqa: PLR2004 - the triple
                    yield parts[0], int(parts[1]), int(parts[2])
