"""Dead letters: records that break the contract, as they go to `<topic>.dlq`.

The copy keeps the record's key, value and headers, and adds headers that say what is wrong with it and where it came
from. Topic, partition and offset of the origin are its identity: the same dead letter may be sent more than once.

Header names that begin with `__dlq.errors.` are Kafka's own for dead letters (KIP-1191).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from contracts.times import format_time

__all__ = [
    "HEADERS",
    "ORIGIN_HEADER",
    "REASONS",
    "REPLAYED_HEADER",
    "REPLAY_COUNT_HEADER",
    "STAGES",
    "TIMESTAMP_HEADER",
    "DeadLetter",
    "Reason",
    "Stage",
    "replay_count",
    "without_ours",
]

Reason = Literal[
    "tombstone",  # no value at all
    "not_json",
    "bad_framing",  # an envelope that is recognised, around something broken
    "too_large",
    "schema_violation",
    "unknown_flag",
    "unknown_variation",
    "future_timestamp",
    "late",
    "no_exposure",
    "misplaced",
    "internal",  # a fault of this software
]
REASONS: Final[frozenset[Reason]] = frozenset(get_args(Reason))

Stage = Literal["decode", "validate", "placement", "close"]
STAGES: Final[frozenset[Stage]] = frozenset(get_args(Stage))

TIMESTAMP_HEADER: Final = "evidence.timestamp"
"""The event time of a copied record where neither body nor envelope has one: RFC 3339. Set by replay and rerouting."""

ORIGIN_HEADER: Final = "evidence.origin"
"""Where a rerouted copy was first: `topic/partition/offset`."""

REPLAY_COUNT_HEADER: Final = "evidence.dlq.replay_count"
"""How often a record was replayed from a dead-letter topic: a decimal number; absent is 0."""

REPLAYED_HEADER: Final = "evidence.dlq.replayed"
"""Which dead letter a replayed record was: where its record was before, as `topic/partition/offset`."""

HEADERS: Final = {
    "__dlq.errors.topic": "The topic of the record; with partition and offset its identity (KIP-1191).",
    "__dlq.errors.partition": "The number of its partition.",
    "__dlq.errors.offset": "Its offset.",
    "__dlq.errors.group": "The consumer group that refused it.",
    "__dlq.errors.message": "What is wrong, in a line.",
    "evidence.dlq.reason": "Why it is a dead letter.",
    "evidence.dlq.stage": "Where it was refused.",
    "evidence.dlq.details": "What is wrong with each field, as JSON: a list of type, loc and msg, without values.",
    "evidence.dlq.failed_at": "When it was refused.",
    "evidence.dlq.timestamp": "The record's own time.",
    "evidence.dlq.pipeline_version": "The version of the software that refused it.",
    REPLAY_COUNT_HEADER: "How often it was replayed before.",
    "evidence.dlq.truncated": "Present where a part of the value is missing.",
    "evidence.dlq.size": "The size of the whole value in bytes; where truncated alone.",
    "evidence.dlq.sha256": "The SHA-256 of the whole value; where truncated alone.",
}
"""What each header of a dead letter says, in their order."""

_OURS: Final = ("__dlq.errors.", "evidence.dlq.")
_LONGEST_COUNT: Final = 9  # digits

Header = tuple[str, bytes | None]


def without_ours(headers: Iterable[Header]) -> list[Header]:
    """Return the headers, in order, without those that a dead letter adds: what the record had before."""
    return [header for header in headers if not header[0].startswith(_OURS)]


def replay_count(headers: Iterable[Header]) -> int:
    """Return how often a record was replayed, by its headers; what is no count is 0."""
    counts = [value or b"" for name, value in headers if name == REPLAY_COUNT_HEADER]
    return int(counts[-1]) if counts and counts[-1].isdigit() and len(counts[-1]) <= _LONGEST_COUNT else 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that breaks the contract, with what is wrong with it."""

    topic: str  # of the origin, as partition and offset are
    partition: int
    offset: int
    reason: Reason
    stage: Stage
    message: str  # one line for people
    details: str  # JSON: a list of {type, loc, msg}, without input values
    group: str
    failed_at_us: int
    timestamp_us: int  # the record's own time
    version: str  # of this software
    replay_count: int
    key: bytes | None
    value: bytes | None
    original_headers: Sequence[Header] = ()
    cut: tuple[int, str] | None = None  # size and SHA-256 of the value before it was truncated

    def headers(self) -> list[Header]:
        """Return the record's headers untouched and in order, without those of an earlier dead letter, then ours."""
        ours = {
            "__dlq.errors.topic": self.topic,
            "__dlq.errors.partition": str(self.partition),
            "__dlq.errors.offset": str(self.offset),
            "__dlq.errors.group": self.group,
            "__dlq.errors.message": self.message,
            "evidence.dlq.reason": self.reason,
            "evidence.dlq.stage": self.stage,
            "evidence.dlq.details": self.details,
            "evidence.dlq.failed_at": format_time(self.failed_at_us),
            "evidence.dlq.timestamp": format_time(self.timestamp_us),
            "evidence.dlq.pipeline_version": self.version,
            REPLAY_COUNT_HEADER: str(self.replay_count),
        }
        if self.cut is not None:
            size, digest = self.cut
            ours |= {
                "evidence.dlq.truncated": "true",
                "evidence.dlq.size": str(size),
                "evidence.dlq.sha256": digest,
            }
        return without_ours(self.original_headers) + [
            (name, text.encode(errors="replace")) for name, text in ours.items()
        ]

    def truncated(self, limit: int) -> "DeadLetter":
        """Return it with at most `limit` bytes of the value, and with the size and SHA-256 of the whole value.

        A key of more than `limit` bytes is cut as well, and headers of more in all are left out: it has to pass.
        """
        value, key = self.value or b"", self.key or b""
        headers = sum(len(name.encode()) + len(text or b"") for name, text in self.original_headers)
        return replace(
            self,
            key=self.key and key[:limit],
            value=self.value and value[:limit],
            original_headers=self.original_headers if headers <= limit else (),
            cut=self.cut or (len(value), hashlib.sha256(value).hexdigest()),
        )
