"""The worker: Faust moves whole fetches in, partitions take them, checkpoints make them durable.

The event loop reads and decodes; checkpoints run in a thread beside it, so that the loop answers meanwhile. The two
take turns: at once they hand the interpreter lock to and fro, which costs a twentieth more CPU time in all and makes
reading no more than a tenth faster; a second worker makes better use of a second core. Each partition that is assigned
has a record here (`_Owned`); what a partition and a checkpoint are is told in `partition` and `checkpoint`.
"""

import asyncio
import gc
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

from aiokafka.errors import KafkaConnectionError
from faust.types import TP, StreamT

from contracts.columns import KINDS
from contracts.decode import Decoder
from contracts.errors import (
    DamagedFile,
    EvidenceError,
    Fenced,
    KafkaUnavailable,
    StorageUnavailable,
    TopicsUnfit,
)
from contracts.flags import ContractBook
from contracts.times import format_time
from pipeline.app import make_app
from pipeline.breaker import Limits
from pipeline.checkpoint import Checkpointer, genesis
from pipeline.compaction import Compactor
from pipeline.continuity import beginning, check_continuity, lost_offsets, partition_count
from pipeline.fetched import Fetch
from pipeline.flag_directory import FlagDirectory
from pipeline.group import check_group, lake_mark
from pipeline.health import Reason, reasons
from pipeline.letters import Sender
from pipeline.metrics import Metrics
from pipeline.outbox import Letter, Outbox
from pipeline.pages import Room, add_pages
from pipeline.partition import Frozen, Partition, Rules
from pipeline.preflight import DLQ_SUFFIX
from pipeline.schedule import PAUSE_FACTOR, close_is_due
from pipeline.settings import Settings
from pipeline.snapshot import Observed, PartitionSnapshot, TopicSnapshot, WorkerSnapshot
from pipeline.topics import TopicState, topic_states
from pipeline.tracing import tracing
from pipeline.version import VERSION
from sinks.lineage import lineages, open_lake
from sinks.manifest import Manifest, Stopped
from sinks.storage import LocalStorage, Storage

if TYPE_CHECKING:
    from contracts.events import Kind

__all__ = ["Ended", "Worker"]

log = logging.getLogger(__name__)

TICK_S: Final = 0.2  # how often watermarks advance and what is due is looked for
DECODED_AT_A_TIME: Final = 8_000  # records: 12 ms of the loop's time, and what is fixed about a batch 0.04 µs each
CHECKPOINT_BYTES: Final = 24 * 2**20  # in a partition: more makes no event cheaper, but takes memory, 3 µs a new page
COLLECT_S: Final = 10.0  # between collections of garbage while nothing is read; and whatever is
COLLECT_AT_LAST_S: Final = 300.0
RETRY_S: Final = 5.0  # between tries to reach a storage that failed
RELOAD_S: Final = 5.0  # between looks at the flag files
RECHECK_S: Final = 60.0  # between looks at topic IDs, partition counts and the group's lake

