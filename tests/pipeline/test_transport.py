"""What the transport leans on in Faust and aiokafka, so that an upgrade that moves it fails here; what it reports."""
# ruff: noqa: SLF001 - private members are what this is about

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import aiokafka
import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from pipeline import transport
from pipeline.fetched import Fetch
from pipeline.transport import END_NEWS_MS
from tests.pipeline.lab import Batch, Record

_OWN: Final = transport._Batches.__base__
HERE: Final = TP("exposures", 0)
THERE: Final = TP("exposures", 1)
PLACE: Final = "exposures/0"


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        pytest.param(driver.Consumer._new_consumer_thread, "self", id="_new_consumer_thread"),
        pytest.param(driver.Consumer.getmany, "self timeout", id="getmany"),
        pytest.param(driver.Consumer._wait_next_records, "self timeout", id="_wait_next_records"),
        pytest.param(driver.Consumer.perform_seek, "self", id="perform_seek"),
        pytest.param(driver.Consumer.seek_to_committed, "self", id="seek_to_committed"),
        pytest.param(driver.Consumer.commit, "self topics start_new_transaction", id="commit"),
        pytest.param(
            driver.AIOKafkaConsumerThread._create_worker_consumer, "self transport", id="_create_worker_consumer"
        ),
        pytest.param(
            driver.AIOKafkaConsumerThread._fetch_records,
            "self consumer active_partitions timeout max_records",
            id="_fetch_records",
        ),
        pytest.param(driver.AIOKafkaConsumerThread._ensure_consumer, "self", id="_ensure_consumer"),
        pytest.param(driver.AIOKafkaConsumerThread.call_thread, "self fun args kwargs", id="call_thread"),
        pytest.param(fetcher.PartitionRecords._unpack_records, "self", id="_unpack_records"),
        pytest.param(fetcher.PartitionRecords._consume_aborted_up_to, "self batch_offset", id="_consume_aborted_up_to"),
        pytest.param(fetcher.PartitionRecords._contains_abort_marker, "self next_batch", id="_contains_abort_marker"),
    ],
)
def test_members_have_the_parameters_relied_on(function: Callable[..., Any], arguments: str) -> None:
    assert list(inspect.signature(function).parameters) == arguments.split()


def test_faust_drives_our_consumer() -> None:
    assert driver.Transport.Consumer is driver.Consumer
    assert transport.Transport.Consumer is transport.WholeFetchConsumer
    assert "_thread" in inspect.getsource(faust_consumer.ThreadDelegateConsumer.__init__)


def test_faust_drops_messages_of_another_generation_and_earlier_offsets() -> None:
    """So each message carries the current generation, and the next offset as its own."""
    assert "offset >= r_offset" in inspect.getsource(faust_consumer.Consumer._drain_messages)
    assert "generation_id" in inspect.getsource(inspect.getmodule(driver.Consumer) or driver)


def test_the_class_of_records_is_looked_up_when_a_response_is_unpacked() -> None:
    assert "PartitionRecords" in fetcher.Fetcher._proc_fetch_request.__code__.co_names


@pytest.mark.asyncio
async def test_the_consumer_has_the_attributes_that_are_set_and_read() -> None:
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1", enable_auto_commit=False)
    assert {"_isolation_level", "_fetch_max_wait_ms", "_subscription", "_fetcher"} <= set(vars(consumer))
    await consumer.stop()


def test_what_is_set_before_the_start_reaches_the_fetcher() -> None:
    source = inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    assert "isolation_level=self._isolation_level" in source
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source


# records


def _batch(*values: bytes, base: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    for place, value in enumerate(values):
        builder.append(place, timestamp=7, key=b"k", value=value, headers=[("h", b"x")])
    data = builder.build()
    data[:8] = base.to_bytes(8, "big")
    return bytes(data)


def _unpacked(data: bytes, start: int) -> transport._Batches:
    return transport._Batches(HERE, MemoryRecords(data), [], start, None, None, True, 1)  # noqa: FBT003 - aiokafka's


def test_records_come_as_aiokafka_parsed_them() -> None:
    records = [record for batch in _unpacked(_batch(b"a", b"b", base=40), 40) for record in batch]
    assert [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value) for r in records] == [
        (40, 7, 0, b"k", b"a"),
        (41, 7, 0, b"k", b"b"),
    ]
    assert list(records[0].headers) == [("h", b"x")]


def test_the_position_moves_with_whole_batches() -> None:
    batches = _unpacked(_batch(b"a", b"b", b"c", base=40) + _batch(b"d", base=43), 42)
    assert [(next(iter(batches)).next_offset, batches.next_fetch_offset) for _ in range(2)] == [(43, 43), (44, 44)]


def test_a_batch_whose_checksum_is_wrong_is_refused() -> None:
    data = bytearray(_batch(b"a"))
    data[-3] ^= 1
    with pytest.raises(CorruptRecordException):
        list(_unpacked(bytes(data), 0))


def _transaction(base: int, *values: bytes, producer: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 1 << 20)
    for place, value in enumerate(values):
        builder.append(place, timestamp=7, key=b"k", value=value, headers=[])
    data = builder.build()
    data[:8] = base.to_bytes(8, "big")
    return bytes(data)


def _marker(base: int, *, producer: int, commits: bool) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 1 << 20)
    builder.append(0, timestamp=7, key=bytes([0, 0, 0, commits]), value=bytes(6), headers=[])
    data = builder.build()
    data[:8] = base.to_bytes(8, "big")
    data[22] |= 0x20  # the attribute of control batches
    return bytes(data)


