"""Unit by unit: what the join by hand says, and the rows that the lake holds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from contracts.times import format_time
from pipeline.verify.buckets import Buckets
from pipeline.verify.history import History
from pipeline.verify.join import Decided, join
from pipeline.verify.report import CheckName, Findings
from pipeline.verify.rows import Event, Fact, Joined, Open, Row, Unjoined

__all__ = ["compare"]

_ROUNDING: Final = 1e-9  # sums in another order differ in their last digits
_WINDOWLESS: Final = frozenset({"outside_window", "no_exposure"})

Key = tuple[Any, ...]
Unit = tuple[str, str]  # flag key, unit ID


def compare(buckets: Buckets, history: History, partition: int, starts: Mapping[str, int], findings: Findings) -> None:
    """Join what was set aside as records, and compare it with what was set aside as rows of the lake.

    `starts` are the offsets before which a topic was not read. Units with earlier records in the lake are left out.
    """
    for number in range(buckets.count):
        rows: Mapping[str, Sequence[Row]] = buckets.take(number)
        if starts:
            rows = _without(_cut_off(rows, starts), rows, findings)
        decided = _decided(rows["records"], rows, history, partition)  # type: ignore[arg-type]
        _compare("facts", decided.facts, rows["facts"], partition, findings)
        _compare("events", decided.joined, rows["events"], partition, findings)
        _compare("unjoined", decided.unjoined, _as_close_as(decided, rows["unjoined"]), partition, findings)
        listed = {row.key() for row in rows["open"] if isinstance(row, Open)}
        findings.did("open", "open", len(decided.open))
        for event in decided.open:
            if (event.topic, event.offset) not in listed:
                findings.wrong("open", "in no segment", f"{event.topic} [{partition}] offset {event.offset}")


def _cut_off(rows: Mapping[str, Sequence[Row]], starts: Mapping[str, int]) -> set[Unit]:
    """Return the units with a record that was not read, as the lake tells of it."""
    return {
        (row.flag_key, row.unit_id)
        for name in ("events", "unjoined", "open")
        for row in rows[name]
        if isinstance(row, Joined | Unjoined | Open) and row.offset < starts.get(row.topic, 0)
    }


def _without(units: set[Unit], rows: Mapping[str, Sequence[Row]], findings: Findings) -> dict[str, Sequence[Row]]:
    findings.did("facts", "units left out", len(units))
    return {name: [row for row in each if (row.flag_key, row.unit_id) not in units] for name, each in rows.items()}


def _decided(events: Iterable[Event], rows: Mapping[str, Sequence[Row]], history: History, partition: int) -> Decided:
    units: dict[tuple[str, str], list[Event]] = {}
    doubtful = []
    for event in events:
        units.setdefault((event.flag_key, event.unit_id), []).append(event)
        if len(event.versions) > 1:
            doubtful.append(event)
    if doubtful:
        _settle(doubtful, rows)
    whole = Decided()
    for (flag, _), of_unit in units.items():
        join(flag, of_unit, history, partition, whole)
    return whole


def _settle(events: Iterable[Event], rows: Mapping[str, Sequence[Row]]) -> None:
    """Take the contract version that the lake names, where several may have been in force."""
    told = {
        row.key(): row.contract_version
        for name in ("open", "unjoined", "events")
        for row in rows[name]
        if isinstance(row, Open | Unjoined | Joined)
    }
    for event in events:
        version = told.get((event.topic, event.offset))
        event.versions = [version if version in event.versions else event.versions[-1]]


def _as_close_as(decided: Decided, rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows; where either of two reasons is right, that of the row is made the expected one."""
    if decided.either:
        told = {row.key(): row.reason for row in rows if isinstance(row, Unjoined)}
        for expected in decided.unjoined:
            key = expected.key()
            if key in decided.either and told.get(key) in _WINDOWLESS:
                expected.reason = told[key]
    return rows


def _compare(
    check: CheckName,
    expected: Iterable[Fact | Joined | Unjoined],
    rows: Iterable[Row],
    partition: int,
    findings: Findings,
) -> None:
    missing: dict[Key, Any] = {row.key(): row for row in expected}
    seen: set[Key] = set()
    compared = len(missing)
    for row in rows:
        key: Key = row.key()  # type: ignore[union-attr]
        right = missing.pop(key, None)
        if right is None:
            findings.wrong(check, "doubled" if key in seen else "extra", _place(key, partition))
        elif row != right and (differences := list(_differences(row, right))):
            findings.wrong(check, "differ", f"{_place(key, partition)}: {'; '.join(differences)}")
        seen.add(key)
    for key in missing:
        findings.wrong(check, "missing", _place(key, partition))
    findings.did(check, "compared", compared)


def _differences(row: Any, right: Any) -> Iterable[str]:  # noqa: ANN401 - two rows of one kind
    for name in row.__struct_fields__:
        found, due = getattr(row, name), getattr(right, name)
        if found != due and not (name == "metrics" and _about_equal(found, due)):
            yield f"{name} is {_short(found)}, should be {_short(due)}"


def _about_equal(found: Mapping[str, float], due: Mapping[str, float]) -> bool:
    return found.keys() == due.keys() and all(
        math.isclose(found[name], due[name], rel_tol=_ROUNDING, abs_tol=_ROUNDING) for name in due
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - a line of an example


def _place(key: Key, partition: int) -> str:
    if len(key) == 2:  # noqa: PLR2004 - topic and offset
        return f"{key[0]} [{partition}] offset {key[1]}"
    flag, unit, variation, start = key
    return f"partition {partition}: {flag}, unit {_short(unit)}, {variation}, window of {format_time(start)}"
