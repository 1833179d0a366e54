"""Where a record lies, written `topic/partition/offset`, and ranges of such places."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from contracts.errors import SettingsError

__all__ = ["Place", "Span"]

_SPAN: Final = re.compile(r"([A-Za-z0-9._-]{1,249})/([0-9]{1,9})/([0-9]{1,18})(?:-([0-9]{1,18}))?", re.ASCII)


class Place(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """Return it as people type it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring places of one partition, first and last included."""

    topic: str
    partition: int
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "Span":
        """Read `topic/partition/offset` or `topic/partition/first-last`; SettingsError for anything else."""
        match = _SPAN.fullmatch(text)
        if match is None or (match[4] is not None and int(match[4]) < int(match[3])):
            raise SettingsError(f"{text[:80]!r} is no place of records; write outcomes/5/17 or outcomes/5/17-40")
        return cls(match[1], int(match[2]), int(match[3]), int(match[4] or match[3]))

    def __contains__(self, place: Place | None) -> bool:
        """Return whether the place is among them; none is not."""
        if place is None:
            return False
        return (place.topic, place.partition) == (self.topic, self.partition) and (
            self.first <= place.offset <= self.last
        )
