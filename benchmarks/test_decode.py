"""How long it takes to decode a batch, as a consumer hands it on, into columns.

A batch has as many events as a worker decodes at a time, 8,000: divide the time of a round by them.
"""

import json
import random
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.shapes.streams import SHAPES, Stream
from contracts.decode import Decoder
from contracts.events import Kind
from contracts.flags import ContractBook, load_contract, read_contracts
from contracts.placement import murmur2_partition
from pipeline.worker import DECODED_AT_A_TIME
from tests.contracts.wire.envelopes import FORMS, record_of
from tests.pipeline.lab import Record

COUNT: Final = DECODED_AT_A_TIME
START: Final = 1_780_833_600_000  # ms
FLAG: Final = Path(__file__).parents[1] / "examples" / "support_answer_model_route.yaml"
ROUTES: Final = {"control": "support_model_a", "candidate": "support_model_b"}


def _common(rng: random.Random) -> dict[str, Any]:
    return {
        "flagKey": "support_answer_model_route",
        "unitId": f"conv_{rng.randrange(1_000_000)}",
        "variation": rng.choice(list(ROUTES)),
        "timestamp": f"2026-06-07T11:{rng.randrange(60):02}:{rng.randrange(60):02}.{rng.randrange(1000):03}Z",
    }


def _exposure(rng: random.Random) -> dict[str, Any]:
    event = {"event": "ai_model_route_exposure", "assignmentUnit": "conversation", **_common(rng)}
    route = {"modelRoute": ROUTES[event["variation"]], "promptVersion": "support_v3", "retrievalProfile": "baseline"}
    return event | route | {"fallbackUsed": False}


def _attributed(rng: random.Random) -> dict[str, Any]:
    attributes = {"locale": rng.choice(["en", "de", "fr"]), "plan": rng.choice(["enterprise", "free"])}
    event_id = f"{rng.getrandbits(128):032x}"
    return _exposure(rng) | {"eventId": event_id, "attributes": attributes, "segments": ["paid_support_chat"]}


def _outcome(rng: random.Random) -> dict[str, Any]:
    metrics = {
        "resolvedWithoutEscalation": rng.choice([True, False]),
        "humanCorrection": False,
        "latencyMs": rng.randrange(5_000),
        "estimatedCost": round(rng.random() / 10, 3),
    }
    return {"event": "support_conversation_outcome", **_common(rng), **metrics}


def _guardrail(rng: random.Random) -> dict[str, Any]:
    told = {"guardrail": "unsafe_answer", "value": True, "severity": "severe", "confirmed": False}
    return {"event": "support_guardrail", **_common(rng), **told}


def _records(make: Callable[[random.Random], dict[str, Any]]) -> list[Any]:
    rng = random.Random(1)  # noqa: S311 -- the same records in every run
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    for offset in range(COUNT):
        event = make(rng)
        value = json.dumps(event, separators=(",", ":")).encode()
        builder.append(offset, START + offset, event["unitId"].encode(), value, [])
    return list(DefaultRecordBatch(bytes(builder.build())))


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        pytest.param("exposure", _exposure, id="exposures of 300 bytes"),
        pytest.param("exposure", _attributed, id="exposures of 430 bytes with attributes, segments and IDs"),
        pytest.param("outcome", _outcome, id="outcomes of 260 bytes"),
        pytest.param("guardrail", _guardrail, id="guardrails of 230 bytes"),
    ],
)
def test_decode(benchmark: BenchmarkFixture, kind: Kind, make: Callable[[random.Random], dict[str, Any]]) -> None:
    """The budget is 1.1 µs an event."""
    book = ContractBook([load_contract(FLAG.read_text(encoding="utf-8"), FLAG.name)])
    decoder = Decoder(book, 1 << 20, 600_000_000)
    records = _records(make)
    decoded = benchmark(decoder.decode, kind, "topic", records, START * 1000)
    assert (decoded.events.num_rows, decoded.refused) == (COUNT, ())


@pytest.mark.parametrize("form", FORMS)
def test_decode_of_envelopes(benchmark: BenchmarkFixture, form: str) -> None:
    decoder = Decoder(ContractBook([load_contract(FLAG.read_text(encoding="utf-8"), FLAG.name)]), 1 << 20, 600_000_000)
    records = [record_of(form, each.value, each.offset) for each in _records(_outcome)]
    decoded = benchmark(decoder.decode, "outcome", "topic", records, START * 1000)
    assert (decoded.events.num_rows, decoded.refused) == (COUNT, ())


def test_decode_of_all_envelopes_in_turn(benchmark: BenchmarkFixture) -> None:
    """No record is in the envelope of the one before it, and every tenth is plain."""
    decoder = Decoder(ContractBook([load_contract(FLAG.read_text(encoding="utf-8"), FLAG.name)]), 1 << 20, 600_000_000)
    forms = [*FORMS, None]
    records = [
        each if form is None else record_of(form, each.value, each.offset)
        for each, form in zip(_records(_outcome), cycle(forms), strict=False)
    ]
    decoded = benchmark(decoder.decode, "outcome", "topic", records, START * 1000)
    assert (decoded.events.num_rows, decoded.refused) == (COUNT, ())


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        pytest.param("bytes", "exposure", id="exposures of 2 KB"),
        pytest.param("metrics", "outcome", id="outcomes of 40 metrics"),
    ],
)
def test_decode_of_other_shapes(benchmark: BenchmarkFixture, shape: str, kind: Kind) -> None:
    stream = Stream(SHAPES[shape], COUNT * 4)
    decoder = Decoder(read_contracts(stream.flags), 1 << 20, 600_000_000)
    values = [message.value for message in stream.messages(START) if message.kind == kind][:COUNT]
    records = [Record(offset, value, START) for offset, value in enumerate(values)]
    decoded = benchmark(decoder.decode, kind, "topic", records, 2 * START * 1000)
    assert (decoded.events.num_rows, decoded.refused) == (COUNT, ())


@pytest.mark.parametrize("length", [11, 36, 200])
def test_placement(benchmark: BenchmarkFixture, length: int) -> None:
    """The budget is 0.15 µs a unit."""
    units = [f"{number:0{length}}" for number in range(COUNT)]
    assert len(benchmark(murmur2_partition, units, 12)) == COUNT
