"""The join by hand: plain lists, one unit at a time, nothing ever forgotten.

There are no segments, no residue that ages and no SQL here. A unit of a flag remembers every event that waits for its
fate and every window that was ever closed. A close goes through the units one by one:

1. `late`: which of the events that arrived since the last close come too late to take part;
2. `windows_of`: the metric windows that the remaining exposures open;
3. `falls_to`: the window that each event belongs to;
4. windows whose end and allowed lateness have passed give a fact, `counted` events and `duplicate` ones;
5. outcomes and guardrails that nothing can catch any more become `outside_window` or `no_exposure`.

Intervals are half-open. Times and spans are µs. In every rule but the length of a window itself, the reach of a flag is
the longest window of any contract version that was in use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.flags import Contract, Metric
from tests.properties.events import Event

__all__ = ["Oracle", "Row", "Rows"]

Row = dict[str, Any]

LONG_AGO: Final = -(2**62)  # before any time: no watermark yet


@dataclass(frozen=True, slots=True)
class Rows:
    """What a close publishes, in no order: rows of the tables facts, events and unjoined, and dead letters."""

    facts: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    unjoined: list[Row] = field(default_factory=list)
    dead_letters: list[Row] = field(default_factory=list)

    def extend(self, other: "Rows") -> None:
        """Add what another close published."""
        self.facts.extend(other.facts)
        self.events.extend(other.events)
        self.unjoined.extend(other.unjoined)
        self.dead_letters.extend(other.dead_letters)


@dataclass(frozen=True, slots=True)
class Window:
    """A metric window `[start, end)` of one variation of one unit."""

    variation: str
    start: int
    end: int
    opener: Event

    def holds(self, instant: int) -> bool:
        """Tell whether the window covers the instant."""
        return self.start <= instant < self.end

    def overlaps(self, start: int, end: int) -> bool:
        """Tell whether the window shares an instant with `[start, end)`."""
        return self.start < end and start < self.end


@dataclass(slots=True)
class Unit:
    """All that is known of one unit of one flag."""

    fresh: list[Event] = field(default_factory=list)  # arrived since the last close
    waiting: list[Event] = field(default_factory=list)  # judged not late, no fate yet
    closed: list[Window] = field(default_factory=list)  # every window ever closed


class Oracle:
    """The join of one partition.

    `contracts` by version; `used` are the versions in use before the first event (each event's own version is in use
    from its arrival on).
    """

    def __init__(
        self, contracts: Mapping[str, Contract], allowed_lateness: int, partition: int, used: Iterable[str] = ()
    ) -> None:
        """Begin with no event and no watermark."""
        self._contracts = contracts
        self._allowed_lateness = allowed_lateness
        self._partition = partition
        self._units: dict[tuple[str, str], Unit] = {}
        self._reach: dict[str, int] = {}
        self._decided_through: dict[str, int] = {}
        self._closed_through = LONG_AGO
        for version in used:
            self._use(version)

    def _use(self, version: str) -> None:
        contract = self._contracts[version]
        self._reach[contract.flag_key] = max(self._reach.get(contract.flag_key, 0), contract.window_us)

    def arrive(self, events: Iterable[Event]) -> None:
        """Take events in; nothing is decided before the next close."""
        for event in events:
            self._use(event.contract_version)
            self._units.setdefault((event.flag_key, event.unit_id), Unit()).fresh.append(event)

    @property
    def undecided(self) -> list[Event]:
        """The events without a fate."""
        return [event for unit in self._units.values() for event in unit.fresh + unit.waiting]

    @property
    def closes_through(self) -> int | None:
        """The watermark at which every event known so far has its fate."""
        last = (e.event_time + self._reach[e.flag_key] + self._allowed_lateness for e in self.undecided)
        return max(last, default=None)

    def close(self, watermark: int) -> Rows:
        """Decide everything up to the watermark and return what that publishes."""
        rows = Rows()
        for (flag_key, _), unit in self._units.items():
            rows.extend(self._close_unit(unit, self._reach[flag_key], watermark))
        self._closed_through = watermark
        for flag_key in self._reach:
            self._decided_through[flag_key] = self.decided_through(flag_key)
        return rows

    def decided_through(self, flag_key: str) -> int:
        """Return the instant up to which every event of the flag has its fate.

        An event is decided when the watermark passes its time, the reach and the lateness together. A contract with
        a longer window does not open again what was decided before it came.
        """
        by_watermark = self._closed_through - self._reach[flag_key] - self._allowed_lateness
        return max(by_watermark, self._decided_through.get(flag_key, LONG_AGO))

    def _close_unit(self, unit: Unit, reach: int, watermark: int) -> Rows:
        rows = Rows()
        passed = watermark - self._allowed_lateness  # windows that end up to here close

        # 1 and 2: exposures first, because they make the windows that the others fall to
        late = [e for e in unit.fresh if e.kind == "exposure" and self._late_exposure(e, unit, reach)]
        exposures = [e for e in unit.waiting + unit.fresh if e.kind == "exposure" and e not in late]
        opened = windows_of(exposures, self._contracts)
        windows = unit.closed + opened
        late += [e for e in unit.fresh if e.kind != "exposure" and self._late_other(e, unit, windows)]

        # 3: what takes part, and where
        taking_part = sorted((e for e in unit.waiting + unit.fresh if e not in late), key=in_order)
        places = {(e.topic, e.offset): falls_to(e, windows) for e in taking_part}

        # 4: a fact for each window that closes
        closing = [window for window in opened if window.end <= passed]
        duplicates: list[Event] = []
        for window in closing:
            attached = [e for e in taking_part if places[e.topic, e.offset] is window]
            counted = without_duplicates(attached)
            duplicates += [e for e in attached if e not in counted]
            crossed = any(w.variation != window.variation and w.overlaps(window.start, window.end) for w in windows)
            contract = self._contracts[window.opener.contract_version]
            rows.facts.append(fact_of(window, counted, contract, crossed=crossed))
            rows.events.extend(self._joined(window, event) for event in counted)

        # 5: nothing closed holds these, and nothing that may still come can
        homeless = [e for e in taking_part if places[e.topic, e.offset] is None and e.event_time + reach <= passed]
        ended = [window.end for window in unit.closed + closing]
        outside = [e for e in homeless if any(e.event_time - reach < end <= e.event_time for end in ended)]
        alone = [e for e in homeless if e not in outside]

        fates = (("late", late), ("duplicate", duplicates), ("outside_window", outside), ("no_exposure", alone))
        for reason, decided in fates:
            rows.unjoined.extend(self._unjoined(reason, event) for event in decided)
        broken = [("late", event) for event in late] + [("no_exposure", event) for event in alone]
        rows.dead_letters.extend(dead_letter_of(reason, event) for reason, event in broken)

        unit.closed += closing
        unit.fresh = []
        unit.waiting = [e for e in taking_part if places[e.topic, e.offset] not in closing and e not in homeless]
        return rows

    def _late_exposure(self, event: Event, unit: Unit, reach: int) -> bool:
        """Tell whether an exposure is decided by time, or could have changed a closed window of any variation."""
        if event.event_time <= self.decided_through(event.flag_key):
            return True
        return any(window.overlaps(event.event_time, event.event_time + reach) for window in unit.closed)

    def _late_other(self, event: Event, unit: Unit, windows: Sequence[Window]) -> bool:
        """Tell whether an outcome or guardrail is decided by time, or falls to a window that is closed."""
        if event.event_time <= self.decided_through(event.flag_key):
            return True
        return falls_to(event, windows) in unit.closed

    def _joined(self, window: Window, event: Event) -> Row:
        return {
            "flag_key": event.flag_key,
            "unit_id": event.unit_id,
            "fact_variation": window.variation,
            "window_start": window.start,
            "kind": event.kind,
            "topic": event.topic,
            "partition": self._partition,
            "offset": event.offset,
            "event": event.event,
            "event_time": event.event_time,
            "variation": event.variation,
            "mismatched": event.variation != window.variation,
            "values": dict(event.values),
            "model_route": event.model_route,
            "prompt_version": event.prompt_version,
            "retrieval_profile": event.retrieval_profile,
            "fallback_used": event.fallback_used,
            "guardrail": event.guardrail,
            "severity": event.severity,
            "confirmed": event.confirmed,
            "contract_version": event.contract_version,
        }

    def _unjoined(self, reason: str, event: Event) -> Row:
        return {
            "reason": reason,
            "topic": event.topic,
            "partition": self._partition,
            "offset": event.offset,
            "event_time": event.event_time,
            "flag_key": event.flag_key,
            "unit_id": event.unit_id,
            "variation": event.variation,
            "value": event.value.decode(),
            "contract_version": event.contract_version,
        }


def dead_letter_of(reason: str, event: Event) -> Row:
    """Return the copy that tells on-call of broken telemetry: the record as it came."""
    return {
        "reason": reason,
        "stage": "close",
        "topic": event.topic,
        "offset": event.offset,
        "record_time": event.record_time,
        "key": event.key,
        "value": event.value,
        "headers": [{"key": name, "value": text} for name, text in event.headers],
    }


def in_order(event: Event) -> tuple[int, bytes, str, int]:
    """Return the event's place in event time; ties go by the bytes of the value, then topic, then offset."""
    return event.event_time, event.value, event.topic, event.offset


