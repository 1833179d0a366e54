"""The ledger: what became of every event, exactly.

At any instant, `recorded == acknowledged + queued + sum(dropped)`. What never was to be an event is not recorded but
`skipped`, by reason. Losses are logged and told to a callback by whoever calls `report`, at most once a second: what
happens in the request path is one addition.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Counts", "DropReason", "Ledger", "Loss", "SkipReason"]

log = logging.getLogger("evidence_client")

DropReason = Literal[
    "invalid",  # breaks the evidence contract, or the call was wrong; the log line names the field
    "too_large",  # longer than brokers take
    "queue_full",  # the brokers are away, or slower than the service, for longer than the queue lasts
    "timed_out",  # no broker acknowledged it in time (message.timeout.ms); it may still have been written
    "delivery_failed",  # a broker refused it, or there is no such topic
    "unsent",  # not acknowledged when the publisher was closed; it may still have been written
    "closed",  # recorded after close()
    "internal",  # a fault of this package
]

SkipReason = Literal[
    "repeated",  # the same exposure was recorded a moment ago
    "no_assignment",  # no flag assigned anything: there is nothing to be evidence of
    "not_executed",  # the run said neither what executed nor what it fell back to
    "failed_before_output",  # the run ended in an exception before its output had begun
    "outside_run",  # a run was told what executed outside of its block
    "overlapping",  # one run was entered while it was open: what ran for whom cannot be told
]

USUAL: Final[frozenset[SkipReason]] = frozenset({"no_assignment"})  # as while a flag assigns one unit in ten
REPORT_S: Final = 1.0  # between two reports of losses


@dataclass(frozen=True)
class Loss:
    """Events that were dropped for one reason since the last report."""

    reason: DropReason
    count: int
    why: str
    """Of the last of them; names fields and types, never what they hold."""


@dataclass(frozen=True)
class Counts:
    """The ledger at one instant."""

    recorded: int
    acknowledged: int
    queued: int
    queued_bytes: int
    dropped: Mapping[DropReason, int]
    skipped: Mapping[SkipReason, int]


class Ledger:
    """Counts of one publisher. Safe to use from threads, signal handlers and finalisers: its lock is re-entrant."""

    def __init__(self, on_loss: Callable[[Loss], object] | None, max_messages: int, max_bytes: int) -> None:
        """Bind the callback for losses, and how many events and bytes may be queued at once."""
        self._on_loss = on_loss
        self._most = (max_messages, max_bytes)
        self.reset()

    def reset(self) -> None:
        """Begin anew, with nothing recorded and a new lock, as a forked child has to."""
        self._lock = threading.RLock()
        self._recorded = self._acknowledged = self._queued = self._queued_bytes = 0
        self._dropped: Counter[DropReason] = Counter()
        self._skipped: Counter[SkipReason] = Counter()
        self._untold: dict[DropReason | SkipReason, tuple[int, str]] = {}
        self._told_at = -REPORT_S

    def admit(self, size: int) -> bool:
        """Record an event of so many bytes as queued, if there is room; return whether there is."""
        most_messages, most_bytes = self._most
        with self._lock:
            if self._queued >= most_messages or self._queued_bytes + size > most_bytes:
                return False
            self._recorded += 1
            self._queued += 1
            self._queued_bytes += size
            return True

    def acknowledge(self, size: int) -> None:
        """Count a queued event of that size as acknowledged."""
        with self._lock:
            self._queued -= 1
            self._queued_bytes -= size
            self._acknowledged += 1

    def fail(self, size: int, reason: DropReason, why: str) -> None:
        """Count a queued event of that size as dropped."""
        with self._lock:
            self._queued -= 1
            self._queued_bytes -= size
            self._dropped[reason] += 1
            self._tell(reason, why)

    def drop(self, reason: DropReason, why: str) -> bool:
        """Record an event that is dropped at once; return whether it is the first that `report` has to tell."""
        with self._lock:
            self._recorded += 1
            self._dropped[reason] += 1
            return self._tell(reason, why)

    def skip(self, reason: SkipReason, why: str) -> bool:
        """Count what was not to be an event; return whether it is the first that `report` has to tell."""
        with self._lock:
            self._skipped[reason] += 1
            return reason != "repeated" and self._tell(reason, why)  # that one is as it should be, and often

    def counts(self) -> Counts:
        """Return all counts of one instant."""
        with self._lock:
            return Counts(
                self._recorded,
                self._acknowledged,
                self._queued,
                self._queued_bytes,
                dict(self._dropped),
                dict(self._skipped),
            )

    def report(self, *, at_once: bool = False) -> None:
        """Log what was lost or skipped since the last report, and tell the callback of losses. Raises nothing.

        Does nothing within a second of the last report, unless it is wanted at once: as a publisher closes, after
        which the next loss is not kept back either.
        """
        now = time.monotonic()
        with self._lock:
            if at_once:
                self._told_at = -REPORT_S
            elif not self._untold or now < self._told_at + REPORT_S:
                return
            else:
                self._told_at = now
            untold, self._untold = self._untold, {}
            losses = [Loss(reason, *untold[reason]) for reason in self._dropped if reason in untold]
            skipped = [(reason, *untold[reason]) for reason in self._skipped if reason in untold]
        for reason, count, why in skipped:
            level = logging.INFO if reason in USUAL else logging.WARNING
            log.log(level, "no evidence of %d: %s (%s)", count, reason, why)
        for loss in losses:
            log.error("%d events lost: %s (%s)", loss.count, loss.reason, loss.why)
            try:
                if self._on_loss is not None:
                    self._on_loss(loss)
            except BaseException:  # also SystemExit, which would end the thread that sends
                log.exception("the callback for losses raised")

    def _tell(self, reason: DropReason | SkipReason, why: str) -> bool:
        first = not self._untold
        self._untold[reason] = (self._untold.get(reason, (0, ""))[0] + 1, why)
        return first
