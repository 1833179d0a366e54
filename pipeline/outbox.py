"""What a worker sends to Kafka: dead letters and rerouted copies, each kept until a broker acknowledged it."""

import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Message, Producer

from contracts.errors import KafkaUnavailable

__all__ = ["RELIABLE", "Letter", "Outbox"]

log = logging.getLogger(__name__)

RELIABLE: Final[Mapping[str, str | int | bool]] = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # as Java clients place keys
    # With more requests under way, librdkafka (2.16) counts a batch that was refused as acknowledged once the next one
    # is: of 260 runs that wrote to topics just made, 12 lost a record or two. See tests/test_acknowledged.py.
    "max.in.flight": 1,
}
"""What a producer of librdkafka needs so that whatever it acknowledges is there, once, and where Java puts it."""

# A refused send is tried again after this long: the topic may be missing, or its rights be under repair.
RETRY_S: Final = 1.0

# How long to wait for the next acknowledgement before a look at whether to give up.
POLL_S: Final = 0.1

# After a broker found a time wrong, no letter goes with this machine's time for so long: one that is refused takes its
# whole batch with it, and each batch would have one.
DISTRUST_S: Final = 60.0

# Brokers that are silent for this long are worth a line in the log.
SILENCE_S: Final = 10.0

# How a broker refuses a batch: all of its times are wrong, or some.
_WRONG_TIME: Final = {ClientError.INVALID_TIMESTAMP, ClientError.INVALID_RECORD}

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Letter:
    """One record to send. `timestamp` is its record time in milliseconds.

    `shrunk` gives the same record in fewer bytes, for a broker that finds it too large; `other_timestamp` stands in for
    one that it finds wrong, as when this machine's clock is. None where there is no such.
    `acknowledged` is told partition and offset.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    shrunk: Callable[[], "Letter"] | None = None
    other_timestamp: int | None = None
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
                **RELIABLE,
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
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Letter] = {}  # by number, so the first is the oldest
        self._sent_at: dict[int, float] = {}  # monotonic, of the same
        self._mended: deque[int] = deque()  # refused, and not the same any more
        self._refused: deque[tuple[int, str]] = deque()
        self._clock_trusted_at = 0.0  # monotonic

    def send(self, letter: Letter) -> None:
        """Hand over one record; it is on its way, not there, when this returns."""
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = letter
            self._sent_at[number] = time.monotonic()
        self._produce(number)
        self._producer.poll(0)

    def waiting(self) -> tuple[int, float]:
        """Return how many records no broker has taken yet, and for how many seconds the oldest of them waits."""
        self._producer.poll(0)  # or what was acknowledged meanwhile would be heard of at the next letter only
        with self._lock:
            since = next(iter(self._sent_at.values()), None)
            return len(self._sent_at), 0.0 if since is None else time.monotonic() - since

    @property
    def trouble(self) -> str:
        """What is known of why records wait; empty where none does."""
        with self._lock:
            waiting, why = len(self._waiting), self._refused[0][1] if self._refused else "no answer from their brokers"
        return f"{waiting} dead letters or copies are not acknowledged: {why}" if waiting else ""

    def flush(self, give_up: Callable[[], bool]) -> None:
        """Block until all that was sent before this call is acknowledged, whatever is sent meanwhile.

        Raises KafkaUnavailable once `give_up()` is true while something is not: it may or may not be in the topic.
        """
        last, last_said = next(self._numbers), ""
        silent_at = time.monotonic() + SILENCE_S
        while self._oldest(last) < last:
            if self._producer.poll(POLL_S):
                silent_at = time.monotonic() + SILENCE_S
            elif time.monotonic() >= silent_at:
                silent_at = math.inf
                log.warning("%d dead letters or copies wait for their brokers; nothing passes them", len(self._waiting))
            self._send_mended()
            with self._lock:
                refused = [*self._refused]
            if refused and refused[0][1] != last_said:
                last_said = refused[0][1]
                log.error("%s; nothing passes it until it is taken", last_said)
            if give_up():
                raise KafkaUnavailable(
                    f"{len(self._waiting)} dead letters or copies are not acknowledged "
                    f"({last_said or 'no answer'}); bring the brokers or topics back and start again"
                )
            if refused:
                time.sleep(RETRY_S)
                for number, _ in refused:
                    with self._lock:
                        self._refused.popleft()
                    self._produce(number)

    def close(self) -> None:
        """Drop what is not acknowledged and end the producer's threads."""
        self._producer.purge()
        self._producer.flush(1)

    def _oldest(self, default: int) -> int:
        with self._lock:
            return next(iter(self._waiting), default)

    def _send_mended(self) -> None:
        with self._lock:
            mended, self._mended = self._mended, deque()
        for number in mended:
            self._produce(number)

    def _produce(self, number: int) -> None:
        letter = self._waiting[number]
        timestamp = letter.timestamp
        if letter.other_timestamp is not None and time.monotonic() < self._clock_trusted_at:
            timestamp = letter.other_timestamp

        def delivered(error: ClientError | None, message: Message) -> None:
            self._delivered(number, error, message)

        while True:
            try:
                self._producer.produce(
                    letter.topic,
                    value=letter.value,
                    key=letter.key,
                    partition=letter.partition,
                    headers=list(letter.headers),
                    timestamp=timestamp,
                    on_delivery=delivered,
                )
            except BufferError:  # the queue is full: wait for the broker to take some
                self._producer.poll(POLL_S)
            except KafkaException as refusal:
                self._refuse(number, refusal.args[0])
                return
            else:
                return

    def _delivered(self, number: int, error: ClientError | None, message: Message) -> None:
        if error is not None:
            self._refuse(number, error)
            return
        with self._lock:
            letter = self._waiting.pop(number)
            del self._sent_at[number]
        if letter.acknowledged is not None:
            letter.acknowledged(message.partition(), message.offset())

    def _refuse(self, number: int, error: ClientError) -> None:
        if error.code() in _WRONG_TIME:
            self._clock_trusted_at = time.monotonic() + DISTRUST_S
        letter, mended = _mended(self._waiting[number], error.code())
        why = f"{letter.topic} [{letter.partition}] refuses a record: {error.str()}"
        with self._lock:
            self._waiting[number] = letter
            if mended:
                self._mended.append(number)
            else:
                self._refused.append((number, why))


def _mended(letter: Letter, code: int) -> tuple[Letter, bool]:
    """Return what to send in the place of a refused letter, and whether that is better than before."""
    match code:
        case ClientError.MSG_SIZE_TOO_LARGE if letter.shrunk is not None:
            smaller = letter.shrunk()
            return smaller, len(smaller.value or b"") < len(letter.value or b"")
        case wrong if wrong in _WRONG_TIME and letter.other_timestamp is not None:
            return replace(letter, timestamp=letter.other_timestamp, other_timestamp=None), True
        case ClientError._INVALID_DIFFERENT_RECORD:  # noqa: SLF001 - another of its batch is to blame
            return letter, True
        case _:
            return letter, False
