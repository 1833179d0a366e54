"""Streams: what arrives at one partition and when it checkpoints, closes and crashes.

One generator serves hypothesis (which shrinks) and a seeded `random.Random` (which is fast): it asks a `Choices` for
every decision. Times lie on a grid of hours and at the edges of windows around other events, so that ties, last
microseconds and exact ends are common.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from hypothesis import strategies as st

from contracts.flags import Contract
from tests.properties.events import EPOCH, HOUR, Event
from tests.properties.flags import GROWING, STEADY

__all__ = [
    "ALLOWED_LATENESS",
    "Arrive",
    "Checkpoint",
    "Choices",
    "Close",
    "Crash",
    "Draws",
    "Merge",
    "Seeded",
    "Step",
    "any_steps",
    "draw_events",
    "drawn",
    "in_order_of_arrival",
    "punctual_steps",
    "steps_with_growth",
]

ALLOWED_LATENESS: Final = HOUR
_WINDOWS: Final = sorted({contract.window_us for contract in (*STEADY, *GROWING)})
_SPANS: Final = [window + wait for window in _WINDOWS for wait in (0, ALLOWED_LATENESS - 1, ALLOWED_LATENESS)]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrive:
    """An event is read."""

    event: Event


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The buffer becomes durable."""


@dataclass(frozen=True, slots=True)
class Close:
    """Everything up to the watermark is decided and committed."""

    watermark: int


@dataclass(frozen=True, slots=True)
class Crash:
    """The buffer is lost and read again; so is a close at this watermark that did not come to its commit."""

    watermark: int


@dataclass(frozen=True, slots=True)
class Merge:
    """Old segments become one."""


Step = Arrive | Checkpoint | Close | Crash | Merge


class Choices(Protocol):
    """A source of decisions; the first option is the simplest."""

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""

    def number(self, low: int, high: int) -> int:
        """Return an integer between low and high, both included."""

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """Return the items in some order."""


class Draws:
    """Choices made by hypothesis."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        """Draw from the test case at hand."""
        self._draw = draw

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, the first when shrunk."""
        return options[self.number(0, len(options) - 1)]

    def number(self, low: int, high: int) -> int:
        """Return an integer, the low one when shrunk."""
        return int(self._draw(st.integers(low, high)))

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """Return a permutation, the given order when shrunk."""
        return list(self._draw(st.permutations(items)))


