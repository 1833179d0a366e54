"""Whether the facts are those of the units that were published, each once, and no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import numpy as np

from benchmarks.soak.traffic import GUARDED, INVERSE, Traffic, unit_names
from contracts.placement import murmur2_partition
from sinks.manifest import Manifest

__all__ = ["faults"]

OPEN_FOR: Final = 25 * 3_600_000_000  # µs, window and lateness
AT_A_TIME: Final = 500_000

_FOUND: Final = """
WITH fact AS (
    SELECT
        regexp_extract(filename, 'p(\\d{{5}})-', 1)::INT AS "partition",
        ('0x' || unit_id[6:])::BIGINT * {inverse} % 4294967296 AS number,
        epoch_us(window_start) AS starts, exposures, outcomes, guardrails
    FROM read_parquet('{lake}/tables/facts/**/*.parquet', filename = true)
)
SELECT
    "partition", count(*), count(DISTINCT number),
    count(*) FILTER (
        starts <> {start} + number * 3600000000 // {units_an_hour} // 1000 * 1000
        OR exposures <> 1 OR outcomes <> 1 OR guardrails <> (number % {guarded} = 0)::INT
    )
FROM fact GROUP BY "partition"
"""


def faults(lake: Path, manifests: Sequence[Manifest], traffic: Traffic) -> list[str]:
    """Return what is wrong with the facts, in words; all that was published must have been read.

    A fact that is right names a unit, the time of its exposure and its events; so many different ones as there are
    units due in a partition are those units.
    """
    found: dict[int, tuple[int, int, int]] = {}
    if any(manifest.totals.get("facts") for manifest in manifests):
        query = _FOUND.format(
            inverse=INVERSE,
            lake=lake,
            start=traffic.start,
            units_an_hour=traffic.units_an_hour,
            guarded=GUARDED,
        )
        with duckdb.connect() as connection:
            found = {row[0]: row[1:] for row in connection.execute(query).fetchall()}
    wrong = []
    due = _due(manifests, traffic)
    for manifest in manifests:
        count, different, strange = found.get(manifest.partition, (0, 0, 0))
        if (count, different, strange) != (due[manifest.partition], count, 0):
            wrong.append(
                f"partition {manifest.partition}: {count:,} facts of {different:,} units, {strange:,} of them wrong; "
                f"{due[manifest.partition]:,} units are due"
            )
        others = {fate: rows for fate, rows in manifest.totals.items() if fate not in {"facts", "joined"} and rows}
        if others:
            wrong.append(f"partition {manifest.partition}: there are other fates, {others}")
    return wrong


def _due(manifests: Sequence[Manifest], traffic: Traffic) -> dict[int, int]:
    """Return how many units each partition must have closed."""
    through = {each.partition: each.closed_through or 0 for each in manifests}
    counts = np.zeros(max(through) + 1, np.int64)
    bounds = np.array([through.get(partition, 0) - OPEN_FOR for partition in range(len(counts))])
    partitions = next(iter(manifests[0].topics.values())).partitions
    last = traffic.before(int(bounds.max()) + 1)
    for first in range(0, last, AT_A_TIME):
        numbers = np.arange(first, min(first + AT_A_TIME, last))
        place = murmur2_partition(unit_names(numbers), partitions)
        due = traffic.exposed(numbers) <= bounds[place]
        counts += np.bincount(place[due], minlength=len(counts))
    return {partition: int(count) for partition, count in enumerate(counts)}
