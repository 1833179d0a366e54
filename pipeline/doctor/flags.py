"""Whether the traffic of each flag is what its contract says: that there is some, state, decision date, fallback."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Final

from contracts.flag_files import FallbackRule
from contracts.flags import Contract
from contracts.times import format_time
from pipeline.doctor.findings import Finding, InOrder, NotJudged, Remark, share
from pipeline.doctor.joining import complete_since
from pipeline.doctor.reading import Event, Reading, Row

__all__ = ["flags"]

LEAST_MISPLACED: Final = 5
"""Exposures in a wrong state or after the decision date: fewer are under way while a flag is switched."""

LEAST_SHARE: Final = 0.01
"""Of the flag's exposures; of all records, where those of no flag that is known may be what a silent one lacks."""

LEAST_RECORDS: Final = 100
"""In the sample, before the silence of a flag means anything."""

LONG_ENOUGH_US: Final = 3_600_000_000
"""What the sample must span before a flag is called silent."""

FALLBACKS: Final = 0.1
"""Share of exposures that fell back, where the contract has no rule of its own."""

LEAST_EXPOSURES: Final = 50
"""Before a share of fallbacks is judged."""

_Z: Final = 3.3  # standard deviations: once in a thousand
_LIVE: Final = frozenset({"internal", "canary", "ab"})
_BEFORE: Final = "not begun"  # before the first state of the exposure ladder
_WRONG: Final = frozenset({"offline", "cleanup", _BEFORE})
_SHOWN: Final = 5


def flags(reading: Reading) -> Iterator[Remark]:
    """Tell of flags whose traffic is not what their contract says."""
    seen = {row.event.flag_key for row in reading.rows if row.event is not None} | set(reading.flag_of.values())
    for contract in reading.book:
        theirs = reading.exposures.get(contract.flag_key, ())
        if contract.flag_key not in seen:
            yield from _silent(contract, reading)
        if theirs:
            yield from _in_time(contract, theirs)
            yield from _fallbacks(contract, theirs)


def _silent(contract: Contract, reading: Reading) -> Iterator[Remark]:
    sample = reading.sample
    if len(reading.rows) < LEAST_RECORDS or not sample.exposures.count:
        return
    flag = contract.flag_key
    strange = sum(row.refusal is not None for row in reading.rows)  # of the silent flag none is refused
    strange -= sum(key in reading.book.flags for key in reading.flag_of.values())
    if strange >= LEAST_SHARE * len(reading.rows):
        yield NotJudged(f"{flag} has no traffic in the sample; there are records that name no flag, or an unknown one")
        return
    if not contract.states:
        yield NotJudged(f"{flag} has no traffic in the sample; its file does not say whether it should have")
        return
    state = contract.state_at(sample.taken_us) or _BEFORE
    if state not in _LIVE:
        yield InOrder(f"{flag} has no traffic, as its state is {state}")
        return
    since = complete_since(sample.exposures, reading.of_kind["exposure"])
    if since > sample.taken_us - LONG_ENOUGH_US:
        yield NotJudged(f"{flag} has no traffic in the sample, which is short: look again with --since 1h or more")
        return
    what = f"The flag {flag} has no traffic, and its state is {state}."
    lines = [f"none of {len(reading.rows):,} records in the sample is of the flag"]
    yield Finding("flag_without_traffic", what, lines, 0, len(reading.rows))


def _in_time(contract: Contract, rows: Sequence[Row]) -> Iterator[Remark]:
    if not contract.states and _decision(contract) is None:
        return
    flag, due = contract.flag_key, _decision(contract)
    wrong: dict[str, list[Row]] = {}
    after: list[Row] = []
    for row in rows:
        at = row.event.time if row.event is not None else 0
        state = (contract.state_at(at) or _BEFORE) if contract.states else "ab"
        if state in _WRONG:
            wrong.setdefault(state, []).append(row)
        elif due is not None and at >= due:
            after.append(row)
    misplaced = [row for several in wrong.values() for row in several]
    if _matters(misplaced, rows):
        lines = [f"{state}: {len(several):,} exposures" for state, several in wrong.items()]
        what = f"The flag {flag} gets traffic in a wrong state: {share(len(misplaced), len(rows))} exposures."
        yield Finding("wrong_state", what, lines, len(misplaced), len(rows), misplaced[0].place)
    if due is not None and _matters(after, rows):
        newest = max(row.event.time for row in after if row.event is not None)
        date = format_time(due - 1)[:10]
        told = share(len(after), len(rows))
        what = f"The flag {flag} gets traffic after its decision date, {date}: {told} exposures."
        lines = [f"the newest is of {format_time(newest)}"]
        yield Finding("past_decision_date", what, lines, len(after), len(rows), after[0].place)
    if not _matters(misplaced, rows) and not _matters(after, rows):
        yield InOrder(f"{flag}: {len(rows) - len(misplaced) - len(after):,} exposures in a right state")


def _matters(some: Sequence[Row], rows: Sequence[Row]) -> bool:
    return len(some) >= LEAST_MISPLACED and len(some) >= LEAST_SHARE * len(rows)


def _decision(contract: Contract) -> int | None:
    """Return the end of the decision date in UTC (µs), if there is one."""
    experiment = contract.document.experiment
    if experiment is None or experiment.decision_date is None:
        return None
    end = datetime.combine(experiment.decision_date, time(), UTC) + timedelta(days=1)
    return int(end.timestamp()) * 1_000_000


def _fallbacks(contract: Contract, rows: Sequence[Row]) -> Iterator[Remark]:
    flag = contract.flag_key
    bound = _bound(contract)
    by_variation: dict[str, list[Event]] = {}
    for row in rows:
        if row.event is not None:
            by_variation.setdefault(row.event.variation, []).append(row.event)
    high: Mapping[str, tuple[int, int]] = {
        variation: (fell, len(events))
        for variation, events in by_variation.items()
        if len(events) >= LEAST_EXPOSURES
        and _surely_more(fell := sum(bool(event.fallback_used) for event in events), len(events), bound)
    }
    fell_back = [row for row in rows if row.event is not None and row.event.fallback_used]
    if high:
        lines = [f"{variation}: {share(fell, of)} exposures" for variation, (fell, of) in high.items()][:_SHOWN]
        lines.append(f"the bound is {bound:.0%}")
        count, of = sum(fell for fell, _ in high.values()), sum(of for _, of in high.values())
        example = next(row.place for row in fell_back if row.event is not None and row.event.variation in high)
        what = f"A fallback ran in many exposures of {flag} to {' and '.join(high)}: {share(count, of)}."
        yield Finding("high_fallback", what, lines, count, of, example)
    else:
        told = share(len(fell_back), len(rows))
        yield InOrder(f"{flag}: a fallback ran in {told} exposures, the bound is {bound:.0%}")


def _bound(contract: Contract) -> float:
    rules = contract.document.experiment.rollback_when.values() if contract.document.experiment else ()
    return min((rule.above for rule in rules if isinstance(rule, FallbackRule)), default=FALLBACKS)


def _surely_more(count: int, of: int, bound: float) -> bool:
    """Return whether the share is above the bound even by the lower end of its interval (Wilson 1927)."""
    part, spread = count / of, _Z * _Z / of
    low = (part + spread / 2 - _Z * math.sqrt(part * (1 - part) / of + spread / of / 4)) / (1 + spread)
    return low > bound
