"""Where events go: the one seam between a service and Kafka, and the double for the service's own tests."""

import json
import threading
from collections.abc import Callable
from typing import Any, Protocol

from evidence_client.counts import Counts, DropReason, Ledger, Loss, SkipReason
from evidence_client.events import Kind, Message

__all__ = ["MemoryPublisher", "Publisher"]

UNBOUNDED = 1 << 62


class Publisher(Protocol):
    """Takes events off the request path. No method but `flush` and `close` waits, and none raises."""

    def publish(self, message: Message) -> bool:
        """Take the event, or drop it and count why; return whether it was taken."""

    def drop(self, reason: DropReason, why: str) -> None:
        """Count an event that could not be made."""

    def skip(self, reason: SkipReason, why: str) -> None:
        """Count what was not to be an event."""

    def counts(self) -> Counts:
        """Return what became of all events so far."""

    def flush(self, timeout: float) -> int:
        """Wait until nothing is queued, at most so many seconds; return how many events still are."""

    def close(self, timeout: float) -> int:
        """Flush, then drop as `unsent` what is left, and return how many that were; again, the same answer.

        Whatever is published afterwards is dropped as `closed`.
        """


class MemoryPublisher:
    """Keeps the events in memory, acknowledged at once: for the tests of a service.

    `exposures`, `outcomes` and `guardrails` are what a worker would read, as JSON objects.
    """

    def __init__(self, on_loss: Callable[[Loss], object] | None = None, max_messages: int = UNBOUNDED) -> None:
        """Keep nothing yet. Beyond `max_messages` events are dropped as `queue_full`, as in an outage."""
        self.messages: list[Message] = []
        self._lock = threading.RLock()
        self._ledger = Ledger(on_loss, UNBOUNDED, UNBOUNDED)
        self._max_messages = max_messages
        self._closed = False

    @property
    def exposures(self) -> list[dict[str, Any]]:
        """What really ran."""
        return self._bodies("exposure")

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """What came of it."""
        return self._bodies("outcome")

    @property
    def guardrails(self) -> list[dict[str, Any]]:
        """What went wrong."""
        return self._bodies("guardrail")

    def publish(self, message: Message) -> bool:
        """Keep the event."""
        with self._lock:
            if self._closed:
                self._ledger.drop("closed", "recorded after close()")
            elif len(self.messages) >= self._max_messages:
                self._ledger.drop("queue_full", f"{len(self.messages)} events are kept already")
            else:
                self._ledger.admit(message.size)
                self._ledger.acknowledge(message.size)
                self.messages.append(message)
                return True
        self._ledger.report(at_once=True)
        return False

    def drop(self, reason: DropReason, why: str) -> None:
        """Count an event that could not be made."""
        self._ledger.drop(reason, why)
        self._ledger.report(at_once=True)

    def skip(self, reason: SkipReason, why: str) -> None:
        """Count what was not to be an event."""
        self._ledger.skip(reason, why)
        self._ledger.report(at_once=True)

    def counts(self) -> Counts:
        """Return what became of all events so far."""
        return self._ledger.counts()

    def flush(self, timeout: float = 10.0) -> int:  # noqa: ARG002  # nothing to wait for
        """Return 0."""
        return 0

    def close(self, timeout: float = 10.0) -> int:  # noqa: ARG002  # nothing to wait for
        """Take no more events; return 0."""
        self._closed = True
        return 0

    def _bodies(self, kind: Kind) -> list[dict[str, Any]]:
        return [json.loads(message.value) for message in self.messages if message.kind == kind]
