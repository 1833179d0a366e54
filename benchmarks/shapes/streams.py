"""The shapes, and their events: made up, the same in every run.

All exposures of a unit name one variation. First exposures come evenly, so that at the end 60 % of the units are in
windows of 24 h that have not closed. Numbers are multiples of 1/64, so that sums do not depend on their order.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.traffic import Message

__all__ = ["CLOSED_THROUGH", "LATENESS", "SHAPES", "Shape", "Stream", "Writer", "flag_file"]

START: Final = 1_780_790_400_000  # ms, 2026-06-07
SECOND: Final = 1_000  # ms
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
LATENESS: Final = HOUR
END: Final = START + int(25 * HOUR / 0.6)  # what would happen later is not in the stream
CLOSED_THROUGH: Final = END - MINUTE - HOUR  # ms; a watermark that every partition passes
DELIVERED_WITHIN: Final = 30 * SECOND  # of the out-of-orderness that the worker allows
TEXTS: Final = 997
AT_A_TIME: Final = 50_000

AGGREGATES: Final = ("last", "any", "max", "sum", "mean", "first", "min", "all", "count")
YES_OR_NO: Final = frozenset({"last", "any", "all", "first"})
VARIATIONS: Final = ("control", "candidate")

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the stream of a shape is like; numbers of events are means for a unit and flag."""

    about: str
    flags: int = 1
    metrics: int = 4
    exposures: int = 1
    outcomes: float = 1.0
    guardrails: float = 0.2
    text: int = 0
    """Characters of an attribute that each event carries."""
    skew: float = 0.0
    """The share of all events that are of one unit."""
    ids: bool = False
    """Whether each event has an eventId."""
    window_hours: tuple[int, ...] = (24,)
    """The windows of the flags, in turns."""

    @property
    def weight(self) -> float:
        """How many events a unit has."""
        return self.flags * (self.exposures + self.outcomes + self.guardrails)


SHAPES: Final[Mapping[str, Shape]] = {
    "plain": Shape("one flag, 4 metrics, 2.2 events a unit, 280 bytes"),
    "flags": Shape("ten flags, windows of 1 to 24 h, each unit in all of them", flags=10, window_hours=(24, 1, 6, 12)),
    "metrics": Shape("40 metrics in each outcome", metrics=40),
    "bytes": Shape("2 KB a value, event IDs", text=1_750, ids=True),
    "events": Shape(
        "50 events a unit: 10 exposures, 35 outcomes, 5 guardrails", exposures=10, outcomes=35, guardrails=5
    ),
    "skew": Shape("half of all events are of one unit", skew=0.5),
    "all": Shape(
        "ten flags, 40 metrics, 2 KB, 50 events a unit and flag, a fifth of all of one unit, event IDs",
        flags=10,
        metrics=40,
        exposures=10,
        outcomes=35,
        guardrails=5,
        text=1_200,
        skew=0.2,
        ids=True,
        window_hours=(24, 1, 6, 12),
    ),
}


