"""Whether the units of each flag are split as its contract allocates them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from contracts.flags import Contract
from pipeline.doctor.findings import Finding, InOrder, NotJudged, Remark
from pipeline.doctor.joining import unexposed_flags
from pipeline.doctor.reading import Reading, Row

__all__ = ["chi_square_tail", "splits"]

LEAST_SHARE: Final = 0.01
"""Of a flag's exposures that are refused: what is not read may be of one variation."""

LEAST_UNITS: Final = 100
"""Before a split is judged."""

EXPECTED: Final = 20.0
"""Units that a variation should have: to have none then has a chance of e^-20."""

MISMATCH_P: Final = 1e-6
"""Strict: split checks that run often at 0.01 cry wolf (Fabijan et al. 2019 take 0.0005 for one look)."""

LEAST_DEVIATION: Final = 0.05
"""Of a variation's expected units, where the sample is cut: a variation with longer stories is then seen a bit more."""


def splits(reading: Reading) -> Iterator[Remark]:
    """Tell of variations without traffic, and of splits that are not the allocation."""
    unexposed = unexposed_flags(reading)
    for contract in reading.book:
        allocation = _allocation(contract)
        rows = reading.exposures.get(contract.flag_key, ())
        if len(allocation) < 2 or not rows:  # noqa: PLR2004 - nothing to compare
            continue
        if contract.flag_key in unexposed:
            yield NotJudged(f"{contract.flag_key}: its split, as exposures are missing")
        elif reading.refused.get(contract.flag_key, 0) > LEAST_SHARE * len(rows):
            yield NotJudged(f"{contract.flag_key}: its split, as exposures are refused")
        else:
            yield from _split(contract, allocation, _first_met(contract, rows), reading)


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


def _allocation(contract: Contract) -> Mapping[str, float]:
    experiment = contract.document.experiment
    allocated = (experiment.allocation if experiment else None) or {}
    return {name: part for name, part in allocated.items() if part > 0}


def _first_met(contract: Contract, rows: Sequence[Row]) -> dict[str, Row]:
    """Return, by unit, the row of its first exposure in the state ab: the allocation is that state's."""
    first: dict[str, tuple[int, Row]] = {}
    for row in rows:
        event = row.event
        if event is None or (contract.states and contract.state_at(event.time) != "ab"):
            continue
        if event.unit_id not in first or event.time < first[event.unit_id][0]:
            first[event.unit_id] = event.time, row
    return {unit: row for unit, (_, row) in first.items()}


def _split(
    contract: Contract, allocation: Mapping[str, float], first: Mapping[str, Row], reading: Reading
) -> Iterator[Remark]:
    flag = contract.flag_key
    counts = Counter(row.event.variation for row in first.values() if row.event is not None)
    total = sum(counts[name] for name in allocation)
    if total < LEAST_UNITS:
        if total or not contract.states:
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
        example = next(row for row in first.values() if row.event is not None and row.event.variation == worst)
        yield Finding("sample_ratio_mismatch", what, lines, counts[worst], total, example.place)
    else:
        yield InOrder(f"{flag}: {total:,} units are split as allocated (chi-square p {p:.2g})")
