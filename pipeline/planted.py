"""Made-up traffic of one A/B test, with planted faults and what each of them must become.

A *story* is one conversation: it tells its events, each with the fate that awaits it, and the facts it must leave. So
what is expected is known by construction, not computed with the rules that are under test. Everything follows from the
arguments: the same `rng`, `now_us` and contract give the same bytes.

Events come in two parts. The first is read and closed before the second is published, which makes the events held back
for the second late for certain. Within a part, messages are in the order of arrival: up to half a minute out of order.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from contracts.flags import Contract
from contracts.placement import crc32_partition, murmur2_partition
from contracts.times import format_time
from pipeline.traffic import Bodies, Message, encode

__all__ = ["ARTICLE_UNIT", "FAULTS", "Planted", "Traffic", "generate"]

ARTICLE_UNIT: Final = "conv_98271"

_SECOND: Final = 1_000_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_SPAN: Final = 72 * _HOUR  # most windows of 24 h close by event time alone
_SECOND_PART: Final = 6 * _HOUR  # the last hours arrive with the second part
_WINDOW: Final = 24 * _HOUR
_ROOM: Final = 5 * _HOUR  # the longest conversation and its outcome take less
_JITTER: Final = 30 * _SECOND  # within the least out-of-orderness that anybody sets


@dataclass(frozen=True, slots=True)
class Planted:
    """What must come of the messages.

    `published` = joined + unjoined + refused + rerouted - rerouted copies, of which there is one for each rerouted
    message; a copy is counted in `joined`. `faults` counts stories by name, `flags` facts by (variation, flag).
    """

    published: int
    faults: Mapping[str, int]
    facts: Mapping[str, int]  # by variation
    clean: Mapping[str, int]  # facts without flags, by variation
    flags: Mapping[tuple[str, str], int]
    joined: Mapping[str, int]  # by kind
    unjoined: Mapping[str, int]  # by reason
    refused: Mapping[str, int]  # by reason
    rerouted: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Messages in the order of publishing, and what they must become."""

    first: tuple[Message, ...]
    second: tuple[Message, ...]
    planted: Planted


def generate(
    rng: random.Random, now_us: int, contract: Contract, *, events: int = 20_000, partitions: int = 6
) -> Traffic:
    """Return about `events` messages of the three days before `now_us`, for topics of `partitions` partitions.

    `contract` is the example flag: variations `control` and `candidate`, one outcome event, windows of 24 h.
    """
    script = _Script(rng, now_us, contract, partitions)
    _article(script)
    faults: Counter[str] = Counter()
    for name, (story, share) in FAULTS.items():
        for _ in range(max(1, round(share * events))):
            story(script)
            faults[name] += 1
    while len(script.told) < events:
        _regular(script)
    return script.traffic(faults)


@dataclass(frozen=True, slots=True)
class _Told:
    """One message, the fate that awaits it, and when it arrives."""

    arrival_us: int
    held_back: bool
    fate: str  # joined, rerouted, or a reason
    message: Message


_UNJOINED: Final = frozenset({"late", "duplicate", "outside_window", "no_exposure"})


