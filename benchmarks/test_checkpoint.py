"""What a checkpoint takes that does not close: its segment, its manifest; and what a refused record takes.

Divide the time of a round by the events or records that `extra_info` holds.
"""

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.open_events import CONTRACT, HOUR, START, TOPICS, open_events
from benchmarks.open_units import beginning, checkpointer, freeze
from contracts.decode import Decoder
from contracts.flags import ContractBook
from pipeline.breaker import Limits
from pipeline.fetched import Fetched
from pipeline.letters import Sender
from pipeline.partition import Frozen, Partition, Rules
from sinks.archives import FILES_LISTED
from sinks.manifest import FileRef, Manifest, SegmentRef
from tests.pipeline.lab import Record

REFUSED: Final = 5_000
NO_LIMITS: Final = Limits(share=1.0, minimum=10**9, in_a_row=10**9)
ROUNDS: Final = 10


def frozen(units: int) -> Frozen:
    """Freeze the events of so many units, 2.2 a unit."""
    none, offsets = dict.fromkeys(TOPICS.values(), 0), dict.fromkeys(TOPICS.values(), 0)
    numbers = np.arange(units)
    events = open_events(numbers, START + numbers * HOUR // units, offsets)
    return freeze(events, none, offsets, START + HOUR)


@pytest.mark.parametrize("units", [pytest.param(100_000, id="220k-events"), pytest.param(1_000, id="2k-events")])
def test_checkpoint_of_open_events(benchmark: BenchmarkFixture, tmp_path: Path, units: int) -> None:
    read = frozen(units)
    lakes = count()

    def new_lake() -> tuple[tuple[Any, ...], dict[str, Any]]:
        lake = tmp_path / str(next(lakes))
        lake.mkdir()
        return (checkpointer(lake), beginning(lake)), {}

    def commit(writer: Any, base: Manifest) -> Manifest:  # noqa: ANN401
        return writer.checkpoint(base, read, None)  # type: ignore[no-any-return]

    benchmark.extra_info["events"] = read.rows
    done = benchmark.pedantic(commit, setup=new_lake, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    assert sum(segment.rows for segment in done.segments) == read.rows


def test_checkpoint_on_a_large_manifest(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Nothing arrived, a hundred segments are open, and the chain is long."""
    tmp_path.joinpath("lake").mkdir()
    lake = tmp_path / "lake"
    base = large(beginning(lake))
    none = dict.fromkeys(TOPICS.values(), 0)
    writer = checkpointer(lake)
    state = [base]

    def commit() -> Manifest:
        state[0] = writer.checkpoint(state[0], freeze(None, none, none, START), None)
        return state[0]

    done = benchmark.pedantic(commit, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    benchmark.extra_info["bytes"] = len(done.to_bytes())
    assert len(done.segments) == 100


def test_manifest_there_and_back(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    tmp_path.joinpath("lake").mkdir()
    manifest = large(beginning(tmp_path / "lake"))
    read = benchmark(lambda: Manifest.from_bytes(manifest.to_bytes(), "m"))
    assert read == manifest


def test_refused_records(benchmark: BenchmarkFixture) -> None:
    """Each is judged by pydantic and becomes a letter and a row of `refused`."""
    broken = b'{"event":"shown","flagKey":"f","unitId":"u","variation":"control","fallbackUsed":"no"}'
    records = [Record(offset, broken) for offset in range(REFUSED)]
    fetched = Fetched(0, REFUSED, records, REFUSED, at_end=True)
    rules = Rules(Sender("evidence", "1"), 1, False, NO_LIMITS, 0, 10**15)  # noqa: FBT003
    sent: list[Any] = []

    def read() -> None:
        sent.clear()
        decoder = Decoder(ContractBook([CONTRACT]), 1 << 20, 10**15)
        start, kinds = dict.fromkeys(TOPICS.values(), 0), {topic: kind for kind, topic in TOPICS.items()}
        partition = Partition(0, kinds, start, None, replace(rules), decoder, sent.append)  # type: ignore[arg-type]
        assert partition.accept("exposures", fetched, START, 0)

    benchmark.extra_info["records"] = REFUSED
    benchmark(read)
    assert len(sent) == REFUSED


def large(base: Manifest) -> Manifest:
    """Name a hundred segments and as many table files as a manifest holds before some are archived."""
    some: dict[str, Any] = {"rows": 100_000, "size": 10_000_000, "crc32": 123_456_789}
    offsets = dict.fromkeys(TOPICS.values(), (10**9, 10**9 + 10**5))
    segments = [
        SegmentRef(
            name=f"segments/p00000/{number:012}-0123456789-0.parquet",
            min_event_time=START,
            max_event_time=START + HOUR,
            flags={CONTRACT.flag_key: START + HOUR},
            offsets=offsets,
            **some,
        )
        for number in range(100)
    ]
    files = [
        FileRef(name=f"tables/facts/dt=2026-06-07/p00000-{number:012}-0123456789.parquet", table="facts", **some)
        for number in range(FILES_LISTED)
    ]
    return base.model_copy(update={"segments": tuple(segments), "files": tuple(files)})
