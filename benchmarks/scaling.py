"""How fast one, two and three workers catch up with a backlog, and what limits them.

python -m benchmarks.scaling [--events 10000000] [--workers 1 2 3] [--partitions 6]

One broker with the backlog of the end-to-end benchmark. So many workers of one group start at once, each with a lake in
common and its default settings, and end when all is read. The broker runs on the same machine, and what it takes is
told beside them: where the cores that are busy are all there are, the machine is the limit.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.end_to_end.contenders import Work
from benchmarks.end_to_end.load import CLOSED_THROUGH, FLAG, OPEN_FOR, Load
from benchmarks.end_to_end.runs import Theatre, theatre
from benchmarks.processes import cpu_seconds
from benchmarks.watched import readings
from contracts.columns import TIMESTAMP
from sinks.lineage import lineages
from sinks.storage import LocalStorage

EVENTS_A_UNIT: Final = 2.2
PREFIX: Final = "backlog-"
HEAD: Final = """\
| workers | s | events/s | CPU µs/event | broker, CPU µs/event | cores busy of {cores} | loop | consumer \
| a worker's peak MB | loop blocked, ms | facts |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, slots=True)
class Caught:
    """What it took to catch up, in seconds and bytes.

    `loop` and `consumer` are the shares of a core that these threads took in the worker where they took the most.
    """

    wall: float
    cpu: float
    broker: float
    peak: int
    blocked: float
    loop: float
    consumer: float
    facts: int


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--events", type=int, default=10_000_000, help="events of the backlog, about")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3], help="numbers of workers, in turns")
    parser.add_argument("--partitions", type=int, default=6, help="partitions of each topic")
    given = parser.parse_args()
    load = Load(int(given.events / EVENTS_A_UNIT))
    flags = {FLAG.name: FLAG.read_text(encoding="utf-8")}
    with theatre() as place:
        began = time.monotonic()
        place.prepare(PREFIX, flags, given.partitions, load.messages(time.time_ns() // 1_000_000))
        print(f"{load.count:,} events published in {time.monotonic() - began:.0f} s", file=sys.stderr)  # noqa: T201
        print(HEAD.format(cores=os.cpu_count()), flush=True)  # noqa: T201
        facts = set()
        for workers in given.workers:
            caught = _catch_up(place, workers, load.count)
            facts.add(caught.facts)
            print(_row(workers, caught, load.count), flush=True)  # noqa: T201
    if len(facts) > 1:
        sys.exit(f"the runs have different numbers of facts: {sorted(facts)}")


def _catch_up(place: Theatre, workers: int, events: int) -> Caught:
    """Run so many workers until all is read; what they read must be all that was published."""
    work, broker = place.work(PREFIX), place.broker.process
    assert broker is not None
    before = cpu_seconds(broker.pid)
    began = time.monotonic()
    processes = [
        place.start(
            work,
            [sys.executable, "-m", "benchmarks.watched", str(work.readings(number)), "--stop-at-end"],
            number,
        )
        for number in range(workers)
    ]
    for process in processes:
        process.wait()
    wall = time.monotonic() - began
    taken = [place.taken(work, 0.0, number) for number in range(workers)]
    manifests = [manifest for each in lineages(LocalStorage(work.directory / "lake")) if (manifest := each.newest())]
    passed = sum(topic.next_offset for manifest in manifests for topic in manifest.topics.values())
    if passed != events:
        raise RuntimeError(f"{workers} workers read {passed:,} of {events:,} records")
    return Caught(
        wall=wall,
        cpu=sum(each.cpu for each in taken),
        broker=cpu_seconds(broker.pid) - before,
        peak=max(each.peak for each in taken),
        blocked=max(each.blocked[0] for each in taken if each.blocked is not None),
        loop=_busiest(work, workers, "worker") / wall,
        consumer=_busiest(work, workers, "consumer") / wall,
        facts=_facts(work),
    )


def _busiest(work: Work, workers: int, thread: str) -> float:
    """Return the most CPU seconds that this thread took in any worker."""
    told = [next(readings(work.readings(number), "threads"))["seconds"] for number in range(workers)]
    return max(float(seconds.get(thread, 0.0)) for seconds in told)


def _facts(work: Work) -> int:
    """Count the facts of windows that must have closed; later ones may have, by where the partitions ended."""
    files = (work.directory / "lake" / "tables" / "facts").rglob("*.parquet")
    bound = pa.scalar((CLOSED_THROUGH - OPEN_FOR) * 1_000, TIMESTAMP)
    starts = (pq.read_table(file, columns=["window_start"], partitioning=None)["window_start"] for file in files)
    return sum(pc.sum(pc.less_equal(start, bound)).as_py() for start in starts)


def _row(workers: int, caught: Caught, events: int) -> str:
    return (
        f"| {workers} | {caught.wall:.1f} | {events / caught.wall:,.0f} | {caught.cpu / events * 1e6:.2f} "
        f"| {caught.broker / events * 1e6:.2f} | {(caught.cpu + caught.broker) / caught.wall:.2f} "
        f"| {caught.loop:.0%} | {caught.consumer:.0%} | {caught.peak / 1e6:,.0f} | {caught.blocked * 1000:.0f} "
        f"| {caught.facts:,} |"
    )


if __name__ == "__main__":
    main()
