"""What a worker would make of a dead letter's record if it came again: the decoder itself is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.columns import KINDS
from contracts.dead_letters import ORIGIN_HEADER, REPLAY_COUNT_HEADER, REPLAYED_HEADER, TIMESTAMP_HEADER
from contracts.decode import Decoder
from contracts.events import Kind
from contracts.times import format_time
from pipeline.dlq.letters import Letter

__all__ = ["Event", "Refused", "Verdict", "judge", "replay_headers"]


@dataclass(frozen=True, slots=True)
class Event:
    """A valid event: what decides where it goes, and whether it comes too late."""

    kind: Kind
    flag_key: str
    unit_id: str
    variation: str
    event_time: int
    """µs."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why it would be refused again."""

    reason: str
    message: str


Verdict = Event | Refused


@dataclass(frozen=True, slots=True)
class _Again:
    """The record as it would come again; `offset` is its place among those that are judged together."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp_type: int | None = 0


def judge(decoder: Decoder, letters: Sequence[tuple[Kind, Letter]], now: int) -> list[Verdict]:
    """Return what the decoder says of each letter's record as an event of that kind, replayed at `now` (µs)."""
    verdicts: dict[int, Verdict] = {}
    for kind in KINDS:
        again = [
            _Again(place, now // 1_000, letter.key, letter.value, replay_headers(letter))
            for place, (of, letter) in enumerate(letters)
            if of == kind
        ]
        decoded = decoder.decode(kind, "replayed", again, now)
        for refusal in decoded.refused:
            verdicts[refusal.record.offset] = Refused(refusal.reason, refusal.message)
        columns = ("offset", "flag_key", "unit_id", "variation")
        rows = zip(
            *(decoded.events[name].to_pylist() for name in columns),
            decoded.events["event_time"].cast("int64").to_pylist(),
            strict=True,
        )
        for offset, flag_key, unit_id, variation, event_time in rows:
            verdicts[offset] = Event(kind, flag_key, unit_id, variation, event_time)
    return [verdicts[place] for place in range(len(letters))]


def replay_headers(letter: Letter) -> Sequence[tuple[str, bytes | None]]:
    """Return the headers of the record that is sent for a letter: its own, then ours.

    Ours keep its event time, count the replay and name the letter. A copy of a misplaced record is none any more: it
    goes to the right partition at once.
    """
    own = [header for header in letter.headers if header[0] != ORIGIN_HEADER]
    ours: Mapping[str, str] = {
        REPLAY_COUNT_HEADER: str(letter.replays + 1),
        REPLAYED_HEADER: str(letter.identity),
    }
    if letter.timestamp is not None and not any(name == TIMESTAMP_HEADER for name, _ in own):
        own.append((TIMESTAMP_HEADER, format_time(letter.timestamp).encode()))
    return [*own, *((name, text.encode()) for name, text in ours.items())]
