"""What 1,000 partitions and a billion units a day need, from unit costs: measured here, and by the other benchmarks.

python -m benchmarks.on_paper [--event-us 6.5] [--open-us 0.034]

`--event-us` is the CPU time of an event from Kafka to its fact, as `benchmarks.end_to_end` tells it without start-up;
`--open-us` that of an open event in a close, the slope between the sizes of `benchmarks.open_units`.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.open_events import HOUR, START, TOPICS, open_events
from benchmarks.open_units import beginning, checkpointer, freeze
from benchmarks.test_checkpoint import large

if TYPE_CHECKING:
    from sinks.manifest import SegmentRef

__all__ = ["Costs", "Load", "needs"]

DAY_S: Final = 86_400
WRITTEN: Final = 5  # times that an event goes into a segment: at first, and in four merges
SEGMENTS: Final = 39  # files of one partition at most: nine of each of four sizes, and those that are large
ROUNDS: Final = 9
FEW: Final = 10  # units, for what a close takes by itself


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU times in µs, sizes in bytes."""

    event: float
    checkpoint: float
    close: float
    due_unit: float
    open_event: float
    segment_bytes: float
    fact_bytes: float
    joined_bytes: float
    buffered_bytes: float
    manifest_bytes: float


@dataclass(frozen=True, slots=True)
class Load:
    """How much is to be done in a day, and how often; intervals in seconds."""

    units: float = 1e9
    events_a_unit: float = 2.2
    partitions: int = 1_000
    open_hours: float = 25
    checkpoint_s: float = 60
    close_s: float = 300


def needs(costs: Costs, load: Load) -> Iterator[tuple[str, str, float, str]]:
    """Yield what the load needs: a name, how it is reckoned, the figure and its unit."""
    units, events = load.units / load.partitions, load.units * load.events_a_unit
    open_events = units * load.events_a_unit * load.open_hours / 24
    checkpoints, closes = DAY_S / load.checkpoint_s * load.partitions, DAY_S / load.close_s * load.partitions
    due = units * load.close_s / DAY_S
    close_us = costs.close + due * costs.due_unit + open_events * costs.open_event
    yield "open events of a partition", "units times events times hours open", open_events, ""
    yield "units due at a close", "units times interval", due, ""
    yield "a close", "by itself + due units + open events", close_us / 1e6, "s of CPU"
    cores = {
        "events": (events, costs.event),
        "checkpoints": (checkpoints, costs.checkpoint),
        "closes": (closes, close_us),
    }
    for name, (times, each_us) in cores.items():
        yield name, f"{times:,.0f} a day", times * each_us / 1e6 / DAY_S, "cores"
    busy = {name: times * each_us / 1e6 / DAY_S for name, (times, each_us) in cores.items()}
    yield "all", "their sum", sum(busy.values()), "cores"
    workers = max(math.ceil(2 * (busy["checkpoints"] + busy["closes"])), 1)
    yield "workers", "checkpoints and closes, one at a time, at half load", workers, ""
    buffered = events / DAY_S * load.checkpoint_s / workers * costs.buffered_bytes / 1e6
    yield "buffered by a worker", "events of an interval times bytes", buffered, "MB"
    yield "segments", "open events times bytes", open_events * load.partitions * costs.segment_bytes / 1e9, "GB"
    yield (
        "segments written",
        f"events times bytes times {WRITTEN}",
        events * costs.segment_bytes * WRITTEN / 1e9,
        "GB a day",
    )
    yield "segment files", f"{SEGMENTS} a partition at most", SEGMENTS * load.partitions, ""
    yield "facts", "units times bytes", load.units * costs.fact_bytes / 1e9, "GB a day"
    yield "joined events", "events times bytes", events * costs.joined_bytes / 1e9, "GB a day"
    yield "table files", "2 a close, before compaction", 2 * closes, "a day"
    yield "a file of facts", "due units times bytes", due * costs.fact_bytes / 1e3, "KB"
    yield "manifests", "two a partition", 2 * load.partitions * costs.manifest_bytes / 1e6, "MB"
    yield "manifests written", "checkpoints times bytes", checkpoints * costs.manifest_bytes / 1e9, "GB a day"


