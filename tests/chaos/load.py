"""Steady load of which it is known what it must become: stories of units, published in the order of event time.

Time in the stories runs sixty times as fast as on the wall, so that windows of two minutes close all the time. Each
chunk of messages is acknowledged before the next begins: whatever dies, no record is ever late but for copies of
misplaced ones.
"""

import heapq
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from confluent_kafka import Producer

from contracts.placement import murmur2_partition
from contracts.times import format_time
from pipeline.outbox import RELIABLE
from pipeline.traffic import Message
from tests.integration.deployment import Deployment

__all__ = ["FLAG", "SETTINGS", "WINDOW", "Expected", "Fact", "Load", "stories"]

MS: Final = 1_000
SECOND: Final = 1_000 * MS
MINUTE: Final = 60 * SECOND
WINDOW: Final = 2 * MINUTE
BEGINNING: Final = 1_780_009_800 * SECOND  # 2026-05-28T23:10:00Z, in the past of any test: a day ends soon
CHUNK: Final = 10 * SECOND  # of event time
SPEED: Final = 60  # event time passes so much faster than time

FLAG: Final = """\
flag:
  key: route
  type: json
  owner: ai_platform
  variations:
    control: {modelRoute: a, promptVersion: p, retrievalProfile: r}
    candidate: {modelRoute: b, promptVersion: p, retrievalProfile: r}
experiment:
  key: route_test
  owner: ai_platform
  metrics:
    resolved: {event: done, field: resolved, kind: proportion, aggregate: last, window: 2m, goal: increase}
    cost: {event: done, field: cost, kind: mean, aggregate: sum, window: 90s, goal: decrease}
"""

SETTINGS: Final = {
    "session_timeout": "2s",
    "checkpoint_interval": "300ms",
    "close_interval": "1s",
    "out_of_orderness": "12m",  # the word that a topic is at its end counts for 10 s, which here are ten minutes
    "allowed_lateness": "3m",
}


@dataclass(frozen=True, order=True)
class Fact:
    """What is compared of a fact; `window_start` in µs."""

    unit: str
    variation: str
    window_start: int
    exposures: int = 1
    outcomes: int = 0
    guardrails: int = 0
    metrics: tuple[tuple[str, float], ...] = ()
    flags: tuple[str, ...] = ()


@dataclass
class Expected:
    """What becomes of the messages that were published.

    `misplaced` has the unit of each misplaced outcome; if its copy comes late, the fact is the one under `without`.
    """

    facts: list[Fact] = field(default_factory=list)
    without: dict[str, Fact] = field(default_factory=dict)
    fates: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Expected") -> None:
        """Take in what other messages become."""
        self.facts += other.facts
        self.without |= other.without
        self.fates += other.fates


@dataclass(frozen=True)
class Story:
    """Messages with their event times, and what they become."""

    messages: Sequence[tuple[int, Message]]
    expected: Expected


def stories(seed: int, partitions: int, step: int) -> Iterator[Story]:
    """Yield one story after the other for ever, each beginning at most twice `step` µs after the one before."""
    rng = random.Random(seed)  # noqa: S311
    at = BEGINNING
    tellers = (_plain, _plain, _alone, _guarded, _repeated, _crossed, _astray, _orphan, _broken, _misplaced)
    for number in itertools.count():
        at += rng.randrange(MS, 2 * step, MS)
        yield rng.choice(tellers)(_Unit(f"u{seed}-{number}", at, rng, partitions))


