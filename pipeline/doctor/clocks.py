"""What can be known of the producers' clocks.

A record's own time is the broker's at the append (LogAppendTime) or the producer's at the sending (CreateTime).

- An event cannot be received before it happens. One that is later than the broker's append time, or than this machine's
  clock, comes from a clock that is ahead: `clock_ahead`.
- The other way round nothing is certain: an event may be old because a clock is behind, or because it was queued. What
  distinguishes the two is that a clock is wrong by a constant. Where one of several producers on a topic differs from
  the others by nearly the same time in all its records, that is `clock_skew`: either its events are older than those
  of the others when their records are made, or younger than the records, or the order of arrival, which the offsets
  tell, contradicts the times of sending. A record that was sent before one that lies before it, or after one that lies
  after it, is out of order by so much at least.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median, quantiles
from typing import Final, NamedTuple

from pipeline.doctor.findings import Finding, InOrder, NotJudged, Remark, share
from pipeline.doctor.reading import Producer, Reading, Row
from pipeline.doctor.sample import Topic

__all__ = ["clocks"]

APPENDED: Final = 1

AHEAD_US: Final = 10_000_000
"""Beyond the broker's append time: synchronised machines differ by less than a second."""

AHEAD_OF_HERE_US: Final = 60_000_000
"""Beyond this machine's clock, which need not be right either: the out-of-orderness of watermarks."""

LEAST_AHEAD: Final = 3
"""Events of a producer: one is a typing error in a test."""

LEAST_SKEW_US: Final = 60_000_000
"""Less is hidden by the out-of-orderness that watermarks allow."""

LEAST_RECORDS: Final = 30
"""Of a producer and of the others: below, a constant difference may be a chance."""

STEADY: Final = 0.1
"""Half of the differences lie within this part of their median: a queue varies, a clock does not."""

STEADY_US: Final = 5_000_000
"""And within this, at least, is steady: the pauses between records."""

_SHOWN: Final = 5  # producers that are named
_SECOND: Final = 1_000_000
_TOLD: Final = re.compile(r"(\d+) s ahead of the clock")  # as the decoder says it


class _Timed(NamedTuple):
    row: Row
    producer: Producer
    event_time: int  # µs
    record_time: int  # µs


def clocks(reading: Reading) -> Iterator[Remark]:
    """Tell whose clock is ahead, or differs from the others'."""
    ahead: list[tuple[_Timed, int, str]] = []
    skews: list[_Skew] = []
    looked: dict[str, int] = {}
    alone: list[str] = []
    for kind, topic in reading.sample.kinds():
        taken = reading.sample.taken_us
        timed = [each for row in reading.of_kind[kind] if (each := _timed(row, taken)) is not None]
        looked[topic.name] = len(timed)
        early = [(each, by, than) for each in timed for by, than in (_ahead(each, taken),) if by > 0]
        ahead += early
        if timed and len(early) < LEAST_AHEAD:
            compared = _compared(timed)
            if len({each.producer for each in compared}) > 1:
                skews += _skews(topic, compared)
            else:
                alone.append(topic.name)
    if alone:
        yield NotJudged(f"{', '.join(alone)}: no two producers that can be told apart, so no clocks to compare")
    by_producer: dict[Producer, list[tuple[_Timed, int, str]]] = {}
    for one in ahead:
        by_producer.setdefault(one[0].producer, []).append(one)
    guilty = {producer: theirs for producer, theirs in by_producer.items() if len(theirs) >= LEAST_AHEAD}
    if guilty:
        yield _told_ahead(guilty, looked)
    if skews:
        yield _told_skew(skews)
    total = sum(looked.values())
    if ahead and not guilty:
        yield NotJudged(f"clocks: {share(len(ahead), total)} events lie in the future, too few to tell by whose clock")
    elif total and not guilty and not skews:
        yield InOrder(f"clocks: none of {total:,} events lies in the future")


