"""Whether the key of a record is its unit ID, byte for byte, and if not, what it is instead."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.wire.registry import unframed
from pipeline.dlq.places import Place
from pipeline.doctor.findings import FaultId, Finding, InOrder, NotJudged, Remark, share
from pipeline.doctor.reading import Reading

__all__ = ["keys", "kind_of_key"]

LEAST: Final = 5
"""Records of a topic that show a fault; fewer were sent by hand."""

LEAST_SHARE: Final = 0.01
"""Of the topic's records."""

_SHOWN: Final = 5  # fields that are named
_LENGTH: Final = 3  # bytes at most that Avro and Protobuf put before a short string

_SAYING: Final[Mapping[FaultId, str]] = {
    "null_keys": "have no key",
    "quoted_keys": "have a key that is JSON instead of the bare unit ID",
    "framed_keys": "have a key with a schema registry's frame before the unit ID",
    "utf16_keys": "have a key in UTF-16",
    "padded_keys": "have a key that differs from the unit ID by white space, letter case or a zero byte",
    "foreign_keys": "have a key that is not the unit ID",
}


def keys(reading: Reading) -> Iterator[Remark]:
    """Tell of keys that are not their unit's ID."""
    tally = _tally(reading)
    found: set[str] = set()
    for fault, saying in _SAYING.items():
        topics = [name for name in tally.looked if tally.matters(fault, name)]
        if topics:
            found.update(topics)
            yield _finding(fault, saying, topics, tally)
    for name, total in tally.looked.items():
        faulty = sum(count for (_, topic), count in tally.counts.items() if topic == name)
        if name not in found and faulty:
            yield NotJudged(f"{name}: the key is not the unit ID in {share(faulty, total)} records, too few")
        elif name not in found:
            yield InOrder(f"{name}: the key is the unit ID in all of {total:,} records")


@dataclass(frozen=True, slots=True)
class _Tally:
    """How many records were looked at, by topic, and what was wrong with their keys."""

    looked: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[FaultId, str]] = field(default_factory=Counter)
    fields: Counter[tuple[str, str]] = field(default_factory=Counter)  # which field a foreign key is, by topic
    examples: dict[FaultId, Place] = field(default_factory=dict)

    def matters(self, fault: FaultId, topic: str) -> bool:
        """Return whether a topic has enough of a fault."""
        count = self.counts[fault, topic]
        return count >= LEAST and count >= LEAST_SHARE * self.looked[topic]


def _tally(reading: Reading) -> _Tally:
    tally = _Tally()
    for row in reading.rows:
        unit = row.event.unit_id if row.event is not None else None
        body: Mapping[str, Any] = {}
        key = row.record.key
        if unit is None or key != unit.encode():
            body = row.body()
            named = body.get("unitId")
            unit = unit or (named if isinstance(named, str) else None)
        if unit is None:
            continue
        name = row.topic.name
        tally.looked[name] += 1
        fault, foreign = kind_of_key(key, unit, body)
        if fault is not None:
            tally.counts[fault, name] += 1
            tally.examples.setdefault(fault, row.place)
            if fault == "foreign_keys":
                tally.fields[name, foreign] += 1
    return tally


def _finding(fault: FaultId, saying: str, topics: Sequence[str], tally: _Tally) -> Finding:
    count, of = sum(tally.counts[fault, name] for name in topics), sum(tally.looked[name] for name in topics)
    lines = [
        f"{name}: {share(tally.counts[fault, name], tally.looked[name])} records" for name in topics if len(topics) > 1
    ]
    if fault == "foreign_keys":
        lines += [
            f"{name}: the key is {which} in {number:,}"
            for (name, which), number in tally.fields.most_common(_SHOWN)
            if name in topics
        ]
    what = f"Records of {' and '.join(topics)} {saying}: {share(count, of)}."
    return Finding(fault, what, lines, count, of, tally.examples[fault])


def kind_of_key(key: bytes | None, unit: str, body: Mapping[str, Any]) -> tuple[FaultId | None, str]:
    """Return what is wrong with a key, and for a foreign one which field of the body it is."""
    plain = unit.encode(errors="surrogatepass")
    if key == plain:
        return None, ""
    if not key:
        return "null_keys", ""
    text = key.decode(errors="backslashreplace")
    tests: tuple[tuple[FaultId, bool], ...] = (
        ("framed_keys", _holds(unframed(key), unit, plain)),
        ("quoted_keys", _is_json_of(key, unit)),
        ("utf16_keys", key.removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff") in _utf16(unit)),
        ("padded_keys", _bare(text) == _bare(unit)),
    )
    for fault, holds in tests:
        if holds:
            return fault, ""
    return "foreign_keys", _field(text, body)


def _bare(text: str) -> str:
    return text.strip(" \t\r\n\0\ufeff").casefold()


def _holds(rest: bytes | None, unit: str, plain: bytes) -> bool:
    """Return whether what stands behind a frame is the unit's ID, as text, JSON, Avro or Protobuf."""
    if rest is None:
        return False
    return _is_json_of(rest, unit) or (rest.endswith(plain) and len(rest) - len(plain) <= _LENGTH)


def _is_json_of(key: bytes, unit: str) -> bool:
    if key[:1] not in {b'"', b"{"}:
        return False
    try:
        value = json.loads(key)
    except (ValueError, RecursionError):
        return False
    return bool(value == unit or (isinstance(value, dict) and unit in _texts(value)))


def _utf16(unit: str) -> tuple[bytes, ...]:
    return tuple(unit.encode(name, errors="surrogatepass") for name in ("utf-16-le", "utf-16-be"))


def _texts(value: Mapping[str, Any]) -> list[str]:
    return [each for each in value.values() if isinstance(each, str)]


def _field(text: str, body: Mapping[str, Any]) -> str:
    for name, value in body.items():
        if value == text:
            return name[:80]
        if isinstance(value, dict):
            for inner, deeper in value.items():
                if deeper == text:
                    return f"{name}.{inner}"[:80]
    return "no field of the event"
