"""Publishes messages to Kafka: all of a sequence as fast as it goes, or endless traffic at a rate."""

import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from contracts.columns import KINDS
from contracts.errors import KafkaUnavailable
from contracts.flags import Contract
from pipeline.outbox import RELIABLE
from pipeline.settings import Settings
from pipeline.traffic import Live, Message

__all__ = ["publish", "publish_live", "run_traffic"]

_log = logging.getLogger(__name__)

_PATIENCE: Final = 30.0  # seconds that a message may wait for its acknowledgement
_EVERY: Final = 500  # messages between two calls of `progress`
_IDLE: Final = 0.02  # seconds between two looks at the clock


class _Publisher:
    """A producer that remembers the first failed delivery."""

    def __init__(self, kafka: Mapping[str, Any], topics: Mapping[str, str]) -> None:
        self._producer = Producer(
            {
                **kafka,
                **RELIABLE,
                "compression.type": "lz4",
                "linger.ms": 20,
                "message.timeout.ms": int(_PATIENCE * 1_000),
            },
            logger=_log,
        )
        self._topics = topics
        self._failed: str | None = None

    def send(self, message: Message) -> None:
        """Queue the message; block while the queue is full. Raises KafkaUnavailable once a delivery has failed."""
        place = {} if message.partition is None else {"partition": message.partition}
        while True:
            try:
                self._producer.produce(
                    self._topics[message.kind],
                    value=message.value,
                    key=message.key,
                    headers=list(message.headers),
                    timestamp=message.timestamp_ms,
                    on_delivery=self._delivered,
                    **place,
                )
            except BufferError:
                self.serve(0.1)
            except KafkaException as error:
                raise KafkaUnavailable(f"cannot publish to {self._topics[message.kind]}: {error}") from error
            else:
                return self.serve(0)

    def serve(self, seconds: float) -> None:
        """Handle acknowledgements for at most `seconds`."""
        self._producer.poll(seconds)
        if self._failed is not None:
            raise KafkaUnavailable(f"cannot publish: {self._failed}; check the brokers and their addresses")

    def flush(self) -> None:
        """Block until every message is acknowledged. Raises KafkaUnavailable if that takes more than 30 s."""
        waiting = self._producer.flush(_PATIENCE)
        self.serve(0)
        if waiting:
            raise KafkaUnavailable(f"{waiting} messages were not acknowledged in {_PATIENCE:.0f} s; check the brokers")

    def _delivered(self, error: Any, _record: Any) -> None:  # noqa: ANN401  # librdkafka's own types
        if error is not None and self._failed is None:
            self._failed = str(error)


def publish(
    kafka: Mapping[str, Any],
    topics: Mapping[str, str],
    messages: Iterable[Message],
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Publish the messages in their order, each acknowledged by all replicas; return how many.

    `kafka` is the connection part of a librdkafka configuration, `topics` names the topic of each kind. `progress` is
    called with the number of messages queued so far. Raises KafkaUnavailable.
    """
    publisher, sent = _Publisher(kafka, topics), 0
    for message in messages:
        publisher.send(message)
        sent += 1
        if sent % _EVERY == 0:
            progress(sent)
    publisher.flush()
    progress(sent)
    return sent


def publish_live(  # noqa: PLR0913  # the shell of one command
    kafka: Mapping[str, Any],
    topics: Mapping[str, str],
    contracts: Iterable[Contract],
    *,
    rate: float,
    units: int,
    seed: int,
    seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Publish events of the flags as they happen, `rate` a second, until `stopped()` or for `seconds`; return how many.

    All that was sent is acknowledged when it returns. Raises KafkaUnavailable.
    """
    live = Live(random.Random(seed), contracts, units)  # noqa: S311  # made-up traffic
    publisher, sent, start = _Publisher(kafka, topics), 0, time.monotonic()
    while not stopped():
        elapsed = time.monotonic() - start
        if seconds is not None and elapsed >= seconds:
            break
        for _ in range(int(elapsed * rate) - sent):
            publisher.send(live.next(time.time_ns() // 1_000))
            sent += 1
        publisher.serve(_IDLE)
    publisher.flush()
    return sent


def run_traffic(  # noqa: PLR0913  # the options of one command
    settings: Settings,
    contracts: Iterable[Contract],
    *,
    rate: float,
    units: int,
    seed: int,
    seconds: float | None = None,
) -> int:
    """Publish live events to the topics of the settings until SIGTERM, SIGINT or for `seconds`; return how many.

    Call it from the main thread. Raises KafkaUnavailable.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    topics = dict(zip(KINDS, settings.topics, strict=True))
    try:
        return publish_live(
            settings.librdkafka(),
            topics,
            contracts,
            rate=rate,
            units=units,
            seed=seed,
            seconds=seconds,
            stopped=stop.is_set,
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
