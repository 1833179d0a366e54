"""A plain consumer: confluent-kafka, json, pydantic models, a dict of units, pyarrow.

What it reads lives in memory until its window closes; a crash loses that, or writes facts twice. A record that does not
validate ends it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any, Final, Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from benchmarks.peers.arguments import KINDS, LATENCY_WINDOW, LATENESS, OUT_OF_ORDERNESS, WINDOW, Arguments

AT_A_TIME: Final = 1_000
ROWS_A_GROUP: Final = 50_000
WINDOW_LENGTH: Final = timedelta(microseconds=WINDOW)
LATENCY_LENGTH: Final = timedelta(microseconds=LATENCY_WINDOW)

FACTS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("flag_key", "unit_id", "variation")),
        ("window_start", pa.timestamp("us", "UTC")),
        *((name, pa.int64()) for name in ("exposures", "fallbacks", "outcomes", "guardrails")),
        *((name, pa.float64()) for name in ("resolved", "human_correction", "latency", "cost")),
        ("clean", pa.bool_()),
    ]
)


class Event(BaseModel):
    """What all events have."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)

    event: str
    flag_key: str
    unit_id: str
    variation: str
    timestamp: AwareDatetime


class Exposure(Event):
    """What really ran."""

    assignment_unit: str
    model_route: str
    prompt_version: str
    retrieval_profile: str
    fallback_used: bool


class Outcome(Event):
    """What came of it."""

    resolved_without_escalation: bool
    human_correction: bool
    latency_ms: float
    estimated_cost: float


class Guardrail(Event):
    """What went wrong."""

    guardrail: str
    value: float
    severity: Literal["info", "warning", "severe"]
    confirmed: bool | None = None


MODELS: Final[dict[str, type[Event]]] = dict(zip(KINDS, (Exposure, Outcome, Guardrail), strict=True))


@dataclass(slots=True)
class Unit:
    """What is known of a unit until its window closes; no event stands twice in its lists."""

    exposures: list[Event] = field(default_factory=list)
    outcomes: list[Any] = field(default_factory=list)
    guardrails: list[Event] = field(default_factory=list)

    def fact(self) -> dict[str, Any]:
        """Return the fact of the window that its first exposure opens."""
        first = min(self.exposures, key=lambda exposure: exposure.timestamp)
        start, end = first.timestamp, first.timestamp + WINDOW_LENGTH
        outcomes = sorted((o for o in self.outcomes if start <= o.timestamp < end), key=lambda o: o.timestamp)
        own = [outcome for outcome in outcomes if outcome.variation == first.variation]
        latencies = [outcome.latency_ms for outcome in own if outcome.timestamp < start + LATENCY_LENGTH]
        fallbacks = sum(exposure.fallback_used for exposure in self.exposures if isinstance(exposure, Exposure))
        return {
            "flag_key": first.flag_key,
            "unit_id": first.unit_id,
            "variation": first.variation,
            "window_start": start,
            "exposures": len(self.exposures),
            "fallbacks": fallbacks,
            "outcomes": len(outcomes),
            "guardrails": sum(start <= guardrail.timestamp < end for guardrail in self.guardrails),
            "resolved": own[-1].resolved_without_escalation if own else None,
            "human_correction": any(outcome.human_correction for outcome in own) if own else None,
            "latency": max(latencies, default=None),
            "cost": sum(outcome.estimated_cost for outcome in own) if own else None,
            "clean": not fallbacks and len(own) == len(outcomes),
        }


class Units:
    """All units that have not closed."""

    def __init__(self) -> None:
        """Start without any."""
        self._units: dict[tuple[str, str], Unit] = {}
        self._exposed: list[tuple[datetime, tuple[str, str]]] = []  # a heap

    def add(self, kind: str, event: Event) -> None:
        """Keep an event, unless it is known."""
        key = (event.flag_key, event.unit_id)
        unit = self._units.get(key)
        if unit is None:
            unit = self._units[key] = Unit()
        events: list[Any] = getattr(unit, kind)
        if event not in events:
            events.append(event)
            if kind == "exposures":
                heappush(self._exposed, (event.timestamp, key))

    def close(self, watermark: datetime) -> Iterator[dict[str, Any]]:
        """Remove the units whose windows have ended, and yield their facts."""
        through = watermark - timedelta(microseconds=WINDOW + LATENESS)
        while self._exposed and self._exposed[0][0] <= through:
            unit = self._units.pop(heappop(self._exposed)[1], None)
            if unit is not None:
                yield unit.fact()


class Watermark:
    """The least of the latest event times of the partitions that are not at their end; else the greatest of all."""

    def __init__(self) -> None:
        """Start without any partition."""
        self._latest: dict[tuple[str, int], datetime] = {}
        self._ended: set[tuple[str, int]] = set()

    def observe(self, place: tuple[str, int], time: datetime) -> None:
        """Take note of the time of an event."""
        if place not in self._latest or time > self._latest[place]:
            self._latest[place] = time

    def end(self, place: tuple[str, int]) -> int:
        """Take note that a partition is at its end; return how many are."""
        self._ended.add(place)
        return len(self._ended)

    def time(self, places: int) -> datetime | None:
        """Return it, of so many partitions; None as long as one of them has not been seen."""
        if len(self._latest.keys() | self._ended) < places or not self._latest:
            return None
        going_on = [time for place, time in self._latest.items() if place not in self._ended]
        return (min(going_on) if going_on else max(self._latest.values())) - timedelta(microseconds=OUT_OF_ORDERNESS)


def main() -> None:
    """Read the topics to their ends, and write the facts of what has closed."""
    arguments = Arguments.read()
    models = {arguments.prefix + kind: (kind, MODELS[kind]) for kind in KINDS}
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.source,
            "group.id": uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    consumer.subscribe(list(models))
    topics = consumer.list_topics().topics
    places = sum(len(topics[topic].partitions) for topic in models)
    units, watermark, facts, ended = Units(), Watermark(), list[dict[str, Any]](), 0
    with pq.ParquetWriter(arguments.facts, FACTS, compression="zstd") as writer:
        while ended < places:
            for message in consumer.consume(AT_A_TIME, timeout=1.0):
                place = (message.topic(), message.partition())
                if at_end(message):
                    ended = watermark.end(place)
                    continue
                kind, model = models[message.topic()]
                event = model.model_validate(json.loads(message.value()))
                units.add(kind, event)
                watermark.observe(place, event.timestamp)
            time = watermark.time(places)
            if time is not None:
                facts.extend(units.close(time))
            if len(facts) >= ROWS_A_GROUP:
                writer.write_table(pa.Table.from_pylist(facts, FACTS))
                facts.clear()
        writer.write_table(pa.Table.from_pylist(facts, FACTS))
    consumer.close()


def at_end(message: Message) -> bool:
    """Tell whether this is no record, but the news that its partition is at its end."""
    error = message.error()
    if error is None:
        return False
    if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- its public name
        return True
    raise KafkaException(error)


if __name__ == "__main__":
    main()
