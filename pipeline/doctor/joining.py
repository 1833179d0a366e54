"""Whether the events of the three topics find each other.

A sample has edges: an outcome's exposure may lie before them. So an outcome is judged only where two whole metric
windows before it lie in the sample of exposures, as it may come late for the first of them, and an exposure only where
its window lies in the sample of outcomes and is over. Where the sample does not reach as far, that is said.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from contracts.flags import Contract
from pipeline.doctor.findings import Finding, InOrder, NotJudged, Remark, share
from pipeline.doctor.reading import Reading, Row
from pipeline.doctor.sample import Topic

__all__ = ["complete_since", "joining", "unexposed_flags", "unlikely_few"]

LEAST_UNITS: Final = 10
"""Units without exposure: fewer began before their service published exposures."""

LEAST_SHARE: Final = 0.05
"""Of the judged events: the alert of missing exposures has the same threshold."""

LEAST_EXPOSED: Final = 50
"""Units of a flag or a variation before their outcomes are missed: where one in ten has one, none of 50 is 0.5 %."""

FEWER: Final = 10
"""A variation with outcomes this many times rarer than the best one: no treatment does that."""

SURE: Final = 1e-6
"""A million to one, over some tens of flags and variations."""

_SHOWN: Final = 5
_UNREADABLE: Final = "\0"  # stands for the unit of a record that names none, in no way
_EDGE: Final = 20  # one part of so many of a partition's records, the first, is taken for its beginning


def joining(reading: Reading) -> Iterator[Remark]:
    """Tell of events without exposure, and of exposures without outcomes."""
    if not reading.sample.exposures.count:
        return
    looked = _look(reading)
    yield from _without_exposure(reading, looked, unexposed := looked.wrong())
    if reading.sample.outcomes.count:
        yield from _without_outcomes(reading, unexposed)


def unexposed_flags(reading: Reading) -> Sequence[str]:
    """Return the flags whose outcomes or guardrails are of units without exposure: exposures are lost."""
    return _look(reading).wrong()


def complete_since(topic: Topic, rows: Sequence[Row]) -> float:
    """Return the event time (µs) since which the sample of a topic is complete; infinite where it is not."""
    if topic.unread:
        return math.inf
    since = -math.inf
    times: dict[int, list[int]] = {}
    for row in rows:
        if row.event is not None:
            times.setdefault(row.partition, []).append(row.event.time)
    for partition in topic.cut:
        theirs = times.get(partition, ())
        # the first ones in the log are the oldest, if records come in order; if not, nothing is complete
        since = max(since, max(theirs[: len(theirs) // _EDGE + 1], default=math.inf))
    return since


def _units(rows: Sequence[Row]) -> set[str]:
    """Return the units that are named in any way: what is refused is no reason to miss it here as well."""
    units = set()
    for row in rows:
        if row.event is not None:
            units.add(row.event.unit_id)
        else:
            named = row.body().get("unitId")
            units.add(
                named if isinstance(named, str) else (row.record.key or _UNREADABLE.encode()).decode(errors="replace")
            )
    return units


@dataclass(frozen=True, slots=True)
class _Looked:
    """Events whose exposures must lie in the sample: how many by flag, and those without by flag and topic."""

    judged: Counter[str]
    missing: dict[tuple[str, str], list[Row]]
    beyond: int
    """Events whose exposure may lie before the sample."""

    def wrong(self) -> Sequence[str]:
        """Return the flags that have more events without exposure than what a beginning leaves."""
        return [flag for flag in self.judged if self._is_wrong(flag)]

    def _is_wrong(self, flag: str) -> bool:
        rows = [row for (of, _), several in self.missing.items() if of == flag for row in several]
        units = {row.event.unit_id for row in rows if row.event is not None}
        return len(units) >= LEAST_UNITS and len(rows) >= LEAST_SHARE * self.judged[flag]


def _look(reading: Reading) -> _Looked:
    exposures = reading.of_kind["exposure"]
    since = complete_since(reading.sample.exposures, exposures)
    exposed = {(row.event.flag_key, row.event.unit_id) for row in exposures if row.event is not None}
    refused = _units([row for row in exposures if row.event is None])
    if _UNREADABLE in refused:
        since = math.inf
    looked = _Looked(Counter(), {}, 0)
    beyond = 0
    for row in (*reading.of_kind["outcome"], *reading.of_kind["guardrail"]):
        event = row.event
        if event is None:
            continue
        if event.time - 2 * reading.book.flags[event.flag_key].window_us < since:
            beyond += 1
            continue
        looked.judged[event.flag_key] += 1
        if (event.flag_key, event.unit_id) not in exposed and event.unit_id not in refused:
            looked.missing.setdefault((event.flag_key, row.topic.name), []).append(row)
    return replace(looked, beyond=beyond)


def _without_exposure(reading: Reading, looked: _Looked, flags: Sequence[str]) -> Iterator[Remark]:
    if looked.beyond:
        yield NotJudged(
            f"the exposures of {looked.beyond:,} outcomes and guardrails may lie before the sample: "
            "sample two whole metric windows, --since 49h for one of 24 h"
        )
    if not flags:
        if looked.judged:
            of = looked.judged.total()
            found = of - sum(map(len, looked.missing.values()))
            yield InOrder(f"outcomes and guardrails are of units with an exposure: {share(found, of)} events")
        return
    rows = {at: several for at, several in looked.missing.items() if at[0] in flags}
    count, of = sum(map(len, rows.values())), sum(looked.judged[flag] for flag in flags)
    lines = [f"{topic}, flag {flag}: {len(several):,} events" for (flag, topic), several in rows.items()][:_SHOWN]
    variations = Counter(row.event.variation for several in rows.values() for row in several if row.event is not None)
    lines += [f"{number:,} of them name the variation {name}" for name, number in variations.most_common(_SHOWN)]
    lines += _resembling(reading, [row for several in rows.values() for row in several])
    what = f"Outcomes or guardrails are of units without any exposure in the sample: {share(count, of)}."
    first = next(iter(rows.values()))[0]
    yield Finding("events_without_exposure", what, lines, count, of, first.place)


def _resembling(reading: Reading, rows: Sequence[Row]) -> Iterator[str]:
    """Say so where the units are exposed, under another flag or written otherwise."""
    events = [row.event for row in rows if row.event is not None]
    exposed = {row.event.unit_id for row in reading.of_kind["exposure"] if row.event is not None}
    other = sum(1 for event in events if event.unit_id in exposed)
    if other:
        yield f"{other:,} of their units are exposed under another flag"
    bare = {_bare(unit) for unit in exposed}
    alike = sum(1 for event in events if _bare(event.unit_id) in bare) - other
    if alike > 0:
        yield f"{alike:,} of their units are exposed under an ID that differs by a prefix, letter case or white space"


def _bare(unit: str) -> str:
    """Return the last part of a unit's ID, in lower case: conv_17, CONV-17 and 17 are alike."""
    stripped = unit.strip().casefold()
    for mark in ("_", "-", ":", "/", "."):
        stripped = stripped.rsplit(mark, 1)[-1]
    return stripped


