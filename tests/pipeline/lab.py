"""A partition without Kafka: logs in memory, the real partition, checkpoint and close over a storage in memory."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.columns import KINDS
from contracts.decode import Decoder
from contracts.events import Kind
from contracts.flags import Contract, ContractBook, load_contract
from pipeline.breaker import Limits
from pipeline.checkpoint import Checkpointer, genesis
from pipeline.compaction import Compactor
from pipeline.fetched import Fetched
from pipeline.letters import Sender
from pipeline.outbox import Letter
from pipeline.partition import Frozen, Partition, Rules
from sinks.manifest import Manifest, TopicState
from sinks.storage import MemoryStorage, Storage

__all__ = ["FLAG", "HOUR", "NOON", "TOPICS", "Lab", "Record", "Writer", "contract", "exposure", "outcome"]

HOUR: Final = 3_600_000_000
NOON: Final = 1_780_833_600_000_000  # 2026-06-07T12:00:00Z
TOPICS: Final[dict[str, Kind]] = dict(zip(("exposures", "outcomes", "guardrails"), KINDS, strict=True))

LIMITS: Final = Limits(share=0.5, minimum=100, in_a_row=100)

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
    resolved: {event: done, field: resolved, kind: proportion, aggregate: last, window: 24h, goal: increase}
"""


@dataclass(frozen=True, slots=True)
class Record:
    """A record as the consumer hands it on; `timestamp` in ms."""

    offset: int
    value: bytes | None
    timestamp: int = NOON // 1000
    timestamp_type: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Batch(list[Record]):
    """Records as the transport hands them on."""

    @property
    def next_offset(self) -> int:
        return self[-1].offset + 1


def contract(text: str = FLAG) -> Contract:
    return load_contract(text, "route.yaml")


def exposure(unit: str, hour: float, variation: str = "control", **more: object) -> bytes:
    route = {"control": "a", "candidate": "b"}[variation]
    body = {
        "event": "shown",
        "assignmentUnit": "user",
        "modelRoute": route,
        "promptVersion": "p",
        "retrievalProfile": "r",
        "fallbackUsed": False,
    }
    return _event(unit, hour, variation, **body, **more)


def outcome(unit: str, hour: float, variation: str = "control", **more: object) -> bytes:
    return _event(unit, hour, variation, event="done", **{"resolved": True, **more})


def _event(unit: str, hour: float, variation: str, **more: object) -> bytes:
    seconds = round(hour * 3600)
    time = f"2026-06-{7 + seconds // 86400:02d}T{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}Z"
    return json.dumps({"flagKey": "route", "unitId": unit, "variation": variation, "timestamp": time, **more}).encode()


@dataclass(slots=True)
class Writer:
    """One worker's hold on the partition: what is lost when it dies."""

    partition: Partition
    base: Manifest
    checkpointer: Checkpointer


@dataclass(slots=True)
class Lab:
    """The logs, the storage, and what was sent; writers come and go."""

    storage: MemoryStorage = field(default_factory=MemoryStorage)
    contracts: tuple[Contract, ...] = field(default_factory=lambda: (contract(),))
    logs: dict[str, list[bytes | None]] = field(default_factory=lambda: {topic: [] for topic in TOPICS})
    sent: list[Letter] = field(default_factory=list)
    published: list[pa.Table] = field(default_factory=list)  # the facts of each close, once they are committed
    lateness: int = HOUR
    now: int = NOON
    breaker: Limits = LIMITS
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def publish(self, topic: str, *values: bytes | None) -> None:
        self.logs[topic].extend(values)

    def writer(self, storage: Storage | None = None) -> Writer:
        """Recover the partition as a new worker does."""
        checkpointer = Checkpointer(
            storage or self.storage,
            send=self.sent.append,
            flush=lambda: None,
            clock=lambda: self.now,
            new_id=lambda: f"{next(self._ids):x}",
            allowed_lateness=self.lateness,
            on_close=self.published.append,
        )
        for each in self.contracts:
            checkpointer.keep_contract(each)
        base = checkpointer.recover(0) or genesis(
            partition=0, lake_id="lake", group="evidence", version="1", topics=_beginnings()
        )
        partition = Partition(
            0,
            TOPICS,
            {topic.name: topic.next_offset for topic in base.topics.values()},
            base,
            Rules(
                sender=Sender("evidence", "1"),
                partitions=1,
                reroute=True,
                breaker=self.breaker,
                out_of_orderness=0,
                idle_timeout=10**15,
            ),
            Decoder(ContractBook(self.contracts), 1 << 20, 10**15),
            self.sent.append,
        )
        return Writer(partition, base, checkpointer)

    def read(self, writer: Writer, topic: str, most: int = 1_000, *, at_end: bool = False) -> None:
        """Let the writer read on in a topic; `at_end` has it hear the end afterwards."""
        start = writer.partition.next_offsets[topic]
        values = self.logs[topic][start : start + most]
        records = [Record(start + place, value) for place, value in enumerate(values)]
        following = start + len(values)
        assert writer.partition.accept(topic, Fetched(start, following, records, following, at_end=False), self.now, 0)
        if at_end and following == len(self.logs[topic]):
            writer.partition.accept(topic, Fetched(following, following, (), following, at_end=True), self.now, 0)

    def read_all(self, writer: Writer) -> None:
        for topic in TOPICS:
            self.read(writer, topic, at_end=True)

    def checkpoint(self, writer: Writer, *, close: bool, everything: bool = False) -> Frozen:
        """Freeze and commit; a fault leaves the writer as a dead worker would be, to be thrown away."""
        frozen = writer.partition.freeze(0)
        through = frozen.watermark if close else None
        if everything:
            deadline = writer.checkpointer.deadline(writer.base, frozen)
            through = max((time for time in (through, deadline) if time is not None), default=None)
        writer.base = writer.checkpointer.checkpoint(writer.base, frozen, through)
        return frozen

    def compactor(
        self, storage: Storage | None = None, fewest: int = 2, on_step: Callable[[str], None] = lambda _: None
    ) -> Compactor:
        """Return what merges files of a table and day as soon as there are so many."""
        return Compactor(
            storage or self.storage,
            clock=lambda: self.now,
            new_id=lambda: f"{next(self._ids):x}",
            fewest=fewest,
            on_step=on_step,
        )

    def compact(self, writer: Writer, fewest: int = 2) -> int:
        """Compact the writer's partition until there is nothing left to merge; return how many files were replaced."""
        replaced = 0
        while (manifest := self.compactor(fewest=fewest).compact(writer.base)) is not None:
            writer.base = manifest
            replaced += len(manifest.replaced)
        return replaced

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return what a plain glob over the table finds."""
        return [
            row
            for name in self.storage.list(f"tables/{table}")
            for row in pq.read_table(BytesIO(self.storage.read(name))).to_pylist()
        ]

    def fates(self) -> dict[tuple[str, int], list[str]]:
        """Return, by topic and offset, every fate that the tables tell."""
        fates: dict[tuple[str, int], list[str]] = {}
        for table in ("events", "unjoined", "refused"):
            for row in self.rows(table):
                fates.setdefault((row["topic"], row["offset"]), []).append(row.get("reason") or table)
        return fates


def _beginnings() -> dict[str, TopicState]:
    return {
        kind: TopicState(name=topic, topic_id=topic, partitions=1, first_offset=0, next_offset=0, closed_offset=0)
        for topic, kind in TOPICS.items()
    }
