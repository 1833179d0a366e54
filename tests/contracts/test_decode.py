"""Records to columns and refusals."""

import json
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from contracts.columns import EVENT
from contracts.decode import Decoded, Decoder, Record, Refusal
from contracts.events import MODELS, Kind
from contracts.flags import ContractBook, load_contract
from tests.contracts.records import BOOK, CONTRACT, EXAMPLE, HOUR, NOON, PlainRecord, record, value_of

MAX_FUTURE: Final = HOUR // 6
DEEP: Final = 50_000


def decode(kind: Kind, *records: Record, book: ContractBook = BOOK, now: int = NOON) -> Decoded:
    """Decode with a new decoder, and check what holds for every batch."""
    decoded = Decoder(book, 1 << 20, MAX_FUTURE).decode(kind, kind + "s", records, now)
    check(decoded, records)
    return decoded


def check(decoded: Decoded, records: Sequence[Record]) -> None:
    """Check that each record has one fate, and that the columns are what their schema says."""
    decoded.events.validate(full=True)
    assert decoded.events.schema.equals(EVENT)
    assert decoded.events.num_rows + len(decoded.refused) == len(records)
    offsets = decoded.events["offset"].to_pylist()
    assert sorted(offsets + [refusal.record.offset for refusal in decoded.refused]) == [each.offset for each in records]
    assert offsets == sorted(offsets)
    for field, column in zip(EVENT, decoded.events.columns, strict=True):
        assert field.nullable or column.null_count == 0
        if pa.types.is_dictionary(field.type):
            assert len(column.dictionary.unique()) == len(column.dictionary)
    assert set(decoded.events["contract_version"].to_pylist()) == decoded.versions
    for refusal in decoded.refused:
        problems = json.loads(refusal.details)
        assert problems
        assert all(problem.keys() == {"type", "loc", "msg"} for problem in problems)
        assert "\n" not in refusal.message
        assert len(refusal.details) < 32_768


def row(decoded: Decoded) -> dict[str, Any]:
    """Return the only row, maps as dicts and times in µs."""
    assert decoded.refused == ()
    only: dict[str, Any]
    (only,) = decoded.events.to_pylist()
    for name in ("record_time", "event_time"):
        only[name] = decoded.events[name].view(pa.int64())[0].as_py()
    return only | {name: dict(only[name]) for name in ("values", "attributes") if only[name] is not None}


def refusal(decoded: Decoded) -> Refusal:
    """Return the only refusal."""
    (only,) = decoded.refused
    assert decoded.events.num_rows == 0
    return only


def test_an_exposure_becomes_a_row() -> None:
    headers = (("traceparent", b"00-abc"), ("empty", None))
    value = value_of("exposure", eventId="e-1", attributes={"plan": "free"}, segments=["paid_support_chat"])
    assert row(decode("exposure", PlainRecord(value, 41, headers=headers))) == {
        "kind": "exposure",
        "topic": "exposures",
        "offset": 41,
        "record_time": NOON,
        "event_time": 1_780_827_330_000_000,
        "flag_key": "support_answer_model_route",
        "unit_id": "conv_98271",
        "variation": "candidate",
        "event": "ai_model_route_exposure",
        "event_id": "e-1",
        "contract_version": CONTRACT.version,
        "attributes": {"plan": "free"},
        "segments": ["paid_support_chat"],
        "assignment_unit": "conversation",
        "model_route": "support_model_b",
        "prompt_version": "support_v3",
        "retrieval_profile": "baseline",
        "fallback_used": False,
        "values": None,
        "guardrail": None,
        "severity": None,
        "confirmed": None,
        "value": value,
        "key": b"conv_98271",
        "headers": [{"key": "traceparent", "value": b"00-abc"}, {"key": "empty", "value": None}],
    }


def test_an_outcome_becomes_a_row_with_its_metrics_as_numbers() -> None:
    found = row(decode("outcome", record("outcome")))
    assert found["values"] == {
        "resolvedWithoutEscalation": 1.0,
        "humanCorrection": 0.0,
        "latencyMs": 1840.0,
        "estimatedCost": 0.014,
    }
    absent = ("event_id", "attributes", "segments", "assignment_unit", "fallback_used", "guardrail", "headers")
    assert all(found[name] is None for name in absent)