def flag_file(shape: Shape, number: int) -> str:
    """Return the flag file of one of the shape's flags."""
    window = shape.window_hours[number % len(shape.window_hours)]
    metrics = []
    for place in range(shape.metrics):
        aggregate = AGGREGATES[place % len(AGGREGATES)]
        kind = "proportion" if aggregate in YES_OR_NO else "mean"
        hours = window if place % 3 else max(window // 4, 1)
        metrics.append(
            f"    m{place:02}: {{event: done, field: field{place:02}, kind: {kind}, aggregate: {aggregate}, "
            f"window: {hours}h, goal: increase}}"
        )
    return "\n".join(
        (
            "flag:",
            f"  key: flag_{number}",
            "  type: json",
            "  variations:",
            *(f"    {name}: {{modelRoute: {name}, promptVersion: p1, retrievalProfile: r1}}" for name in VARIATIONS),
            "experiment:",
            f"  key: test_{number}",
            "  metrics:",
            *metrics,
            "",
        )
    )


class Stream:
    """The events of a shape, about so many."""

    def __init__(self, shape: Shape, events: int) -> None:
        """Take as many units as that needs; some of their events come to lie after the end."""
        self.shape = shape
        self.units = max(int(events / shape.weight), 2)

    @property
    def flags(self) -> dict[str, str]:
        """The flag files by name."""
        return {f"flag_{number}.yaml": flag_file(self.shape, number) for number in range(self.shape.flags)}

    @property
    def count(self) -> int:
        """How many events there are."""
        return len(self._order)

    def messages(self, published: int) -> Iterator[Message]:
        """Yield the events in the order in which they arrive, as records of the time `published` (ms)."""
        write, columns = Writer(self.shape).value, self._columns
        for start in range(0, len(self._order), AT_A_TIME):
            rows = self._order[start : start + AT_A_TIME]
            part = [columns[name][rows].tolist() for name in ("kind", "flag", "unit", "mistaken", "chance")]
            stamps = np.datetime_as_string(columns["time"][rows].astype("datetime64[ms]"), unit="ms").tolist()
            for kind, flag, unit, mistaken, chance, stamp in zip(*part, stamps, strict=True):
                name = f"unit_{unit * 2_654_435_761 % 2**32:08x}"
                value = write(kind, flag, name, (unit + mistaken) % 2, f"{stamp}Z", chance)
                yield Message(("exposure", "outcome", "guardrail")[kind], name.encode(), value, published)

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        rng, shape = np.random.default_rng(1), self.shape
        unit = np.repeat(np.arange(self.units), shape.flags)
        flag = np.tile(np.arange(shape.flags), self.units)
        first = START + unit * (END - START) // self.units + rng.integers(0, MINUTE, len(unit))
        parts = []
        for kind, mean in enumerate((shape.exposures, shape.outcomes, shape.guardrails)):
            whole = np.full(len(unit), int(mean)) + (rng.random(len(unit)) < mean % 1)
            rows = np.repeat(np.arange(len(unit)), whole)
            if kind == 0:
                again = np.diff(rows, prepend=-1) == 0
                after = np.where(again, rng.integers(1, 20 * HOUR, len(rows)), 0)
            else:
                after = 1 + rng.exponential(30 * MINUTE if shape.exposures == 1 else 6 * HOUR, len(rows)).astype(int)
            parts.append((np.full(len(rows), kind), rows, first[rows] + after))
        kinds, rows, times = (np.concatenate([part[place] for part in parts]) for place in range(3))
        hot = rng.random(self.units)[unit[rows]] < shape.skew
        return {
            "kind": kinds,
            "flag": flag[rows],
            "unit": np.where(hot, 0, unit[rows]),
            "time": times,
            "mistaken": (kinds == 1) & (rng.random(len(kinds)) < 0.01),
            "chance": rng.integers(0, 1_000_000, len(kinds)),
        }

    @cached_property
    def _order(self) -> Integers:
        """Return the rows of `_columns` in the order of arrival, those that come twice twice."""
        rng, times = np.random.default_rng(2), self._columns["time"]
        happened = np.flatnonzero(times < END)
        rows = np.concatenate([happened, happened[rng.random(len(happened)) < 0.005]])
        return rows[np.argsort(times[rows] + rng.integers(0, DELIVERED_WITHIN, len(rows)), kind="stable")]


class Writer:
    """Writes events as JSON, by templates."""

    def __init__(self, shape: Shape) -> None:
        """Prepare what the values of the shape have in common."""
        self._shape = shape
        rng = np.random.default_rng(3)
        letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz 0123456789", np.uint8)
        self._texts = [rng.choice(letters, shape.text).tobytes().decode() for _ in range(TEXTS if shape.text else 0)]
        self._metrics: list[tuple[str, Callable[[int], str]]] = [
            (f"field{place:02}", _yes_or_no if AGGREGATES[place % len(AGGREGATES)] in YES_OR_NO else _number)
            for place in range(shape.metrics)
        ]

    def value(self, kind: int, flag: int, unit: str, variation: int, stamp: str, chance: int) -> bytes:  # noqa: PLR0917
        """Write one event; `chance`, below a million, decides what it says."""
        name = VARIATIONS[variation]
        text = f'{{"flagKey":"flag_{flag}","unitId":"{unit}","variation":"{name}","timestamp":"{stamp}"'
        if self._shape.ids:
            text += f',"eventId":"{unit}-{kind}{flag}-{stamp}-{chance}"'
        if self._texts:
            text += f',"attributes":{{"plan":"team","context":"{self._texts[chance % TEXTS]}"}}'
        if kind == 0:
            fallback = "true" if chance < 20_000 else "false"
            text += (
                f',"event":"shown","assignmentUnit":"user","modelRoute":"{name}","promptVersion":"p1",'
                f'"retrievalProfile":"r1","fallbackUsed":{fallback}}}'
            )
        elif kind == 1:
            told = ",".join(f'"{field}":{say(chance + 7 * place)}' for place, (field, say) in enumerate(self._metrics))
            text += f',"event":"done",{told}}}'
        else:
            told = json.dumps({"guardrail": "unsafe", "value": chance % 50 == 0, "severity": "info"})
            text += f',"event":"checked",{told[1:]}'
        return text.encode()


def _yes_or_no(chance: int) -> str:
    return "true" if chance % 3 else "false"


def _number(chance: int) -> str:
    return repr(chance % 100_000 / 64)
