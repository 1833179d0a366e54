"""How refused records become dead letters, and dead letters become records to send."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from contracts.dead_letters import ORIGIN_HEADER, DeadLetter, replay_count
from contracts.decode import Refusal
from pipeline.outbox import Letter
from pipeline.preflight import DLQ_SUFFIX

__all__ = ["Sender"]

_CLOSE_MESSAGES: Final = {
    "late": "it came after its metric window was decided",
    "no_exposure": "its unit has no exposure in the metric window before it",
}

# A dead letter that its topic refuses for size keeps this much of the value, then less and less.
CUT_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends dead letters: their headers name it."""

    group: str
    version: str

    def refused(self, refusal: Refusal, topic: str, partition: int, now: int) -> Letter:
        """Return the dead letter of a record that was refused on reading, at `now` (µs)."""
        record = refusal.record
        return _letter(
            DeadLetter(
                topic=topic,
                partition=partition,
                offset=record.offset,
                reason=refusal.reason,
                stage=refusal.stage,
                message=refusal.message,
                details=refusal.details,
                group=self.group,
                failed_at_us=now,
                timestamp_us=max(record.timestamp, 0) * 1000,
                version=self.version,
                replay_count=replay_count(record.headers),
                key=record.key,
                value=record.value,
                original_headers=tuple(record.headers),
            )
        )

    def closed(self, row: Mapping[str, Any], partition: int, now: int) -> Letter:
        """Return the dead letter of an event that a close left unjoined, at `now` (µs).

        `row` is one of `close.DEAD_LETTERS`. The details of a rerouted copy say so: it may be late for that alone.
        """
        headers = [(header["key"], header["value"]) for header in row["headers"] or ()]
        rerouted = any(name == ORIGIN_HEADER for name, _ in headers)
        message = _CLOSE_MESSAGES[row["reason"]]
        return _letter(
            DeadLetter(
                topic=row["topic"],
                partition=partition,
                offset=row["offset"],
                reason=row["reason"],
                stage="close",
                message=message,
                details=json.dumps([{"type": "rerouted", "loc": [], "msg": "a copy of a misplaced record"}] * rerouted),
                group=self.group,
                failed_at_us=now,
                timestamp_us=row["record_time"],
                version=self.version,
                replay_count=replay_count(headers),
                key=row["key"],
                value=row["value"],
                original_headers=headers,
            )
        )


def _letter(letter: DeadLetter) -> Letter:
    return Letter(
        topic=letter.topic + DLQ_SUFFIX,
        partition=letter.partition,
        key=letter.key,
        value=letter.value,
        headers=letter.headers(),
        timestamp=letter.failed_at_us // 1000,
        shrunk=lambda: _letter(letter.truncated(_next_limit(letter))),
        other_timestamp=letter.timestamp_us // 1000,
    )


def _next_limit(letter: DeadLetter) -> int:
    """Return how much of a letter that was refused for its size is kept: each time a quarter, so that it passes."""
    return CUT_BYTES if letter.cut is None else min(CUT_BYTES, len(letter.value or b"")) // 4
