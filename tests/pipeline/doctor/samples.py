"""Samples of made-up traffic: healthy, unless a test changes what was sent before it is placed."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import pyarrow as pa

from contracts.columns import KINDS
from contracts.events import Kind
from contracts.flags import Contract, ContractBook
from contracts.placement import murmur2_partition
from pipeline.doctor.examination import Examined, examine
from pipeline.doctor.reading import Limits
from pipeline.doctor.sample import NO_PRODUCER, Record, Sample, Topic
from pipeline.traffic import Bodies, encode
from tests.contracts.records import CONTRACT

__all__ = ["BEGIN", "HOUR", "MINUTE", "TAKEN", "Sent", "faults", "healthy", "looked_at", "sample_of"]

MINUTE: Final = 60_000_000
HOUR: Final = 60 * MINUTE
BEGIN: Final = 1_780_833_600_000_000  # 2026-06-07T12:00:00Z, in the state ab of the example
TAKEN: Final = BEGIN + 72 * HOUR
LIMITS: Final = Limits(max_value_bytes=1 << 20, max_future_us=10 * MINUTE)

Placement = Callable[[bytes | None, int], int]


@lru_cache(maxsize=100_000)
def placed_by_murmur2(key: bytes | None, partitions: int) -> int:
    """Place a key as Java does, whatever its bytes."""
    column = pa.array([key or b""], pa.binary())
    _, ends, data = column.buffers()
    return int(murmur2_partition(pa.StringArray.from_buffers(1, ends, data), partitions)[0])


@dataclass(frozen=True)
class Sent:
    """What a producer hands to its client; `value` and `key` stand in for what body and unit make."""

    kind: Kind
    unit: str
    body: dict[str, Any]
    at: int  # µs: the sending
    producer: str = ""
    producer_id: int = NO_PRODUCER
    place: Placement = placed_by_murmur2
    key: bytes | None = None
    keyless: bool = False
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def but(self, **changes: Any) -> "Sent":  # noqa: ANN401  # any field
        """Return it with other fields; `...` in a body removes one."""
        return replace(self, **changes)

    def saying(self, **changes: Any) -> "Sent":  # noqa: ANN401  # whatever JSON holds
        """Return it with other fields of its body; `...` removes one."""
        return replace(self, body={k: v for k, v in (self.body | changes).items() if v is not ...})


def healthy(
    seed: int = 1,
    *,
    contract: Contract = CONTRACT,
    units: int = 400,
    outcomes: float = 0.8,
    guardrails: float = 0.1,
    exposures: int = 1,
    producers: Sequence[str] = ("answers",),
    idempotent: bool = False,
    hours: float = 24.0,
    delay: int = MINUTE // 60,
) -> list[Sent]:
    """Return what healthy services send, in the order of sending: each unit exposed, then what came of it."""
    rng = random.Random(seed)  # noqa: S311
    bodies = Bodies(rng, contract)
    sent: list[Sent] = []

    def send(kind: Kind, unit: str, body: dict[str, Any], at: int) -> None:
        number = rng.randrange(len(producers))
        late = rng.randrange(delay + 1)
        own = NO_PRODUCER if not idempotent else 4_000 + number
        sent.append(Sent(kind, unit, body, at + late, producers[number], own))

    for number in range(units):
        unit = f"conv_{seed}_{number}"
        variation = bodies.variation(unit)
        at = BEGIN + int(rng.random() * hours * HOUR)
        for again in range(exposures):
            then = at + again * MINUTE
            send("exposure", unit, bodies.exposure(unit, variation, then), then)
        if rng.random() < outcomes:
            then = at + int(rng.random() * 2 * HOUR) + exposures * MINUTE
            send("outcome", unit, bodies.outcome(unit, variation, then), then)
        if rng.random() < guardrails:
            then = at + int(rng.random() * HOUR)
            send("guardrail", unit, bodies.guardrail(unit, variation, then), then)
    return sorted(sent, key=lambda one: one.at)


def sample_of(
    sent: Iterable[Sent],
    partitions: int | Sequence[int] = 12,
    *,
    newest: int | None = None,
    appended: bool = False,
    taken: int = TAKEN,
) -> Sample:
    """Return the newest records of each partition of three topics in which these were sent one after another."""
    counts = [partitions] * 3 if isinstance(partitions, int) else list(partitions)
    logs: dict[str, dict[int, list[Record]]] = {
        kind: {number: [] for number in range(count)} for kind, count in zip(KINDS, counts, strict=True)
    }
    for one in sent:
        log = logs[one.kind]
        key = None if one.keyless else one.unit.encode() if one.key is None else one.key
        partition = log[one.place(key, len(log))]
        headers = ((("service", one.producer.encode()),) if one.producer else ()) + one.headers
        value = encode(one.body) if one.value is None else one.value
        offset = len(partition)
        partition.append(Record(offset, one.at // 1_000, int(appended), key, value, headers, one.producer_id))
    topics = [
        Topic(
            f"{kind}s",
            len(log),
            {number: records[-newest:] if newest else records for number, records in log.items()},
            frozenset(number for number, records in log.items() if newest and len(records) > newest),
        )
        for kind, log in logs.items()
    ]
    return Sample(topics[0], topics[1], topics[2], taken_us=taken)


def looked_at(sample: Sample, contracts: Iterable[Contract] = (CONTRACT,)) -> Examined:
    """Examine it under these contracts."""
    return examine(sample, ContractBook(contracts), LIMITS)


def faults(sample: Sample, contracts: Iterable[Contract] = (CONTRACT,)) -> list[str]:
    """Return the IDs of what is found."""
    return [finding.id for finding in looked_at(sample, contracts).findings]