def windows_of(exposures: Iterable[Event], contracts: Mapping[str, Contract]) -> list[Window]:
    """Return the windows that a unit's exposures open.

    The first exposure to a variation opens one, as long as the contract version of that exposure says. The first at
    or after its end opens the next.
    """
    latest: dict[str, Window] = {}
    windows: list[Window] = []
    for exposure in sorted(exposures, key=in_order):
        before = latest.get(exposure.variation)
        if before is None or exposure.event_time >= before.end:
            end = exposure.event_time + contracts[exposure.contract_version].window_us
            window = Window(exposure.variation, exposure.event_time, end, exposure)
            latest[exposure.variation] = window
            windows.append(window)
    return windows


def falls_to(event: Event, windows: Iterable[Window]) -> Window | None:
    """Return the window that an event belongs to, or None.

    Its own variation's window that holds its time; failing that, for an outcome or guardrail, the earliest window of
    another variation that does (ties by variation).
    """
    around = [window for window in windows if window.holds(event.event_time)]
    own = [window for window in around if window.variation == event.variation]
    if own or event.kind == "exposure":
        return own[0] if own else None
    return min(around, key=lambda window: (window.start, window.variation), default=None)


def without_duplicates(attached: Sequence[Event]) -> list[Event]:
    """Return the events of one window that count: the first of each set of copies, in order.

    Copies lie in one topic and share their event ID, or have none and share bytes and event time.
    """
    seen: set[tuple[object, ...]] = set()
    counted: list[Event] = []
    for event in sorted(attached, key=in_order):
        identity = ("id", event.event_id) if event.event_id else ("bytes", event.value, event.event_time)
        if (event.topic, *identity) not in seen:
            seen.add((event.topic, *identity))
            counted.append(event)
    return counted


