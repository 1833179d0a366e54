"""What a close takes by how many units are open, where the same number is due: time, and memory of the process.

python -m benchmarks.open_units [UNITS ...]; without, 100,000, 1,000,000 and 10,000,000.

Each size has a lake of its own in a temporary directory, filled through checkpoints and closes as a worker fills it:
units with one exposure, an outcome and, for each fifth, a guardrail, spread over 24 h, in one partition. A new process
then recovers the partition, makes a checkpoint, and closes several times, 10,000 units at a time.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import uuid4

import numpy as np
import pyarrow as pa

from benchmarks.open_events import CONTRACT, HOUR, START, TOPICS, open_events
from pipeline.checkpoint import Checkpointer, genesis
from pipeline.partition import Frozen
from sinks.lineage import open_lake
from sinks.manifest import Manifest, TopicState
from sinks.storage import LocalStorage

__all__ = ["SIZES", "beginning", "checkpointer", "freeze", "main"]

ROOT: Final = Path(__file__).parents[1]
SIZES: Final = (100_000, 1_000_000, 10_000_000)
SPREAD: Final = 24 * HOUR
OPEN_FOR: Final = 25 * HOUR  # window and lateness
DUE: Final = 10_000  # units a close
CLOSES: Final = 6  # the first one reads all bytes of the segments, as after each start
A_PART: Final = 136_000  # units between two closes of the filling: 300,000 events
A_FETCH: Final = 5_000  # events of a batch, as a fetch brings them
HEAD: Final = """\
| open units | open events | segments | MB | start to first checkpoint, s | first close, s | a close, s | its CPU, s \
| ns an open event | facts a close | peak MB |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


def main(units: int) -> str:
    """Return the row of the table for so many units."""
    with tempfile.TemporaryDirectory(prefix="open-units-") as home:
        lake, usage = Path(home) / "lake", Path(home) / "usage.json"
        _child("fill", str(lake), str(units))
        command = [sys.executable, "-m", "benchmarks.open_units", "close", str(lake), str(units)]
        answer = _child("measure", str(usage), *command)
        peak = json.loads(usage.read_text(encoding="utf-8"))["peak"]
    told = json.loads(answer)
    later = median(told["closes"][1:])
    return (
        f"| {units:,} | {told['events']:,} | {told['segments']} | {told['bytes'] / 1e6:,.0f} "
        f"| {told['checkpoint']:.2f} | {told['closes'][0]:.2f} | {later:.2f} | {median(told['cpu'][1:]):.2f} "
        f"| {later / told['events'] * 1e9:,.0f} | {told['facts']:,.0f} | {peak / 1e6:,.0f} |"
    )


def checkpointer(lake: Path, scratch: str | None = None) -> Checkpointer:
    """Return one over a directory, with the settings that a worker has by itself; it sends nothing."""
    made = Checkpointer(
        LocalStorage(lake),
        send=lambda _: None,
        flush=lambda: None,
        clock=lambda: time.time_ns() // 1_000,
        new_id=lambda: uuid4().hex[:9],
        allowed_lateness=HOUR,
        temp_directory=scratch,
    )
    made.keep_contract(CONTRACT)
    return made


def beginning(lake: Path) -> Manifest:
    """Return what the first checkpoint of a new lake goes on from."""
    lake_id = open_lake(LocalStorage(lake), lambda: uuid4().hex)
    topics = {
        kind: TopicState(name=topic, topic_id=topic, partitions=1, first_offset=0, next_offset=0, closed_offset=0)
        for kind, topic in TOPICS.items()
    }
    return genesis(partition=0, lake_id=lake_id, group="evidence", version="1", topics=topics)


def freeze(events: pa.Table | None, before: Mapping[str, int], after: Mapping[str, int], watermark: int) -> Frozen:
    """Return what a partition freezes that has read these events; `before` and `after` are next offsets by topic."""
    read = {topic: (before[topic], after[topic] - 1) for topic in after if after[topic] > before[topic]}
    return Frozen(
        next_offsets=dict(after),
        events=events.to_batches(max_chunksize=A_FETCH) if events is not None else (),
        refused=(),
        undelivered={},
        versions={CONTRACT.version: read} if read else {},
        watermark=watermark,
        stopped=None,
    )


def _fill(lake: Path, units: int) -> None:
    """Fill a lake through checkpoints, each with a close for which nothing is due yet."""
    lake.mkdir()
    base = beginning(lake)
    with tempfile.TemporaryDirectory() as scratch:
        writer = checkpointer(lake, scratch)
        offsets = dict.fromkeys(TOPICS.values(), 0)
        for first in range(0, units, A_PART):
            numbers = np.arange(first, min(first + A_PART, units))
            exposed, before = START + numbers * SPREAD // units, dict(offsets)
            events = open_events(numbers, exposed, offsets)
            watermark = int(exposed[-1])
            base = writer.checkpoint(base, freeze(events, before, offsets, watermark), watermark)


def _close(lake: Path, units: int) -> dict[str, Any]:
    """Go on with the lake as a new worker does, and return what that takes."""
    with tempfile.TemporaryDirectory() as scratch:
        began = time.monotonic()
        writer = checkpointer(lake, scratch)
        base = writer.recover(0)
        assert base is not None
        offsets = {topic.name: topic.next_offset for topic in base.topics.values()}
        before = dict(offsets)
        events = open_events(np.arange(units, units + 1_000), np.full(1_000, START + SPREAD), offsets)
        base = writer.checkpoint(base, freeze(events, before, offsets, START + SPREAD), None)
        told: dict[str, Any] = {
            "checkpoint": time.monotonic() - began,
            "segments": len(base.segments),
            "events": sum(segment.rows for segment in base.segments),
            "bytes": sum(segment.size for segment in base.segments),
            "closes": [],
            "cpu": [],
        }
        for number in range(1, CLOSES + 1):
            watermark = START + OPEN_FOR + number * DUE * SPREAD // units
            began, worked = time.monotonic(), time.process_time()
            base = writer.checkpoint(base, freeze(None, offsets, offsets, watermark), watermark)
            told["closes"].append(time.monotonic() - began)
            told["cpu"].append(time.process_time() - worked)
        told["facts"] = base.totals["facts"] / CLOSES
        return told


def _child(what: str, *arguments: str) -> str:
    module = "benchmarks.end_to_end.measure" if what == "measure" else "benchmarks.open_units"
    given = arguments if what == "measure" else (what, *arguments)
    return subprocess.run(
        [sys.executable, "-m", module, *given], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill", lake, units]:
            _fill(Path(lake), int(units))
        case ["close", lake, units]:
            print(json.dumps(_close(Path(lake), int(units))))  # noqa: T201
        case given:
            print(HEAD)  # noqa: T201
            for size in map(int, given) if given else SIZES:
                print(main(size), flush=True)  # noqa: T201
