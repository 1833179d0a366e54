"""Faust, fed with whole fetches: one message a partition and fetch, its value a `Fetch`.

Faust spends about 100 µs on a message, whatever an agent does with it; handing on whole fetches makes that a cost of
the fetch (1,000,000 records/s and core instead of 9,000). This module is the only place that leans on the insides of
Faust and aiokafka. It uses these members, and tests/pipeline/test_transport.py fails when an upgrade moves one:

- `faust.transport.drivers.aiokafka.Consumer`: `_new_consumer_thread`, `getmany`, `_wait_next_records`, `perform_seek`,
  `seek_to_committed`, `commit`, `_thread`
- `faust.transport.drivers.aiokafka.AIOKafkaConsumerThread`: `_create_worker_consumer`, `_fetch_records`,
  `_ensure_consumer`, `call_thread`
- `faust.transport.drivers.aiokafka.Transport.Consumer`
- `aiokafka.AIOKafkaConsumer`: `_isolation_level`, `_fetch_max_wait_ms`, `_subscription`, `_fetcher`
- `aiokafka.consumer.fetcher`: `PartitionRecords` (looked up when a response is unpacked) and its `_unpack_records`,
  `_records`, `_records_iterator`, `_check_crcs`, `_tp`, `_consume_aborted_up_to`, `_contains_abort_marker`,
  `_aborted_producers`, `next_fetch_offset`
- the partition state of `aiokafka.consumer.subscription_state`: `has_valid_position`, `position`, `highwater`,
  `lso`, `timestamp`
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiokafka.consumer.fetcher
from aiokafka.errors import CorruptRecordException, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from pipeline.fetched import Batch, Fetch

__all__ = ["Transport", "WholeFetchConsumer"]

# How long the broker may hold a fetch of a topic at its end: the resolution of "at the end", and of a stop.
FETCH_WAIT_MS: Final = 500

# How often a topic that stays at its end is reported again; well below the 10 s that such a word counts, and a message
# costs 100 µs for each of many partitions.
END_NEWS_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class _Report:
    """What was last handed on of a partition: its next offset, and the time of the response (ms) behind it.

    `state` is aiokafka's of that assignment. Each assignment has a new one, whose position is what the group was told.
    """

    next_offset: int
    heard_at: int
    at_end: bool
    state: Any


class _Batches(aiokafka.consumer.fetcher.PartitionRecords):  # type: ignore[misc]
    """Hands on whole batches, whose records are not unpacked yet.

    The ConsumerRecord that aiokafka puts around each record costs 1 µs, looking at each for its offset 0.3 µs more.
    """

    next_fetch_offset: int

    def __iter__(self) -> Iterator[Batch]:
        return self._records_iterator  # type: ignore[no-any-return]

    def _unpack_records(self) -> Iterator[Batch]:
        """Yield what is committed; CorruptRecordException where a checksum is wrong.

        The position moves with whole batches, so all of it must be taken, as Faust does.
        """
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"{self._tp} has a batch with a wrong checksum")
            self.next_fetch_offset = batch.next_offset
            if not self._is_hidden(batch):
                yield batch

    def _is_hidden(self, batch: Any) -> bool:  # noqa: ANN401 - aiokafka is untyped
        """Tell whether the batch is a marker, or of a transaction that was aborted; its marker ends that."""
        if batch.producer_id is not None:  # None before message format 2
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
        return batch.is_control_batch or (batch.is_transactional and batch.producer_id in self._aborted_producers)


class _Thread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread with the aiokafka consumer in it; all positions are read and set on its loop."""

    def _create_worker_consumer(self, transport: "Transport") -> Any:  # noqa: ANN401 - aiokafka is untyped
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - Faust offers no setting for it
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust fixes it at 1500
        aiokafka.consumer.fetcher.PartitionRecords = _Batches
        self._reported: dict[TP, _Report] = {}
        return consumer

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Seek to `offsets`; what was fetched before and not yet handed on is dropped."""
        await self.call_thread(self._seek_all, offsets)

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp, offset in offsets.items():
            if tp in consumer.assignment():
                self._seek(consumer, tp, offset)

    def _seek(self, consumer: Any, tp: TP, offset: int) -> None:  # noqa: ANN401
        consumer.seek(tp, offset)
        state = consumer._subscription.subscription.assignment.state_value(tp)  # noqa: SLF001
        self._reported[tp] = _Report(offset, 0, at_end=False, state=state)

    async def commit_with_metadata(self, offsets: Mapping[TP, int], metadata: str) -> None:
        """Tell the group its offsets, with `metadata` beside each."""
        await self.call_thread(self._commit_with_metadata, offsets, metadata)

    async def _commit_with_metadata(self, offsets: Mapping[TP, int], metadata: str) -> None:
        consumer = self._ensure_consumer()
        owned = consumer.assignment()
        mine = {
            TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, metadata)
            for tp, offset in offsets.items()
            if tp in owned
        }
        if mine:
            await consumer.commit(mine)

    async def _fetch_records(
        self,
        consumer: Any,  # noqa: ANN401 - aiokafka is untyped
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> dict[TP, Fetch]:
        try:
            drained = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        except OffsetOutOfRangeError as error:
            lost = error.args[0].items()
            return {tp: Fetch(_place(tp), offset, offset, (), offset, at_end=False, lost=True) for tp, offset in lost}
        except NoOffsetForPartitionError:  # aiokafka looked for a committed offset before we told it where to seek
            return {}
        fetched = {tp: self._report(consumer, tp, drained.get(tp, ())) for tp in active_partitions}
        if not self.consumer.flow_active:  # dropped, but reported: what follows has a gap, and is not mistaken for all
            return {}
        return {tp: news for tp, news in fetched.items() if news is not None}

    def _report(self, consumer: Any, tp: TP, batches: Sequence[Batch]) -> Fetch | None:  # noqa: ANN401
        """Return what is new of `tp`; runs without a break after the fetch, so position and batches belong together."""
        assignment = consumer._subscription.subscription.assignment  # noqa: SLF001
        if assignment is None or tp not in assignment.tps or tp not in self._reported:
            return None
        state, last = assignment.state_value(tp), self._reported[tp]
        if state is not last.state:  # assigned anew, not sought yet: what was fetched may overlap or leave a gap
            self._seek(consumer, tp, last.next_offset)
            return None
        if not state.has_valid_position:
            return None
        heard_at = state.timestamp or 0
        at_end = not batches and heard_at != last.heard_at and state.position >= (state.highwater or 0)
        if state.position == last.next_offset and not batches:
            stale = abs(heard_at - last.heard_at) >= END_NEWS_MS
            if not at_end or (last.at_end and not stale):
                return None
        self._reported[tp] = _Report(state.position, heard_at, at_end=at_end, state=state)
        end = max(state.position, state.highwater if state.lso in {None, -1} else state.lso)
        return Fetch(_place(tp), last.next_offset, state.position, batches, end, at_end=at_end)


def _place(tp: TP) -> str:
    return f"{tp.topic}/{tp.partition}"


class WholeFetchConsumer(driver.Consumer):  # type: ignore[misc]
    """A Faust consumer whose messages are whole fetches, and whose offsets come from the lake.

    `app.next_offsets` must be an async function that takes the assigned partitions and returns the offset to read next
    of each. Committing is ours too: Faust's own timer finds nothing to do.
    """

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to where the lake says it goes on."""
        next_offsets: Callable[[set[TP]], Awaitable[Mapping[TP, int]]] = self.app.next_offsets
        offsets = await next_offsets(self.assignment())
        await self._thread.seek_all(offsets)
        return offsets

    async def rewind(self, offsets: Mapping[TP, int]) -> None:
        """Read again from `offsets`: of a chain that was fenced, or a batch that Faust dropped."""
        for tp, offset in offsets.items():
            self._read_offset[tp] = offset
        await self._thread.seek_all(offsets)

    async def tell(self, offsets: Mapping[TP, int], metadata: str) -> None:
        """Commit `offsets` to the group, for lag tooling; the lake is the truth."""
        await self._thread.commit_with_metadata(offsets, metadata)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ANN401, ARG002, FBT001, FBT002
        """Do nothing: offsets are told after a checkpoint, by `tell`."""
        return False

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109
        """Yield one message a partition of the next fetch, as long as flow and generation stay what they were."""
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            try:
                await self.perform_seek()
            except Exception as error:  # noqa: BLE001 - a seek that fails in a rebalance is repeated after it
                self.log.info("seek while the flow is stopped: %s", error)
            return
        for tp, news in fetched.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if active is None or tp in active or tp in self._buffered_partitions:
                yield tp, self._message(tp, news, generation)

    def _message(self, tp: TP, news: Fetch, generation: int) -> ConsumerMessage:
        # Faust drops a message whose generation is not the current one, or whose offset lies before the last it saw.
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            news.next_offset,
            0.0,
            0,
            (),
            None,
            news,
            None,
            0,
            0,
            tp,
            generation_id=generation,
        )


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with the consumer above."""

    Consumer = WholeFetchConsumer