def test_a_guardrail_becomes_a_row_with_its_value_as_a_number() -> None:
    found = row(decode("guardrail", record("guardrail")))
    names = ("guardrail", "severity", "confirmed", "values", "model_route")
    assert [found[name] for name in names] == ["unsafe_answer", "severe", True, {"value": 1.0}, None]


def test_an_experiment_stands_for_its_flag() -> None:
    by_experiment = record("outcome", flagKey=..., experimentKey="support_answer_model_route_2026_06")
    found = row(decode("outcome", by_experiment))
    assert found["flag_key"] == "support_answer_model_route"


@pytest.mark.parametrize(
    ("changes", "column", "found"),
    [
        pytest.param({"eventId": ""}, "event_id", None, id="empty event ID is absent"),
        pytest.param({"eventId": None}, "event_id", None, id="null event ID is absent"),
        pytest.param({"attributes": {}}, "attributes", {}, id="no attributes"),
        pytest.param({"segments": []}, "segments", [], id="no segments"),
        pytest.param({"unitId": "é😀\0"}, "unit_id", "é😀\0", id="any character"),
    ],
)
def test_optional_fields(changes: dict[str, Any], column: str, found: object) -> None:
    assert row(decode("outcome", record("outcome", **changes)))[column] == found


_OUTCOME: Final = value_of("outcome")