def fact_of(window: Window, counted: Sequence[Event], contract: Contract, *, crossed: bool) -> Row:
    """Return the fact of a window from the events that count in it; route and attributes are the opener's."""
    exposures = [event for event in counted if event.kind == "exposure"]
    opener = window.opener
    state = state_at(window.start, contract)
    flags = flags_of(window, counted, contract, crossed=crossed, state=state)
    kept = opener.attributes or {}
    if contract.attributes is not None:
        kept = {name: text for name, text in kept.items() if name in contract.attributes}
    return {
        "flag_key": opener.flag_key,
        "experiment_key": contract.experiment_key,
        "unit_id": opener.unit_id,
        "assignment_unit": opener.assignment_unit,
        "variation": window.variation,
        "state": state,
        "window_start": window.start,
        "window_end": window.end,
        "last_exposure_at": max(event.event_time for event in exposures),
        "exposures": len(exposures),
        "fallbacks": sum(1 for event in exposures if event.fallback_used),
        "model_route": opener.model_route,
        "prompt_version": opener.prompt_version,
        "retrieval_profile": opener.retrieval_profile,
        "outcomes": sum(1 for event in counted if event.kind == "outcome"),
        "guardrails": sum(1 for event in counted if event.kind == "guardrail"),
        "metrics": metrics_of(window, counted, contract),
        "flags": flags,
        "clean": not flags,
        "attributes": dict(kept),
        "contract_version": opener.contract_version,
    }


