"""The thread that empties a queue of events into an idempotent producer.

The producer belongs to the frame of its thread. A forked child has no such thread: it can neither use its parent's
producer nor destroy it, which would wait for threads that are not there.
"""

import logging
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Record

from evidence_client.counts import REPORT_S, DropReason, Ledger
from evidence_client.events import Kind, Message

__all__ = ["STOP", "Item", "Sender"]

log = logging.getLogger("evidence_client")

POLL_S: Final = 0.01  # how long it listens for acknowledgements before it looks for new events
BATCH: Final = 100  # events handed over between two such times: 0.3 ms in which other threads may have to wait
PURGE_S: Final = 0.5  # to hear of what was purged, which takes 10 ms

STOP: Final = "stop"
Item = Message | str | None
"""What is in the queue: events; None, which only wakes the thread; STOP, the last of all."""

REASONS: Final[Mapping[int, DropReason]] = {
    KafkaError._MSG_TIMED_OUT: "timed_out",  # noqa: SLF001  # so librdkafka names its own errors
    KafkaError._PURGE_QUEUE: "unsent",  # noqa: SLF001
    KafkaError._PURGE_INFLIGHT: "unsent",  # noqa: SLF001
    KafkaError.MSG_SIZE_TOO_LARGE: "too_large",
}


class Sender:
    """Sends events that the ledger has admitted, and counts there what becomes of each."""

    def __init__(
        self,
        queue: "SimpleQueue[Item]",
        topics: Mapping[Kind, str],
        ledger: Ledger,
        make_producer: Callable[[], Producer],
    ) -> None:
        """Bind what `run` needs; the producer is made for the first event."""
        self._queue, self._topics, self._ledger, self._make_producer = queue, topics, ledger, make_producer
        self._producer: Producer | None = None
        self._in_flight = 0  # with the producer, and not heard of yet

    def run(self) -> None:
        """Send what is queued until STOP; then drop what is not acknowledged."""
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Send some events, listen, report losses; return whether to go on."""
        try:
            return self._round()
        except Exception:
            log.exception("a fault in the thread that sends events; it goes on")
            return True

    def _round(self) -> bool:
        patience = 0.0
        for _ in range(BATCH):
            try:  # wait only while there is nothing to listen for
                item = self._queue.get_nowait() if self._in_flight else self._queue.get(timeout=REPORT_S)
            except Empty:
                patience = POLL_S
                break
            if item is None:
                break
            if not isinstance(item, Message):
                self._end()
                return False
            self._send(item)
        if self._producer is not None:
            self._producer.poll(patience if self._in_flight else 0)
        self._ledger.report()
        return True

    def _send(self, message: Message) -> None:
        try:
            self._produce(message)
        except BufferError:
            self._ledger.fail(message.size, "queue_full", "librdkafka's queue is full")
        except KafkaException as refusal:
            error = refusal.args[0]
            self._ledger.fail(message.size, REASONS.get(error.code(), "delivery_failed"), error.str())
        except Exception as fault:
            log.exception("an event could not be handed to the producer")
            self._ledger.fail(message.size, "internal", type(fault).__name__)

    def _produce(self, message: Message) -> None:
        if self._producer is None:
            self._producer = self._make_producer()
        try:
            self._hand_over(self._producer, message)
        except KafkaException as refusal:
            if not refusal.args[0].fatal():
                raise
            log.error("the producer has failed for good, another takes its place: %s", refusal.args[0].str())  # noqa: TRY400
            self._purge()
            self._producer = self._make_producer()
            self._hand_over(self._producer, message)

    def _hand_over(self, producer: Producer, message: Message) -> None:
        producer.produce(self._topics[message.kind], key=message.key, value=message.value, on_delivery=self._delivered)
        self._in_flight += 1

    def _delivered(self, error: KafkaError | None, record: Record) -> None:
        self._in_flight -= 1
        size = len(record.key() or b"") + len(record.value() or b"")
        if error is None:
            self._ledger.acknowledge(size)
        else:
            reason = REASONS.get(error.code(), "delivery_failed")
            self._ledger.fail(size, reason, f"{record.topic()}: {error.str()}")

    def _purge(self) -> None:
        """Give up what the producer holds, and hear of it."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(PURGE_S)

    def _end(self) -> None:
        self._purge()
        self._ledger.report(at_once=True)
