"""Times read by hand: RFC 3339 text to µs since the epoch."""

import re
from datetime import date
from functools import lru_cache
from typing import Final

__all__ = ["YEAR_2000", "time_of"]

YEAR_2000: Final = 946_684_800_000_000
"""µs since the epoch; earlier times are none."""

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)


def time_of(text: str) -> int | None:
    """Return the µs since the epoch of an RFC 3339 time with a zone, cut to µs; None if it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    days = _days(day)
    if days is None:
        return None
    seconds = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    if sign:
        ahead = int(zone_hour) * 3_600 + int(zone_minute) * 60
        seconds += ahead if sign == "-" else -ahead
    return seconds * 1_000_000 + (int(fraction[:6].ljust(6, "0")) if fraction else 0)


@lru_cache(maxsize=1_024)
def _days(day: str) -> int | None:
    try:
        return date.fromisoformat(day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
