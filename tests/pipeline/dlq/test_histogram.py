"""Bars over time."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from contracts.times import LATEST
from pipeline.dlq.histogram import bars, histogram
from tests.pipeline.lab import HOUR, NOON

CENTURY = 100 * 365 * 24 * HOUR


@given(first=st.integers(0, LATEST - CENTURY), after=st.lists(st.integers(0, CENTURY), max_size=20))
def test_every_time_is_in_one_bar(first: int, after: list[int]) -> None:
    times = [first + each for each in after]
    bins = histogram(times)
    assert sum(each.records for each in bins) == len(times)
    assert all(each.start + each.width == later.start for each, later in pairwise(bins))
    for time in times:
        assert sum(each.start <= time < each.start + each.width for each in bins) == 1
    assert len(bars(bins)) == len(bins)


@given(first=st.integers(0, LATEST // 2), length=st.integers(0, 365 * 24 * HOUR))
def test_there_are_few_bars(first: int, length: int) -> None:
    assert 1 <= len(histogram([first, first + length])) <= 24


def test_bars_are_drawn_to_scale() -> None:
    times = [NOON] * 10 + [NOON + 2 * HOUR] * 5 + [NOON + 20 * HOUR]
    assert bars(histogram(times))[:4] == [
        "2026-06-07T12:00Z  10  " + "█" * 40,
        "2026-06-07T13:00Z   0",
        "2026-06-07T14:00Z   5  " + "█" * 20,
        "2026-06-07T15:00Z   0",
    ]


def test_short_spans_are_told_by_the_second() -> None:
    assert bars(histogram([NOON, NOON + 1_000_000])) == [
        "2026-06-07T12:00:00Z  1  " + "█" * 40,
        "2026-06-07T12:00:01Z  1  " + "█" * 40,
    ]