class Seeded:
    """Choices made by a seeded generator."""

    def __init__(self, seed: int) -> None:
        """Begin at the seed."""
        self._random = random.Random(seed)  # noqa: S311 - simulation, not secrets

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, each as likely."""
        return self._random.choice(options)

    def number(self, low: int, high: int) -> int:
        """Return an integer, each as likely."""
        return self._random.randint(low, high)

    def shuffle(self, items: Sequence[T]) -> list[T]:
        """Return a permutation, each as likely."""
        return self._random.sample(items, len(items))


def drawn(make: Callable[[Choices], T]) -> st.SearchStrategy[T]:
    """Return the hypothesis strategy of what a generator makes."""

    @st.composite
    def strategy(draw: Callable[[st.SearchStrategy[Any]], Any]) -> T:
        return make(Draws(draw))

    return strategy()


def draw_events(
    choices: Choices,
    size: int,
    units: int = 2,
    least: int = 1,
    contracts: Sequence[Contract] = (),
    *,
    by_body: bool = False,
) -> list[Event]:
    """Return `least` to `size` events and copies of them, in no order and without offsets.

    With `by_body` two records of one topic with equal bytes and event time have one contract version, so that what
    they tell does not depend on which is read first.
    """
    contracts = contracts or choices.pick((STEADY[:1], STEADY[:2], STEADY[:2], STEADY))
    span = choices.pick((72, 24, 48))
    variations = choices.pick((1, 2, 3))
    events: list[Event] = []
    times: list[int] = []
    for _ in range(choices.number(least, size)):
        event_time = _time(choices, times, span, contracts)
        is_copy = choices.pick((False, False, False, True))
        if events and is_copy:
            event = _copy(choices, choices.pick(events), contracts, event_time)
        else:
            event = _event(choices, f"u{choices.number(1, units)}", variations, contracts, event_time)
        events.append(event)
        times.append(event.event_time)
    if by_body:
        first = {(e.topic, e.event_time, e.value): e.contract_version for e in reversed(events)}
        events = [replace(e, contract_version=first[e.topic, e.event_time, e.value]) for e in events]
    return events


def _time(choices: Choices, times: Sequence[int], span: int, contracts: Sequence[Contract]) -> int:
    if not times or choices.pick((True, False)):
        return EPOCH + HOUR * choices.number(0, span)
    edges = [0, 1, -1, HOUR, -HOUR]
    for window in sorted({contract.window_us for contract in contracts}):
        edges += [window, window - 1, -window, 1 - window, 2 * window, 2 * window - 1]
    return choices.pick(times) + choices.pick(edges)


def _event(choices: Choices, unit: str, variations: int, contracts: Sequence[Contract], event_time: int) -> Event:
    contract = choices.pick(contracts)
    kind = choices.pick(("exposure", "outcome", "guardrail", "exposure", "outcome"))
    body: dict[str, Any] = {
        "flag_key": contract.flag_key,
        "unit_id": unit,
        "variation": choices.pick(sorted(contract.variations)[:variations]),
        "event_id": choices.pick((None, None, None, "e1", "e2")),
        "event": choices.pick(("done", "done", "asked")),
    }
    if kind == "exposure":
        route = contract.variations[body["variation"]]
        body |= {
            "model_route": choices.pick((route.model_route, route.model_route, "model_z")) or "model_a",
            "prompt_version": choices.pick((route.prompt_version, route.prompt_version, "p9")) or "p1",
            "retrieval_profile": choices.pick((route.retrieval_profile, route.retrieval_profile, "rich")) or "plain",
            "assignment_unit": choices.pick(("conversation", "conversation_id", "conversationId", "user")),
            "fallback_used": choices.pick((False, False, True)),
            "segments": choices.pick((None, (), ("paid",), ("free",), ("paid", "incident"))),
            "attributes": choices.pick((None, {}, {"locale": "de"}, {"locale": "fr", "plan": "pro"})),
        }
    elif kind == "outcome":
        numbers = (None, 0.0, 1.0, 0.25, 2.5)  # sums of these are exact in any order
        values = {"solved": choices.pick(numbers), "cost": choices.pick(numbers)}
        body |= {"values": {name: number for name, number in values.items() if number is not None}}
    else:
        body |= {
            "guardrail": choices.pick(("unsafe_answer", "complaint")),
            "severity": choices.pick(("info", "severe")),
            "confirmed": choices.pick((None, False, True)),
            "values": {"value": choices.pick((0.0, 1.0))},
        }
    stamped = {"timestamp": event_time} if choices.pick((True, True, False)) else {}
    return Event(
        kind=kind,
        topic=f"{kind}s",
        offset=-1,
        event_time=event_time,
        contract_version=contract.version,
        value=json.dumps({**body, **stamped}, sort_keys=True).encode(),
        key=unit.encode(),
        headers=choices.pick(((), (("trace", b"\x00\xff"), ("empty", None)))),
        **body,
    )


def _copy(choices: Choices, origin: Event, contracts: Sequence[Contract], event_time: int) -> Event:
    """Return the same record again; one without a timestamp may lie at another time or be read by another version."""
    versions = [
        contract.version
        for contract in contracts
        if contract.flag_key == origin.flag_key and origin.variation in contract.variations
    ]
    stamped = b'"timestamp"' in origin.value
    again = origin.event_time if stamped else choices.pick((origin.event_time, event_time))
    return replace(origin, event_time=again, contract_version=choices.pick([origin.contract_version, *versions]))


def in_order_of_arrival(events: Iterable[Event]) -> list[Event]:
    """Return the events with the offsets of their topics in the order given."""
    next_offsets: dict[str, int] = {}
    placed = []
    for event in events:
        offset = next_offsets.get(event.topic, 0)
        next_offsets[event.topic] = offset + 1
        placed.append(replace(event, offset=offset))
    return placed


def any_steps(choices: Choices, events: Sequence[Event]) -> list[Step]:
    """Return the events in a more or less shuffled order among closes at any rising watermarks: some come late."""
    return _steps(choices, in_order_of_arrival(_delayed(choices, events)))


def punctual_steps(choices: Choices, events: Sequence[Event]) -> list[Step]:
    """Return the events in a more or less shuffled order among closes that make none of them late.

    No close passes the event time plus the allowed lateness of an event still to come.
    """
    arrivals = in_order_of_arrival(_delayed(choices, events))
    limits: list[int | None] = []
    ahead: int | None = None
    for event in reversed(arrivals):
        limits.append(ahead)
        least = event.event_time + ALLOWED_LATENESS
        ahead = least if ahead is None else min(ahead, least)
    return _steps(choices, arrivals, limits[::-1])


def steps_with_growth(choices: Choices, size: int, units: int = 2, least: int = 1) -> list[Step]:
    """Return any steps of a flag whose contract is replaced, time and again, by one with a longer window."""
    events = _delayed(choices, draw_events(choices, size, units, least, GROWING))
    order = [contract.version for contract in GROWING]
    return _steps(choices, in_order_of_arrival(sorted(events, key=lambda e: order.index(e.contract_version))))


def _delayed(choices: Choices, events: Sequence[Event]) -> list[Event]:
    """Return the events by event time and a delay that some of them have."""
    delay = choices.pick((0, 2, 12, 30, 100)) * HOUR
    pairs = [(event.event_time + choices.pick((0, 0, delay, delay // 2)), event) for event in choices.shuffle(events)]
    return [event for _, event in sorted(pairs, key=lambda pair: pair[0])]


def _steps(choices: Choices, arrivals: Sequence[Event], limits: Sequence[int | None] = ()) -> list[Step]:
    """Put closes, checkpoints, crashes and merges between arrivals, some fifteen where these are many.

    The watermark of a close is that of some window or event becoming due, and seldom far beyond the last close. None
    passes the limit at its place.
    """
    steps: list[Step] = []
    watermark = EPOCH
    gap = len(arrivals) // 40
    due: list[int] = []
    for index, event in enumerate(arrivals):
        steps.append(Arrive(event))
        due += [event.event_time + span for span in _SPANS]
        step = choices.pick(("close", "close", "checkpoint", "crash", "merge", "go on", "go on", "go on"))
        limit = limits[index] if limits else None
        if choices.number(0, gap) < gap or step == "go on":
            continue
        if step == "checkpoint":
            steps.append(Checkpoint())
        elif step == "merge":
            steps.append(Merge())
        else:
            ahead = sorted(instant for instant in due if instant >= watermark) or [watermark]
            wanted = ahead[choices.number(0, max(3, len(ahead) // 4)) % len(ahead)]
            if limit is not None:
                wanted = choices.pick((limit, min(wanted, limit)))
            if wanted >= watermark and step == "close":
                watermark = wanted
                steps.append(Close(wanted))
            elif wanted >= watermark:
                steps.append(Crash(wanted))
    return steps