@pytest.mark.parametrize(
    ("value", "reason", "stage", "message"),
    [
        pytest.param(None, "tombstone", "decode", "Input should have a value", id="tombstone"),
        pytest.param(b"", "not_json", "decode", "EOF while parsing a value", id="empty"),
        pytest.param(b" \n", "not_json", "decode", "EOF while parsing a value", id="blank"),
        pytest.param(b" " * 50_000_000, "too_large", "decode", "at most 1048576 bytes, it has 50000000", id="50 MB"),
        pytest.param(_OUTCOME[:-5], "not_json", "decode", "Invalid JSON: EOF while parsing", id="truncated"),
        pytest.param(_OUTCOME + b"x", "not_json", "decode", "trailing characters", id="trailing garbage"),
        pytest.param(_OUTCOME * 2, "not_json", "decode", "trailing characters", id="two values"),
        pytest.param(b"\xef\xbb\xbf" + _OUTCOME, "not_json", "decode", "expected value", id="byte order mark"),
        pytest.param(_OUTCOME.decode().encode("utf-16"), "not_json", "decode", "expected value", id="UTF-16"),
        pytest.param(_OUTCOME.replace(b"conv_", b"\xff\xfe"), "not_json", "decode", "invalid unicode", id="no UTF-8"),
        pytest.param(_OUTCOME.replace(b"conv_", b"\\ud800"), "not_json", "decode", "Invalid JSON", id="half a pair"),
        pytest.param(_OUTCOME.replace(b"conv_", b"\x01"), "not_json", "decode", "control character", id="control"),
        pytest.param(b"[" * DEEP, "not_json", "decode", "recursion limit", id="deep list"),
        pytest.param(b'{"attributes":' * DEEP, "not_json", "decode", "recursion limit", id="deep object"),
        pytest.param(b"[]", "schema_violation", "validate", "Input should be an object", id="list"),
        pytest.param(b'"text"', "schema_violation", "validate", "Input should be an object", id="text"),
        pytest.param(b"7", "schema_violation", "validate", "Input should be an object", id="number"),
        pytest.param(b"null", "schema_violation", "validate", "Input should be an object", id="null"),
        pytest.param(b"{}", "schema_violation", "validate", "event: Field required (and 2 more)", id="empty object"),
        pytest.param(
            value_of("outcome", latencyMs=float("nan")), "schema_violation", "validate", "latencyMs: Input", id="NaN"
        ),
        pytest.param(
            value_of("outcome", latencyMs=float("inf")),
            "schema_violation",
            "validate",
            "latencyMs: Input",
            id="infinity",
        ),
        pytest.param(
            _OUTCOME.replace(b"1840", b"1e400"),
            "schema_violation",
            "validate",
            "latencyMs: Input",
            id="beyond a double",
        ),
        pytest.param(
            value_of("outcome", latencyMs="1840"),
            "schema_violation",
            "validate",
            "latencyMs: Input",
            id="number in text",
        ),
        pytest.param(
            value_of("outcome", latencyMs=None), "schema_violation", "validate", "latencyMs: Input", id="null metric"
        ),
        pytest.param(
            value_of("outcome", unitId="u" * 10_000), "schema_violation", "validate", "unitId: String", id="long unit"
        ),
        pytest.param(value_of("outcome", unitId=""), "schema_violation", "validate", "unitId: String", id="empty unit"),
        pytest.param(
            value_of("outcome", variation=""), "schema_violation", "validate", "variation: String", id="empty variation"
        ),
        pytest.param(
            value_of("outcome", timestamp="2026-06-07T10:15:30"),
            "schema_violation",
            "validate",
            "timestamp: Input should be an RFC 3339 time with a zone",
            id="naive time",
        ),
        pytest.param(
            value_of("outcome", timestamp="2026-02-30T10:15:30Z"),
            "schema_violation",
            "validate",
            "timestamp: Input should be an RFC 3339 time with a zone",
            id="no such day",
        ),
        pytest.param(
            value_of("outcome", timestamp="0000-00-00T00:00:00Z"),
            "schema_violation",
            "validate",
            "timestamp: Input should be an RFC 3339 time with a zone",
            id="year 0",
        ),
        pytest.param(
            value_of("outcome", timestamp="1999-12-31T23:59:59Z"),
            "schema_violation",
            "validate",
            "timestamp: Input should be a time in or after the year 2000",
            id="year 1999",
        ),
        pytest.param(
            value_of("outcome", timestamp="9999-12-31T23:59:59-23:59"),
            "future_timestamp",
            "validate",
            "timestamp: Input is",
            id="after the year 9999",
        ),
        pytest.param(
            value_of("outcome", flagKey=...), "schema_violation", "validate", "should have flagKey or", id="no flag"
        ),
        pytest.param(
            value_of("outcome", flagKey="other"),
            "unknown_flag",
            "validate",
            "flagKey: no contract has the flag 'other'",
            id="unknown flag",
        ),
        pytest.param(
            value_of("outcome", flagKey=..., experimentKey="other"),
            "unknown_flag",
            "validate",
            "experimentKey: no contract has the experiment 'other'",
            id="unknown experiment",
        ),
        pytest.param(
            value_of("outcome", variation="Candidate"),
            "unknown_variation",
            "validate",
            "variation: the flag 'support_answer_model_route' has no variation 'Candidate'",
            id="unknown variation",
        ),
        pytest.param(value_of("exposure"), "schema_violation", "validate", "assignmentUnit: Input", id="an exposure"),
        pytest.param(value_of("guardrail"), "schema_violation", "validate", "guardrail: Input", id="a guardrail"),
    ],
)
def test_what_is_no_outcome(value: bytes | None, reason: str, stage: str, message: str) -> None:
    """The same answer whether the decoder has seen a valid outcome before or not."""
    found = refusal(decode("outcome", PlainRecord(value)))
    assert (found.reason, found.stage) == (reason, stage)
    assert message in found.message
    beside = decode("outcome", PlainRecord(_OUTCOME, 0), PlainRecord(value, 1), PlainRecord(_OUTCOME, 2))
    assert [(each.reason, each.message, each.record.offset) for each in beside.refused] == [(reason, found.message, 1)]


def test_a_flag_and_an_experiment_on_another_flag_disagree() -> None:
    other = load_contract("flag: {key: other, type: string, variations: {candidate: m}}", "other.yaml")
    both = record("outcome", flagKey="other", experimentKey="support_answer_model_route_2026_06")
    found = refusal(decode("outcome", both, book=ContractBook([CONTRACT, other])))
    assert (found.reason, json.loads(found.details)[0]["loc"]) == ("schema_violation", ["experimentKey"])


