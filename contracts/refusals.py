"""Refusals: records that are no valid event, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypedDict

import msgspec
from pydantic import ValidationError

from contracts.dead_letters import Reason, Stage

__all__ = ["Problem", "Record", "Refusal", "problem", "problems_of", "refuse"]

_MOST_PROBLEMS: Final = 20  # of one record in its details, which must fit into a header
_LONGEST_TEXT: Final = 256  # characters of a field's name or of a message in there


class Record(Protocol):
    """A Kafka record as its consumer parsed it."""

    @property
    def offset(self) -> int:
        """The record's offset in its partition."""

    @property
    def timestamp(self) -> int:
        """The record's own time, in milliseconds; -1 is none."""

    @property
    def timestamp_type(self) -> int | None:
        """0: the producer's clock; 1: the broker's, at the append."""

    @property
    def key(self) -> bytes | None:
        """The key."""

    @property
    def value(self) -> bytes | None:
        """The value."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """The headers, in order."""


class Problem(TypedDict):
    """What is wrong with one field, in pydantic's words and without what it holds."""

    type: str
    loc: list[str | int]
    msg: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record that is no valid event, and why: it becomes a dead letter."""

    reason: Reason
    stage: Stage
    message: str  # one line
    details: str  # JSON: a list of {type, loc, msg}, without input values
    record: Record


def problem(kind: str, path: Sequence[str | int], message: str) -> Problem:
    """Return a problem with the field at a path; long names and messages are cut."""
    short = [step[:_LONGEST_TEXT] if isinstance(step, str) else step for step in path]
    return {"type": kind, "loc": short, "msg": message[:_LONGEST_TEXT]}


def problems_of(invalid: ValidationError) -> list[Problem]:
    """Return the problems that pydantic found, at most twenty."""
    errors = invalid.errors(include_url=False, include_context=False, include_input=False)
    return [problem(error["type"], error["loc"], error["msg"]) for error in errors[:_MOST_PROBLEMS]]


def refuse(record: Record, reason: Reason, stage: Stage, problems: Sequence[Problem]) -> Refusal:
    """Refuse a record for at least one problem; the first makes the message."""
    first, more = problems[0], len(problems) - 1
    line = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    line = " ".join(line.split()) + (f" (and {more} more)" if more else "")
    return Refusal(reason, stage, line, msgspec.json.encode(problems).decode(), record)
