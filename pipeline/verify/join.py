"""The join by hand: one unit of one flag, from its events and the closes of its chain.

Only the closes at which something can happen are gone through: those that were the first to see an event of the unit,
and those whose watermark makes a window or an event due. What a close does is in `_close`, step by step:

1. exposures that come too late are `late`; the others open metric windows or belong to them;
2. outcomes and guardrails fall to a window; those that come too late are `late`;
3. windows that have ended give a fact, with its events, less their duplicates;
4. what no window holds and nothing can catch any more is `outside_window` or `no_exposure`.

Intervals are half-open, times µs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from contracts.flags import Contract
from pipeline.verify.facts import fact_of
from pipeline.verify.history import History
from pipeline.verify.rows import Event, Fact, Joined, Unjoined
from pipeline.verify.wire import unframed

__all__ = ["Decided", "Window", "join"]


class Window(Struct, eq=False):
    """A metric window `[start, end)` of one variation, the exposure that opened it, and what falls to it."""

    variation: str
    start: int
    end: int
    opener: Event
    attached: list[Event] = []
    closed_at: int | None = None
    """The close that published it; None while it is open."""


@dataclass(slots=True)
class Decided:
    """What should have become of events.

    `either` has the windowless events of which a close may or may not have known that a window had just ended.
    """

    facts: list[Fact] = field(default_factory=list)
    joined: list[Joined] = field(default_factory=list)
    unjoined: list[Unjoined] = field(default_factory=list)
    open: list[Event] = field(default_factory=list)
    either: set[tuple[str, int]] = field(default_factory=set)


def join(flag: str, events: Iterable[Event], history: History, partition: int, decided: Decided) -> None:
    """Add to `decided` what should have become of the events, all that were read of one unit of the flag."""
    arrivals: dict[int, list[Event]] = {}
    for event in events:
        arrivals.setdefault(history.arrival(event.topic, event.offset), []).append(event)
    unit = _Unit(flag, history, partition, decided)
    index = -1
    due: int | None = None
    to_come = sorted(arrivals)
    while True:
        due_at = history.end if due is None else history.reaching(due, index)
        index = min(to_come[0] if to_come else history.end, due_at)
        if index >= history.end:
            break
        fresh = arrivals[to_come.pop(0)] if to_come and to_come[0] == index else []
        due = unit.close(index, fresh)
    decided.open += unit.waiting
    for late in to_come:
        decided.open += arrivals[late]


def in_order(event: Event) -> tuple[int, bytes, str, int]:
    """Return the event's place in event time; ties go by the bytes of the value, then topic, then offset."""
    return event.event_time, event.value, event.topic, event.offset