def state_at(instant: int, contract: Contract) -> str | None:
    """Return the rung of the exposure ladder that the experiment stood on, or None before the first."""
    begun = [state for state, since in contract.states if since <= instant]
    return begun[-1] if begun else None


def flags_of(
    window: Window, counted: Sequence[Event], contract: Contract, *, crossed: bool, state: str | None
) -> list[str]:
    """Return what is not clean about a window's evidence, in the order of the table."""
    exposures = [event for event in counted if event.kind == "exposure"]
    found = {
        "fallback_contaminated": any(event.fallback_used for event in exposures),
        "variation_mismatch": any(event.variation != window.variation for event in counted),
        "route_drift": any(drifted(event, contract) for event in exposures),
        "crossover": crossed,
        "assignment_unit_mismatch": any(other_unit(event, contract) for event in exposures),
        "excluded_unit": any(excluded(event, contract) for event in exposures),
        "wrong_state": bool(contract.states) and state in {None, "offline", "cleanup"},
    }
    return [flag for flag, is_so in found.items() if is_so]


def drifted(exposure: Event, contract: Contract) -> bool:
    """Tell whether what ran is not the variation's route; what a fallback ran and what is not named is not compared."""
    if exposure.fallback_used:
        return False
    route = contract.variations[exposure.variation]
    pairs = (
        (route.model_route, exposure.model_route),
        (route.prompt_version, exposure.prompt_version),
        (route.retrieval_profile, exposure.retrieval_profile),
    )
    return any(contracted is not None and contracted != ran for contracted, ran in pairs)


def other_unit(exposure: Event, contract: Contract) -> bool:
    """Tell whether the exposure was assigned by another unit than the contract's."""
    if contract.assignment_unit is None or exposure.assignment_unit is None:
        return False
    return bare(exposure.assignment_unit) != bare(contract.assignment_unit)


def bare(unit: str) -> str:
    """Return the unit's name without the ending that says it is an identifier: `userId` and `user_id` are `user`."""
    return unit.removesuffix("_id").removesuffix("Id").lower()


def excluded(exposure: Event, contract: Contract) -> bool:
    """Tell whether the unit is in an excluded segment, or names segments without the eligible one."""
    names = set(exposure.segments or ())
    if names & set(contract.exclusions):
        return True
    return bool(names) and contract.eligible_segment is not None and contract.eligible_segment not in names


def metrics_of(window: Window, counted: Sequence[Event], contract: Contract) -> dict[str, float]:
    """Return each metric that has events of the window's own variation within its own span from the start."""
    metrics: dict[str, float] = {}
    for metric in contract.metrics:
        events = [
            event
            for event in counted
            if event.kind == "outcome"
            and event.variation == window.variation
            and event.event == metric.event
            and event.event_time < window.start + metric.window_us
            and (metric.field is None or metric.field in event.values)
        ]
        if events:
            metrics[metric.name] = aggregate(metric, events)
    return metrics


def aggregate(metric: Metric, events: Sequence[Event]) -> float:
    """Return the metric of events that are in order and not empty."""
    if metric.aggregate == "count":
        return float(len(events))
    numbers = [event.values[metric.field or ""] for event in events]
    answers = {
        "first": numbers[0],
        "last": numbers[-1],
        "any": float(any(numbers)),
        "all": float(all(numbers)),
        "sum": sum(numbers),
        "mean": sum(numbers) / len(numbers),
        "min": min(numbers),
        "max": max(numbers),
    }
    return answers[metric.aggregate]