def test_details_hold_no_input_values() -> None:
    found = refusal(decode("outcome", record("outcome", unitId=["secret"], latencyMs="secret", timestamp="secret")))
    assert [problem["loc"] for problem in json.loads(found.details)] == [["unitId"], ["timestamp"], ["latencyMs"]]
    assert "secret" not in found.details + found.message


def test_details_of_many_errors_are_bounded() -> None:
    found = refusal(
        decode("outcome", PlainRecord(value_of("outcome", **{f"{'x' * 10_000}{number}": "" for number in range(90)})))
    )
    assert len(json.loads(found.details)) == 20
    assert all(len(problem["loc"][0]) == 256 for problem in json.loads(found.details))


@pytest.mark.parametrize(
    ("timestamp", "header", "time"),
    [
        pytest.param("2026-06-07T10:00:00.1234569Z", b"2026-06-07T11:00:00Z", NOON - 2 * HOUR + 123_456, id="body"),
        pytest.param(..., b"2026-06-07T11:00:00.5Z", NOON - HOUR + 500_000, id="header"),
        pytest.param(None, b"2026-06-07T11:00:00Z", NOON - HOUR, id="header, for a null"),
        pytest.param(..., None, NOON, id="record"),
    ],
)
def test_event_time_is_the_bodys_else_the_headers_else_the_records(
    timestamp: object, header: bytes | None, time: int
) -> None:
    headers = [("evidence.timestamp", header)] if header else [("other", b"")]
    of = PlainRecord(value_of("outcome", timestamp=timestamp), headers=headers)
    assert row(decode("outcome", of))["event_time"] == time


def test_each_record_of_a_batch_has_its_own_event_time() -> None:
    header = [("evidence.timestamp", b"2026-06-07T11:00:00Z")]
    records = [
        PlainRecord(value_of("outcome", timestamp="2026-06-07T10:00:00Z"), 0, headers=header),
        PlainRecord(_OUTCOME, 1, headers=header),
        PlainRecord(_OUTCOME, 2),
    ]
    times = decode("outcome", *records).events["event_time"].view(pa.int64()).to_pylist()
    assert times == [NOON - 2 * HOUR, NOON - HOUR, NOON]


def test_the_last_of_several_time_headers_counts() -> None:
    headers = [("evidence.timestamp", b"2026-06-07T10:00:00Z"), ("evidence.timestamp", b"2026-06-07T11:00:00Z")]
    assert row(decode("outcome", PlainRecord(_OUTCOME, headers=headers)))["event_time"] == NOON - HOUR


@pytest.mark.parametrize("header", [b"yesterday", b"1970-01-01T00:00:00Z", b"\xff", b"", None])
def test_a_time_header_that_is_none_is_a_violation(header: bytes | None) -> None:
    found = refusal(decode("outcome", PlainRecord(_OUTCOME, headers=[("evidence.timestamp", header)])))
    assert (found.reason, json.loads(found.details)[0]["loc"]) == (
        "schema_violation",
        ["headers", "evidence.timestamp"],
    )


@pytest.mark.parametrize("timestamp", [-1, 0, 946_684_799_999])
def test_a_record_without_any_time_is_a_violation(timestamp: int) -> None:
    found = refusal(decode("outcome", PlainRecord(_OUTCOME, timestamp=timestamp)))
    assert (found.reason, json.loads(found.details)[0]["loc"]) == ("schema_violation", ["timestamp"])


@pytest.mark.parametrize("timestamp", [-1, 2**63 - 1])
def test_an_absurd_record_time_beside_a_time_in_the_body_is_clipped(timestamp: int) -> None:
    found = row(decode("exposure", PlainRecord(value_of("exposure"), timestamp=timestamp)))
    assert found["event_time"] == 1_780_827_330_000_000
    assert found["record_time"] == (0 if timestamp < 0 else 253_402_300_799_999_000)


def test_an_absurd_record_time_alone_is_in_the_future() -> None:
    assert refusal(decode("outcome", PlainRecord(_OUTCOME, timestamp=2**63 - 1))).reason == "future_timestamp"


