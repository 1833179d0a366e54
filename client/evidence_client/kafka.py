"""The publisher for Kafka: a queue with bounds in front of one thread, which starts with the first event of a process.

So a server may fork after the publisher was made, and the request path never waits for anything.
"""

import atexit
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from evidence_client.counts import Counts, DropReason, Ledger, Loss, SkipReason
from evidence_client.events import Kind, Message
from evidence_client.forks import renew_in_children
from evidence_client.sender import STOP, Item, Sender

__all__ = ["TOPICS", "KafkaPublisher"]

log = logging.getLogger("evidence_client")
librdkafka_log = logging.getLogger("evidence_client.librdkafka")

TOPICS: Final[Mapping[Kind, str]] = {"exposure": "exposures", "outcome": "outcomes", "guardrail": "guardrails"}

SAY_S: Final = 10.0  # between two lines of librdkafka, which says several a second while brokers are away
LOOK_S: Final = 0.01  # between two looks at whether the queue is empty
END_S: Final = 1.0  # what closing may take beyond its timeout

BROKERS: Final = ("bootstrap.servers", "metadata.broker.list")
BROKER: Final = re.compile(r"(\w+://)?(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+)(:[0-9]{1,5})?")  # librdkafka takes anything
TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
DEFAULTS: Final[Mapping[str, Any]] = {"compression.type": "lz4", "linger.ms": 20, "message.timeout.ms": 120_000}
IN_FLIGHT: Final = ("max.in.flight", "max.in.flight.requests.per.connection")
FIXED: Final[Mapping[str, Any]] = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    "max.in.flight": 1,  # with more, librdkafka (2.16) counts a batch as acknowledged that a new leader has refused
    "queue.buffering.max.messages": 2_147_483_647,  # the ledger has the bounds
    "queue.buffering.max.kbytes": 2_147_483_647,
}
ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "enable.idempotence": frozenset({"true"}),
    "partitioner": frozenset({"murmur2_random", "murmur2"}),
    **dict.fromkeys(IN_FLIGHT, frozenset({"1"})),
}
REFUSED: Final[Mapping[str, str]] = {
    "enable.idempotence": "without it events are published twice, or out of order; leave it out",
    "partitioner": "the records of a unit only meet where Java's murmur2 places them; leave it out",
    **dict.fromkeys(IN_FLIGHT, "with more than one, events may be lost that count as acknowledged; leave it out"),
    "default.topic.config": "give its properties beside the others",
    "topic.partitioner": "the records of a unit only meet where Java's murmur2 places them; leave it out",
    "transactional.id": "the client has no transactions; leave it out",
    "queue.buffering.max.messages": "give max_messages to the publisher instead",
    "queue.buffering.max.kbytes": "give max_bytes to the publisher instead",
    "delivery.report.only.error": "every acknowledgement is counted; leave it out",
    "on_delivery": "every acknowledgement is counted; use counts() and on_loss",
    "logger": "the client logs as evidence_client; leave it out",
}


