"""The events of the soak, each a function of its unit's number: exposures evenly in event time, then what came of them.

Each unit has one exposure, one outcome within half an hour and, each fifth, a guardrail before that. Nothing is late,
repeated or refused, so that what must become of a unit is known from its number alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, Producer

from benchmarks.shapes.streams import SHAPES, Writer
from contracts.columns import KINDS
from pipeline.outbox import RELIABLE

__all__ = ["INVERSE", "SPREADING", "Publisher", "Traffic", "unit_names"]

HOUR: Final = 3_600_000_000  # µs
LONGEST_DELAY: Final = HOUR // 2
SPREADING: Final = 2_654_435_761  # odd, so that numbers below 2^32 keep apart
INVERSE: Final = pow(SPREADING, -1, 2**32)
GUARDED: Final = 5  # each fifth unit
NEAR: Final = 10_000  # units that a guess by division is certainly not away
QUEUED: Final = 200_000  # messages that wait for the broker

Integers = npt.NDArray[np.int64]


def unit_names(numbers: Integers) -> list[str]:
    """Return the IDs of units."""
    return [f"unit_{number:08x}" for number in (numbers * SPREADING % 2**32).tolist()]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Units by number, from `start` (µs) on."""

    start: int
    units_an_hour: int

    def exposed(self, numbers: Integers) -> Integers:
        """Return when units are exposed, in µs; whole milliseconds."""
        return self.start + numbers * HOUR // self.units_an_hour // 1_000 * 1_000

    def before(self, moment: int) -> int:
        """Return how many units are exposed before the moment (µs)."""
        guess = max((moment - self.start) * self.units_an_hour // HOUR - 2, 0)
        near = np.arange(guess, guess + NEAR)
        return guess + int(np.searchsorted(self.exposed(near), moment))

    def between(self, since: int, until: int) -> list[tuple[str, Integers, Integers]]:
        """Return what happens in `[since, until)`: kind, numbers of units and times, in the order of time."""
        numbers = np.arange(self.before(since - LONGEST_DELAY), self.before(until))
        exposed = self.exposed(numbers)
        delay = 1_000_000 + numbers * SPREADING % 2**32 * (LONGEST_DELAY // 1_000 - 2_000) // 2**32 * 1_000
        guarded = numbers % GUARDED == 0
        found = []
        for kind, units, times in (
            ("exposure", numbers, exposed),
            ("outcome", numbers, exposed + delay),
            ("guardrail", numbers[guarded], (exposed + delay // 2_000 * 1_000)[guarded]),
        ):
            inside = (times >= since) & (times < until)
            order = np.argsort(times[inside], kind="stable")
            found.append((kind, units[inside][order], times[inside][order]))
        return found


class Publisher:
    """Publishes traffic to three topics, in slices of event time."""

    def __init__(self, bootstrap: str, prefix: str, traffic: Traffic) -> None:
        """Keep what to publish, and where."""
        self.sent = self.acknowledged = 0
        self._traffic = traffic
        self._topics: dict[str, str] = {kind: f"{prefix}{kind}s" for kind in KINDS}
        self._write = Writer(SHAPES["plain"]).value
        self._fault: KafkaError | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                **RELIABLE,
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.messages": QUEUED,
                "log_level": 2,  # a message that is not delivered ends the soak; of the rest nothing matters
            }
        )

    def publish(self, since: int, until: int) -> None:
        """Publish what happens in `[since, until)`, the three topics side by side; block while the queue is full."""
        parts = [
            (kind, list(self._messages(kind, units, times)))
            for kind, units, times in self._traffic.between(since, until)
        ]
        pieces = 10  # no topic runs far ahead of another
        for piece in range(pieces):
            for kind, messages in parts:
                share = messages[len(messages) * piece // pieces : len(messages) * (piece + 1) // pieces]
                while len(self._producer) + len(share) > QUEUED:
                    self._producer.poll(0.05)
                if self._producer.produce_batch(self._topics[kind], share, on_delivery=self._delivered) != len(share):
                    raise RuntimeError("the producer's queue is full")
                self.sent += len(share)
                self._producer.poll(0)
        self._check()

    def flush(self) -> None:
        """Block until all is acknowledged."""
        self._producer.flush(60)
        self._check()
        if self.acknowledged != self.sent:
            raise RuntimeError(f"{self.sent - self.acknowledged} messages were not acknowledged in a minute")
        self._producer.close()

    def _messages(self, kind: str, units: Integers, times: Integers) -> Iterator[dict[str, Any]]:
        place = list(self._topics).index(kind)
        stamps = np.datetime_as_string((times // 1_000).astype("datetime64[ms]"), unit="ms").tolist()
        chances = (units * SPREADING % 1_000_000).tolist()
        for unit, number, stamp, chance in zip(unit_names(units), units.tolist(), stamps, chances, strict=True):
            value = self._write(place, 0, unit, number % 2, f"{stamp}Z", chance)
            yield {"key": unit.encode(), "value": value}

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        self._fault = self._fault or error
        self.acknowledged += error is None

    def _check(self) -> None:
        if self._fault is not None:
            raise RuntimeError(f"a message was not delivered: {self._fault}")
