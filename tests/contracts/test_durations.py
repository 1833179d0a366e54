"""What a duration may look like."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contracts.durations import Duration, parse_duration

_SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("250us", 250),
        ("500ms", 500_000),
        ("90s", 90 * _SECOND),
        ("10m", 600 * _SECOND),
        ("24h", 86_400 * _SECOND),
        ("7d", 7 * 86_400 * _SECOND),
        ("2w", 14 * 86_400 * _SECOND),
        ("1h30m", 5_400 * _SECOND),
        ("0s", 0),
        ("PT10M", 600 * _SECOND),
        ("P1D", 86_400 * _SECOND),
        ("P1W", 7 * 86_400 * _SECOND),
        ("P1DT2H", 26 * 3_600 * _SECOND),
        ("PT0.5S", 500_000),
    ],
)
def test_a_duration_is_read_as_microseconds(text: str, microseconds: int) -> None:
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("10", id="no unit"),
        pytest.param("1.5h", id="fraction"),
        pytest.param("-1s", id="negative"),
        pytest.param("10 m", id="space"),
        pytest.param("1m1h", id="smaller unit first"),
        pytest.param("1h1h", id="unit twice"),
        pytest.param("٣s", id="digits of another script"),
        pytest.param("P", id="ISO without parts"),
        pytest.param("P1DT", id="ISO without time after T"),
        pytest.param("P1M", id="ISO month"),
        pytest.param("P1Y", id="ISO year"),
        pytest.param("PT1.5M", id="ISO fraction of a minute"),
        pytest.param("1s\n", id="line feed"),
        pytest.param("1:30", id="clock"),
        pytest.param("40000d", id="more than a century"),
        pytest.param("9" * 5000 + "s", id="many digits"),
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|century") as refused:
        parse_duration(text)
    assert repr(text[:64]) in str(refused.value)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(ValueError):
        assert parse_duration(text) >= 0


def test_a_field_reads_text_only() -> None:
    adapter = TypeAdapter(Duration)
    assert adapter.validate_python("10m") == 600 * _SECOND
    with pytest.raises(ValidationError, match="is no duration; write it as 90s"):
        adapter.validate_python(600)