class Load:
    """Publishes stories from a thread of its own while the block lasts; afterwards `expected` is complete.

    The first `prelude` of event time goes at once, the rest at SPEED, `rate` stories a second.
    """

    def __init__(self, deployment: Deployment, seed: int, *, rate: float = 60.0, prelude: int = 30 * MINUTE) -> None:
        """Publish nothing yet."""
        self.expected = Expected()
        self.published = 0
        self._deployment = deployment
        self._topics = {kind: deployment.topic(kind) for kind in ("exposure", "outcome", "guardrail")}
        self._prelude = prelude
        self._stories = stories(seed, deployment.partitions, round(SPEED * SECOND / rate))
        self._next = next(self._stories)
        self._waiting: list[tuple[int, int, Message]] = []
        self._tie = itertools.count()
        self._at = BEGINNING
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._fault: BaseException | None = None

    def __enter__(self) -> Self:
        """Publish the prelude and begin with the rest."""
        self._producer = self._new_producer()
        while self._at < BEGINNING + self._prelude:
            self._publish(self._until(self._at + CHUNK))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Publish what the stories begun have left, and see that all is acknowledged."""
        self._stop.set()
        while kind is not None and self._thread.is_alive():
            self._producer.purge()  # the brokers may be gone
            self._thread.join(0.1)
        self._thread.join()
        if kind is not None:
            return
        if self._fault is not None:
            raise self._fault
        while self._waiting:
            self._at += CHUNK
            self._publish(self._due())

    def _run(self) -> None:
        began, first = time.monotonic(), self._at
        try:
            while not self._stop.wait(max(0.0, began + (self._at - first) / SPEED / SECOND - time.monotonic())):
                self._publish(self._until(self._at + CHUNK))
        except BaseException as fault:  # noqa: BLE001  # raised where the block ends
            self._fault = fault

    def _until(self, end: int) -> list[Message]:
        """Return the messages of the next chunk; stories that begin in it count as published."""
        self._at = end
        while self._next.messages[0][0] < end:
            self.expected.add(self._next.expected)
            for at, message in self._next.messages:
                heapq.heappush(self._waiting, (at, next(self._tie), message))
            self._next = next(self._stories)
        return self._due()

    def _due(self) -> list[Message]:
        due = []
        while self._waiting and self._waiting[0][0] < self._at:
            due.append(heapq.heappop(self._waiting)[2])
        return due

    def _publish(self, messages: Sequence[Message]) -> None:
        failed: list[str] = []

        def delivered(error: object, _message: object) -> None:
            if error is not None:
                failed.append(str(error))

        for message in messages:
            where = {} if message.partition is None else {"partition": message.partition}
            self._producer.produce(
                self._topics[message.kind],
                value=message.value,
                key=message.key,
                timestamp=time.time_ns() // 1_000_000,
                on_delivery=delivered,
                **where,
            )
        self._producer.flush()
        assert not failed, failed[0]
        self.published += len(messages)

    def _new_producer(self) -> Producer:
        return self._deployment.producer(
            **{
                **RELIABLE,
                "message.timeout.ms": 0,  # an outage of the brokers is part of the load
                "linger.ms": 2,
                "log_level": 0,
            }
        )


# the stories


@dataclass(frozen=True)
class _Unit:
    name: str
    at: int
    rng: random.Random
    partitions: int

    def exposure(self, at: int, variation: str = "control", **more: object) -> tuple[int, Message]:
        route = {"control": "a", "candidate": "b"}[variation]
        body = {
            "event": "shown",
            "assignmentUnit": "user",
            "modelRoute": route,
            "promptVersion": "p",
            "retrievalProfile": "r",
            "fallbackUsed": False,
        }
        return self._message("exposure", at, variation, body | more)

    def outcome(self, at: int, variation: str = "control", **more: object) -> tuple[int, Message]:
        return self._message("outcome", at, variation, {"event": "done", "resolved": True, "cost": 0.5} | more)

    def guardrail(self, at: int, variation: str = "control") -> tuple[int, Message]:
        body = {"event": "alarm", "guardrail": "latency", "value": 3, "severity": "warning"}
        return self._message("guardrail", at, variation, body)

    def after(self, seconds: int) -> int:
        return self.at + self.rng.randrange(MS, seconds * SECOND, MS)

    def elsewhere(self) -> int:
        right = int(murmur2_partition([self.name], self.partitions)[0])
        return (right + self.rng.randrange(1, self.partitions)) % self.partitions

    def _message(self, kind: str, at: int, variation: str, body: dict[str, Any]) -> tuple[int, Message]:
        value = {"flagKey": "route", "unitId": self.name, "variation": variation, "timestamp": format_time(at)} | body
        return at, Message(kind, self.name.encode(), json.dumps(value).encode(), 0)


SOLVED: Final = (("cost", 0.5), ("resolved", 1.0))


def _told(messages: Sequence[tuple[int, Message]], facts: Sequence[Fact], **fates: int) -> Story:
    return Story(sorted(messages, key=lambda each: each[0]), Expected([*facts], {}, Counter(fates)))


def _plain(unit: _Unit) -> Story:
    messages = [unit.exposure(unit.at), unit.outcome(unit.after(80))]
    return _told(messages, [Fact(unit.name, "control", unit.at, outcomes=1, metrics=SOLVED)], joined=2)


def _alone(unit: _Unit) -> Story:
    return _told(
        [unit.exposure(unit.at, fallbackUsed=True)],
        [Fact(unit.name, "control", unit.at, flags=("fallback_contaminated",))],
        joined=1,
    )


def _guarded(unit: _Unit) -> Story:
    """Tell of two exposures of one window, and an outcome past the shorter metric window."""
    messages = [
        unit.exposure(unit.at),
        unit.exposure(unit.after(110)),
        unit.guardrail(unit.after(110)),
        unit.outcome(unit.at + 100 * SECOND, resolved=False),
    ]
    fact = Fact(unit.name, "control", unit.at, 2, outcomes=1, guardrails=1, metrics=(("resolved", 0.0),))
    return _told(messages, [fact], joined=4)


def _repeated(unit: _Unit) -> Story:
    """Tell of an outcome that its producer sent twice."""
    outcome = unit.outcome(unit.after(80), eventId=f"{unit.name}-done")
    fact = Fact(unit.name, "control", unit.at, outcomes=1, metrics=SOLVED)
    return _told([unit.exposure(unit.at), outcome, outcome], [fact], joined=2, duplicate=1)


def _crossed(unit: _Unit) -> Story:
    other = unit.after(100)
    facts = [
        Fact(unit.name, "control", unit.at, flags=("crossover",)),
        Fact(unit.name, "candidate", other, outcomes=1, metrics=SOLVED, flags=("crossover",)),
    ]
    messages = [
        unit.exposure(unit.at),
        unit.exposure(other, "candidate"),
        unit.outcome(other + 80 * SECOND, "candidate"),
    ]
    return _told(messages, facts, joined=3)


def _astray(unit: _Unit) -> Story:
    """Tell of an outcome under another variation's name."""
    fact = Fact(unit.name, "control", unit.at, outcomes=1, flags=("variation_mismatch",))
    return _told([unit.exposure(unit.at), unit.outcome(unit.after(110), "candidate")], [fact], joined=2)


def _orphan(unit: _Unit) -> Story:
    return _told([unit.outcome(unit.at)], [], no_exposure=1)


def _broken(unit: _Unit) -> Story:
    kind = unit.rng.choice(("exposure", "outcome", "guardrail"))
    return _told([(unit.at, Message(kind, unit.name.encode(), b"{", 0))], [], not_json=1)


def _misplaced(unit: _Unit) -> Story:
    """Tell of an outcome in a partition that is not its unit's."""
    at, outcome = unit.outcome(unit.after(80), eventId=f"{unit.name}-done")
    astray = Message(outcome.kind, outcome.key, outcome.value, 0, partition=unit.elsewhere())
    fact = Fact(unit.name, "control", unit.at, outcomes=1, metrics=SOLVED)
    story = _told([unit.exposure(unit.at), (at, astray)], [fact], joined=2, rerouted=1)
    story.expected.without[unit.name] = Fact(unit.name, "control", unit.at)
    return story
