"""How times are spread: a bar for each span of a round length."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from contracts.times import format_time

__all__ = ["Bin", "bars", "histogram"]

_SECOND, _MINUTE, _HOUR, _DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
_WIDTHS: Final = (
    *(_SECOND * n for n in (1, 5, 15)),
    *(_MINUTE * n for n in (1, 5, 15)),
    *(_HOUR * n for n in (1, 3, 6)),
    *(_DAY * n for n in (1, 7, 30, 365)),
)
_MOST_BINS: Final = 24
_BAR: Final = 40  # characters of the longest


class Bin(NamedTuple):
    """So many times from `start` on, for `width` µs."""

    start: int
    width: int
    records: int


def histogram(times: Iterable[int]) -> list[Bin]:
    """Return the spans from the first to the last time (µs), in order, empty ones too; 24 but for centuries of them."""
    counted = Counter(times)
    if not counted:
        return []
    least, greatest = min(counted), max(counted)
    width = next((each for each in _WIDTHS if greatest // each - least // each < _MOST_BINS), _WIDTHS[-1])
    bins: Counter[int] = Counter()
    for time, count in counted.items():
        bins[time // width] += count
    return [Bin(place * width, width, bins[place]) for place in range(least // width, greatest // width + 1)]


def bars(bins: Sequence[Bin]) -> list[str]:
    """Return a line for each span: its start, a bar, its count."""
    longest = max((each.records for each in bins), default=0)
    widest = len(f"{longest:,}")
    return [
        f"{format_time(each.start)[:16] if each.width >= _MINUTE else format_time(each.start)[:19]}Z"
        f"  {each.records:>{widest},}  {'█' * -(-each.records * _BAR // longest)}".rstrip()
        for each in bins
    ]