_SHARES: Final = 2  # of what a partition may hold: one is read, and one in the checkpoint under way
_NEVER: Final = 2**62  # monotonic µs

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended: the partitions that a breaker stopped."""

    stopped: tuple[int, ...]


@dataclass(slots=True)
class _Owned:
    """A partition that is assigned to this worker.

    `base` is its newest manifest, `ends` the end offsets of the start by topic, as fetches tell them. `closed_at`,
    `close_took` and `compact_at` are monotonic µs. `running` is the checkpoint or compaction under way, `urgent` asks
    for a checkpoint now. `lost`: it is no longer assigned. `observed` is by topic. `freezing` is the monotonic time of
    the oldest news in the checkpoint under way, `frozen` how many events and bytes it has, `trouble` what keeps it from
    becoming durable.
    """

    partition: Partition
    base: Manifest
    closed_at: int
    observed: dict[str, Observed]
    compact_at: int
    ends: dict[str, int] = field(default_factory=dict)
    close_took: int = 0
    running: asyncio.Task[None] | None = None
    urgent: bool = False
    lost: bool = False
    freezing: int | None = None
    frozen: tuple[int, int] = (0, 0)
    trouble: str = ""

    def snapshot(self, mono: int, letters: str) -> PartitionSnapshot:
        """Return how things are with the partition; `letters` tells what keeps dead letters from their topics."""
        partition, base = self.partition, self.base
        committed = {topic.name: topic.next_offset for topic in base.topics.values()}
        files = (*base.segments, *base.residue)
        return PartitionSnapshot(
            number=partition.number,
            seq=base.seq,
            topics={
                topic: TopicSnapshot(
                    next_offset=partition.next_offsets[topic],
                    committed=committed[topic],
                    end=observed.end,
                    record_time=observed.record_time,
                    silent_for=mono - observed.heard_at,
                )
                for topic, observed in self.observed.items()
            },
            watermark=partition.advance(mono),
            closed_through=base.closed_through,
            buffered_rows=partition.buffered_rows,
            buffered_bytes=partition.buffered_bytes,
            open_events=base.open_events,
            state_bytes=sum(file.size for file in files),
            waiting_for=partition.age(mono) if self.freezing is None else mono - self.freezing,
            trouble=self.trouble or letters,
            stopped=partition.stopped,
        )

    @property
    def held(self) -> tuple[int, int]:
        """Return how many events it holds in memory, and their bytes."""
        rows, size = self.frozen
        return self.partition.buffered_rows + rows, self.partition.buffered_bytes + size

    @property
    def knows_ends(self) -> bool:
        """Whether a fetch told the end of each topic; of a partition that is stopped, none will."""
        return self.partition.stopped is not None or len(self.ends) == len(self.base.topics)


class Worker:
    """One process that owns some partitions of the group, until it is told to stop or has nothing left to read."""

    def __init__(  # noqa: PLR0913 - how it ends, and what tests put in the place of disk and death
        self,
        settings: Settings,
        *,
        stop_at_end: bool = False,
        close_windows: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
        storage: Storage | None = None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Read the contracts and open the lake and the topics; raises what is wrong with any of them.

        `stop_at_end` reads to the end offsets of the start and ends; `close_windows` then decides all that is open.
        `progress` hears how many offsets are read, of how many. `storage` is the lake's directory unless given;
        `on_step` is told each step of a checkpoint or a compaction as it begins (`checkpoint.STEPS`,
        `compaction.COMPACTION_STEPS`).
        """
        self._settings = settings
        self._stop_at_end = stop_at_end
        self._close_windows = close_windows
        self._progress = progress
        self._kinds: dict[str, Kind] = dict(zip(settings.topics, KINDS, strict=True))
        self._flags = FlagDirectory(settings.flags)
        self._storage = storage or LocalStorage(settings.lake)
        book = self._flags.read()
        states = topic_states(settings)
        self._lake_id = open_lake(self._storage, lambda: uuid4().hex)
        check_group(settings, self._lake_id, partition_count(states))
        self._writer = uuid4().hex[:8]
        self._attempts = 0
        self._giving_up = threading.Event()
        self._scratch = TemporaryDirectory(prefix="evidence-")
        self._outbox = Outbox(settings.librdkafka())
        self._room = Room(settings.lake)
        self._metrics = Metrics(
            settings.topics,
            self.snapshot,
            lambda worker: not reasons(worker, settings.checkpoint_interval),
            lambda: self._room.free,
        )
        self._tracing = tracing(VERSION)
        self._checkpointer = Checkpointer(
            self._storage,
            send=self._send,
            flush=lambda: self._outbox.flush(self._giving_up.is_set),
            clock=_now,
            new_id=self._new_id,
            allowed_lateness=settings.allowed_lateness,
            memory_limit=settings.memory_limit,
            temp_directory=self._scratch.name,
            on_step=_both(on_step, self._tracing.step),
            on_close=self._metrics.published,
        )
        self._compactor = Compactor(
            self._storage,
            clock=_now,
            new_id=self._new_id,
            memory_limit=settings.memory_limit,
            temp_directory=self._scratch.name,
            on_step=on_step,
        )
        self._decoder = self._decoder_of(book)
        self._rules = Rules(
            sender=Sender(settings.group, VERSION),
            partitions=partition_count(states),
            reroute=settings.reroute,
            breaker=Limits(settings.breaker_share, settings.breaker_minimum, settings.breaker_in_a_row),
            out_of_orderness=settings.out_of_orderness,
            idle_timeout=settings.idle_timeout,
        )
        self._owned: dict[int, _Owned] = {}
        self._copies: dict[tuple[str, int], int] = {}  # next offset behind the last rerouted copy of this run
        self._compact_at = 0  # no compaction before, monotonic µs
        self._busy_at = self._collected_at = _mono()  # when something was read last; garbage collected
        self._assigned = False
        self._fault: BaseException | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._turn = asyncio.Lock()  # to decode records, or to make a checkpoint

    # the life of the process

    async def run(self) -> Ended:
        """Work until SIGTERM, SIGINT, the end of input or a fault; the last checkpoint is done when this returns.

        Raises the fault. Whatever happened, nothing is lost: the next worker goes on from the newest manifests.
        """
        loop = asyncio.get_running_loop()
        # Automatic collections walk every record that waits in a queue, 1.5 µs an event: see _collect.
        gc.freeze()
        gc.disable()
        self._stop: asyncio.Future[None] = loop.create_future()
        self._recovering = asyncio.Lock()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, None)
        self._app = make_app(self._settings, self._next_offsets, self._scratch.name)
        topic = self._app.topic(*self._kinds, acks=False)
        self._app.agent(topic, name="evidence.read")(self._read)
        self._app.on_rebalance_complete.connect(self._rebalanced, weak=False)
        if self._app.conf.web_enabled:
            add_pages(self._app, self._metrics, self._reasons, self._room)
        started = False
        try:
            try:
                await self._app.start()
            except KafkaConnectionError as error:
                raise KafkaUnavailable(f"the brokers went away at the start: {error}; start again") from error
            started = True
            ticking = asyncio.ensure_future(self._guard(self._tick_for_ever))
            try:
                await self._stop
            finally:
                ticking.cancel()
            await self._last_checkpoints()
            if self._fault is not None:
                raise self._fault
            return Ended(stopped=tuple(sorted(n for n, owned in self._owned.items() if owned.partition.stopped)))
        finally:
            self._giving_up.set()
            if started:
                await self._app.stop()
            self._pool.shutdown(wait=True)
            self._outbox.close()
            self._tracing.close()
            self._scratch.cleanup()
            gc.enable()
            gc.unfreeze()

    def _end(self, fault: BaseException | None) -> None:
        self._fault = self._fault or fault
        if self._stop.done():
            self._giving_up.set()  # asked twice: do not wait for brokers either
            return
        if fault is None:
            log.info("stopping: a last checkpoint of %d partitions", len(self._owned))
        self._stop.set_result(None)

    async def _guard(
        self,
        work: Callable[..., Awaitable[_T]],
        *arguments: Any,  # noqa: ANN401 - those of `work`
        **options: Any,  # noqa: ANN401
    ) -> _T | None:
        """Do `work`; a fault in it ends the worker instead of an agent, which Faust would start again."""
        try:
            return await work(*arguments, **options)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it ends the process and is said there
            self._end(fault)
            return None

    # assignment

    async def _next_offsets(self, assigned: set[TP]) -> Mapping[TP, int]:
        """Recover the partitions that came, drop those that went; Faust seeks to what this returns."""
        return await self._guard(self._take_over, assigned) or {}

    async def _take_over(self, assigned: set[TP]) -> Mapping[TP, int]:
        async with self._recovering:
            numbers = {tp.partition for tp in assigned if tp.topic in self._kinds}
            for number in self._owned.keys() - numbers:
                log.info("partition %d: given up", number)
                self._owned.pop(number).lost = True
            states = await asyncio.to_thread(topic_states, self._settings)
            partition_count(states)
            for owned in self._owned.values():  # a topic made again looks like a torn assignment
                check_continuity(owned.base, states, self._lake_id)
            torn = {n for n in numbers if any(TP(topic, n) not in assigned for topic in self._kinds)}
            if torn:
                raise TopicsUnfit(
                    f"partitions {sorted(torn)} of {', '.join(self._kinds)} went to different workers; "
                    "see that all workers of the group run this software"
                )
            lacking = sorted(numbers)
            while lacking:
                for number in lacking:
                    await self._own(number, states)
                lacking = sorted(numbers - self._owned.keys())  # fenced while the others were recovered
            self._assigned = True
            return {
                TP(topic, n): self._owned[n].partition.next_offsets[topic] for n in numbers for topic in self._kinds
            }

    async def _rebalanced(self, *_: object, **__: object) -> None:
        """Take note of an empty assignment, for which Faust seeks nothing."""
        if not self._app.consumer.assignment():
            await self._guard(self._take_over, set())

    async def _own(self, number: int, states: Mapping[str, TopicState]) -> None:
        """Make sure that the partition goes on from its newest manifest, or from what was read since."""
        manifest = await asyncio.to_thread(self._checkpointer.recover, number)
        owned = self._owned.get(number)
        if owned is not None and (manifest is None or manifest.seq <= owned.base.seq or owned.running is not None):
            return
        if manifest is None:
            other = await asyncio.to_thread(self._any_manifest)
            if other is not None:  # the lake may know topics without this partition, or of another ID
                check_continuity(other, states, self._lake_id)
            manifest = genesis(
                partition=number,
                lake_id=self._lake_id,
                group=self._settings.group,
                version=VERSION,
                topics={self._kinds[topic]: beginning(topic, state, number) for topic, state in states.items()},
            )
        check_continuity(manifest, states, self._lake_id)
        self._owned[number] = _Owned(
            partition=Partition(
                number,
                self._kinds,
                {topic.name: topic.next_offset for topic in manifest.topics.values()},
                manifest,
                replace(self._rules, partitions=partition_count(states)),
                self._decoder,
                self._send,
            ),
            base=manifest,
            closed_at=_mono(),
            observed={topic: Observed(state.end[number], _mono()) for topic, state in states.items()},
            compact_at=_mono() + self._settings.compact_interval,
        )
        log.info("partition %d: going on from checkpoint %d", number, manifest.seq)
        if manifest.stopped is not None:
            self._say_stopped(number, manifest.stopped)

    def _any_manifest(self) -> Manifest | None:
        return next(filter(None, (lineage.newest() for lineage in lineages(self._storage))), None)

    async def _restart(self, number: int, owned: _Owned) -> None:
        """Drop what was read since the newest manifest, and read it again."""
        if self._owned.get(number) is not owned:
            return
        del self._owned[number]
        states = await asyncio.to_thread(topic_states, self._settings)
        async with self._recovering:
            if not any(tp.partition == number for tp in self._app.consumer.assignment()):
                return
            await self._own(number, states)
        again = self._owned[number].partition.next_offsets
        await self._app.consumer.rewind({TP(topic, number): offset for topic, offset in again.items()})

    # reading

    async def _read(self, stream: StreamT[Any]) -> None:
        async for event in stream.events():
            message = event.message
            await self._guard(self._take, message.tp, message.value)

    async def _take(self, tp: TP, fetch: Fetch) -> None:
        owned = self._owned.get(tp.partition)
        if owned is None or self._stop.done() or owned.partition.stopped is not None:
            return
        if fetch.lost:
            await self._lost(owned, tp, fetch)
            return
        await self._accept(owned, tp, fetch)
        if self._owned.get(tp.partition) is owned and owned.partition.stopped is not None:
            self._say_stopped(tp.partition, owned.partition.stopped)
            owned.urgent = True

    async def _accept(self, owned: _Owned, tp: TP, fetch: Fetch) -> None:
        """Let the partition take the news part by part; the loop has other work in between."""
        partition = owned.partition
        owned.ends.setdefault(tp.topic, fetch.end)
        for part in fetch.parts(DECODED_AT_A_TIME):
            await self._wait_for_room()
            async with self._turn:
                if self._owned.get(tp.partition) is not owned or partition.stopped is not None:
                    return
                owned.observed[tp.topic].take(part, _mono())
                before = partition.next_offsets[tp.topic]
                goes_on = partition.accept(tp.topic, part, _now(), _mono())
            if not goes_on:
                await self._app.consumer.rewind({tp: before})
                return
            self._busy_at = _mono()
            if partition.next_offsets[tp.topic] > before:  # else leftovers of an earlier position
                self._metrics.read(tp.topic, len(part.records))
            del part  # before the next one is unpacked, which then takes its memory

    async def _wait_for_room(self) -> None:
        """Let the loop do other work, and wait while partitions hold as much as they may."""
        await asyncio.sleep(0)
        while self._over_bound() and not self._stop.done():
            for each in self._owned.values():
                each.urgent = True
            await asyncio.sleep(TICK_S)

    async def _lost(self, owned: _Owned, tp: TP, fetch: Fetch) -> None:
        """Raise OffsetsLost if the topic does not hold the offset; else read again: a replica lagged behind."""
        next_offset = owned.partition.next_offsets[tp.topic]
        if fetch.start == next_offset:  # else it was asked for before it was sought
            state = (await asyncio.to_thread(topic_states, self._settings))[tp.topic]
            first, end = state.first[tp.partition], state.end[tp.partition]
            if not first <= next_offset <= end:
                raise lost_offsets(tp.topic, tp.partition, next_offset, first, end)
        await self._app.consumer.rewind({tp: next_offset})

    def _over_bound(self) -> bool:
        held = [owned.held for owned in self._owned.values()]
        rows, size = sum(rows for rows, _ in held), sum(size for _, size in held)
        return rows >= self._settings.max_buffered_rows or size >= self._most_bytes

    @property
    def _most_bytes(self) -> int:
        """Return how many bytes of events the partitions may hold together."""
        return min(self._settings.max_buffered_bytes, _SHARES * max(len(self._owned), 1) * CHECKPOINT_BYTES)

    def _send(self, letter: Letter) -> None:
        if letter.topic in self._kinds:  # a rerouted copy, which --stop-at-end has to read too
            letter = replace(
                letter, acknowledged=lambda partition, offset: self._copied(letter.topic, partition, offset)
            )
        else:
            source = letter.topic.removesuffix(DLQ_SUFFIX)
            letter = replace(letter, acknowledged=lambda *_: self._metrics.took_letter(source))
        self._outbox.send(letter)

    def _copied(self, topic: str, partition: int, offset: int) -> None:
        self._copies[topic, partition] = max(self._copies.get((topic, partition), 0), offset + 1)

    # checkpoints

    async def _tick_for_ever(self) -> None:
        reload_at = recheck_at = _mono()
        while True:
            await asyncio.sleep(TICK_S)
            if self._app.crashed:
                raise EvidenceError(f"the consumer ended: {self._app.crash_reason}; see the log, and start again")
            mono = _mono()
            for number, owned in list(self._owned.items()):
                self._consider(number, owned, mono)
            if mono - reload_at >= RELOAD_S * 1_000_000:
                reload_at = mono
                await self._reload()
                await self._look_for_resumed()
            if mono - recheck_at >= RECHECK_S * 1_000_000:
                recheck_at = mono
                await self._recheck()
            self._collect(mono)
            if self._stop_at_end and await self._all_read():
                self._end(None)
                return

    def _collect(self, mono: int) -> None:
        """Collect garbage once in a while, when nothing is read: with fetches in the queues it takes 0.3 s."""
        idle = mono - self._busy_at >= TICK_S * 1_000_000
        if mono - self._collected_at >= (COLLECT_S if idle else COLLECT_AT_LAST_S) * 1_000_000:
            gc.collect()
            self._collected_at = mono

    def _consider(self, number: int, owned: _Owned, mono: int) -> None:
        """Start the partition's next checkpoint if one is due and none is under way."""
        partition, settings = owned.partition, self._settings
        watermark = partition.advance(mono)
        if owned.running is not None or owned.base.stopped is not None:
            return
        close = close_is_due(
            owned.base,
            watermark,
            buffered=partition.buffered_rows,
            waited=mono - owned.closed_at,
            took=owned.close_took,
            interval=settings.close_interval,
            due_rows=settings.close_rows,
            lateness=settings.allowed_lateness,
        )
        share = _SHARES * len(self._owned)
        full = (
            partition.buffered_rows * share >= settings.max_buffered_rows
            or partition.buffered_bytes * share >= self._most_bytes
        )
        if close or full or owned.urgent or partition.age(mono) >= settings.checkpoint_interval:
            owned.running = asyncio.ensure_future(self._guard(self._checkpoint, number, owned, close=close))
        elif settings.compact_interval and mono >= max(owned.compact_at, self._compact_at):
            self._compact_at = _NEVER  # until this one is done
            owned.running = asyncio.ensure_future(self._guard(self._compact, number, owned))

    async def _checkpoint(self, number: int, owned: _Owned, *, close: bool, everything: bool = False) -> None:
        owned.urgent = False
        began = _mono()
        owned.freezing = began - owned.partition.age(began)
        owned.frozen = owned.partition.buffered_rows, owned.partition.buffered_bytes
        frozen = owned.partition.freeze(began)
        misplaced, owned.partition.misplaced = owned.partition.misplaced, {}
        owned.partition.decoder = self._decoder  # contracts change at a freeze and nowhere else
        through = frozen.watermark if close else None
        try:
            if everything:
                deadline = await self._in_turn(self._checkpointer.deadline, owned.base, frozen)
                through = max((time for time in (through, deadline) if time is not None), default=None)
            base, owned.base = owned.base, await self._durable(owned, frozen, through)
        except Fenced as fenced:
            log.warning("%s", fenced)
            self._metrics.fenced()
            owned.running = None
            if not self._stop.done():
                await self._restart(number, owned)
            return
        finally:
            owned.running, owned.freezing, owned.frozen = None, None, (0, 0)
        self._metrics.committed(base, owned.base, frozen, misplaced, (_mono() - began) / 1_000_000)
        if through is not None:
            owned.closed_at, owned.close_took = _mono(), _mono() - began
            owned.partition.closed_through(through)
        log.info(
            "partition %d: checkpoint %d, %d events read%s, %.1f s",
            number,
            owned.base.seq,
            frozen.rows,
            "" if through is None else f", closed through {format_time(through)}",
            (_mono() - began) / 1_000_000,
        )
        if not owned.lost:
            await self._tell(number, frozen)

    async def _compact(self, number: int, owned: _Owned) -> None:
        """Merge small files of past days, one partition at a time, and in a tenth of the time at most."""
        began = _mono()
        owned.compact_at = began + self._settings.compact_interval
        try:
            manifest = await self._in_pool(self._compactor.compact, owned.base)
        except Fenced as fenced:
            log.warning("%s", fenced)
            self._metrics.fenced()
            owned.running = None
            if not self._stop.done():
                await self._restart(number, owned)
            return
        except (DamagedFile, StorageUnavailable) as error:
            log.error("partition %d: not compacted, trying again later: %s", number, error)  # noqa: TRY400
            manifest = await self._newest(number)  # it may be committed all the same
            if manifest is not None and manifest.seq > owned.base.seq and manifest.writer.startswith(self._writer):
                owned.base = manifest
            return
        finally:
            owned.running = None
            self._compact_at = _mono() + PAUSE_FACTOR * (_mono() - began)
        if manifest is not None:
            owned.base = manifest
            owned.compact_at = 0  # there may be more
            log.info(
                "partition %d: checkpoint %d, %d files became %d, %.1f s",
                number,
                manifest.seq,
                len(manifest.replaced),
                len(manifest.unpublished()),
                (_mono() - began) / 1_000_000,
            )

    async def _durable(self, owned: _Owned, frozen: Frozen, through: int | None) -> Manifest:
        """Make the checkpoint, as often as the storage needs; the events stay in memory meanwhile."""
        number, base = owned.partition.number, owned.base
        while True:
            try:
                made = await self._in_turn(self._traced, base, frozen, through)
            except StorageUnavailable as error:
                owned.trouble = str(error)
                self._metrics.storage_failed()
                newest = await self._newest(number)
                if newest is not None and newest.seq > base.seq:
                    if newest.seq == base.seq + 1 and newest.writer.startswith(self._writer):
                        return newest  # the commit that failed half-way
                    raise Fenced(
                        f"partition {number}: another writer has committed {newest.seq}; going on from there"
                    ) from error
                if self._stop.done():
                    raise
                log.error("partition %d: %s; trying again in %g s", number, error, RETRY_S)  # noqa: TRY400
            else:
                owned.trouble = ""
                return made
            await asyncio.sleep(RETRY_S)

    def _traced(self, base: Manifest, frozen: Frozen, through: int | None) -> Manifest:
        with self._tracing.checkpoint(base.partition, base.seq + 1, frozen.rows, close=through is not None):
            return self._checkpointer.checkpoint(base, frozen, through)

    async def _newest(self, number: int) -> Manifest | None:
        with suppress(StorageUnavailable):
            return await asyncio.to_thread(self._checkpointer.recover, number)
        return None

    async def _tell(self, number: int, frozen: Frozen) -> None:
        """Tell Kafka the offsets (step 7); nothing rests on it."""
        offsets = {TP(topic, number): offset for topic, offset in frozen.next_offsets.items()}
        try:
            await self._app.consumer.tell(offsets, lake_mark(self._lake_id))
        except Exception as error:  # noqa: BLE001 - a rebalance or outage; the next checkpoint tells it again
            log.info("partition %d: offsets not told to the group: %s", number, error)

    async def _last_checkpoints(self) -> None:
        for number, owned in sorted(self._owned.items()):
            if owned.running is not None:
                await owned.running
            if self._fault is not None:
                return  # what did not become durable must not be passed over
            if self._owned.get(number) is owned and (self._stop_at_end or owned.partition.age(_mono())):
                await self._checkpoint(number, owned, close=self._stop_at_end, everything=self._close_windows)

    # the end of input

    async def _all_read(self) -> bool:
        """Return whether every offset that was there at the start is read, and the copies made since."""
        if not self._assigned or self._app.rebalancing:
            return False
        if any(owned.running or not owned.knows_ends for owned in self._owned.values()):
            return False
        left = self._left()
        if left or not self._owned:
            return not left
        await self._in_pool(self._outbox.flush, self._stop.done)
        if self._left():  # copies
            return False
        for owned in self._owned.values():
            owned.partition.end(self._goals(owned), _mono())
        return True

    def _left(self) -> int:
        done = total = 0
        for owned in self._owned.values():
            if owned.partition.stopped is None:
                for topic, goal in self._goals(owned).items():
                    total += goal
                    done += min(owned.partition.next_offsets[topic], goal)
        self._progress(done, total)
        return total - done

    def _goals(self, owned: _Owned) -> dict[str, int]:
        number = owned.partition.number
        return {topic: max(end, self._copies.get((topic, number), 0)) for topic, end in owned.ends.items()}

    # health

    def snapshot(self) -> WorkerSnapshot:
        """Return how things are; call it in the worker's loop."""
        mono = _mono()
        unacknowledged, seconds = self._outbox.waiting()
        return WorkerSnapshot(
            now=_now(),
            assigned=self._assigned,
            full=self._over_bound(),
            unacknowledged=unacknowledged,
            unacknowledged_for=round(seconds * 1_000_000),
            topic_partitions=self._rules.partitions,
            partitions=tuple(owned.snapshot(mono, self._outbox.trouble) for _, owned in sorted(self._owned.items())),
        )

    def _reasons(self) -> list[Reason]:
        return reasons(self.snapshot(), self._settings.checkpoint_interval)

    # what changes while running

    def _decoder_of(self, book: ContractBook) -> Decoder:
        for contract in book:
            self._checkpointer.keep_contract(contract)
        return Decoder(book, max_value_bytes=self._settings.max_value_bytes, max_future_us=self._settings.max_future)

    async def _reload(self) -> None:
        book = await asyncio.to_thread(self._flags.changed)
        if book is not None:
            self._decoder = self._decoder_of(book)
            for owned in self._owned.values():
                owned.urgent = True

    async def _recheck(self) -> None:
        try:
            states = await asyncio.to_thread(topic_states, self._settings)
        except KafkaUnavailable:
            return  # an outage; the consumer waits for its end
        for number, owned in self._owned.items():
            check_continuity(owned.base, states, self._lake_id)
            for topic, observed in owned.observed.items():  # nothing is fetched of a partition that is stopped
                observed.end = max(observed.end, states[topic].end[number])

    async def _look_for_resumed(self) -> None:
        for number, owned in list(self._owned.items()):
            if owned.base.stopped is not None and owned.running is None:
                newest = await asyncio.to_thread(self._checkpointer.recover, number)
                if newest is not None and newest.seq > owned.base.seq:
                    log.info("partition %d: resumed", number)
                    await self._restart(number, owned)
                    self._app.consumer.resume_partitions({TP(topic, number) for topic in self._kinds})

    def _say_stopped(self, number: int, stopped: Stopped) -> None:
        self._app.consumer.pause_partitions({TP(topic, number) for topic in self._kinds})
        log.error(
            "partition %d: stopped at %s, %s; see its dead letters, mend the producer, then run: evidence resume",
            number,
            stopped.topic,
            stopped.reason,
        )

    def _new_id(self) -> str:
        self._attempts += 1
        return f"{self._writer}{self._attempts:x}"

    async def _in_turn(self, work: Callable[..., _T], *arguments: Any) -> _T:  # noqa: ANN401
        async with self._turn:
            return await self._in_pool(work, *arguments)

    async def _in_pool(self, work: Callable[..., _T], *arguments: Any) -> _T:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)


def _both(first: Callable[[str], None], second: Callable[[str], None]) -> Callable[[str], None]:
    def call(step: str) -> None:
        first(step)
        second(step)

    return call


def _now() -> int:
    return time.time_ns() // 1000


def _mono() -> int:
    return time.monotonic_ns() // 1000
