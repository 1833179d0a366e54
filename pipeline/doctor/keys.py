"""Whether the key of a record is its unit ID, byte for byte, and if not, what it is instead."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipeline.doctor.findings import FaultId, Finding, InOrder, Place, Remark, share
from pipeline.doctor.reading import Reading

__all__ = ["keys", "kind_of_key"]

LEAST: Final = 5
"""Records of a topic that show a fault; fewer were sent by hand."""

LEAST_SHARE: Final = 0.01
"""Of the topic's records."""

_FRAME: Final = 5  # bytes: a zero, and the number of the schema
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
    counts: Counter[tuple[FaultId, str]] = Counter()
    fields: Counter[tuple[str, str]] = Counter()
    looked: Counter[str] = Counter()
    examples: dict[FaultId, Place] = {}
    for row in reading.rows:
        unit = row.event.unit_id if row.event is not None else None
        body: Mapping[str, Any] = {}
        key = row.record.key
        if unit is None or (key is not None and key != unit.encode()):
            body = row.body()
            named = body.get("unitId")
            unit = unit or (named if isinstance(named, str) else None)
        if unit is None:
            continue
        name = row.topic.name
        looked[name] += 1
        fault, field = kind_of_key(key, unit, body)
        if fault is not None:
            counts[fault, name] += 1
            fields[name, field] += fault == "foreign_keys"
            examples.setdefault(fault, row.place)
    wrong = [
        (fault, name, count)
        for (fault, name), count in counts.items()
        if count >= LEAST and count >= LEAST_SHARE * looked[name]
    ]
    for fault, saying in _SAYING.items():
        several = [(name, count) for of, name, count in wrong if of == fault]
        if several:
            count, of = sum(count for _, count in several), sum(looked[name] for name, _ in several)
            names = " and ".join(name for name, _ in several)
            lines = [f"{name}: {share(number, looked[name])} records" for name, number in several if len(several) > 1]
            if fault == "foreign_keys":
                lines += [
                    f"{name}: the key is {field} in {count:,}"
                    for (name, field), count in fields.most_common(5)
                    if count and name in dict(several)
                ]
            yield Finding(fault, f"Records of {names} {saying}: {share(count, of)}.", lines, count, of, examples[fault])
    for topic in reading.sample:
        if looked[topic.name] and not any(name == topic.name for _, name, _ in wrong):
            total = looked[topic.name]
            faulty = sum(count for (_, name), count in counts.items() if name == topic.name)
            yield InOrder(f"{topic.name}: the key is the unit ID in {share(total - faulty, total)} records")


def kind_of_key(key: bytes | None, unit: str, body: Mapping[str, Any]) -> tuple[FaultId | None, str]:
    """Return what is wrong with a key, and for a foreign one which field of the body it is."""
    plain = unit.encode(errors="surrogatepass")
    if key == plain:
        return None, ""
    if not key:
        return "null_keys", ""
    text = key.decode(errors="backslashreplace")
    tests: tuple[tuple[FaultId, bool], ...] = (
        ("framed_keys", key[:1] == b"\0" and len(key) > _FRAME and _holds(key[_FRAME:], unit, plain)),
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


def _holds(rest: bytes, unit: str, plain: bytes) -> bool:
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
