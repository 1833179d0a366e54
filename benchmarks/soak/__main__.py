"""Two workers under steady traffic whose event time runs faster than the clock, and whether everything stays flat.

python -m benchmarks.soak [--units 1000000] [--hours 96] [--minutes 10]

`--units` are open at a time once the first windows have closed; the events are 2.2 a unit, over `--hours` of event time
in `--minutes`. At the end all facts are compared with what was published. Exits 1 where something is not flat or a fact
is wrong. The samples go to build/, the picture to benchmarks/soak.png.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from typing import Final

from benchmarks.end_to_end.contenders import Work
from benchmarks.end_to_end.report import machine
from benchmarks.end_to_end.runs import Theatre, theatre
from benchmarks.processes import child_of, resident_bytes
from benchmarks.shapes.streams import SHAPES, flag_file
from benchmarks.soak.facts import faults
from benchmarks.soak.plot import plot
from benchmarks.soak.samples import MEASURES, Sample, judge, manifests, sample
from benchmarks.soak.traffic import Publisher, Traffic
from tests.waiting import until

ROOT: Final = Path(__file__).parents[2]
HOUR: Final = 3_600_000_000  # µs
OPEN_HOURS: Final = 25  # window and lateness
PREFIX: Final = "soak-"
WORKERS: Final = 2
SAMPLES: Final = 300
SLICE_S: Final = 0.25  # how often the publisher looks at the clock
PATIENCE_S: Final = 900.0  # for what is left when publishing ends
SETTINGS: Final = {"checkpoint_interval": "5s", "close_interval": "10s"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much, how long, how fast."""

    units: int
    hours: float
    minutes: float

    @property
    def seconds(self) -> float:
        """How long publishing takes."""
        return self.minutes * 60

    @property
    def traffic(self) -> Traffic:
        """Return the events: the last of them lie an hour in the past when they are published."""
        begin = time.time_ns() // 1_000 + int(self.seconds * 1_000_000) - int((self.hours + 1) * HOUR)
        return Traffic(begin // 1_000_000 * 1_000_000, self.units // OPEN_HOURS)


class _Publishing:
    """A thread that publishes by the clock."""

    def __init__(self, publisher: Publisher, traffic: Traffic, plan: Plan) -> None:
        self.hour = 0.0  # of event time, published
        self.fault: BaseException | None = None
        self.behind = 0.0  # seconds, at the most
        self._publisher, self._traffic, self._plan = publisher, traffic, plan
        self.thread = threading.Thread(target=self._run, name="publish", daemon=True)

    def _run(self) -> None:
        try:
            self._publish()
        except BaseException as fault:  # noqa: BLE001 -- told by whoever waits
            self.fault = fault

    def _publish(self) -> None:
        began, plan = time.monotonic(), self._plan
        while self.hour < plan.hours:
            elapsed = time.monotonic() - began
            target = min(elapsed / plan.seconds * plan.hours, plan.hours)
            self.behind = max(self.behind, elapsed - self.hour / plan.hours * plan.seconds - SLICE_S)
            step = min(target, self.hour + 4 * SLICE_S / plan.seconds * plan.hours)  # a slice stays small
            since, now = (self._traffic.start + int(hour * HOUR) for hour in (self.hour, step))
            self._publisher.publish(since, now)
            self.hour = step
            time.sleep(max(0.0, SLICE_S - (time.monotonic() - began - elapsed)))
        self._publisher.flush()


def main() -> None:
    """Soak as the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--units", type=int, default=1_000_000, help="units that are open at a time")
    parser.add_argument("--hours", type=float, default=96, help="hours of event time; windows last 24")
    parser.add_argument("--minutes", type=float, default=10, help="how long publishing takes")
    parser.add_argument("--partitions", type=int, default=4, help="partitions of each topic")
    parser.add_argument("--picture", type=Path, default=ROOT / "benchmarks" / "soak.png", help="where the plots go")
    given = parser.parse_args()
    plan = Plan(given.units, given.hours, given.minutes)
    with theatre() as place:
        samples, wrong = _soak(place, plan, given.partitions)
    now = datetime.now(UTC)
    kept = ROOT / "build" / f"soak-{now:%Y%m%d-%H%M%S}.ndjson"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
    title = (
        f"{plan.units:,} open units, {plan.hours:g} h of event time in {plan.minutes:g} min, "
        f"{samples[-1]['published']:,.0f} events, {WORKERS} workers; {machine()}, {now:%Y-%m-%d}"
    )
    plot(samples, title, given.picture)
    print(f"{title}\n\n{_table(samples)}\n", flush=True)  # noqa: T201
    verdicts = [judge(samples, measure).flat for measure in MEASURES]
    for line in wrong:
        print(f"wrong: {line}")  # noqa: T201
    if not wrong:
        print(f"{samples[-1]['facts']:,.0f} facts are those of the units published, each once")  # noqa: T201
    print(f"samples: {kept}; picture: {given.picture}", file=sys.stderr)  # noqa: T201
    sys.exit(bool(wrong) or False in verdicts)


def _soak(place: Theatre, plan: Plan, partitions: int) -> tuple[list[Sample], list[str]]:
    """Return the samples, and what is wrong with the facts."""
    place.prepare(PREFIX, {"flag_0.yaml": flag_file(SHAPES["plain"], 0)}, partitions, ())
    work = place.work(PREFIX, **SETTINGS)
    command = [sys.executable, "-m", "benchmarks.watched"]
    measured = [place.start(work, [*command, str(work.readings(number))], number) for number in range(WORKERS)]
    workers: list[int] = [until(lambda each=each: child_of(each.pid)) for each in measured]  # type: ignore[misc]
    until(lambda: "going on" in (work.directory / "log-1").read_text(encoding="utf-8"), 60, "two workers at work")
    traffic = plan.traffic
    publisher = Publisher(place.broker.bootstrap, PREFIX, traffic)
    publishing = _Publishing(publisher, traffic, plan)
    publishing.thread.start()

    def look(since: float) -> Sample:
        ended = [number for number, each in enumerate(measured) if each.poll() is not None]
        if ended:
            log = (work.directory / f"log-{ended[0]}").read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"worker {ended[0]} ended: {log[-2000:]}")
        if publishing.fault is not None:
            raise publishing.fault
        broker = place.broker.process
        assert broker is not None
        sent, hour = publisher.acknowledged, publishing.hour
        made = sample(work, workers, since)
        rate = max(sent, 1) / max(hour / plan.hours * plan.seconds, 1.0)
        return made | {
            "hour": hour,
            "at": time.time(),
            "published": sent,
            "lag_s": max(sent - made["passed"], 0) / rate,
            "broker_bytes": resident_bytes(broker.pid),
        }

    samples = _sampled(publishing.thread, look, plan.seconds / SAMPLES)
    print(f"all published, at the most {publishing.behind:.1f} s behind the plan", file=sys.stderr)  # noqa: T201
    until(lambda: look(time.time())["passed"] >= publisher.sent, PATIENCE_S, "all that was published in the lake")
    _stop(place, work, measured, workers)
    newest = manifests(work.directory / "lake")
    return samples, faults(work.directory / "lake", newest, traffic)


def _sampled(thread: threading.Thread, look: Callable[[float], Sample], every: float) -> list[Sample]:
    """Look again and again while the thread runs; the last look comes after it."""
    samples: list[Sample] = []
    since, told = time.time(), 0.0
    while thread.is_alive():
        thread.join(max(every, 0.5))
        before, since = since, time.time()
        samples.append(look(before))
        if samples[-1]["hour"] >= told + 8:
            told = samples[-1]["hour"]
            now = samples[-1]
            print(  # noqa: T201
                f"{now['hour']:.0f} h: {now['published']:,.0f} published, {now['facts']:,.0f} facts, "
                f"lag {now['lag_s']:.0f} s, {now['worker_0_bytes'] / 1e6:.0f} and {now['worker_1_bytes'] / 1e6:.0f} MB",
                file=sys.stderr,
            )
    return samples


def _stop(place: Theatre, work: Work, measured: list[Popen[bytes]], workers: list[int]) -> None:
    """End the workers in good order; raises Failed where one does not."""
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for number, each in enumerate(measured):
        each.wait(120)
        taken = place.taken(work, 0.0, number)
        assert taken.blocked is not None
        print(  # noqa: T201
            f"worker {number + 1}: CPU {taken.cpu:.0f} s, peak {taken.peak / 1e6:,.0f} MB, loop blocked at the most "
            f"{taken.blocked[0] * 1000:.0f} ms, p99.9 {taken.blocked[1] * 1000:.0f} ms",
            file=sys.stderr,
        )


def _table(samples: list[Sample]) -> str:
    """Return the medians of both halves as a Markdown table."""
    lines = ["| | first half | second half | |", "|---|---:|---:|---|"]
    for measure in MEASURES:
        verdict = judge(samples, measure)
        shown = [
            "-" if half is None else f"{half * measure.scale:,.{0 if measure.scale < 1 or not measure.unit else 2}f}"
            for half in (verdict.first, verdict.second)
        ]
        label = f"{measure.label}, {measure.unit}" if measure.unit else measure.label
        said = {True: "flat", False: "**grows**", None: "not long enough to tell"}[verdict.flat]
        lines.append(f"| {label}, from hour {measure.since:g} | {shown[0]} | {shown[1]} | {said} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
