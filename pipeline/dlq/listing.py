"""Dead letters by topic, reason and flag: how many, how fast, since when, and an example of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.times import format_time
from pipeline.dlq.letters import Letter, named
from pipeline.dlq.places import Place
from pipeline.terminal import safe, shortened

__all__ = ["Group", "Listing"]

RATE_US: Final = 600_000_000
"""The rate is that of the last ten minutes: whether it still happens, and how fast."""

_MOST_GROUPS: Final = 1_000  # names come from strangers: further flags are one group, further variations one share
_MOST_VARIATIONS: Final = 20
_MOST_REASONS: Final = 20
_OTHERS: Final = "(others)"
_WIDEST: Final = 100  # characters of a cell


@dataclass(slots=True)
class Group:
    """The letters of one topic, reason and flag. Times in µs."""

    topic: str
    reason: str
    flag: str | None
    count: int = 0
    recent: int = 0
    """Of the last ten minutes."""
    first: int = 2**62
    last: int = 0
    example: Place | None = None
    message: str = ""
    variations: Counter[str] = field(default_factory=Counter)

    @property
    def a_minute(self) -> float:
        """How many a minute, over the last ten."""
        return self.recent / (RATE_US / 60_000_000)

    def shares(self) -> list[tuple[str, float]]:
        """Return the share of each variation among the letters that name one, the greatest first."""
        total = self.variations.total()
        return [(name, count / total) for name, count in self.variations.most_common()]


class Listing:
    """Counts letters, each origin once; memory grows by some hundred bytes a letter."""

    def __init__(self, now: int) -> None:
        """Count from here; `now` is the time in µs that rates are of."""
        self._now = now
        self._seen: set[Place] = set()
        self._groups: dict[tuple[str, str, str | None], Group] = {}
        self.repeated = 0
        """How many were copies of letters that had been counted."""
        self._passed_by: Counter[str] = Counter()

    def add(self, letter: Letter) -> None:
        """Count a letter."""
        if letter.identity in self._seen:
            self.repeated += 1
            return
        self._seen.add(letter.identity)
        about = named(letter.value, letter.headers)
        flag, variation = about.flag, about.variation
        key = (letter.topic or letter.place.topic, letter.reason, flag)
        if key not in self._groups and len(self._groups) >= _MOST_GROUPS:
            key = (key[0], _OTHERS, _OTHERS)
        group = self._groups.setdefault(key, Group(*key))
        group.count += 1
        group.recent += self._now - RATE_US < letter.failed_at
        group.first = min(group.first, letter.failed_at)
        if letter.failed_at >= group.last:
            group.last, group.example, group.message = letter.failed_at, letter.identity, letter.message
        if variation is not None:
            _count(group.variations, variation, _MOST_VARIATIONS)

    def pass_by(self, letter: Letter) -> None:
        """Take note of a letter that was not asked for: where none was found, it helps to know what there is."""
        _count(self._passed_by, letter.reason, _MOST_REASONS)

    def groups(self) -> Sequence[Group]:
        """Return the groups, the greatest first."""
        return sorted(self._groups.values(), key=lambda each: (-each.count, each.topic, each.reason, each.flag or ""))

    def lines(self) -> list[str]:
        """Return a table for a terminal, and a line about copies if there are any; one line without letters."""
        groups = self.groups()
        if not groups:
            return [self._none()]
        heads = ("topic", "reason", "flag", "count", "a minute", "first", "last", "latest", "by variation", "message")
        rows = [heads, *(_cells(group) for group in groups)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        numbers = {"count", "a minute"}
        copies = [f"{self.repeated:,} more are copies of these, which are not counted"] if self.repeated else []
        table = [
            "  ".join(
                cell.rjust(width) if head in numbers else cell.ljust(width)
                for cell, width, head in zip(row, widths, heads, strict=True)
            ).rstrip()
            for row in rows
        ]
        return table + copies

    def _none(self) -> str:
        if not self._passed_by:
            return "no dead letters"
        reasons = ", ".join(
            f"{safe(shortened(reason, _WIDEST))} ({count:,})" for reason, count in self._passed_by.most_common()
        )
        return f"none of {self._passed_by.total():,} dead letters is what was asked for; by reason they are {reasons}"

    def as_json(self) -> list[dict[str, Any]]:
        """Return the groups for machines."""
        return [
            {
                "topic": group.topic,
                "reason": group.reason,
                "flag": group.flag,
                "count": group.count,
                "per_minute": group.a_minute,
                "first": format_time(group.first),
                "last": format_time(group.last),
                "latest": str(group.example),
                "message": group.message,
                "variations": dict(group.variations),
            }
            for group in self.groups()
        ]


def _count(names: Counter[str], name: str, most: int) -> None:
    """Count the name, among the others where there are so many names already."""
    crowded = name not in names and len(names) >= most
    names[_OTHERS if crowded else name] += 1


def _cells(group: Group) -> tuple[str, ...]:
    shares = ", ".join(f"{safe(shortened(name, 30))} {share:.0%}" for name, share in group.shares())
    return (
        safe(group.topic),
        safe(shortened(group.reason, _WIDEST)),
        safe(shortened(group.flag or "-", _WIDEST)),
        f"{group.count:,}",
        f"{group.a_minute:.1f}",
        f"{format_time(group.first)[:19]}Z",
        f"{format_time(group.last)[:19]}Z",
        safe(str(group.example)),
        shares or "-",
        safe(shortened(group.message, _WIDEST)) or "-",
    )
