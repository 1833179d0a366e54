"""One run: starts Apache Kafka, fills it, lets every contender read it several times, compares, and tells the medians.

python -m benchmarks.end_to_end [--units 1000000] [--rounds 3] [--only worker ...] [--profile]
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.end_to_end.agreement import Agreement
from benchmarks.end_to_end.contenders import CONTENDERS
from benchmarks.end_to_end.load import FLAG, Load
from benchmarks.end_to_end.report import Rounds, table, write
from benchmarks.end_to_end.runs import Taken, Theatre, theatre
from benchmarks.watched import blockers

BUILD: Final = Path(__file__).parents[2] / "build"
EVENTS: Final = "full-"
"""The prefix of the topics and files that have the events."""
NOTHING: Final = "empty-"
"""The prefix of those that have none: what a run over them takes is the cost of starting and stopping."""
STAGES: Final = (sys.executable, "-m", "benchmarks.end_to_end.stages")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--units", type=int, default=1_000_000, help="units, each with 2.2 events")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender")
    parser.add_argument("--partitions", type=int, default=4, help="partitions of each topic")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="contenders")
    parser.add_argument("--profile", action="store_true", help="tell where the CPU time of the worker goes instead")
    given = parser.parse_args()
    load = Load(given.units)
    began = time.monotonic()
    flags = {FLAG.name: FLAG.read_text(encoding="utf-8")}
    with theatre() as place:
        for prefix, messages in ((NOTHING, ()), (EVENTS, load.messages(time.time_ns() // 1_000_000))):
            place.prepare(prefix, flags, given.partitions, place.recorded(prefix, messages))
        _note(f"{load.count:,} events published in {time.monotonic() - began:.0f} s")
        if given.profile:
            with place.run(CONTENDERS["worker"], EVENTS, program=STAGES) as (work, _):
                print((work.directory / "log-0").read_text(encoding="utf-8"))  # noqa: T201
            return
        rounds, facts = _measure(place, given.only, given.rounds)
    about = {"units": given.units, "events": load.count, "partitions": given.partitions, "facts_compared": facts}
    path = write(BUILD, rounds, about)
    print(table(rounds, load.count))  # noqa: T201
    _note(f"{facts:,} facts are equal in all runs; all numbers are in {path}")


def _measure(place: Theatre, names: list[str], rounds: int) -> tuple[dict[str, Rounds], int]:
    """Run the contenders in turns, so that whatever else the machine does meets all of them."""
    full: dict[str, list[Taken]] = {name: [] for name in names}
    empty: dict[str, list[Taken]] = {name: [] for name in names}
    for name in names:
        with place.run(CONTENDERS[name], NOTHING):
            pass  # modules are compiled by now
    with Agreement() as agreement:
        for number in range(1, rounds + 1):
            for name in names:
                contender = CONTENDERS[name]
                with place.run(contender, NOTHING) as (_, taken):
                    empty[name].append(taken)
                with place.run(contender, EVENTS) as (work, taken):
                    full[name].append(taken)
                    agreement.check(contender.label, contender.facts(work))
                    for blocker in blockers(work.readings()):
                        _note(f"the loop was blocked for {blocker}")
                _note(
                    f"round {number}: {contender.label}: {taken.wall:.1f} s, CPU {taken.cpu:.1f} s, "
                    f"{taken.peak / 1e6:,.0f} MB (load average before: {taken.load:.1f})"
                )
    return {name: Rounds(full[name], empty[name]) for name in names}, agreement.rows


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