class _Script:
    """What has been told so far, and how to tell more. Times are whole milliseconds, in µs."""

    def __init__(self, rng: random.Random, now_us: int, contract: Contract, partitions: int) -> None:
        self.rng = rng
        self.bodies = Bodies(rng, contract)
        self.end = now_us - 2 * _MINUTE
        self.begin = now_us - _SPAN
        self.second_part = now_us - _SECOND_PART
        self.partitions = partitions
        self.told: list[_Told] = []
        self._facts: Counter[str] = Counter()
        self._clean: Counter[str] = Counter()
        self._flags: Counter[tuple[str, str]] = Counter()
        self._units = {ARTICLE_UNIT}

    def unit(self) -> str:
        """Return a unit that no other story uses."""
        while (unit := f"conv_{self.rng.randrange(100_000, 1_000_000)}") in self._units:
            pass
        self._units.add(unit)
        return unit

    def variation(self) -> str:
        return self.rng.choice(("control", "candidate"))

    def between(self, start: int, end: int) -> int:
        return self.rng.randrange(start, end) // 1_000 * 1_000

    def after(self, at: int, minutes: float) -> int:
        """Return a time after `at`, `minutes` in the median, at most three hours."""
        spread = min(self.rng.lognormvariate(math.log(minutes), 0.7), 180.0)
        return at + max(1_000, int(spread * _MINUTE) // 1_000 * 1_000)

    def tell(  # noqa: PLR0913  # one argument a column of the message
        self,
        kind: str,
        unit: str,
        body: Mapping[str, Any] | bytes | None,
        at: int,
        fate: str = "joined",
        *,
        held_back: bool = False,
        partition: int | None = None,
    ) -> None:
        """Add a message; one of a conversation that still runs at the end is left out, it has not happened yet."""
        if at > self.end:
            return
        value = body if body is None or isinstance(body, bytes) else encode(body)
        message = Message(kind, unit.encode(), value, at // 1_000, partition=partition)
        arrival = at + self.rng.randrange(_JITTER)
        self.told.append(_Told(arrival, held_back or arrival >= self.second_part, fate, message))

    def fact(self, variation: str, *flags: str) -> None:
        self._facts[variation] += 1
        self._clean[variation] += not flags
        self._flags.update((variation, flag) for flag in flags)

    def traffic(self, faults: Counter[str]) -> Traffic:
        ordered = sorted(self.told, key=lambda told: told.arrival_us)
        fates = Counter(told.fate for told in ordered)
        joined = Counter(told.message.kind for told in ordered if told.fate in {"joined", "rerouted"})
        planted = Planted(
            published=len(ordered),
            faults=MappingProxyType(dict(faults)),
            facts=MappingProxyType(dict(self._facts)),
            clean=MappingProxyType(dict(self._clean)),
            flags=MappingProxyType(dict(self._flags)),
            joined=MappingProxyType(dict(joined)),
            unjoined=MappingProxyType({fate: n for fate, n in fates.items() if fate in _UNJOINED}),
            refused=MappingProxyType(
                {fate: n for fate, n in fates.items() if fate not in _UNJOINED | {"joined", "rerouted"}}
            ),
            rerouted=fates["rerouted"],
        )
        first = tuple(told.message for told in ordered if not told.held_back)
        return Traffic(first, tuple(told.message for told in ordered if told.held_back), planted)


def _exposures(script: _Script, unit: str, variation: str, at: int, **changes: object) -> int:
    """Tell the exposures of one conversation, the first with `changes`; return the time of the last."""
    script.tell("exposure", unit, script.bodies.exposure(unit, variation, at) | changes, at)
    for _ in range(4):
        if script.rng.random() > 0.4:  # noqa: PLR2004  # how often somebody asks again
            break
        following = at + script.between(30 * _SECOND, 10 * _MINUTE)
        script.tell("exposure", unit, script.bodies.exposure(unit, variation, following), following)
        at = min(following, script.end)
    return at


def _result(script: _Script, unit: str, variation: str, at: int) -> None:
    """Tell what came of a conversation whose last exposure was at `at`: most have an outcome, few a guardrail."""
    if script.rng.random() < 0.9:  # noqa: PLR2004  # the others were left open
        then = script.after(at, 6)
        script.tell("outcome", unit, script.bodies.outcome(unit, variation, then), then)
    if script.rng.random() < 0.04:  # noqa: PLR2004
        then = script.after(at, 1)
        script.tell("guardrail", unit, script.bodies.guardrail(unit, variation, then), then)


def _conversation(script: _Script, *, earliest: int | None = None, latest: int | None = None) -> tuple[str, str, int]:
    """Tell exposures of a new unit that begin between the two times; return unit, variation and the last one's time."""
    unit, variation = script.unit(), script.variation()
    start = script.between(
        script.begin if earliest is None else earliest, script.end - _ROOM if latest is None else latest
    )
    return unit, variation, _exposures(script, unit, variation, start)


def _article(script: _Script) -> None:
    """Tell of the documentation's conversation: its outcome has no time of its own, so the record's counts."""
    exposed = (script.end - 40 * _HOUR) // _SECOND * _SECOND
    flag = script.bodies.contract.flag_key
    exposure = {
        "event": "ai_model_route_exposure",
        "flagKey": flag,
        "assignmentUnit": "conversation",
        "unitId": ARTICLE_UNIT,
        "variation": "candidate",
        "modelRoute": "support_model_b",
        "promptVersion": "support_v3",
        "retrievalProfile": "baseline",
        "fallbackUsed": False,
        "timestamp": format_time(exposed),
    }
    outcome = {
        "event": "support_conversation_outcome",
        "flagKey": flag,
        "unitId": ARTICLE_UNIT,
        "variation": "candidate",
        "resolvedWithoutEscalation": True,
        "humanCorrection": False,
        "latencyMs": 1840,
        "estimatedCost": 0.014,
    }
    script.tell("exposure", ARTICLE_UNIT, exposure, exposed)
    script.tell("outcome", ARTICLE_UNIT, outcome, exposed + 4 * _MINUTE)
    script.fact("candidate")


def _regular(script: _Script) -> None:
    unit, variation, at = _conversation(script, latest=script.end)
    _result(script, unit, variation, at)
    script.fact(variation)


def _returning(script: _Script) -> None:
    """Tell of somebody who comes back after a day: a second window."""
    unit, variation, at = _conversation(script, latest=script.end - 2 * _WINDOW)
    _result(script, unit, variation, at)
    again = at + script.between(_WINDOW + _MINUTE, 2 * _WINDOW - 2 * _ROOM)
    _result(script, unit, variation, _exposures(script, unit, variation, again))
    script.fact(variation)
    script.fact(variation)


def _malformed(script: _Script) -> None:
    """Tell of a producer that died while it wrote: half an outcome."""
    unit, variation, at = _conversation(script)
    then = script.after(at, 6)
    whole = encode(script.bodies.outcome(unit, variation, then))
    script.tell("outcome", unit, whole[: len(whole) // 2], then, "not_json")
    script.fact(variation)


def _schema_violation(script: _Script) -> None:
    unit, variation, at = _conversation(script)
    then = script.after(at, 6)
    whole = script.bodies.outcome(unit, variation, then)
    broken = script.rng.choice(
        (
            whole | {"latencyMs": "1840"},  # a number in a string
            whole | {"timestamp": whole["timestamp"].removesuffix("Z")},  # no zone
            {name: value for name, value in whole.items() if name != "unitId"},
            whole | {"resolvedWithoutEscalation": None},
        )
    )
    script.tell("outcome", unit, broken, then, "schema_violation")
    script.fact(variation)


def _unknown_flag(script: _Script) -> None:
    """Tell of a service with a typing error in its flag key."""
    unit, variation, at = script.unit(), script.variation(), script.between(script.begin, script.end)
    body = script.bodies.exposure(unit, variation, at) | {"flagKey": "support_answer_modelroute"}
    script.tell("exposure", unit, body, at, "unknown_flag")


def _unknown_variation(script: _Script) -> None:
    unit, at = script.unit(), script.between(script.begin, script.end)
    body = script.bodies.exposure(unit, "candidate", at) | {"variation": "candidate_v2"}
    script.tell("exposure", unit, body, at, "unknown_variation")


def _tombstone(script: _Script) -> None:
    unit, variation, at = _conversation(script)
    script.tell("outcome", unit, None, script.after(at, 6), "tombstone")
    script.fact(variation)


def _future_timestamp(script: _Script) -> None:
    """Tell of a host whose clock is a year ahead."""
    unit, variation, at = _conversation(script)
    body = script.bodies.outcome(unit, variation, at + 365 * _WINDOW)
    script.tell("outcome", unit, body, script.after(at, 6), "future_timestamp")
    script.fact(variation)


def _variation_mismatch(script: _Script) -> None:
    """Tell of an outcome's service that evaluated the flag again, and differently."""
    unit, variation, at = _conversation(script)
    then = script.after(at, 6)
    script.tell("outcome", unit, script.bodies.outcome(unit, _other(variation), then), then)
    script.fact(variation, "variation_mismatch")


def _fallback(script: _Script) -> None:
    """Tell of a candidate's model that timed out: another route answered."""
    unit, at = script.unit(), script.between(script.begin, script.end - _ROOM)
    ran = {
        "modelRoute": "support_model_a",
        "retrievalProfile": "safe_fallback",
        "fallbackUsed": True,
        "reason": "model timed out",
    }
    _result(script, unit, "candidate", _exposures(script, unit, "candidate", at, **ran))
    script.fact("candidate", "fallback_contaminated")


def _route_drift(script: _Script) -> None:
    """Tell of a host that already has the next prompt."""
    unit, variation, at = script.unit(), script.variation(), script.between(script.begin, script.end - _ROOM)
    _result(script, unit, variation, _exposures(script, unit, variation, at, promptVersion="support_v4"))
    script.fact(variation, "route_drift")


def _crossover(script: _Script) -> None:
    """Tell of a unit that saw both variations within a day."""
    unit, variation, at = _conversation(script, latest=script.end - 2 * _ROOM)
    other = _other(variation)
    _result(script, unit, other, _exposures(script, unit, other, script.after(at, 60)))
    script.fact(variation, "crossover")
    script.fact(other, "crossover")


def _assignment_unit_mismatch(script: _Script) -> None:
    """Tell of a service that assigns by user what the contract assigns by conversation."""
    unit, variation, at = script.unit(), script.variation(), script.between(script.begin, script.end - _ROOM)
    _result(script, unit, variation, _exposures(script, unit, variation, at, assignmentUnit="user"))
    script.fact(variation, "assignment_unit_mismatch")


def _excluded_unit(script: _Script) -> None:
    unit, variation, at = script.unit(), script.variation(), script.between(script.begin, script.end - _ROOM)
    segments = [*script.bodies.exposure(unit, variation, at)["segments"], "incident_accounts"]
    _result(script, unit, variation, _exposures(script, unit, variation, at, segments=segments))
    script.fact(variation, "excluded_unit")


def _late(script: _Script) -> None:
    """Tell of a batch job that delivers an outcome long after its window was closed."""
    unit, variation, at = _conversation(script, latest=script.second_part - _WINDOW - 2 * _ROOM)
    then = script.after(at, 6)
    script.tell("outcome", unit, script.bodies.outcome(unit, variation, then), then, "late", held_back=True)
    script.fact(variation)


def _duplicate(script: _Script) -> None:
    """Tell of a service that publishes again because it missed the acknowledgement; half the time without event ID."""
    unit, variation, at = _conversation(script)
    then = script.after(at, 6)
    body = script.bodies.outcome(unit, variation, then)
    if script.rng.random() < 0.5:  # noqa: PLR2004
        del body["eventId"]
    script.tell("outcome", unit, body, then)
    script.tell("outcome", unit, body, then, "duplicate")
    script.fact(variation)


def _no_exposure(script: _Script) -> None:
    """Tell of a service that reports outcomes but never that the model ran."""
    unit, at = script.unit(), script.between(script.begin, script.end - _ROOM)
    script.tell("outcome", unit, script.bodies.outcome(unit, script.variation(), at), at, "no_exposure")


def _outside_window(script: _Script) -> None:
    """Tell of a customer who answers the next day, after the metric window."""
    unit, variation, at = _conversation(script, latest=script.end - _WINDOW - 2 * _ROOM)
    then = at + _WINDOW + script.between(_MINUTE, _ROOM)
    script.tell("outcome", unit, script.bodies.outcome(unit, variation, then), then, "outside_window")
    script.fact(variation)


def _misplaced(script: _Script) -> None:
    """Tell of a service whose client places keys by CRC32, too short a time ago for the first close to decide it."""
    while True:
        unit = script.unit()
        wrong = crc32_partition(unit.encode(), script.partitions)
        if wrong != murmur2_partition([unit], script.partitions)[0]:
            break
    variation, at = script.variation(), script.between(script.second_part - 20 * _HOUR, script.second_part - _ROOM)
    then = script.after(_exposures(script, unit, variation, at), 6)
    script.tell("outcome", unit, script.bodies.outcome(unit, variation, then), then, "rerouted", partition=wrong)
    script.fact(variation)


def _other(variation: str) -> str:
    return "control" if variation == "candidate" else "candidate"


FAULTS: Final[Mapping[str, tuple[Callable[[_Script], None], float]]] = MappingProxyType(
    {  # stories for each event: most faults are rare, as they are where somebody looks after the telemetry
        "returning unit": (_returning, 0.006),
        "malformed JSON": (_malformed, 0.0012),
        "schema violation": (_schema_violation, 0.0015),
        "unknown flag": (_unknown_flag, 0.001),
        "unknown variation": (_unknown_variation, 0.0006),
        "tombstone": (_tombstone, 0.0003),
        "future timestamp": (_future_timestamp, 0.0004),
        "mismatched variation": (_variation_mismatch, 0.002),
        "fallback": (_fallback, 0.0045),
        "drift": (_route_drift, 0.003),
        "crossover": (_crossover, 0.0022),
        "assignment unit": (_assignment_unit_mismatch, 0.0006),
        "excluded unit": (_excluded_unit, 0.0012),
        "late": (_late, 0.0018),
        "duplicate": (_duplicate, 0.005),
        "outcome without exposure": (_no_exposure, 0.002),
        "outside the window": (_outside_window, 0.0015),
        "misplaced key": (_misplaced, 0.003),
    }
)
