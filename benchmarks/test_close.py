"""How long a close takes: where all units are due, and where few are due among many open events.

Divide the time of a round by the number of events, which `extra_info` holds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from contracts.columns import EVENT, TIMESTAMP, utf8
from contracts.flags import load_contract
from pipeline.close import Due, Horizon, Source, close

FLAG: Final = Path(__file__).parents[1] / "examples" / "support_answer_model_route.yaml"
CONTRACT: Final = load_contract(FLAG.read_text(encoding="utf-8"), FLAG.name)
START: Final = 1_780_833_600_000_000  # µs, while the experiment runs
HOUR: Final = 3_600_000_000
METRICS: Final = ["resolvedWithoutEscalation", "humanCorrection", "latencyMs", "estimatedCost"]

Numbers = np.ndarray[Any, np.dtype[np.int64]]


def coded(names: Sequence[str | None], codes: Numbers) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))


def rows(kind: str, units: Numbers, at: Numbers, event: str, values: Sequence[str]) -> pa.Table:
    """Make one event a unit; the variation goes by the unit."""
    count, rng = len(units), np.random.default_rng(1)
    names = pa.array([f"conv_{unit * 2_654_435_761 % 2**32:08x}" for unit in units.tolist()])
    variation, same = units % 2, np.zeros(count, np.int64)
    offsets = pa.array(np.arange(count + 1) * len(values), pa.int32())
    columns = {
        "kind": coded([kind], same),
        "topic": coded([f"{kind}s"], same),
        "offset": pa.array(units),
        "record_time": pa.array(at, TIMESTAMP),
        "event_time": pa.array(at, TIMESTAMP),
        "flag_key": coded([CONTRACT.flag_key], same),
        "unit_id": names,
        "variation": coded(["control", "candidate"], variation),
        "event": coded([event], same),
        "contract_version": coded([CONTRACT.version], same),
        "value": pa.array([b'{"event":"' + b"x" * 240 + b'"}'] * count),
        "key": names.cast(pa.binary()),
    }
    if kind == "exposure":
        columns |= {
            "assignment_unit": coded(["conversation"], same),
            "model_route": coded(["support_model_a", "support_model_b"], variation),
            "prompt_version": coded(["support_v3"], same),
            "retrieval_profile": coded(["baseline"], same),
            "fallback_used": pa.array(np.zeros(count, bool)),
        }
    else:
        keys, numbers = pa.array(list(values) * count), pa.array(rng.random(count * len(values)))
        columns["values"] = pa.MapArray.from_arrays(offsets, keys, numbers)
    missing = {field.name: pa.nulls(count, field.type) for field in EVENT if field.name not in columns}
    return pa.table({name: (columns | missing)[name] for name in EVENT.names}, schema=EVENT)


def open_events(first: int, count: int, spread: float) -> pa.Table:
    """Make `count` units with an exposure within `spread` hours, an outcome within one more, for some a guardrail."""
    rng = np.random.default_rng(first)
    units = np.arange(first, first + count)
    exposed = START + np.sort(rng.integers(0, int(spread * HOUR), count))
    later = exposed + rng.integers(0, HOUR, count)
    some = rng.random(count) < 0.2
    return pa.concat_tables(
        [
            rows("exposure", units, exposed, "ai_model_route_exposure", []),
            rows("outcome", units, later, "support_conversation_outcome", METRICS),
            rows("guardrail", units[some], later[some], "support_guardrail", ["value"]),
        ]
    )


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
    events = open_events(0, units, spread=10)
    benchmark.extra_info["events"] = events.num_rows
    closed = benchmark(close, due(100, new=[events]))
    assert closed.facts.num_rows == units


@pytest.mark.parametrize("segments", [pytest.param(10, id="10-segments-of-220k-events")])
def test_close_where_little_is_due(benchmark: BenchmarkFixture, tmp_path: Path, segments: int) -> None:
    paths = [str(tmp_path / f"{number}.parquet") for number in range(segments)]
    for number, path in enumerate(paths):
        events = open_events(number * 100_000, 100_000, spread=2).cast(utf8(EVENT))
        shift = pa.scalar(2 * number * HOUR, pa.duration("us"))
        times = pa.compute.add(events["event_time"], shift)
        events = events.set_column(
            EVENT.get_field_index("event_time"), EVENT.field("event_time").with_type(TIMESTAMP), times
        )
        pq.write_table(events.sort_by("event_time"), path, compression="zstd")
    benchmark.extra_info["events"] = sum(pq.read_metadata(path).num_rows for path in paths)
    closed = benchmark(close, due(25.02, old=paths))
    assert 0 < closed.facts.num_rows < 10_000