class KafkaPublisher:
    """Publishes to Kafka and never makes the caller wait; see `Publisher` for what each method promises.

    `counts()` is exact at any instant, whatever brokers do.
    """

    def __init__(  # noqa: PLR0913  # few services name more than the first
        self,
        configuration: Mapping[str, Any],
        *,
        topics: Mapping[Kind, str] = TOPICS,
        max_messages: int = 100_000,
        max_bytes: int = 64 << 20,
        on_loss: Callable[[Loss], object] | None = None,
        exit_timeout: float = 5.0,
    ) -> None:
        """Check the configuration, which is librdkafka's, without connecting.

        Events that no broker has acknowledged are dropped beyond `max_messages` or `max_bytes`. `on_loss` is called
        from the publisher's own thread (after `close`, from that which records), at most once a second for each reason.
        When the interpreter ends, it waits up to `exit_timeout` seconds for the rest. Raises ValueError, in one line,
        for what could not work.
        """
        self._configuration = _checked(configuration)
        if not all(isinstance(most, int) and most > 0 for most in (max_messages, max_bytes)):
            raise ValueError("max_messages and max_bytes should be whole numbers above 0")
        if on_loss is not None and not callable(on_loss):
            raise ValueError("on_loss should be a function of one argument, a Loss")
        if not isinstance(exit_timeout, (int, float)) or not 0 <= exit_timeout < threading.TIMEOUT_MAX:
            raise ValueError("exit_timeout should be a number of seconds, 0 or more")
        self._topics = _named(topics)
        self._ledger = Ledger(on_loss, max_messages, max_bytes)
        self._exit_timeout = exit_timeout
        self._closed = False
        self._begin()
        renew_in_children(self)
        atexit.register(self.close, exit_timeout)

    def publish(self, message: Message) -> bool:
        """Queue the event, or drop it and count why; return whether it is queued."""
        with self._lock:  # or an event might get behind STOP
            if not self._closed and self._ledger.admit(message.size):
                self._queue.put(message)
                self._start()
                return True
        if self._closed:
            self.drop("closed", "recorded after close()")
        else:
            self.drop("queue_full", "as many events wait for their brokers as max_messages or max_bytes allow")
        return False

    def drop(self, reason: DropReason, why: str) -> None:
        """Count an event that could not be made."""
        if self._ledger.drop(reason, why) or self._closed:
            self._wake()

    def skip(self, reason: SkipReason, why: str) -> None:
        """Count what was not to be an event."""
        if self._ledger.skip(reason, why) or self._closed:
            self._wake()

    def counts(self) -> Counts:
        """Return what became of all events so far."""
        return self._ledger.counts()

    def flush(self, timeout: float = 10.0) -> int:
        """Wait until nothing is queued, at most so many seconds; return how many events still are."""
        deadline = time.monotonic() + timeout
        while (queued := self.counts().queued) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return queued

    def close(self, timeout: float = 10.0) -> int:
        """Flush, then drop as `unsent` what is left; return how many that were, and the same when closed again.

        They may still have been written. Takes at most a second longer than the timeout.
        """
        with self._lock:
            first, self._closed = not self._closed, True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():  # on_loss may close, but not wait
            if first:
                self.flush(timeout)
                self._queue.put(STOP)
            thread.join(END_S if first else timeout + END_S)
        elif first:
            self._queue.put(STOP)
            if thread is None:
                self._give_up()
        atexit.unregister(self.close)
        counts = self.counts()
        return counts.queued + counts.dropped.get("unsent", 0)

    def after_fork(self) -> None:
        """Begin anew in a child: what the parent has queued is the parent's to send."""
        self._ledger.reset()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler or a finaliser may publish
        self._queue: SimpleQueue[Item] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def _wake(self) -> None:
        """Have the thread report what was lost or skipped; where there is none any more, report it here."""
        if self._closed:
            self._ledger.report()
            return
        with self._lock:
            self._queue.put(None)
            self._start()

    def _start(self) -> None:
        if self._thread is not None:
            return
        sender = Sender(self._queue, self._topics, self._ledger, self._make_producer)
        thread = threading.Thread(target=sender.run, name="evidence-client", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends; the next event tries again
            log.exception("the thread that sends events does not start")
        else:
            self._thread = thread
            if (multiprocessing := sys.modules.get("multiprocessing.util")) is not None:  # its children skip atexit
                multiprocessing.Finalize(None, self.close, (self._exit_timeout,), exitpriority=0)

    def _give_up(self) -> None:
        """Drop what is queued, where no thread ever could be started."""
        while isinstance(message := self._queue.get(), Message) or message is None:
            if message is not None:
                self._ledger.fail(message.size, "unsent", "no thread could be started to send it")
        self._ledger.report(at_once=True)

    def _make_producer(self) -> Producer:
        return Producer(self._configuration, logger=librdkafka_log)


class _Seldom(logging.Filter):
    """Lets one line pass in `SAY_S` seconds."""

    passed_at = -SAY_S

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created < self.passed_at + SAY_S:
            return False
        self.passed_at = record.created
        return True


librdkafka_log.addFilter(_Seldom())


def _named(topics: Mapping[Kind, str]) -> dict[Kind, str]:
    """Return the topics; raises ValueError where a kind has none, or one with a name that brokers refuse."""
    named = dict(topics) if isinstance(topics, Mapping) else {}
    for kind in TOPICS:
        name = named.get(kind)
        if not isinstance(name, str) or not TOPIC.fullmatch(name):
            raise ValueError(f"topics should name one for {kind}: 1 to 249 letters, digits, dots, hyphens, underscores")
    return named


def _checked(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole configuration; raises ValueError for what would break keys, counts or librdkafka's rules."""
    if not isinstance(configuration, Mapping):
        kind = type(configuration).__name__
        raise ValueError(f"configuration should map properties to values, not be a {kind}")  # noqa: TRY004  # one error for all
    for name, why in REFUSED.items():
        if name in configuration and str(configuration[name]).lower() not in ALLOWED.get(name, ()):
            raise ValueError(f"{name} cannot be {configuration[name]!r}: {why}")
    brokers = str(configuration.get("bootstrap.servers") or configuration.get("metadata.broker.list") or "")
    if not all(BROKER.fullmatch(broker.strip()) for broker in brokers.split(",")):
        raise ValueError(f"bootstrap.servers should name brokers as host:port,host:port, not be {brokers!r}")
    whole = {**DEFAULTS, **configuration, **FIXED}
    nowhere = {name: value for name, value in whole.items() if name not in BROKERS}
    silent = logging.getLogger("evidence_client.check")
    silent.disabled = True
    try:
        Producer(nowhere, logger=silent)  # whose construction is the check; it has no broker to connect to
    except KafkaException as wrong:
        raise ValueError(f"librdkafka refuses the configuration: {' '.join(wrong.args[0].str().split())}") from None
    except (TypeError, ValueError) as wrong:
        raise ValueError(f"librdkafka refuses the configuration: {wrong}") from None
    return whole
