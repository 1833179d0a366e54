"""What an event costs the worker on streams of other shapes, its facts compared with those of DuckDB in batch.

python -m benchmarks.shapes [NAME ...] [--events 500000] [--rounds 1] [--profile]
"""

import argparse
import sys
import time
from statistics import median
from typing import Any, Final

from benchmarks.end_to_end.contenders import CONTENDERS, Contender
from benchmarks.end_to_end.runs import Taken, Theatre, theatre
from benchmarks.shapes.batch import differences
from benchmarks.shapes.streams import SHAPES, Shape, Stream
from benchmarks.watched import blockers

NOTHING: Final = "nothing-"
STAGES: Final = (sys.executable, "-m", "benchmarks.end_to_end.stages")
HEAD: Final = """\
| shape | events | bytes | events/s | CPU µs/event | DuckDB in batch | peak MB | loop blocked, ms | facts |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""

BATCH: Final = Contender(
    "DuckDB in batch",
    lambda work: [
        *(sys.executable, "-m", "benchmarks.shapes.batch", str(work.flags), str(work.files), work.prefix),
        str(work.directory / "facts.parquet"),
    ],
    lambda work: f"FROM '{work.directory}/facts.parquet'",
)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []], help=f"of {', '.join(SHAPES)}; all of them")
    parser.add_argument("--events", type=int, default=500_000, help="events of each shape, about")
    parser.add_argument("--rounds", type=int, default=1, help="runs of the worker over each shape, for a median")
    parser.add_argument("--partitions", type=int, default=4, help="partitions of each topic")
    parser.add_argument("--profile", action="store_true", help="tell where the CPU time of the worker goes instead")
    given = parser.parse_args()
    wrong = False
    with theatre() as place:
        start = 0.0
        if not given.profile:
            place.prepare(NOTHING, Stream(SHAPES["plain"], 2).flags, given.partitions, ())
            for _ in range(2):  # modules are compiled by the second time
                with place.run(CONTENDERS["worker"], NOTHING) as (_, taken):
                    start = taken.cpu
            print(f"start-up of the worker, in the figures below: {start:.1f} s of CPU\n\n{HEAD}", flush=True)  # noqa: T201
        for name in given.shapes or SHAPES:
            stream = Stream(SHAPES[name], given.events)
            messages = place.recorded(f"{name}-", stream.messages(time.time_ns() // 1_000_000))
            place.prepare(f"{name}-", stream.flags, given.partitions, messages)
            if given.profile:
                _profile(place, name, SHAPES[name])
            else:
                wrong |= not _measure(place, name, stream, given.rounds)
            place.forget(f"{name}-")
    sys.exit(wrong)


def _profile(place: Theatre, name: str, shape: Shape) -> None:
    with place.run(CONTENDERS["worker"], f"{name}-", program=STAGES) as (work, _):
        print(f"{name}: {shape.about}\n{(work.directory / 'log-0').read_text(encoding='utf-8')}", flush=True)  # noqa: T201


def _measure(place: Theatre, name: str, stream: Stream, rounds: int) -> bool:
    """Print a row of the table; return whether the facts are right."""
    runs: list[Taken] = []
    facts = 0
    found: list[tuple[Any, ...]] = []
    size = sum(path.stat().st_size for path in (place.directory / "files").glob(f"{name}-*.ndjson"))
    with place.run(BATCH, f"{name}-") as (batch, batched):
        for _ in range(rounds):
            with place.run(CONTENDERS["worker"], f"{name}-") as (work, taken):
                runs.append(taken)
                for blocker in blockers(work.readings()):
                    print(f"{name}: the loop was blocked for {blocker}", file=sys.stderr)  # noqa: T201
                facts, found = differences(work.directory / "lake", batch.directory / "facts.parquet")
            if found:
                break
    count, wall, cpu = stream.count, median(run.wall for run in runs), median(run.cpu for run in runs)
    blocked = max(run.blocked[0] for run in runs if run.blocked is not None)
    print(  # noqa: T201
        f"| {name} | {count:,} | {size / count:,.0f} | {count / wall:,.0f} | {cpu / count * 1e6:.2f} "
        f"| {batched.cpu / count * 1e6:.2f} | {max(run.peak for run in runs) / 1e6:,.0f} | {blocked * 1000:.0f} "
        f"| {facts:,} |",
        flush=True,
    )
    for difference in found:
        print(f"{name}: the facts differ: {difference}", file=sys.stderr)  # noqa: T201
    return not found and facts > 0


if __name__ == "__main__":
    main()
