"""Whatever lies in the topics, the doctor looks at it, and what it prints is harmless."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.doctor.report import as_json, lines
from pipeline.doctor.sample import Record, Sample, Topic
from pipeline.terminal import safe
from tests.pipeline.doctor.samples import TAKEN, looked_at

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=5), SCALARS, max_size=3)
KNOWN = st.sampled_from(
    ["support_answer_model_route", "candidate", "support_model_b", "u1", "2026-06-07T10:15:30Z", "\x1b[2J\u202e", ""]
)
NAMES = st.sampled_from(
    [
        "event",
        "flagKey",
        "experimentKey",
        "unitId",
        "variation",
        "timestamp",
        "eventId",
        "latencyMs",
        "specversion",
        "source",
    ]
)
BODIES = st.dictionaries(NAMES, KNOWN | VALUES, max_size=10).map(lambda body: json.dumps(body).encode())
SENDERS = st.sampled_from(["service", "ce_source", "\x1b[2J", "evidence.timestamp"])
HEADERS = st.lists(st.tuples(SENDERS, st.none() | st.binary(max_size=8)), max_size=2).map(tuple)
RECORDS = st.builds(
    Record,
    offset=st.just(0),
    timestamp=st.integers(-1, 1 << 62),
    timestamp_type=st.integers(0, 1),
    key=st.none() | st.binary(max_size=12) | KNOWN.map(str.encode),
    value=st.none() | st.binary(max_size=12) | BODIES,
    headers=HEADERS,
    producer_id=st.integers(-1, 3),
)


def topic(name: str, logs: list[list[Record]]) -> Topic:
    numbered = {p: [r._replace(offset=offset) for offset, r in enumerate(log)] for p, log in enumerate(logs)}
    return Topic(name, len(logs), numbered)


@settings(max_examples=50)
@given(st.lists(st.lists(st.lists(RECORDS, max_size=6).map(lambda log: log * 4), max_size=3), min_size=3, max_size=3))
def test_no_record_stops_it(logs: list[list[list[Record]]]) -> None:
    exposures, outcomes, guardrails = (topic(name, log) for name, log in zip("eog", logs, strict=True))
    examined = looked_at(Sample(exposures, outcomes, guardrails, TAKEN))
    text = list(lines(examined))
    assert [line for line in text if safe(line) != line] == []
    report: dict[str, Any] = json.loads(json.dumps(as_json(examined), allow_nan=False))
    assert {finding["id"] for finding in report["findings"]} == {finding.id for finding in examined.findings}
    assert all(finding.count <= finding.of for finding in examined.findings)