_AHEAD: Final = value_of("outcome", timestamp="2026-06-07T12:20:00Z")


@pytest.mark.parametrize(
    ("appended", "kind", "now", "reasons"),
    [
        pytest.param(NOON, 0, NOON + HOUR, [], id="producer's time, behind the clock"),
        pytest.param(NOON, 0, NOON, ["future_timestamp"], id="producer's time, ahead of the clock"),
        pytest.param(NOON, 1, NOON + HOUR, ["future_timestamp"], id="ahead of the append"),
        pytest.param(NOON + HOUR, 1, NOON, [], id="behind the append, which is ahead of our clock"),
        pytest.param(NOON + 2 * MAX_FUTURE, 1, NOON, [], id="exactly at the append"),
        pytest.param(NOON + MAX_FUTURE, 1, NOON, [], id="exactly at the bound"),
        pytest.param(NOON, None, NOON, ["future_timestamp"], id="old record format"),
    ],
)
def test_an_event_ahead_of_the_clock_that_counts_is_refused(
    appended: int, kind: int | None, now: int, reasons: list[str]
) -> None:
    of = PlainRecord(_AHEAD, timestamp=appended // 1000, timestamp_type=kind)
    assert [each.reason for each in decode("outcome", of, now=now).refused] == reasons


def test_a_refusal_says_first_what_is_wrong_with_the_flag() -> None:
    of = PlainRecord(value_of("outcome", flagKey="other", timestamp="2027-01-01T00:00:00Z"))
    assert refusal(decode("outcome", of)).reason == "unknown_flag"


def test_a_flag_that_nobody_knows_of_a_record_that_is_no_event_is_not_what_is_wrong() -> None:
    of = PlainRecord(value_of("exposure", flagKey="\0", timestamp=""))
    assert refusal(decode("exposure", of)).reason == "schema_violation"


def test_rows_and_refusals_stay_in_offset_order() -> None:
    records = [
        record("outcome", 0),
        record("outcome", 3, flagKey="other"),
        PlainRecord(None, 4),
        record("outcome", 7, tokens=5),
        PlainRecord(b"{", 8),
        record("outcome", 9, timestamp="2027-01-01T00:00:00Z"),
        record("outcome", 10, timestamp="1999-01-01T00:00:00Z"),
        record("outcome", 12),
    ]
    decoded = decode("outcome", *records)
    assert decoded.events["offset"].to_pylist() == [0, 7, 12]
    assert [each.record.offset for each in decoded.refused] == [3, 4, 8, 9, 10]


@pytest.mark.parametrize("kind", MODELS)
def test_no_records_give_no_rows(kind: Kind) -> None:
    decoded = decode(kind)
    assert (decoded.events.num_rows, decoded.refused, decoded.versions) == (0, (), frozenset())


def test_a_decoder_without_contracts_refuses_everything() -> None:
    assert refusal(decode("outcome", record("outcome"), book=ContractBook())).reason == "unknown_flag"


def test_versions_are_those_of_accepted_events() -> None:
    other = load_contract("flag: {key: other, type: string, variations: {candidate: m}}", "other.yaml")
    book = ContractBook([CONTRACT, other])
    decoder = Decoder(book, 1 << 20, MAX_FUTURE)
    both = decoder.decode("outcome", "outcomes", [record("outcome", 0), record("outcome", 1, flagKey="other")], NOON)
    assert both.versions == {CONTRACT.version, other.version}
    later = decoder.decode("outcome", "outcomes", [record("outcome", 2, flagKey="other")], NOON)
    check(later, [record("outcome", 2)])
    assert later.versions == {other.version}


def test_metrics_differ_from_event_to_event() -> None:
    records = [
        record("outcome", 0),
        record("outcome", 1, latencyMs=..., tokens=7),
        record("outcome", 2, resolvedWithoutEscalation=..., humanCorrection=..., latencyMs=..., estimatedCost=...),
    ]
    decoded = decode("outcome", *records)
    values = [dict(each) for each in decoded.events["values"].to_pylist()]
    assert [each.get("latencyMs") for each in values] == [1840.0, None, None]
    assert [each.get("tokens") for each in values] == [None, 7.0, None]
    assert [len(each) for each in values] == [4, 4, 0]


def test_attributes_and_segments_differ_from_event_to_event() -> None:
    records = [
        record("outcome", 0, attributes={"plan": "free", "locale": "de"}),
        record("outcome", 1, segments=["a", "b"]),
        record("outcome", 2, attributes={}, segments=[]),
        record("outcome", 3, attributes={"plan": "paid"}),
    ]
    events = decode("outcome", *records).events
    assert events["attributes"].to_pylist() == [[("plan", "free"), ("locale", "de")], None, [], [("plan", "paid")]]
    assert events["segments"].to_pylist() == [None, ["a", "b"], [], None]


def test_headers_differ_from_record_to_record() -> None:
    records = [PlainRecord(_OUTCOME, 0), PlainRecord(_OUTCOME, 1, headers=[("a", b"1")]), PlainRecord(_OUTCOME, 2)]
    assert decode("outcome", *records).events["headers"].to_pylist() == [None, [{"key": "a", "value": b"1"}], None]


@pytest.mark.parametrize("name", ["others", "metric_0", 'cost "net"', "cost\\net", "cost\nnet", "\x1b[2J", "\0", "ü"])
def test_a_metric_may_have_any_name(name: str) -> None:
    """A struct cannot have each of them; whatever one outcome is named, those after it are read as before."""
    known = load_contract(EXAMPLE.replace("latencyMs", json.dumps(name)), "flag.yaml")
    for book in (BOOK, ContractBook([known])):
        decoder = Decoder(book, 1 << 20, MAX_FUTURE)
        records = [record("outcome", 0, **{name: 7}), record("outcome", 1), record("outcome", 2, **{name: 8})]
        for each in records:
            decoded = decoder.decode("outcome", "outcomes", [each], NOON)
            check(decoded, [each])
            told = json.loads(each.value or b"")
            assert row(decoded)["values"] == {field: told[field] for field in told if not isinstance(told[field], str)}


def test_metrics_beyond_those_that_are_learned_are_kept_too() -> None:
    """A service that puts an identifier into the name of a metric is slow, not wrong."""
    records = [record("outcome", offset, **{f"latency_{offset}": offset}) for offset in range(200)]
    decoder = Decoder(BOOK, 1 << 20, MAX_FUTURE)
    for _ in range(2):
        decoded = decoder.decode("outcome", "outcomes", records, NOON)
        check(decoded, records)
        values = [dict(each) for each in decoded.events["values"].to_pylist()]
        assert [each[f"latency_{offset}"] for offset, each in enumerate(values)] == list(range(200))
        assert all(len(each) == 5 for each in values)


def test_names_that_are_really_identifiers_do_not_pile_up() -> None:
    decoder = Decoder(BOOK, 1 << 20, MAX_FUTURE)
    for first in range(0, 15_000, 5_000):
        records = [record("exposure", first + n, promptVersion=f"p{first + n}") for n in range(5_000)]
        decoded = decoder.decode("exposure", "exposures", records, NOON)
        check(decoded, records)
        column = decoded.events["prompt_version"]
        assert column.to_pylist() == [f"p{first + n}" for n in range(5_000)]
        assert len(column.dictionary) == 5_000


def test_a_record_that_makes_the_decoder_fail_is_refused_alone() -> None:
    """Neither Kafka nor its consumers make such an offset or header: it stands for a fault nobody thought of."""
    records = [
        record("outcome", 0),
        PlainRecord(_OUTCOME, 1, headers=[(7, b"")]),  # type: ignore[list-item]
        record("outcome", 2),
        record("outcome", 2**70),
    ]
    decoded = Decoder(BOOK, 1 << 20, MAX_FUTURE).decode("outcome", "outcomes", records, NOON)
    decoded.events.validate(full=True)
    assert decoded.events.schema.equals(EVENT)
    assert decoded.events["offset"].to_pylist() == [0, 2]
    assert [(each.reason, each.stage, each.record) for each in decoded.refused] == [
        ("internal", "decode", records[1]),
        ("internal", "decode", records[3]),
    ]
    alone = Decoder(BOOK, 1 << 20, MAX_FUTURE).decode("outcome", "outcomes", records[3:], NOON)
    assert (alone.events.num_rows, [each.reason for each in alone.refused]) == (0, ["internal"])


def test_a_decoder_out_of_memory_says_so() -> None:
    class Starved:
        """A record whose value cannot be had."""

        offset, timestamp, timestamp_type, key, headers = 0, 0, 0, None, ()

        @property
        def value(self) -> bytes:
            """Fail."""
            raise MemoryError

    with pytest.raises(MemoryError):
        Decoder(BOOK, 1 << 20, MAX_FUTURE).decode("outcome", "outcomes", [Starved()], NOON)


def test_records_are_read_as_aiokafka_parses_them() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    headers = [("traceparent", b"00-abc"), ("empty", None)]
    builder.append(0, NOON // 1000, b"conv_98271", _OUTCOME, headers)
    builder.append(1, NOON // 1000, None, None, [])
    records = list(DefaultRecordBatch(bytes(builder.build())))
    decoded = Decoder(BOOK, 1 << 20, MAX_FUTURE).decode("outcome", "outcomes", records, NOON)
    check(decoded, records)
    assert decoded.events["key"].to_pylist() == [b"conv_98271"]
    assert decoded.events["record_time"].view(pa.int64()).to_pylist() == [NOON]
    assert decoded.events["headers"].to_pylist() == [[{"key": name, "value": value} for name, value in headers]]
    assert [each.reason for each in decoded.refused] == ["tombstone"]


_DECODER: Final = Decoder(BOOK, 1 << 12, MAX_FUTURE)
_BYTES = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.builds(
        lambda kind, changes: value_of(kind, **changes),
        st.sampled_from(list(MODELS)),
        st.dictionaries(
            st.sampled_from(["unitId", "timestamp", "flagKey", "variation", "eventId", "latencyMs", "value", "x"]),
            st.sampled_from([None, "", "x", 1, 1.5, True, ..., "candidate", "2026-06-07T10:15:30.123456789+02:00"]),
            max_size=3,
        ),
    ),
    st.tuples(st.sampled_from(list(MODELS)), st.integers(0, 200), st.binary(max_size=3)).map(
        lambda cut: value_of(cut[0])[: cut[1]] + cut[2] + value_of(cut[0])[cut[1] :]
    ),
)


@given(st.sampled_from(list(MODELS)), st.lists(_BYTES, max_size=6))
def test_every_record_has_one_fate_and_columns_say_what_the_model_says(kind: Kind, values: list[bytes | None]) -> None:
    records = [PlainRecord(value, offset) for offset, value in enumerate(values)]
    decoded = _DECODER.decode(kind, kind, records, NOON)
    check(decoded, records)
    assert "internal" not in {each.reason for each in decoded.refused}
    for place, found in enumerate(decoded.events.to_pylist()):
        event = MODELS[kind].model_validate_json(found["value"])
        names = MODELS[kind].model_fields.keys() & set(EVENT.names) - {"value", "attributes", "segments"}
        assert {name: found[name] for name in names} == {name: getattr(event, name) for name in names}
        assert dict(found["attributes"] or ()) == (event.attributes or {})
        assert tuple(found["segments"] or ()) == (event.segments or ())
        time = decoded.events["event_time"].view(pa.int64())[place].as_py()
        assert time == (NOON if event.timestamp is None else event.timestamp)
        if kind == "outcome":
            assert dict(found["values"]) == event.model_extra


def test_two_versions_of_a_contract_have_two_books() -> None:
    """A decoder is made anew when contracts change; each row names the one it was judged by."""
    changed = load_contract(EXAMPLE + "# changed\n", "f.yaml")
    found = row(decode("outcome", record("outcome"), book=ContractBook([changed])))
    assert found["contract_version"] == changed.version != CONTRACT.version