class _Unit:
    """What is known of the unit between closes: the events that wait, and all windows ever closed."""

    def __init__(self, flag: str, history: History, partition: int, decided: Decided) -> None:
        self.decided = decided
        self.waiting: list[Event] = []
        self._closed: list[Window] = []
        self._history = history
        self._contracts = history.contracts
        self._reach = history.reach[flag]
        self._gone_by = history.gone_by[flag]
        self._partition = partition

    def close(self, index: int, fresh: list[Event]) -> int | None:
        """Do what the close decides of this unit; return the watermark at which something more may be decided."""
        close = self._history.closes[index]
        reach, gone_by = self._reach[index], self._gone_by[index]
        passed = close.closed_through - close.allowed_lateness  # windows that end up to here close

        # 1
        on_time = [event for event in fresh if not self._is_late(event, gone_by, reach)]
        events = self.waiting + on_time
        events.sort(key=in_order)
        opened = windows_of(events, self._contracts)
        windows = self._closed + opened

        # 2
        new = {id(event) for event in on_time} if self._closed else set()
        homeless, waiting = [], []
        for event in events:
            window = falls_to(event, windows)
            if window is None:
                homeless.append(event)
            elif window.closed_at is None:
                window.attached.append(event)
            elif id(event) in new:
                self._unjoin("late", event)
            else:
                waiting.append(event)  # whoever has waited is never late

        # 3
        closing = [window for window in opened if window.end <= passed]
        for window in closing:
            counted = self._counted(window.attached)
            crossed = len(windows) > 1 and any(
                other.variation != window.variation and other.start < window.end and window.start < other.end
                for other in windows
            )
            contract = self._contracts[window.opener.contract_version]
            self.decided.facts.append(fact_of(window.start, window.end, window.opener, counted, contract, crossed))
            self.decided.joined += [self._joined(window, event) for event in counted]

        # 4
        for window in closing:
            window.closed_at, window.attached = index, []
        self._closed += closing
        for event in homeless:
            if event.event_time + reach > passed:
                waiting.append(event)
            else:
                self._expire(event, reach, index)

        still = [window for window in opened if window.closed_at is None]
        self.waiting = waiting + [event for window in still for event in window.attached]
        dues = [window.end for window in still] + [event.event_time + reach for event in waiting]
        return min(dues) + self._history.least_lateness if dues else None

    def _is_late(self, event: Event, gone_by: int, reach: int) -> bool:
        """Tell, and take note, whether an event comes too late by its time, or an exposure over a closed window."""
        start = event.event_time
        late = start <= gone_by or (
            event.kind == "exposure"
            and any(window.start < start + reach and start < window.end for window in self._closed)
        )
        if late:
            self._unjoin("late", event)
        return late

    def _counted(self, attached: Sequence[Event]) -> list[Event]:
        """Return the events that count in a window; a copy of an earlier one is a duplicate."""
        if len(attached) == 1:
            return [*attached]
        seen: set[tuple[object, ...]] = set()
        counted = []
        for event in attached:
            if event.event_id is not None:
                identity: tuple[object, ...] = (event.topic, event.event_id)
            else:
                identity = (event.topic, event.value, event.event_time)
            if identity in seen:
                self._unjoin("duplicate", event)
            else:
                seen.add(identity)
                counted.append(event)
        return counted

    def _expire(self, event: Event, reach: int, index: int) -> None:
        ended = [window for window in self._closed if event.event_time - reach < window.end <= event.event_time]
        self._unjoin("outside_window" if ended else "no_exposure", event)
        if ended and all(self._may_be_forgotten(window, index) for window in ended):
            self.decided.either.add((event.topic, event.offset))

    def _may_be_forgotten(self, window: Window, index: int) -> bool:
        """Tell whether a close before `index` could drop the residue of the closed window."""
        closes = self._history.closes
        return window.closed_at is not None and any(
            window.end + 2 * self._reach[at] + closes[at].allowed_lateness <= closes[at].closed_through
            for at in range(window.closed_at, index)
        )

    def _joined(self, window: Window, event: Event) -> Joined:
        return Joined(  # in the order of the table; by name it takes twice as long
            event.flag_key,
            event.unit_id,
            window.variation,
            window.start,
            event.kind,
            event.topic,
            self._partition,
            event.offset,
            event.event,
            event.event_time,
            event.variation,
            event.variation != window.variation,
            event.values,
            event.model_route,
            event.prompt_version,
            event.retrieval_profile,
            event.fallback_used,
            event.guardrail,
            event.severity,
            event.confirmed,
            event.versions[0],
        )

    def _unjoin(self, reason: str, event: Event) -> None:
        self.decided.unjoined.append(
            Unjoined(
                reason=reason,
                topic=event.topic,
                partition=self._partition,
                offset=event.offset,
                event_time=event.event_time,
                flag_key=event.flag_key,
                unit_id=event.unit_id,
                variation=event.variation,
                value=unframed(event.value).decode(),
                contract_version=event.contract_version,
            )
        )


def windows_of(events: Iterable[Event], contracts: Mapping[str, Contract]) -> list[Window]:
    """Return the windows that a unit's exposures open, from its events in order.

    The first exposure to a variation opens one, as long as the contract version of that exposure says. The first at or
    after its end opens the next.
    """
    latest: dict[str, Window] = {}
    windows = []
    for event in events:
        if event.kind == "exposure":
            before = latest.get(event.variation)
            if before is None or event.event_time >= before.end:
                end = event.event_time + contracts[event.contract_version].window_us
                window = latest[event.variation] = Window(event.variation, event.event_time, end, event)
                windows.append(window)
    return windows


def falls_to(event: Event, windows: Sequence[Window]) -> Window | None:
    """Return the window that an event belongs to.

    Its own variation's window that holds its time; failing that, for an outcome or guardrail, the earliest window of
    another variation that does (ties by variation).
    """
    best: Window | None = None
    for window in windows:
        if window.start <= event.event_time < window.end:
            if window.variation == event.variation:
                return window
            if event.kind != "exposure" and (
                best is None or (window.start, window.variation) < (best.start, best.variation)
            ):
                best = window
    return best