def main() -> None:
    """Measure, and print both tables as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_paper", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--event-us", type=float, default=6.5, help="CPU time of an event, µs")
    parser.add_argument("--open-us", type=float, default=0.034, help="CPU time of an open event in a close, µs")
    given = parser.parse_args()
    costs = _measured(given.event_us, given.open_us)
    print("| unit cost | value |\n|---|---:|")  # noqa: T201
    for field in fields(Costs):
        unit = "bytes" if field.name.endswith("_bytes") else "µs of CPU"
        name = field.name.removesuffix("_bytes").replace("_", " ")
        print(f"| {name} | {_shown(getattr(costs, field.name))} {unit} |")  # noqa: T201
    often, rarely = list(needs(costs, Load())), list(needs(costs, Load(checkpoint_s=300, close_s=3_600)))
    print("\n| | reckoned as | by default | checkpoints 5m, closes 1h | |\n|---|---|---:|---:|---|")  # noqa: T201
    for (name, how, figure, unit), (_, _, other, _) in zip(often, rarely, strict=True):
        print(f"| {name} | {how} | {_shown(figure)} | {_shown(other)} | {unit} |")  # noqa: T201


def _measured(event: float, open_event: float) -> Costs:
    """Run checkpoints of as many events as a partition has in a minute, and closes of as many units as in five."""
    units = round(Load().units / Load().partitions * Load().close_s / DAY_S)
    with tempfile.TemporaryDirectory(prefix="on-paper-") as home:
        few, _ = _rounds(Path(home) / "few", FEW)
        many, sizes = _rounds(Path(home) / "many", units)
        manifest = large(beginning(Path(home) / "few"))
    return Costs(
        event=event,
        checkpoint=many[0],
        close=few[1],
        due_unit=max(many[1] - few[1], 0.0) / (units - FEW),
        open_event=open_event,
        manifest_bytes=len(manifest.model_copy(update={"segments": manifest.segments[:SEGMENTS]}).to_bytes()),
        **sizes,
    )


def _rounds(lake: Path, units: int) -> tuple[tuple[float, float], dict[str, float]]:
    """Return the median CPU time (µs) of a checkpoint that reads so many units and of a close that decides them."""
    lake.mkdir()
    writer, base = checkpointer(lake, str(lake)), beginning(lake)
    offsets = dict.fromkeys(TOPICS.values(), 0)
    checkpoints: list[float] = []
    closes: list[float] = []
    segments: list[SegmentRef] = []
    buffered = 0.0
    for number in range(ROUNDS):
        before, since = dict(offsets), START + number * 26 * HOUR
        numbers = np.arange(number * units, (number + 1) * units)
        events = open_events(numbers, np.full(units, since) + numbers % 1_000, offsets)
        buffered = events.nbytes / events.num_rows
        began = time.process_time()
        base = writer.checkpoint(base, freeze(events, before, offsets, since), None)
        checkpoints.append((time.process_time() - began) * 1e6)
        segments += base.segments
        began = time.process_time()
        base = writer.checkpoint(base, freeze(None, offsets, offsets, since + 26 * HOUR), since + 26 * HOUR)
        closes.append((time.process_time() - began) * 1e6)
    tables = {table: [file for file in base.files if file.table == table] for table in ("facts", "events")}
    sizes = {
        "buffered_bytes": buffered,
        "segment_bytes": sum(each.size for each in segments) / sum(each.rows for each in segments),
        "fact_bytes": sum(each.size for each in tables["facts"]) / sum(each.rows for each in tables["facts"]),
        "joined_bytes": sum(each.size for each in tables["events"]) / sum(each.rows for each in tables["events"]),
    }
    return (median(checkpoints), median(closes)), sizes


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2g}"


if __name__ == "__main__":
    main()
