"""Whether an event can only be late in a lake: what its manifests have decided for good.

The rules are those of the close; here they are asked of one event, and of nothing that is still to be read. An event
that is not late by them may yet be, if a close runs before it is read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contracts.times import format_time
from pipeline.dlq.judging import Event

__all__ = ["NOTHING", "Past", "Window", "only_late", "windows_of"]


class Window(NamedTuple):
    """A metric window of a unit, `[start, end)` in µs."""

    start: int
    end: int
    variation: str


@dataclass(frozen=True, slots=True)
class Past:
    """What a lake has decided of one flag and unit. Times in µs."""

    late_through: int | None
    """New events at or before it are late; None before the first close."""
    longest: int
    """The longest metric window of the flag."""
    closed: Sequence[Window] = ()
    open: Sequence[Window] = ()


NOTHING = Past(None, 0)
"""Of a flag and unit that the lake has never seen."""


def only_late(event: Event, past: Past) -> str | None:
    """Return why the event can only be late; None if it may still count."""
    t = event.event_time
    if past.late_through is not None and t <= past.late_through:
        return f"all up to {format_time(past.late_through)} is decided"
    if event.kind == "exposure":
        over = [each for each in past.closed if t < each.end and each.start < t + past.longest]
        return f"its window would overlap {_told(over[0])}, which is closed" if over else None
    holding = [window for window in (*past.closed, *past.open) if window.start <= t < window.end]
    # its own variation's window goes first, then the earliest, ties by variation
    holding.sort(key=lambda window: (window.variation != event.variation, window.start, window.variation))
    falls_to = holding[0] if holding else None
    closed = falls_to is not None and falls_to in past.closed
    return f"it falls to {_told(falls_to)}, which is closed" if falls_to is not None and closed else None


def windows_of(exposures: Iterable[tuple[int, int, str]]) -> list[Window]:
    """Return the windows that a unit's open exposures make: time, length of the window it would open (µs), variation.

    The first exposure to a variation opens one; those inside belong to it; the first at or after its end opens the
    next.
    """
    opened: dict[str, Window] = {}
    found = []
    for time, length, variation in sorted(exposures):
        if variation in opened and time < opened[variation].end:
            continue
        opened[variation] = Window(time, time + length, variation)
        found.append(opened[variation])
    return found


def _told(window: Window) -> str:
    return f"the window of {window.variation!r} from {format_time(window.start)}"
