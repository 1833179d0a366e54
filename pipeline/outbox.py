"""What a worker sends to Kafka: dead letters and rerouted copies, each kept until a broker acknowledged it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Message, Producer

from contracts.errors import KafkaUnavailable

__all__ = ["Letter", "Outbox"]

log = logging.getLogger(__name__)

# A refused send is tried again after this long: the topic may be missing, or its rights be under repair.
RETRY_S: Final = 1.0

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Letter:
    """One record to send. `timestamp` is its record time in milliseconds.

    `shrunk` gives the same record in fewer bytes, for a broker that finds it too large; None where there is no such.
    `acknowledged` is told partition and offset.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    shrunk: Callable[[], "Letter"] | None = None
    acknowledged: Callable[[int, int], None] | None = None


class Outbox:
    """An idempotent producer that gives up on nothing; safe to use from several threads.

    `send` blocks only while its queue is full. `flush` returns when everything that was sent before is acknowledged.
    A letter that the broker refuses is tried again until it passes, so that nothing goes by it.
    """

    def __init__(self, configuration: Mapping[str, str | int]) -> None:
        """Make the producer, which connects in the background; `configuration` is librdkafka's."""
        self._producer = Producer(
            {
                **configuration,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 20,
                "compression.type": "zstd",
                # the broker, not the client, says what is too large
                "message.max.bytes": 1_000_000_000,
                # a letter waits for its broker as long as that takes
                "message.timeout.ms": 0,
                # a missing topic is said after this long (30 s otherwise), and asked for again
                "topic.metadata.propagation.max.ms": 5_000,
            },
            logger=log,
        )
        self._refused: deque[tuple[Letter, str]] = deque()
        self._lock = threading.Lock()
        self._unacknowledged = 0

    def send(self, letter: Letter) -> None:
        """Hand over one record; it is on its way, not there, when this returns."""
        with self._lock:
            self._unacknowledged += 1
        self._produce(letter)
        self._producer.poll(0)

    def flush(self, give_up: Callable[[], bool]) -> None:
        """Block until all that was sent is acknowledged.

        Raises KafkaUnavailable once `give_up()` is true while something is not: it may or may not be in the topic.
        """
        last_said = ""
        while True:
            self._producer.flush(RETRY_S)
            with self._lock:
                refused, self._refused = self._refused, deque()
                if not refused and not self._unacknowledged:
                    return
            if refused and refused[0][1] != last_said:
                last_said = refused[0][1]
                log.error("%s; nothing passes it until it is taken", last_said)
            if give_up():
                with self._lock:
                    self._refused.extendleft(reversed(refused))
                raise KafkaUnavailable(
                    f"{len(refused) or self._unacknowledged} dead letters or copies are not acknowledged "
                    f"({last_said or 'no answer'}); bring the brokers or topics back and start again"
                )
            if refused:
                time.sleep(RETRY_S)
                for letter, _ in refused:
                    self._produce(letter)

    def close(self) -> None:
        """Drop what is not acknowledged and end the producer's threads."""
        self._producer.purge()
        self._producer.flush(1)

    def _produce(self, letter: Letter) -> None:
        def delivered(error: ClientError | None, message: Message) -> None:
            self._delivered(letter, error, message)

        while True:
            try:
                self._producer.produce(
                    letter.topic,
                    value=letter.value,
                    key=letter.key,
                    partition=letter.partition,
                    headers=list(letter.headers),
                    timestamp=letter.timestamp,
                    on_delivery=delivered,
                )
            except BufferError:  # the queue is full: wait for the broker to take some
                self._producer.poll(0.1)
            except KafkaException as refusal:
                self._refuse(letter, refusal.args[0])
                return
            else:
                return

    def _delivered(self, letter: Letter, error: ClientError | None, message: Message) -> None:
        if error is not None:
            self._refuse(letter, error)
            return
        with self._lock:
            self._unacknowledged -= 1
        if letter.acknowledged is not None:
            letter.acknowledged(message.partition(), message.offset())

    def _refuse(self, letter: Letter, error: ClientError) -> None:
        if error.code() == ClientError.MSG_SIZE_TOO_LARGE and letter.shrunk is not None:
            letter = letter.shrunk()
        with self._lock:
            self._refused.append((letter, f"{letter.topic} [{letter.partition}] refuses a record: {error.str()}"))
