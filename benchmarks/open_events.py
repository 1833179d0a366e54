"""Open events of the example flag, as a worker holds them between two checkpoints: made with Arrow, 1 µs an event."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.columns import EVENT, TIMESTAMP
from contracts.flags import load_contract

__all__ = ["CONTRACT", "HOUR", "METRICS", "START", "TOPICS", "Numbers", "open_events", "rows"]

FLAG: Final = Path(__file__).parents[1] / "examples" / "support_answer_model_route.yaml"
CONTRACT: Final = load_contract(FLAG.read_text(encoding="utf-8"), FLAG.name)
START: Final = 1_780_833_600_000_000  # µs, while the experiment runs
HOUR: Final = 3_600_000_000
METRICS: Final = ["resolvedWithoutEscalation", "humanCorrection", "latencyMs", "estimatedCost"]
TOPICS: Final = {"exposure": "exposures", "outcome": "outcomes", "guardrail": "guardrails"}
EVENT_NAMES: Final = {
    "exposure": "ai_model_route_exposure",
    "outcome": "support_conversation_outcome",
    "guardrail": "support_guardrail",
}

Numbers = np.ndarray[Any, np.dtype[np.int64]]


def open_events(units: Numbers, exposed: Numbers, offsets: dict[str, int] | None = None) -> pa.Table:
    """Make an exposure and an outcome of each unit, a guardrail of each fifth.

    `exposed` are the times of the exposures in µs; the others come within an hour. Offsets go on from those given by
    topic, which are moved on.
    """
    rng = np.random.default_rng(int(units[0]))
    later = exposed + rng.integers(0, HOUR, len(units))
    some = rng.random(len(units)) < 0.2
    offsets = offsets if offsets is not None else dict.fromkeys(TOPICS.values(), 0)
    return pa.concat_tables(
        [
            rows("exposure", units, exposed, [], offsets),
            rows("outcome", units, later, METRICS, offsets),
            rows("guardrail", units[some], later[some], ["value"], offsets),
        ]
    )


def rows(kind: str, units: Numbers, at: Numbers, values: Sequence[str], offsets: dict[str, int]) -> pa.Table:
    """Make one event a unit with these numbers; the variation goes by the unit."""
    count, rng, topic = len(units), np.random.default_rng(1), TOPICS[kind]
    names = pa.array([f"conv_{unit * 2_654_435_761 % 2**32:08x}" for unit in units.tolist()])
    variation, same = units % 2, np.zeros(count, np.int64)
    places, times = pa.array(np.arange(count + 1) * len(values), pa.int32()), pa.array(at, TIMESTAMP)
    columns = {
        "kind": _coded([kind], same),
        "topic": _coded([topic], same),
        "offset": pa.array(np.arange(count) + offsets[topic]),
        "record_time": times,
        "event_time": times,
        "flag_key": _coded([CONTRACT.flag_key], same),
        "unit_id": names,
        "variation": _coded(["control", "candidate"], variation),
        "event": _coded([EVENT_NAMES[kind]], same),
        "contract_version": _coded([CONTRACT.version], same),
        "value": _values(kind, names, times),
        "key": names.cast(pa.binary()),
    }
    offsets[topic] += count
    if kind == "exposure":
        columns |= {
            "assignment_unit": _coded(["conversation"], same),
            "model_route": _coded(["support_model_a", "support_model_b"], variation),
            "prompt_version": _coded(["support_v3"], same),
            "retrieval_profile": _coded(["baseline"], same),
            "fallback_used": pa.array(np.zeros(count, bool)),
        }
    else:
        keys, numbers = pa.array(list(values) * count), pa.array(rng.random(count * len(values)))
        columns["values"] = pa.MapArray.from_arrays(places, keys, numbers)
    missing = {field.name: pa.nulls(count, field.type) for field in EVENT if field.name not in columns}
    return pa.table({name: (columns | missing)[name] for name in EVENT.names}, schema=EVENT)


def _coded(names: Sequence[str | None], codes: Numbers) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))


def _values(kind: str, names: pa.Array, times: pa.Array) -> pa.Array:
    """Return 250 bytes a record, in which the unit and the time are their own."""
    begin = f'{{"event":"{EVENT_NAMES[kind]}","flagKey":"{CONTRACT.flag_key}","unitId":"'
    end = '","more":"' + "x" * (250 - len(begin) - 60) + '"}'
    stamps = pc.strftime(times, format="%Y-%m-%dT%H:%M:%SZ")
    return pc.binary_join_element_wise(begin, names, '","timestamp":"', stamps, end, "").cast(pa.binary())
