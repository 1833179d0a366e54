"""The events that all contenders read: made up, the same in every run, of the example flag.

Exposures come evenly spread, so that at the end 60 % of the units are in windows that have not closed. Each unit has
one exposure, one outcome on average (none, one or two) and 0.2 guardrails; some records came twice, some exposures ran
the fallback, some outcomes name the other variation, some come too late for a metric. Every topic is nearly in order.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from contracts.flags import load_contract
from pipeline.traffic import Message

__all__ = ["CLOSED_THROUGH", "FLAG", "OPEN_FOR", "Load"]

FLAG: Final = Path(__file__).parents[2] / "examples" / "support_answer_model_route.yaml"
START: Final = 1_780_790_400_000  # ms, 2026-06-07, in the state `ab`
MINUTE: Final = 60_000  # ms
HOUR: Final = 60 * MINUTE
OPEN_FOR: Final = 25 * HOUR  # the longest window of the flag, and one hour of lateness
OUT_OF_ORDERNESS: Final = MINUTE  # the worker's default, and the peers'
DELIVERED_WITHIN: Final = 30_000  # ms, inside that bound
OPEN_SHARE: Final = 0.6
END: Final = START + int(OPEN_FOR / OPEN_SHARE)  # what would happen later is not in the stream
CLOSED_THROUGH: Final = END - OUT_OF_ORDERNESS - HOUR  # a watermark that every partition of every contender passes
AT_A_TIME: Final = 100_000

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Load:
    """The events of so many units."""

    units: int

    @property
    def count(self) -> int:
        """How many events there are."""
        return len(self._order)

    def messages(self, published: int) -> Iterator[Message]:
        """Yield the events in the order in which they arrive, as records of the time `published` (ms).

        That should be now: of records as old as the events, brokers may let go before they are read.
        """
        write = _Writer(published)
        columns = self._columns
        for start in range(0, len(self._order), AT_A_TIME):
            rows = self._order[start : start + AT_A_TIME]
            part = {name: column[rows].tolist() for name, column in columns.items() if name != "time"}
            stamps = np.datetime_as_string(columns["time"][rows].astype("datetime64[ms]"), unit="ms").tolist()
            for kind, unit, variation, chance, stamp in zip(
                part["kind"], part["unit"], part["variation"], part["chance"], stamps, strict=True
            ):
                yield write.message(kind, f"conv_{unit * 2_654_435_761 % 2**32:08x}", variation, stamp, chance)

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        """Hold each event once, as columns; `kind` and `variation` are places in _Writer's lists."""
        rng, count = np.random.default_rng(1), self.units
        unit = np.arange(count)
        exposed = START + unit * (END - START) // count
        variation = rng.integers(0, 2, count)
        outcomes = rng.choice([0, 1, 2], count, p=[0.05, 0.9, 0.05])
        first = exposed + rng.exponential(30 * MINUTE, count).astype(np.int64) + 1
        second = first + 1000 + rng.exponential(30 * MINUTE, count).astype(np.int64)
        guarded = rng.random(count) < 0.2
        parts = [
            (0, unit, exposed),
            (1, unit[outcomes > 0], first[outcomes > 0]),
            (1, unit[outcomes > 1], second[outcomes > 1]),
            (2, unit[guarded], (exposed + rng.integers(1, 30 * MINUTE, count))[guarded]),
        ]
        kinds = np.concatenate([np.full(len(units), kind) for kind, units, _ in parts])
        units = np.concatenate([units for _, units, _ in parts])
        times = np.concatenate([times for _, _, times in parts])
        mistaken = (kinds == 1) & (rng.random(len(kinds)) < 0.01)
        return {
            "kind": kinds,
            "unit": units,
            "time": times,
            "variation": variation[units] ^ mistaken,
            "chance": rng.integers(0, 1_000_000, len(kinds)),
        }

    @cached_property
    def _order(self) -> Integers:
        """Return the rows of `_columns` in the order of arrival, those that come twice twice."""
        rng, times = np.random.default_rng(2), self._columns["time"]
        happened = np.flatnonzero(times < END)
        rows = np.concatenate([happened, happened[rng.random(len(happened)) < 0.005]])
        return rows[np.argsort(times[rows] + rng.integers(0, DELIVERED_WITHIN, len(rows)), kind="stable")]


class _Writer:
    """Writes events as JSON, by templates: a million of them take seconds."""

    def __init__(self, published: int) -> None:
        self._published = published
        contract = load_contract(FLAG.read_text(encoding="utf-8"), FLAG.name)
        self._variations = ["control", "candidate"]
        common = {"flagKey": contract.flag_key, "unitId": "%s", "variation": "%s", "timestamp": "%sZ"}
        self._exposures = []
        for name in self._variations:
            routes = []
            for run in (contract.variations[name], contract.variations["fallback"]):
                route = {
                    "assignmentUnit": "conversation",
                    "modelRoute": run.model_route,
                    "promptVersion": run.prompt_version,
                    "retrievalProfile": run.retrieval_profile,
                    "fallbackUsed": run is contract.variations["fallback"],
                }
                routes.append(_template({"event": "ai_model_route_exposure"} | common | route))
            self._exposures.append(routes)
        measured = {
            "resolvedWithoutEscalation": None,
            "humanCorrection": None,
            "latencyMs": None,
            "estimatedCost": None,
        }
        outcome = _template({"event": "support_conversation_outcome"} | common | measured)
        self._outcome = outcome.replace("null", "%s")
        told = {"guardrail": "unsafe_answer", "value": None, "severity": "info", "confirmed": False}
        self._guardrail = _template({"event": "support_guardrail"} | common | told).replace("null", "%s")

    def message(self, kind: int, unit: str, variation: int, stamp: str, chance: int) -> Message:
        """Write one event; `chance`, below a million, decides what it says."""
        which = (unit, self._variations[variation], stamp)
        if kind == 0:
            name, text = "exposure", self._exposures[variation][chance < 20_000] % which
        elif kind == 1:
            resolved, corrected = ("true", "false")[chance % 3 == 0], ("true", "false")[chance % 7 != 0]
            told = (resolved, corrected, 200 + chance % 4_800, f"0.0{chance % 89 + 10}")
            name, text = "outcome", self._outcome % (*which, *told)
        else:
            name, text = "guardrail", self._guardrail % (*which, ("0", "1")[chance % 50 == 0])
        return Message(name, unit.encode(), text.encode(), self._published)


def _template(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"))
