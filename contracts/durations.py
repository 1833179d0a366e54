"""Durations as people write them: `90s`, `10m`, `1h30m`, `7d`, or ISO 8601 such as `PT10M` and `P1D`."""

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

__all__ = ["Duration", "parse_duration"]

_LONGEST: Final = 100 * 366 * 86_400_000_000  # a century; sums with event times stay far from the end of 64 bits

_UNITS: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_PART: Final = re.compile(r"([0-9]{1,18})(us|ms|s|m|h|d|w)")
_SHORT: Final = re.compile(r"(?:[0-9]{1,18}(?:us|ms|s|m|h|d|w))+")
_ISO: Final = re.compile(
    r"P(?:([0-9]{1,18})W)?(?:([0-9]{1,18})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,18})H)?(?:([0-9]{1,18})M)?(?:([0-9]{1,18})(?:\.([0-9]{1,6}))?S)?)?"
)


def parse_duration(text: str) -> int:
    """Return the duration in microseconds.

    Accepts whole numbers with `us`, `ms`, `s`, `m`, `h`, `d`, `w`, largest unit first and each at most once (`1h30m`),
    and ISO 8601 durations of weeks, days, hours, minutes and seconds (`PT0.5S`; months and years have no fixed length).
    Raises ValueError, naming the text, for anything else and for more than a century.
    """
    found = _short(text) if _SHORT.fullmatch(text) else _iso(text)
    if found is None:
        raise ValueError(f"{text[:64]!r} is not a duration; write it as 90s, 10m, 24h, 7d, 1h30m or PT10M")
    if found > _LONGEST:
        raise ValueError(f"{text[:64]!r} is longer than a century")
    return found


def _short(text: str) -> int | None:
    parts = [(int(number), _UNITS[unit]) for number, unit in _PART.findall(text)]
    sizes = [size for _, size in parts]
    if sizes != sorted(set(sizes), reverse=True):
        return None
    return sum(number * size for number, size in parts)


def _iso(text: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    *whole, fraction = (group or "0" for group in match.groups())
    sizes = (_UNITS["w"], _UNITS["d"], _UNITS["h"], _UNITS["m"], _UNITS["s"])
    return sum(int(number) * size for number, size in zip(whole, sizes, strict=True)) + int(fraction.ljust(6, "0"))


def _from_text(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("is no duration; write it as 90s, 10m, 24h or 7d")  # noqa: TRY004 -- pydantic reads ValueError
    return parse_duration(value)


_PATTERN: Final = (
    r"^(?:(?:N w)?(?:N d)?(?:N h)?(?:N m)?(?:N s)?(?:N ms)?(?:N us)?"
    r"|P(?:N W)?(?:N D)?(?:T(?:N H(?:N M)?(?:F S)?|N M(?:F S)?|F S))?)$"
)
_PATTERN_PARTS: Final = {" ": "", "N": "[0-9]{1,18}", "F": r"[0-9]{1,18}(?:\.[0-9]{1,6})?"}


def _pattern() -> str:
    """Return the forms above as a pattern; a text of one character has none of them."""
    pattern = _PATTERN
    for sign, meaning in _PATTERN_PARTS.items():
        pattern = pattern.replace(sign, meaning)
    return pattern


Duration = Annotated[
    int,
    BeforeValidator(_from_text),
    WithJsonSchema({"type": "string", "minLength": 2, "pattern": _pattern(), "examples": ["10m", "24h"]}),
]
"""A pydantic field that is read from text and holds microseconds."""
