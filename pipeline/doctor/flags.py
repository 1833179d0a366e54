"""Whether the traffic of each flag is what its contract says: state, decision date, variations, split, fallback."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Final

from contracts.flag_files import FallbackRule
from contracts.flags import Contract
from contracts.times import format_time
from pipeline.doctor.findings import Finding, InOrder, NotJudged, Remark, share
from pipeline.doctor.joining import complete_since
from pipeline.doctor.reading import Event, Reading, Row

__all__ = ["chi_square_tail", "flags"]

LEAST_MISPLACED: Final = 5
"""Exposures in a wrong state or after the decision date: fewer are under way while a flag is switched."""

LEAST_SHARE: Final = 0.01
"""Of the flag's exposures."""

LEAST_RECORDS: Final = 100
"""In the sample, before the silence of a flag means anything."""

LONG_ENOUGH_US: Final = 3_600_000_000
"""What the sample must span before a flag is called silent."""

LEAST_UNITS: Final = 100
"""Before a split is judged."""

EXPECTED: Final = 20.0
"""Units that a variation should have: to have none then has a chance of e^-20."""

MISMATCH_P: Final = 1e-6
"""Strict: split checks that run often at 0.01 cry wolf (Fabijan et al. 2019 take 0.0005 for one look)."""

LEAST_DEVIATION: Final = 0.05
"""Of a variation's expected units, where the sample is cut: a variation with longer stories is then seen a bit more."""

FALLBACKS: Final = 0.1
"""Share of exposures that fell back, where the contract has no rule of its own."""

LEAST_EXPOSURES: Final = 50
"""Before a share of fallbacks is judged."""

_Z: Final = 3.3  # standard deviations: once in a thousand
_LIVE: Final = frozenset({"internal", "canary", "ab"})
_WRONG: Final = frozenset({"offline", "cleanup", "not begun"})
_SHOWN: Final = 5


def flags(reading: Reading) -> Iterator[Remark]:
    """Tell of flags whose traffic is not what their contract says."""
    exposures: dict[str, list[Row]] = {}
    seen = {row.event.flag_key for row in reading.rows if row.event is not None} | set(reading.flag_of.values())
    for row in reading.of_kind["exposure"]:
        if row.event is not None:
            exposures.setdefault(row.event.flag_key, []).append(row)
    for contract in reading.book:
        theirs = exposures.get(contract.flag_key, [])
        if contract.flag_key not in seen:
            yield from _silent(contract, reading)
        if theirs:
            yield from _in_time(contract, theirs)
            yield from _split(contract, theirs, reading)
            yield from _fallbacks(contract, theirs)


def chi_square_tail(x: float, degrees: int) -> float:
    """Return the chance of a chi-square value of at least `x` (Abramowitz and Stegun 26.4.4 and 26.4.5)."""
    half = x / 2
    if degrees % 2:
        tail, term, start = math.erfc(math.sqrt(half)), math.sqrt(half / math.pi) * 2 * math.exp(-half), 3
        for step in range(start, degrees + 1, 2):
            tail += term
            term *= x / step
        return tail
    term = tail = math.exp(-half)
    for step in range(1, degrees // 2):
        term *= half / step
        tail += term
    return tail


def _state_at(contract: Contract, at: int) -> str:
    state = "not begun"
    for name, since in contract.states:
        if since <= at:
            state = name
    return state


def _silent(contract: Contract, reading: Reading) -> Iterator[Remark]:
    sample = reading.sample
    if len(reading.rows) < LEAST_RECORDS or not sample.exposures.count:
        return
    flag = contract.flag_key
    if any(key not in reading.book.flags for key in reading.flag_of.values()):
        yield NotJudged(f"{flag} has no traffic in the sample; there are records of flags that have no file")
        return
    if not contract.states:
        yield NotJudged(f"{flag} has no traffic in the sample; its file does not say whether it should have")
        return
    state = _state_at(contract, sample.taken_us)
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
        state = _state_at(contract, at) if contract.states else "ab"
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


def _split(contract: Contract, rows: Sequence[Row], reading: Reading) -> Iterator[Remark]:
    experiment = contract.document.experiment
    allocation = {
        name: part for name, part in ((experiment.allocation if experiment else None) or {}).items() if part > 0
    }
    if len(allocation) < 2:  # noqa: PLR2004 - nothing to compare
        return
    flag = contract.flag_key
    if reading.refused.get(flag, 0) > LEAST_SHARE * len(rows):
        yield NotJudged(f"{flag}: its split, as exposures are refused")
        return
    first: dict[str, tuple[int, Row]] = {}  # by unit
    for row in rows:
        event = row.event
        if event is None or (contract.states and _state_at(contract, event.time) != "ab"):
            continue
        if event.unit_id not in first or event.time < first[event.unit_id][0]:
            first[event.unit_id] = event.time, row
    counts = Counter(row.event.variation for _, row in first.values() if row.event is not None)
    total = sum(counts[name] for name in allocation)
    if total < LEAST_UNITS:
        if contract.states and not total:
            return
        yield NotJudged(f"{flag}: its split, of {total} units in the state ab; {LEAST_UNITS} are needed")
        return
    whole = sum(allocation.values())
    expected = {name: total * part / whole for name, part in allocation.items()}
    lines = [f"{name}: {counts[name]:,} units, {number:,.0f} expected" for name, number in expected.items()]
    absent = [name for name, number in expected.items() if not counts[name] and number >= EXPECTED]
    if absent:
        what = f"No unit of {flag} was exposed to {' or '.join(absent)}, of {total:,} in the sample."
        yield Finding("variation_without_traffic", what, lines, 0, total)
        return
    statistic = sum((counts[name] - number) ** 2 / number for name, number in expected.items())
    p = chi_square_tail(statistic, len(expected) - 1)
    deviation = max(abs(counts[name] - number) / number for name, number in expected.items())
    if p < MISMATCH_P and (not reading.sample.exposures.cut or deviation >= LEAST_DEVIATION):
        worst = max(expected, key=lambda name: abs(counts[name] - expected[name]))
        what = (
            f"The units of {flag} are not split as allocated: {worst} has {counts[worst]:,} of {total:,}, "
            f"{expected[worst]:,.0f} expected."
        )
        lines.append(f"chi-square {statistic:.1f}, {len(expected) - 1} degrees of freedom, p {p:.1e}")
        example = next(row for _, row in first.values() if row.event is not None and row.event.variation == worst)
        yield Finding("sample_ratio_mismatch", what, lines, counts[worst], total, example.place)
    else:
        yield InOrder(f"{flag}: {total:,} units are split as allocated (chi-square p {p:.2g})")


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