def test_what_is_aborted_is_left_out_as_aiokafka_does() -> None:
    data = b"".join(
        [
            _transaction(0, b"aborted", producer=1),
            _transaction(1, b"committed", producer=2),
            _batch(b"plain", base=2),
            _marker(3, producer=1, commits=False),
            _transaction(4, b"later", b"and more", producer=1),
            _marker(6, producer=2, commits=True),
            _marker(7, producer=1, commits=True),
        ]
    )
    readers: list[Any] = [
        kind(HERE, MemoryRecords(data), [(1, 0)], 0, None, None, False, fetcher.READ_COMMITTED)  # noqa: FBT003
        for kind in (_OWN, transport._Batches)
    ]
    theirs = [(record.offset, record.value) for record in readers[0]]
    ours = [(record.offset, record.value) for batch in readers[1] for record in batch]
    assert ours == theirs == [(1, b"committed"), (2, b"plain"), (4, b"later"), (5, b"and more")]
    assert [reader.next_fetch_offset for reader in readers] == [8, 8]


# reports

A, B, C = (Batch([Record(offset, b"{}")]) for offset in (10, 11, 19))


class Reporter:
    """A thread that never started, with the real subscription behind it; its partition was sought to offset 10."""

    def __init__(self) -> None:
        self._subscription = SubscriptionState()
        self._subscription.subscribe({HERE.topic})
        self._subscription.assign_from_subscribed([HERE, THERE])
        self._thread = object.__new__(transport._Thread)
        self.state = self._subscription.subscription.assignment.state_value(HERE)
        self.state.seek(10)
        self._thread._reported = {HERE: transport._Report(10, 0, at_end=False, state=self.state)}

    def assign_anew(self, position: int) -> None:
        """Let a rebalance have given the partition again, and aiokafka have put it where the group was told."""
        self._subscription.assign_from_subscribed([HERE, THERE])
        self.state = self._subscription.subscription.assignment.state_value(HERE)
        self.state.seek(position)

    def hear(self, at: int, *, position: int, highwater: int, stable: int | None = None) -> None:
        """Let a response of the time `at` (ms) have moved the position."""
        self.state.seek(position)
        self.state.timestamp, self.state.highwater, self.state.lso = at, highwater, stable

    def report(self, *batches: Batch) -> Fetch | None:
        consumer = SimpleNamespace(_subscription=self._subscription, seek=lambda _, offset: self.state.seek(offset))
        return self._thread._report(consumer, HERE, batches)


@pytest.mark.asyncio
async def test_records_are_reported_with_the_offsets_that_they_span() -> None:
    reporter = Reporter()
    reporter.hear(1_000, position=13, highwater=20)
    assert reporter.report(A, B) == Fetch(PLACE, 10, 13, (A, B), 20, at_end=False)
    reporter.hear(1_100, position=20, highwater=20)
    assert reporter.report(C) == Fetch(PLACE, 13, 20, (C,), 20, at_end=False)


@pytest.mark.asyncio
async def test_offsets_without_records_are_reported() -> None:
    """A control record or an aborted batch moves the position, and nothing else."""
    reporter = Reporter()
    reporter.hear(1_000, position=12, highwater=12)
    assert reporter.report() == Fetch(PLACE, 10, 12, (), 12, at_end=True)


@pytest.mark.asyncio
async def test_the_end_is_that_of_committed_records() -> None:
    reporter = Reporter()
    reporter.hear(1_000, position=12, highwater=20, stable=15)
    assert reporter.report(A) == Fetch(PLACE, 10, 12, (A,), 15, at_end=False)


@pytest.mark.asyncio
async def test_nothing_new_is_not_reported() -> None:
    reporter = Reporter()
    assert reporter.report() is None
    reporter.hear(1_000, position=10, highwater=11)
    assert reporter.report() is None


@pytest.mark.asyncio
async def test_the_end_is_reported_when_a_response_brings_nothing_more() -> None:
    reporter = Reporter()
    reporter.hear(1_000, position=11, highwater=11)
    assert reporter.report(A) == Fetch(PLACE, 10, 11, (A,), 11, at_end=False)
    assert reporter.report() is None, "no response since"
    reporter.hear(1_500, position=11, highwater=11)
    assert reporter.report() == Fetch(PLACE, 11, 11, (), 11, at_end=True)


@pytest.mark.asyncio
async def test_a_topic_that_stays_at_its_end_is_reported_now_and_then() -> None:
    reporter = Reporter()
    reporter.hear(1_000, position=10, highwater=10)
    assert reporter.report() == Fetch(PLACE, 10, 10, (), 10, at_end=True)
    reporter.hear(1_000 + END_NEWS_MS - 1, position=10, highwater=10)
    assert reporter.report() is None
    reporter.hear(1_000 + END_NEWS_MS, position=10, highwater=10)
    assert reporter.report() == Fetch(PLACE, 10, 10, (), 10, at_end=True)


@pytest.mark.asyncio
async def test_a_partition_that_was_not_sought_is_not_reported() -> None:
    """Its position is aiokafka's, not the lake's."""
    reporter = Reporter()
    reporter._thread._reported.clear()
    reporter.hear(1_000, position=12, highwater=12)
    assert reporter.report(A, B) is None


@pytest.mark.asyncio
@pytest.mark.parametrize("told", [pytest.param(5, id="behind the lake"), pytest.param(15, id="ahead of it")])
async def test_a_partition_assigned_anew_goes_on_where_it_was(told: int) -> None:
    """What aiokafka fetched from the group's offset is no news: some was read before, or some would be left out."""
    reporter = Reporter()
    reporter.assign_anew(told)
    reporter.hear(1_000, position=20, highwater=20)
    assert reporter.report(C) is None
    assert reporter.state.position == 10