def _timed(row: Row, taken_us: int) -> _Timed | None:
    """Return a row with its times; None for what has no event time, be it refused for other reasons."""
    record_time = max(row.record.timestamp, 0) * 1_000
    if row.event is not None:
        return _Timed(row, row.producer(), row.event.time, record_time)
    if row.refusal is None or row.refusal.reason != "future_timestamp":
        return None
    # the decoder alone knows where in an envelope the time stands; it says by how much it is ahead of which clock
    clock = record_time if row.record.timestamp_type == APPENDED else taken_us
    told = _TOLD.search(row.refusal.message)
    return _Timed(row, row.producer(), clock + int(told[1]) * _SECOND, record_time) if told else None


def _ahead(timed: _Timed, taken_us: int) -> tuple[int, str]:
    """Return by how much an event is ahead of a clock, and whose that is; 0 if it may be right."""
    if timed.row.record.timestamp_type == APPENDED:
        by = timed.event_time - timed.record_time
        return (by, "the broker's clock") if by > AHEAD_US else (0, "")
    by = max(timed.event_time, timed.record_time) - taken_us
    return (by, "this machine's clock") if by > AHEAD_OF_HERE_US else (0, "")


def _told_ahead(guilty: Mapping[Producer, Sequence[tuple[_Timed, int, str]]], looked: Mapping[str, int]) -> Finding:
    lines = []
    ranked = sorted(guilty.items(), key=lambda item: -len(item[1]))
    for producer, theirs in ranked[:_SHOWN]:
        seconds = median(by for _, by, _ in theirs) / _SECOND
        lines.append(f"{producer}: {len(theirs):,} events, usually {_span(seconds)} ahead of {theirs[0][2]}")
    if len(ranked) > _SHOWN:
        lines.append(f"and {len(ranked) - _SHOWN} more producers")
    topics = sorted({one.row.topic.name for theirs in guilty.values() for one, _, _ in theirs})
    count, of = sum(map(len, guilty.values())), sum(looked[topic] for topic in topics)
    what = f"Events of {' and '.join(topics)} lie in the future: {share(count, of)}."
    return Finding("clock_ahead", what, lines, count, of, ranked[0][1][0][0].row.place)


class _Skew(NamedTuple):
    topic: str
    producer: Producer
    seconds: float  # positive is behind
    records: int
    of: int
    example: Row
    by_delay: bool


def _compared(timed: Sequence[_Timed]) -> list[_Timed]:
    """Return the records whose producers can be compared: clients, and what one type of event has of unnamed ones.

    Several types of event without a client may differ because they are different events.
    """
    unnamed = {each.producer for each in timed if not each.producer.is_sender}
    return [each for each in timed if each.producer.is_sender or len(unnamed) == 1]


def _skews(topic: Topic, timed: Sequence[_Timed]) -> Iterator[_Skew]:
    """Yield the producers that differ from the others on the topic by a constant."""
    firsts: dict[Producer, _Timed] = {}
    for each in timed:
        firsts.setdefault(each.producer, each)
    appended = all(each.row.record.timestamp_type == APPENDED for each in timed)
    delays = _spreads((each.producer, each.record_time - each.event_time) for each in timed)
    off = {producer: by for producer in delays if (by := _off(producer, delays)) is not None}
    for producer, by in off.items():
        count = delays[producer].records
        yield _Skew(topic.name, producer, by / _SECOND, count, len(timed), firsts[producer].row, by_delay=True)
    if appended or off:
        return
    for producer, found in _spreads(_neighbours(timed)).items():
        if abs(found.middle) >= LEAST_SKEW_US and found.is_steady(found.middle):
            seconds, example = found.middle / _SECOND, firsts[producer].row
            yield _Skew(topic.name, producer, seconds, found.records, len(timed), example, by_delay=False)


