"""What can only be late: the judgement on one event agrees with what a close makes of it."""

from itertools import pairwise, product
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import Kind
from pipeline.dlq.judging import Event
from pipeline.dlq.lateness import Past, Window, only_late, windows_of
from tests.pipeline.dlq.lakes import lab_on_disk, state
from tests.pipeline.lab import HOUR, NOON, exposure, outcome

MIDNIGHT = NOON - 12 * HOUR
KINDS: Final[tuple[Kind, ...]] = ("exposure", "outcome")
CANDIDATES = list(product(KINDS, ("control", "candidate"), (0.25, 0.5, 5, 9, 12, 23.5, 24, 26, 32, 33, 40)))


def test_it_agrees_with_the_close(tmp_path: Path) -> None:
    """Each candidate comes to a unit of its own, with windows closed, open and overlapping; then a close judges all."""
    lab = lab_on_disk(tmp_path / "lake")
    writer = lab.writer()
    units = [f"u{number}" for number in range(len(CANDIDATES))]
    for unit in units:
        lab.publish("exposures", exposure(unit, 0.5), exposure(unit, 9, "candidate"))
    lab.publish("exposures", exposure("clock", 26))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)

    lake = state(lab)
    pasts = lake.pasts({("route", unit): 0 for unit in units})
    predicted = {
        unit: only_late(Event(kind, "route", unit, variation, MIDNIGHT + int(hour * HOUR)), pasts["route", unit])
        for unit, (kind, variation, hour) in zip(units, CANDIDATES, strict=True)
    }
    for unit, (kind, variation, hour) in zip(units, CANDIDATES, strict=True):
        make = exposure if kind == "exposure" else outcome
        lab.publish(f"{kind}s", make(unit, hour, variation))
    lab.publish("exposures", exposure("clock", 27))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)

    late = {row["unit_id"] for row in lab.rows("unjoined") if row["reason"] == "late"}
    told = {unit: why is not None for unit, why in predicted.items()}
    assert told == {unit: unit in late for unit in units}
    assert 0 < len(late) < len(units)


@pytest.mark.parametrize(
    ("event", "past", "why"),
    [
        pytest.param(("outcome", "a", 5), Past(4, 10), None, id="after what is decided"),
        pytest.param(("outcome", "a", 4), Past(4, 10), "all up to", id="at what is decided"),
        pytest.param(
            ("outcome", "a", 5), Past(None, 10, [Window(0, 9, "a")]), "it falls to the window of 'a'", id="own, closed"
        ),
        pytest.param(
            ("outcome", "a", 5),
            Past(None, 10, [Window(0, 9, "b")], [Window(3, 9, "a")]),
            None,
            id="own, open, beside another that is closed",
        ),
        pytest.param(
            ("outcome", "a", 5), Past(None, 10, [Window(1, 9, "b")], [Window(0, 9, "c")]), None, id="earliest, open"
        ),
        pytest.param(
            ("outcome", "a", 5),
            Past(None, 10, [Window(0, 9, "b")], [Window(0, 9, "c")]),
            "it falls to the window of 'b'",
            id="tied, the first by name is closed",
        ),
        pytest.param(
            ("exposure", "a", 5), Past(None, 10, [Window(14, 20, "b")]), "would overlap", id="an exposure before one"
        ),
        pytest.param(
            ("exposure", "a", 5), Past(None, 10, [Window(15, 20, "b")]), None, id="an exposure that just ends"
        ),
    ],
)
def test_rule_by_rule(event: tuple[Any, str, int], past: Past, why: str | None) -> None:
    kind, variation, time = event
    told = only_late(Event(kind, "route", "u", variation, time), past)
    assert told is None if why is None else why in str(told)


@given(times=st.lists(st.integers(0, 100), max_size=12))
def test_windows_of_one_variation_are_apart_and_hold_every_exposure(times: list[int]) -> None:
    windows = windows_of((time, 10, "a") for time in times)
    assert all(each.end <= after.start for each, after in pairwise(windows))
    assert all(sum(each.start <= time < each.end for each in windows) == 1 for time in times)
    assert {each.start for each in windows} <= set(times)
