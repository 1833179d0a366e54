"""Event times: RFC 3339 text to microseconds since the epoch in UTC, one by one and by the column.

Both ways give the same answer for every text. Fractions beyond microseconds are truncated. A text must have a date, a
time with seconds, and a zone; `T`, `t` or a space may separate them (RFC 3339, section 5.6). Leap seconds are refused.
"""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contracts.columns import TIMESTAMP

__all__ = ["EARLIEST", "LATEST", "format_time", "parse_time", "parse_times"]

EARLIEST: Final = 946_684_800_000_000  # 2000-01-01T00:00:00Z: earlier ones come from clocks that were never set
LATEST: Final = 253_402_300_799_999_999  # the last microsecond of the year 9999, which Python and SQL still print

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()
_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]"
    r"([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)

_SHORTEST_UTC: Final = len("2026-06-07T10:15:30Z")
_SHORTEST_OFFSET: Final = len("2026-06-07T10:15:30+00:00")
_OFFSET_SIGN, _OFFSET_COLON = 6, 3  # places of `+` and `:` in `+05:30`, counted from the end


def parse_time(text: str) -> int:
    """Return the microseconds since the epoch of one RFC 3339 time; raises ValueError for anything else."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time with a zone, such as 2026-06-07T10:15:30Z")
    year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    minutes = days * 1440 + int(hour) * 60 + int(minute)
    if sign:
        ahead = int(zone_hour) * 60 + int(zone_minute)
        minutes -= ahead if sign == "+" else -ahead
    return (minutes * 60 + int(second)) * 1_000_000 + int((fraction or "")[:6].ljust(6, "0"))


def parse_times(texts: pa.StringArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the microseconds of a column of texts without nulls, and which of them `parse_time` accepts.

    Where a text is refused its microseconds are 0. Raises nothing, whatever the texts.
    """
    if (whole := _cast(texts)) is not None:
        return whole, np.ones(len(texts), dtype=np.bool_)
    # What Arrow does not read but RFC 3339 allows: lower case, and more digits than microseconds have.
    plain = pc.replace_substring_regex(pc.ascii_upper(texts), r"(\.[0-9]{6})[0-9]+", r"\1")
    shaped = pc.match_substring_regex(plain, r"^[0-9-]{10}[T ][0-9:]{8}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})\z")
    accepted = np.asarray(shaped.to_numpy(zero_copy_only=False), dtype=np.bool_)
    times = np.zeros(len(texts), dtype=np.int64)
    if (rest := _cast(plain.filter(shaped))) is not None:
        times[accepted] = rest
        return times, accepted
    for row in np.flatnonzero(accepted):  # some have the shape of a time but are none, such as February 30
        try:
            times[row] = parse_time(texts[row].as_py())
        except ValueError:
            accepted[row] = False
    return times, accepted


def format_time(microseconds: int, timespec: Literal["milliseconds", "microseconds"] = "milliseconds") -> str:
    """Return the time as RFC 3339 in UTC, truncated; times before 1970 and after 9999 show as the nearest within."""
    at = _EPOCH + timedelta(microseconds=max(0, min(microseconds, LATEST)))
    return at.isoformat(timespec=timespec).replace("+00:00", "Z")


def _cast(texts: pa.StringArray) -> npt.NDArray[np.int64] | None:
    """Cast the whole column, or return None if a text is not RFC 3339 in a form that Arrow reads alike.

    Arrow also reads `10:15Z`, `+05` and `+0530`. A text with a zone that ends in `Z`, or in `:` and two digits after a
    sign, and that is long enough to hold seconds, is none of those.
    """
    if len(texts) == 0:
        return np.zeros(0, dtype=np.int64)
    try:
        times = pc.cast(texts, TIMESTAMP).view(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None
    ends = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    lengths, ends = np.diff(ends), ends[1:]
    text = np.frombuffer(texts.buffers()[2], dtype=np.uint8)
    utc = (text[ends - 1] == ord("Z")) & (lengths >= _SHORTEST_UTC)
    if not utc.all():
        sign = text[ends - _OFFSET_SIGN]
        signed = (sign == ord("+")) | (sign == ord("-"))
        zoned = signed & (text[ends - _OFFSET_COLON] == ord(":")) & (lengths >= _SHORTEST_OFFSET)
        if not (utc | zoned).all():
            return None
    return np.asarray(times, dtype=np.int64)