class _Spread(NamedTuple):
    """The differences of one producer (µs): their median, and how far apart the quartiles are."""

    middle: float
    width: float
    records: int

    def is_steady(self, by: float) -> bool:
        """Return whether they vary little, beside a deviation by so much."""
        return self.width <= max(STEADY_US, STEADY * abs(by))

    def is_apart(self, other: "_Spread") -> bool:
        """Return whether both vary little, beside what lies between them."""
        by = self.middle - other.middle
        return abs(by) >= LEAST_SKEW_US and self.is_steady(by) and other.is_steady(by)


def _spreads(differences: Iterable[tuple[Producer, int]]) -> dict[Producer, _Spread]:
    """Return the spread of each producer that has enough of them."""
    collected: dict[Producer, list[int]] = {}
    for producer, difference in differences:
        collected.setdefault(producer, []).append(difference)
    spreads = {}
    for producer, theirs in collected.items():
        if len(theirs) >= LEAST_RECORDS:
            low, middle, high = quantiles(theirs, n=4)
            spreads[producer] = _Spread(middle, high - low, len(theirs))
    return spreads


def _off(producer: Producer, delays: Mapping[Producer, _Spread]) -> float | None:
    """Return by how much (µs) a producer's events are older than those of most others; None if they are not.

    Negative is younger. Only who is far from the making of its own records is off: whoever is merely prompt is right.
    """
    own, others = delays[producer], [other for name, other in delays.items() if name != producer]
    apart = [own.middle - other.middle for other in others if own.is_apart(other)]
    off = [by for by in apart if by * own.middle > 0 and abs(own.middle) >= LEAST_SKEW_US]
    return median(off) if 2 * len(off) > len(others) else None


def _neighbours(timed: Sequence[_Timed]) -> Iterator[tuple[Producer, int]]:
    """Yield by how much each record seems to be sent before one that lies before it, or after one that lies after it.

    Its neighbours are the nearest records of other producers in its partition. Only an order that cannot be counts: the
    difference is 0 where the times are in order.
    """
    following = reversed(list(_nearest_before(timed[::-1])))
    for each, before, after in zip(timed, _nearest_before(timed), following, strict=True):
        if before is not None and before.record_time > each.record_time:
            yield each.producer, before.record_time - each.record_time
        elif after is not None and after.record_time < each.record_time:
            yield each.producer, after.record_time - each.record_time
        elif before is not None or after is not None:
            yield each.producer, 0


def _nearest_before(timed: Sequence[_Timed]) -> Iterator[_Timed | None]:
    """Yield for each record the nearest one before it that is of another producer and in the same partition."""
    last: dict[int, _Timed] = {}  # by partition
    other: dict[int, _Timed] = {}  # the last one of another producer than that
    for each in timed:
        partition = each.row.partition
        before = last.get(partition)
        if before is not None and before.producer != each.producer:
            other[partition] = before
        yield other.get(partition)
        last[partition] = each


def _told_skew(skews: Sequence[_Skew]) -> Finding:
    worst = sorted(skews, key=lambda skew: -abs(skew.seconds))
    lines = []
    for skew in worst[:_SHOWN]:
        how = "behind" if skew.seconds > 0 else "ahead of"
        why = "its clock or theirs, sending times do not tell whose"
        if skew.by_delay:
            why = "its clock, or a constant delay" if skew.seconds > 0 else "its clock, or records that are dated back"
        told = f"{_span(abs(skew.seconds))} {how} the others in {skew.records:,} records"
        lines.append(f"{skew.topic}: {skew.producer} is {told}: {why}")
    if not all(skew.by_delay for skew in worst):
        lines.append("message.timestamp.type=LogAppendTime on the topic would tell whose clock is wrong")
    first = worst[0]
    what = f"The clocks of producers of {first.topic} differ by {_span(abs(first.seconds))}."
    of = sum({skew.topic: skew.of for skew in worst}.values())
    return Finding("clock_skew", what, lines, sum(skew.records for skew in worst), of, first.example.place)


def _span(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.0f} s"
