"""Whether events fall into a metric window of their unit and variation.

A window opens at a unit's first exposure to a variation and lasts as long as the flag's longest metric window; the
first exposure at or after its end opens the next. Events outside all windows are judged where two whole ones before
them lie in the sample, as in `joining`, which tells of units that are not exposed at all.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from contracts.flags import Contract
from pipeline.doctor.findings import FaultId, Finding, InOrder, Remark, share
from pipeline.doctor.joining import complete_since
from pipeline.doctor.reading import Event, Reading, Row

__all__ = ["windows"]

LEAST: Final = 10
"""Events, or units, that show a fault: fewer are tests, and retries across a deployment."""

LEAST_SHARE: Final[Mapping[FaultId, float]] = {
    "crossover": 0.05,  # of units: some change their variation whenever shares are raised
    "variation_mismatch": 0.05,  # the exposure of some that change may lie before the sample
    "events_before_exposure": 0.05,  # as of events without exposure
    "events_after_window": 0.2,  # some units come back after days
}
"""Of the flag's units, or of the events that are judged."""

_BEYOND: Final = frozenset({"events_before_exposure", "events_after_window"})

MOST_REFUSED: Final = 0.01
"""Of a flag's exposures: they may be those that are looked for."""

_SHOWN: Final = 5
_SAYING: Final[Mapping[FaultId, str]] = {
    "variation_mismatch": "name another variation than their unit was exposed to",
    "events_before_exposure": "lie before the exposure of their unit",
    "events_after_window": "come when the metric window of their unit is over",
}

_SIZES: Final = (
    ("less than a second", 1_000_000),
    ("seconds", 60_000_000),
    ("minutes", 3_600_000_000),
    ("hours", 86_400_000_000),
    ("days", 14 * 86_400_000_000),
)
"""Names of times (µs) below a bound."""

Windows = Mapping[str, Sequence[int]]
"""The windows of one unit: when they begin (µs), in order, by variation."""


def windows(reading: Reading) -> Iterator[Remark]:
    """Tell of units with two variations, and of events outside the windows of their own variation."""
    since = complete_since(reading.sample.exposures, reading.of_kind["exposure"])
    events: dict[str, list[Row]] = {}
    for row in (*reading.of_kind["outcome"], *reading.of_kind["guardrail"]):
        if row.event is not None:
            events.setdefault(row.event.flag_key, []).append(row)
    for contract in reading.book:
        exposures = reading.exposures.get(contract.flag_key, ())
        units = _units(exposures, contract.window_us)
        yield from _crossing(contract, units)
        if reading.refused.get(contract.flag_key, 0) <= MOST_REFUSED * len(exposures):
            yield from _outside(contract, units, events.get(contract.flag_key, ()), since)


def _units(rows: Iterable[Row], window_us: int) -> Mapping[str, Windows]:
    times: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        if row.event is not None:
            times.setdefault(row.event.unit_id, {}).setdefault(row.event.variation, []).append(row.event.time)
    return {
        unit: {variation: _starts(sorted(several), window_us) for variation, several in theirs.items()}
        for unit, theirs in times.items()
    }


def _starts(times: Sequence[int], window_us: int) -> Sequence[int]:
    starts = [times[0]]
    for time in times:
        if time >= starts[-1] + window_us:
            starts.append(time)
    return starts


def _crossing(contract: Contract, units: Mapping[str, Windows]) -> Iterator[Remark]:
    flag = contract.flag_key
    crossed = [theirs for theirs in units.values() if len(theirs) > 1 and _overlap(theirs, contract.window_us)]
    if _matters("crossover", len(crossed), len(units)):
        pairs = Counter(" and ".join(sorted(theirs)) for theirs in crossed)
        lines = [f"{pair}: {count:,} units" for pair, count in pairs.most_common(_SHOWN)]
        what = f"Units of {flag} are exposed to several variations at a time: {share(len(crossed), len(units))}."
        yield Finding("crossover", what, lines, len(crossed), len(units))
    elif units:
        kept = len(units) - len(crossed)
        yield InOrder(f"{flag}: {share(kept, len(units))} units have one variation at a time")


def _overlap(theirs: Windows, window_us: int) -> bool:
    merged = sorted((start, variation) for variation, starts in theirs.items() for start in starts)
    return any(
        variation != other and after - start < window_us for (start, variation), (after, other) in pairwise(merged)
    )


def _outside(contract: Contract, units: Mapping[str, Windows], rows: Iterable[Row], since: float) -> Iterator[Remark]:
    flag, totals = contract.flag_key, Counter[str]()
    fates: dict[tuple[FaultId, str], list[tuple[Row, str]]] = {}
    for row in rows:
        if row.event is None or row.event.unit_id not in units:
            continue
        fault, how = _fate(row, row.event, units[row.event.unit_id], contract.window_us)
        if fault in _BEYOND and row.event.time - 2 * contract.window_us < since:
            continue  # its window may lie before the sample
        totals[row.topic.name] += 1
        if fault is not None:
            fates.setdefault((fault, row.topic.name), []).append((row, how))
    found: dict[FaultId, dict[str, list[tuple[Row, str]]]] = {}
    for (fault, topic), some in fates.items():
        if _matters(fault, len(some), totals[topic]):
            found.setdefault(fault, {})[topic] = some
    for fault, by_topic in found.items():
        some = [each for several in by_topic.values() for each in several]
        of = sum(totals[topic] for topic in by_topic)
        lines = [f"{how}, in {count:,}" for how, count in Counter(how for _, how in some).most_common(_SHOWN)]
        what = f"Events of {flag} in {' and '.join(by_topic)} {_SAYING[fault]}: {share(len(some), of)}."
        yield Finding(fault, what, lines, len(some), of, some[0][0].place)
    if totals and not found:
        joined = totals.total() - sum(map(len, fates.values()))
        yield InOrder(f"{flag}: {share(joined, totals.total())} events of exposed units fall into a window of theirs")


def _fate(row: Row, event: Event, theirs: Windows, window_us: int) -> tuple[FaultId | None, str]:
    """Return what is wrong with where an event falls, and how; None where it is joined to its own variation."""
    at = event.time
    newest = {name: starts[before - 1] for name, starts in theirs.items() if (before := bisect_right(starts, at))}
    holding = [name for name, start in newest.items() if at < start + window_us]
    if event.variation in holding:
        return None, ""
    if holding:
        return "variation_mismatch", f"{row.topic.name}: {event.variation}, exposed to {' and '.join(sorted(holding))}"
    if newest:
        return "events_after_window", f"{row.topic.name}: {_magnitude(at - max(newest.values()))} after the exposure"
    first = min(starts[0] for starts in theirs.values())
    return "events_before_exposure", f"{row.topic.name}: {_magnitude(first - at)} before it"


def _matters(fault: FaultId, count: int, of: int) -> bool:
    return count >= LEAST and count >= LEAST_SHARE[fault] * of


def _magnitude(us: int) -> str:
    """Return how long that is, as one of a few sizes: what has one cause comes together."""
    return next((name for name, size in _SIZES if us < size), "weeks")
