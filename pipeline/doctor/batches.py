"""Which idempotent producer sent which records: what confluent-kafka keeps to itself and aiokafka's batches tell.

Reads the sampled offsets once more, joins no group and commits nothing. Whatever goes wrong here costs no more than the
producers' IDs. It leans on one member of aiokafka, `aiokafka.consumer.fetcher.PartitionRecords`, and on its argument
`records`, whose batches it looks at as they are unpacked; the tests of the doctor fail when an upgrade moves it.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import aiokafka.consumer.fetcher
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.doctor.sample import Batch
from pipeline.settings import Settings

__all__ = ["Spans", "producer_batches"]

Spans = Mapping[tuple[str, int], tuple[int, int]]
"""By topic and partition: the first offset that was read, and the next one after the last."""

_AT_ONCE: Final = 5_000  # records
_WAIT_MS: Final = 200


def producer_batches(settings: Settings, spans: Spans, limit_s: float) -> dict[tuple[str, int], list[Batch]]:
    """Return the batches of idempotent producers in these spans, in offset order; none where they cannot be had.

    Takes about `limit_s` seconds at most.
    """
    found: dict[tuple[str, int], list[Batch]] = {}
    try:
        with _noting(found):
            asyncio.run(_read(settings, spans, limit_s))
    except Exception:  # noqa: BLE001 - the rest of the sample is there, and worth more
        return {}
    return found


async def _read(settings: Settings, spans: Spans, limit_s: float) -> None:
    security = settings.security
    password = security.password.get_secret_value() if security.password is not None else None
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        client_id="evidence-doctor",
        enable_auto_commit=False,
        auto_offset_reset="none",
        security_protocol=security.protocol,
        ssl_context=security.ssl_context(),
        sasl_mechanism=security.mechanism or "PLAIN",
        sasl_plain_username=security.username,
        sasl_plain_password=password,
        max_partition_fetch_bytes=16 << 20,
        fetch_max_wait_ms=_WAIT_MS,
    )
    ends = {TopicPartition(*at): end for at, (first, end) in spans.items() if first < end}
    try:
        async with asyncio.timeout(limit_s):
            await consumer.start()
            consumer.assign(list(ends))
            for at in ends:
                consumer.seek(at, spans[at.topic, at.partition][0])
            while ends:
                await consumer.getmany(*ends, timeout_ms=_WAIT_MS, max_records=_AT_ONCE)
                for at in list(ends):
                    if await consumer.position(at) >= ends[at]:
                        ends.pop(at)
    finally:
        await consumer.stop()


@contextmanager
def _noting(found: dict[tuple[str, int], list[Batch]]) -> Iterator[None]:
    """Let aiokafka unpack batches under our eyes while the block runs."""
    usual = aiokafka.consumer.fetcher.PartitionRecords

    class Noted(usual):  # type: ignore[misc,valid-type]
        """Looks at each batch before it is unpacked."""

        def __init__(self, tp: Any, records: Any, *others: Any) -> None:  # noqa: ANN401 - aiokafka is untyped
            theirs = found.setdefault((tp.topic, tp.partition), [])
            super().__init__(tp, _Watched(records, theirs), *others)

    log = logging.getLogger("aiokafka")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what goes wrong here is no news
    aiokafka.consumer.fetcher.PartitionRecords = Noted
    try:
        yield
    finally:
        aiokafka.consumer.fetcher.PartitionRecords = usual
        log.setLevel(level)


class _Watched:
    """The batches of a fetch, as aiokafka asks for them."""

    def __init__(self, records: Any, batches: list[Batch]) -> None:  # noqa: ANN401
        self._records = records
        self._batches = batches

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> Any:  # noqa: ANN401
        batch = self._records.next_batch()
        if batch.producer_id is not None and batch.producer_id >= 0:
            self._batches.append(Batch(batch.base_offset, batch.next_offset, batch.producer_id))
        return batch
