"""How long a close takes: where all units are due, and where few are due among many open events.

Divide the time of a round by the number of events, which `extra_info` holds.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.open_events import CONTRACT, HOUR, START, open_events
from contracts.columns import EVENT, utf8
from pipeline.close import Due, Horizon, close
from pipeline.sources import Source


def spread(first: int, count: int, hours: float, since: int = START) -> pa.Table:
    """Make the events of `count` units with exposures within so many hours."""
    units = np.arange(first, first + count)
    return open_events(units, since + np.sort(np.random.default_rng(first).integers(0, int(hours * HOUR), count)))


def due(hours: float, *, old: Sequence[Source] = (), new: Sequence[Source] = ()) -> Due:
    return Due(
        partition=0,
        closed_through=None,
        watermark=START + int(hours * HOUR),
        allowed_lateness=HOUR,
        horizons={CONTRACT.flag_key: Horizon(CONTRACT.window_us, None)},
        contracts={CONTRACT.version: CONTRACT},
        old=old,
        new=new,
        residue=[],
    )


@pytest.mark.parametrize("units", [pytest.param(100_000, id="100k-units")])
def test_close_where_all_is_due(benchmark: BenchmarkFixture, units: int) -> None:
    events = spread(0, units, hours=10)
    benchmark.extra_info["events"] = events.num_rows
    closed = benchmark(close, due(100, new=[events]))
    assert closed.facts.num_rows == units


@pytest.mark.parametrize("segments", [pytest.param(10, id="10-segments-of-220k-events")])
def test_close_where_little_is_due(benchmark: BenchmarkFixture, tmp_path: Path, segments: int) -> None:
    paths = [str(tmp_path / f"{number}.parquet") for number in range(segments)]
    for number, path in enumerate(paths):
        events = spread(number * 100_000, 100_000, hours=2, since=START + 2 * number * HOUR).cast(utf8(EVENT))
        pq.write_table(events.sort_by("event_time"), path, compression="zstd")
    benchmark.extra_info["events"] = sum(pq.read_metadata(path).num_rows for path in paths)
    closed = benchmark(close, due(25.02, old=paths))
    assert 0 < closed.facts.num_rows < 10_000