def _without_outcomes(reading: Reading, unexposed: Sequence[str]) -> Iterator[Remark]:
    outcomes = reading.of_kind["outcome"]
    since = complete_since(reading.sample.outcomes, outcomes)
    told = _units(outcomes)
    for contract in reading.book:
        if not contract.metrics or contract.flag_key in unexposed:
            continue  # without exposures for the outcomes there are none for the exposures: one cause
        units: dict[str, dict[str, Row]] = {}
        for row in reading.of_kind["exposure"]:
            event = row.event
            if event is not None and event.flag_key == contract.flag_key and event.time >= since:
                units.setdefault(event.variation, {}).setdefault(event.unit_id, row)
        yield from _of_contract(contract, units, told, reading.sample.taken_us)


def _of_contract(
    contract: Contract, units: Mapping[str, Mapping[str, Row]], told: set[str], taken_us: int
) -> Iterator[Remark]:
    shares = {
        variation: (len(theirs.keys() & told), len(theirs))
        for variation, theirs in units.items()
        if len(theirs) >= LEAST_EXPOSED
    }
    if not shares:
        return
    flag = contract.flag_key
    have, of = sum(count for count, _ in shares.values()), sum(number for _, number in shares.values())
    if not have:
        over = [
            row
            for theirs in units.values()
            for row in theirs.values()
            if row.event is not None and row.event.time + contract.window_us <= taken_us
        ]
        if len(over) < LEAST_EXPOSED:
            yield NotJudged(f"no unit of {flag} has an outcome yet: their metric windows are still open")
            return
        what = f"None of {len(over):,} exposed units of {flag} whose window is over has an outcome."
        lines = [f"{variation}: 0 of {number:,} units" for variation, (_, number) in shares.items()]
        yield Finding("exposures_without_outcomes", what, lines, len(over), len(over), over[0].place)
        return
    best = max(count / number for count, number in shares.values())
    silent = {
        variation: (count, number)
        for variation, (count, number) in shares.items()
        if count * FEWER < best * number and unlikely_few(count, number, best / 2)
    }
    if silent:
        lines = [f"{name}: {share(*numbers)} units have an outcome" for name, numbers in shares.items()]
        missing = sum(number - count for count, number in silent.values())
        names = " and ".join(silent)
        what = f"Units of {flag} that were exposed to {names} have almost no outcomes, others have."
        first = next(row for unit, row in units[next(iter(silent))].items() if unit not in told)
        total = sum(number for _, number in silent.values())
        yield Finding("exposures_without_outcomes", what, lines, missing, total, first.place)
    else:
        yield InOrder(f"{flag}: {share(have, of)} exposed units have an outcome in the sample")


def unlikely_few(count: int, of: int, probability: float) -> bool:
    """Return whether so few or fewer of a binomial number of that probability have less chance than `SURE`."""
    tail = 0.0
    for number in range(count + 1):
        ways = math.lgamma(of + 1) - math.lgamma(number + 1) - math.lgamma(of - number + 1)
        tail += math.exp(ways + number * math.log(probability) + (of - number) * math.log1p(-probability))
        if tail >= SURE:
            return False
    return True
