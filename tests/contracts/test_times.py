"""Event times: one text, and a column of texts."""

from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.times import EARLIEST, LATEST, format_time, parse_time, parse_times

NOON = 1_780_833_600_000_000


@pytest.mark.parametrize(
    ("text", "time"),
    [
        pytest.param("2026-06-07T12:00:00Z", NOON, id="UTC"),
        pytest.param("2026-06-07T12:00:00z", NOON, id="lower-case z"),
        pytest.param("2026-06-07t12:00:00Z", NOON, id="lower-case t"),
        pytest.param("2026-06-07 12:00:00Z", NOON, id="space"),
        pytest.param("2026-06-07T14:00:00+02:00", NOON, id="ahead of UTC"),
        pytest.param("2026-06-07T06:30:00-05:30", NOON, id="behind UTC"),
        pytest.param("2026-06-07T12:00:00-00:00", NOON, id="UTC, place unknown"),
        pytest.param("2026-06-07T12:00:00.5Z", NOON + 500_000, id="tenths"),
        pytest.param("2026-06-07T12:00:00.000001Z", NOON + 1, id="microseconds"),
        pytest.param("2026-06-07T12:00:00.0000019Z", NOON + 1, id="truncated"),
        pytest.param("2026-06-07T12:00:00.999999999+00:00", NOON + 999_999, id="nanoseconds"),
        pytest.param("1969-12-31T23:59:59.999999Z", -1, id="before the epoch"),
        pytest.param("9999-12-31T23:59:59.999999Z", LATEST, id="latest"),
        pytest.param("2000-01-01T00:00:00Z", EARLIEST, id="earliest"),
    ],
)
def test_a_time_is_read_as_microseconds(text: str, time: int) -> None:
    assert parse_time(text) == time
    assert _column([text]) == [time]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-06-07T12:00:00", id="naive"),
        pytest.param("2026-06-07", id="date"),
        pytest.param("2026-06-07Z", id="date with zone"),
        pytest.param("2026-06-07T12:00Z", id="no seconds"),
        pytest.param("2026-06-07T12Z", id="no minutes"),
        pytest.param("2026-06-07T12:00:00.Z", id="point without digits"),
        pytest.param("2026-06-07T12:00:00,5Z", id="comma"),
        pytest.param("2026-06-07T12:00:00+02", id="zone without minutes"),
        pytest.param("2026-06-07T12:00:00.12+02", id="zone without minutes, length of one with"),
        pytest.param("2026-06-07T12:00:00+0200", id="zone without colon"),
        pytest.param("2026-06-07T12:00:00+24:00", id="zone of a day"),
        pytest.param("2026-06-07T12:00:00 Z", id="space before zone"),
        pytest.param("2026-06-07T24:00:00Z", id="hour 24"),
        pytest.param("2026-06-30T23:59:60Z", id="leap second"),
        pytest.param("2026-02-29T12:00:00Z", id="no such day"),
        pytest.param("0000-01-01T00:00:00+00:00x", id="trailing"),
        pytest.param("20260607T120000Z", id="basic format"),
        pytest.param("1780833600", id="seconds"),
        pytest.param("", id="empty"),
        pytest.param("\uff12026-06-07T12:00:00Z", id="digits of another script"),
        pytest.param("2026-06-07T12:00:00Z\n", id="line feed"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)
    assert _column([text]) == [None]


_ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_TIMES = st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 29), timezones=_ZONES)  # noqa: DTZ001 -- bounds are naive
_TEXTS = st.builds(
    lambda time, separator, precision: time.isoformat(separator, precision).replace("+00:00", "Z"),
    _TIMES,
    st.sampled_from(["T", "t", " "]),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
)
_NEARLY = st.from_regex(
    r"[0-2][0-9]{3}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9](:[0-6][0-9]){1,2}(\.[0-9]{0,10})?"
    r"([Zz]|[+-][0-9]{2}:?([0-9]{2})?)?",
    fullmatch=True,
)


@given(st.lists(st.one_of(_TEXTS, _NEARLY, st.text(max_size=30)), max_size=8))
@example(["2026-06-07T12:00:00.1234567Z", "2026-02-30T12:00:00Z"])
@example(["0000-06-07T12:00:00Z"])
def test_a_column_reads_what_each_text_reads(texts: list[str]) -> None:
    for column in (pa.array(texts, pa.string()), pa.array(["x", *texts, "y"], pa.string()).slice(1, len(texts))):
        times, accepted = parse_times(column)
        found = [time if ok else None for time, ok in zip(times.tolist(), accepted.tolist(), strict=True)]
        # The year 0 exists in Arrow alone; what is before the year 2000 is refused later in any case.
        assert [time if time is None or time > 0 else None for time in found] == [_positive(text) for text in texts]


@given(_TIMES)
def test_a_time_written_in_any_zone_is_the_same_time(time: datetime) -> None:
    microseconds = parse_time(time.isoformat())
    assert format_time(microseconds, "microseconds") == time.astimezone(UTC).isoformat(timespec="microseconds").replace(
        "+00:00", "Z"
    )


@pytest.mark.parametrize(
    ("time", "text"),
    [
        pytest.param(NOON + 1_999, "2026-06-07T12:00:00.001Z", id="truncated to milliseconds"),
        pytest.param(-1, "1970-01-01T00:00:00.000Z", id="before the epoch"),
        pytest.param(2**62, "9999-12-31T23:59:59.999Z", id="after the year 9999"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds(time: int, text: str) -> None:
    assert format_time(time) == text


def _positive(text: str) -> int | None:
    try:
        time = parse_time(text)
    except ValueError:
        return None
    return time if time > 0 else None


def _column(texts: list[str]) -> list[int | None]:
    times, accepted = parse_times(pa.array(texts, pa.string()))
    return [time if ok else None for time, ok in zip(times.tolist(), accepted.tolist(), strict=True)]
