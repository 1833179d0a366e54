"""Whether exposures say what their contract says: the route that runs, the unit that is assigned, who takes part.

What differs is no refusal: its facts are marked (`route_drift`, `assignment_unit_mismatch`, `excluded_unit`), and
readouts leave them out. The rules are those of the close.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from contracts.changes import unit_name
from contracts.flags import DIMENSIONS, Contract
from pipeline.doctor.findings import FaultId, Finding, InOrder, Remark, share
from pipeline.doctor.reading import Event, Reading, Row

__all__ = ["exposures"]

LEAST: Final = 5
"""Exposures of a flag that differ: fewer are somebody's experiments."""

LEAST_SHARE: Final = 0.01
"""Of the flag's exposures."""

_SHOWN: Final = 5
_SAYING: Final[Mapping[FaultId, str]] = {
    "route_drift": "ran something else than their variation's route",
    "assignment_unit_mismatch": "name another assignment unit than the contract",
    "excluded_unit": "are of units that should not take part",
}

Difference = Callable[[Event, Contract], Sequence[str]]
"""What of an event differs from its contract, in words; nothing where it is as it should be."""


def exposures(reading: Reading) -> Iterator[Remark]:
    """Tell of exposures that differ from their contract."""
    for contract in reading.book:
        rows = reading.exposures.get(contract.flag_key, ())
        findings = [each for fault in _DIFFERENCES if (each := _finding(fault, contract, rows)) is not None]
        yield from findings
        if rows and not findings:
            yield InOrder(f"{contract.flag_key}: exposures run what the contract names, for units that take part")


def _finding(fault: FaultId, contract: Contract, rows: Sequence[Row]) -> Finding | None:
    differs = _DIFFERENCES[fault]
    told: Counter[str] = Counter()
    wrong: list[Row] = []
    for row in rows:
        if row.event is not None and (how := differs(row.event, contract)):
            wrong.append(row)
            told.update(how)
    if len(wrong) < LEAST or len(wrong) < LEAST_SHARE * len(rows):
        return None
    lines = [f"{how}, in {count:,}" for how, count in told.most_common(_SHOWN)]
    what = f"Exposures of {contract.flag_key} {_SAYING[fault]}: {share(len(wrong), len(rows))}."
    return Finding(fault, what, lines, len(wrong), len(rows), wrong[0].place)


def _drift(event: Event, contract: Contract) -> Sequence[str]:
    """Return the dimensions that differ; what a fallback ran, and what the contract does not name, is not compared."""
    if event.ran is None or event.fallback_used:
        return ()
    route = contract.variations[event.variation]
    return [
        f"{event.variation}: {wire} {ran!r} instead of {named!r}"
        for dimension, wire in DIMENSIONS.items()
        if (named := getattr(route, dimension)) is not None and (ran := getattr(event.ran, dimension)) != named
    ]


def _other_unit(event: Event, contract: Contract) -> Sequence[str]:
    wanted, unit = contract.assignment_unit, event.ran.assignment_unit if event.ran else None
    if wanted is None or unit is None or unit_name(unit) == unit_name(wanted):
        return ()
    return (f"{unit!r} instead of {wanted!r}",)


def _excluded(event: Event, contract: Contract) -> Sequence[str]:
    segments = event.ran.segments if event.ran else ()
    banned = [f"of the excluded segment {name!r}" for name in segments if name in contract.exclusions]
    if segments and contract.eligible_segment not in {None, *segments}:
        banned.append(f"not of the eligible segment {contract.eligible_segment!r}")
    return banned


_DIFFERENCES: Final[Mapping[FaultId, Difference]] = {
    "route_drift": _drift,
    "assignment_unit_mismatch": _other_unit,
    "excluded_unit": _excluded,
}
