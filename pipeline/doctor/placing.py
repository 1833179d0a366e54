"""By which partitioner records were placed.

The partition of a record is compared with what each partitioner would have made of its key. With few partitions they
agree often by chance (with two, every second time), so shares alone say little. Each distinct key and its partition is
one observation; the observations are explained as a mixture of four causes: murmur2, CRC32, FNV-1a, and a partition
that does not depend on the key. The weights are those of greatest likelihood (Dempster, Laird and Rubin 1977), and a
cause counts where the explanation without it is less likely by `SURE`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from contracts.placement import crc32_partition, fnv1a_partition, murmur2_partition
from pipeline.dlq.places import Place
from pipeline.doctor.findings import FaultId, Finding, InOrder, NotJudged, Remark, share
from pipeline.doctor.reading import Producer, Reading, Row
from pipeline.doctor.sample import Topic

__all__ = ["Placed", "explain", "placing"]

LEAST_KEYS: Final = 10
"""Keys that one cause must account for: a handful of records were placed by hand, or by a test."""

LEAST_SHARE: Final = 0.01
"""Of the keys: the alert of misplaced records has the same threshold."""

SURE: Final = math.log(1e6)
"""A million to one: with three topics and a few producers each, a false alarm once in a hundred thousand looks."""

LONGEST_KEY: Final = 4_096  # bytes; a unit ID has at most 1,024 characters
ROUNDS: Final = 200  # of the search for the weights; it stops sooner
_SHOWN: Final = 5  # producers that are named
_MOST_PRODUCERS: Final = 50  # of those with the most keys, that are looked at one by one
_MOST_COUNTS: Final = 256  # earlier partition counts that are tried

CAUSES: Final = ("murmur2", "CRC32", "FNV-1a", "no partitioner")
_IDS: Final[tuple[FaultId, ...]] = ("crc32_partitioner", "fnv1a_partitioner", "unknown_partitioner")
_MURMUR2, _FREE = 0, 3

Fit = tuple[bool, bool, bool]
"""Whether murmur2, CRC32 and FNV-1a put the key where it is."""


class Placed(NamedTuple):
    """A distinct key with its partition."""

    key: bytes
    partition: int
    row: Row


class Explanation(NamedTuple):
    """What placed some keys: the weight of each cause, and by how much (ln) each is needed."""

    weights: tuple[float, ...]
    gains: tuple[float, ...]


def placing(reading: Reading) -> Iterator[Remark]:
    """Tell of partition counts, and by which partitioner each topic is filled."""
    found: dict[FaultId, list[_Blamed]] = {}
    for kind, topic in reading.sample.kinds():
        if topic.partitions == 1 and topic.count:
            yield NotJudged(f"{topic.name}: the partitioner does not show with one partition")
        placed = _distinct(row for row in reading.of_kind[kind] if row.record.key) if topic.partitions > 1 else []
        if len(placed) < LEAST_KEYS:
            if placed:
                yield NotJudged(f"{topic.name}: {len(placed)} keys in the sample are too few for the partitioner")
            continue
        fits = _fits(placed, topic.partitions)
        blamed = list(_blame(topic, placed, fits))
        for each in blamed:
            found.setdefault(each.id, []).append(each)
        away = sum(not fit[_MURMUR2] for fit in fits)
        if not blamed and away:
            yield NotJudged(f"{topic.name}: {share(away, len(fits))} keys are misplaced, too few to tell by what")
        elif not blamed:
            yield InOrder(
                f"{topic.name}: all of {len(fits):,} keys are placed by murmur2, in {topic.partitions} partitions"
            )
    for fault, several in found.items():
        names = " and ".join(each.topic for each in several)
        how = {
            "crc32_partitioner": "CRC32, the default of librdkafka's clients",
            "fnv1a_partitioner": "FNV-1a, the default of Sarama",
            "unknown_partitioner": "nothing that depends on their keys",
            "added_partitions": "murmur2 among fewer partitions than there are",
        }[fault]
        count, of = sum(each.keys for each in several), sum(each.of for each in several)
        what = f"Records of {names} are placed by {how}: {share(count, of)} keys."
        lines = [line for each in several for line in each.lines]
        yield Finding(fault, what, lines, count, of, several[0].example)


def explain(fits: Mapping[Fit, int], partitions: int) -> Explanation:
    """Return what placed keys that fit so, among so many partitions (at least two)."""
    weights, likelihood = _weigh(fits, partitions, range(4))
    gains = (
        likelihood - _weigh(fits, partitions, [other for other in range(4) if other != cause])[1] for cause in range(4)
    )
    return Explanation(weights, tuple(gains))


class _Blamed(NamedTuple):
    id: FaultId
    topic: str
    keys: int
    of: int
    lines: list[str]
    example: Place


def _blame(topic: Topic, placed: Sequence[Placed], fits: Sequence[Fit]) -> Iterator[_Blamed]:
    partitions, count = topic.partitions, len(placed)
    away = [one for one, fit in zip(placed, fits, strict=True) if not fit[_MURMUR2]]
    if len(away) < LEAST_KEYS or len(away) < LEAST_SHARE * count:
        return
    before = _count_before(away, partitions)
    if before is not None:
        told = f"all of {len(away):,} misplaced keys fit murmur2 among {before} of {partitions} partitions"
        line = f"{topic.name}: {told}"
        yield _Blamed("added_partitions", topic.name, len(away), count, [line], away[0].row.place)
        return
    explained = explain(Counter(fits), partitions)
    shares = [sum(fit[cause] for fit in fits) / count for cause in range(3)]
    table = ", ".join(f"{name} {value:.0%}" for name, value in zip(CAUSES, shares, strict=False))
    for cause in range(1, 4):
        weight = explained.weights[cause]
        if weight * count < LEAST_KEYS or weight < LEAST_SHARE or explained.gains[cause] < SURE:
            continue
        lines = [
            f"{topic.name}: of {count:,} keys fit {table}; by chance {1 / partitions:.0%}, of {partitions} partitions",
            f"{topic.name}: about {weight:.0%} by {CAUSES[cause]}, {_odds(explained.gains[cause])}",
            *_producers(topic, placed, fits, cause),
        ]
        example = next(
            (
                one.row.place
                for one, fit in zip(placed, fits, strict=True)
                if not fit[_MURMUR2] and (cause == _FREE or fit[cause])
            ),
            away[0].row.place,
        )
        yield _Blamed(_IDS[cause - 1], topic.name, round(weight * count), count, lines, example)


def _producers(topic: Topic, placed: Sequence[Placed], fits: Sequence[Fit], cause: int) -> Iterator[str]:
    """Name the producers behind a cause, those with the most keys first."""
    own: dict[Producer, list[Fit]] = {}
    for one, fit in zip(placed, fits, strict=True):
        own.setdefault(one.row.producer(), []).append(fit)
    ranked = sorted(own.items(), key=lambda item: -len(item[1]))[:_MOST_PRODUCERS]
    several = [(producer, theirs) for producer, theirs in ranked if len(theirs) >= LEAST_KEYS]
    guilty: list[str] = []
    others: list[str] = []
    for producer, theirs in several:
        told = explain(Counter(theirs), topic.partitions)
        places_so = told.weights[cause] >= 0.5 and told.gains[cause] >= math.log(100)  # noqa: PLR2004 - most of its keys
        (guilty if places_so else others).append(f"{producer} ({len(theirs):,} keys)")
    if guilty:
        yield f"{topic.name}: so places {_listed(guilty)}"
    if guilty and others:
        yield f"{topic.name}: so does not {_listed(others)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _odds(gain: float) -> str:
    digits = int(min(gain / math.log(10), 99))
    return f"at odds of more than 10^{digits} to 1"


def _distinct(rows: Iterator[Row]) -> list[Placed]:
    """Return each key with each partition it lies in, once: repeated ones are no new evidence."""
    seen: dict[tuple[bytes, int], Placed] = {}
    for row in rows:
        key = row.record.key
        if key and len(key) <= LONGEST_KEY and (key, row.partition) not in seen:
            seen[key, row.partition] = Placed(key, row.partition, row)
    return list(seen.values())


def _fits(placed: Sequence[Placed], partitions: int) -> list[Fit]:
    murmur2 = _murmur2([one.key for one in placed], partitions)
    return [
        (
            there == one.partition,
            crc32_partition(one.key, partitions) == one.partition,
            fnv1a_partition(one.key, partitions) == one.partition,
        )
        for one, there in zip(placed, murmur2, strict=True)
    ]


def _murmur2(keys: Sequence[bytes], partitions: int) -> list[int]:
    """Return where murmur2 puts the keys, which need not be UTF-8."""
    column = pa.array(keys, pa.binary())
    _, ends, data = column.buffers()
    found: list[int] = murmur2_partition(pa.StringArray.from_buffers(len(keys), ends, data), partitions).tolist()
    return found


def _count_before(away: Sequence[Placed], partitions: int) -> int | None:
    """Return the smaller partition count for which murmur2 explains all of the misplaced keys; None if none does."""
    few = away[:500]
    keys, there = [one.key for one in few], [one.partition for one in few]
    least = max(max(there) + 1, 2)
    for count in range(least, min(partitions, least + _MOST_COUNTS)):
        if len(few) * math.log(count) >= SURE and _murmur2(keys, count) == there:
            return count
    return None


def _weigh(fits: Mapping[Fit, int], partitions: int, causes: Sequence[int]) -> tuple[tuple[float, ...], float]:
    """Return the most likely weights of these causes (others 0), and the logarithm of the likelihood."""
    counts = np.array(list(fits.values()), dtype=np.float64)
    table = np.array([[*map(float, fit), 1 / partitions] for fit in fits])
    allowed = np.zeros(4)
    allowed[list(causes)] = 1
    table = table * allowed
    weights = allowed / allowed.sum()
    total = -math.inf
    for _ in range(ROUNDS):
        joint = table * weights
        rows = joint.sum(axis=1)
        if (rows <= 0).any():  # a record that none of these causes could have placed
            return tuple(weights), -math.inf
        before, total = total, float((counts * np.log(rows)).sum())
        weights = (counts[:, None] * joint / rows[:, None]).sum(axis=0) / counts.sum()
        if total - before < 1e-9:  # noqa: PLR2004 - nothing more to gain
            break
    return tuple(weights.tolist()), total
