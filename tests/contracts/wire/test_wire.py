"""Events in envelopes: what is read from where, and what is told of the broken ones."""

import json
import time
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from contracts.columns import EVENT
from contracts.decode import Decoded, Decoder
from contracts.events import MODELS, Kind
from contracts.times import parse_time
from tests.contracts.records import BOOK, NOON, VALID, PlainRecord, value_of
from tests.contracts.test_decode import check, decode, refusal, row
from tests.contracts.wire.envelopes import (
    CE_ID,
    CE_TIME,
    FORMS,
    GUID,
    METRIC,
    Headers,
    evaluation,
    insight,
    log_record,
    record_of,
)

CLOUD: Final = tuple(name for name in FORMS if "CloudEvent" in name or "mode" in name)
BINARY: Final = FORMS["CloudEvent in binary mode"](b"")[1]
PLAIN: Final = value_of("outcome")
DECODER: Final = Decoder(BOOK, 1 << 20, 2**60)


def json_record(body: Any, headers: Headers = ()) -> PlainRecord:  # noqa: ANN401 -- as JSON
    return PlainRecord(json.dumps(body).encode(), headers=headers)


def told(decoded: Decoded) -> tuple[str, list[tuple[str, ...]]]:
    """Return the reason of the only refusal, and the layer or type and the place of each problem."""
    only = refusal(decoded)
    return only.reason, [(each["type"], *map(str, each["loc"])) for each in json.loads(only.details)]


# ── Any event in any envelope ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", MODELS)
def test_an_event_in_an_envelope_is_the_event(kind: Kind, form: str) -> None:
    plain = value_of(kind, eventId="e-1", timestamp="2026-06-07T10:15:30Z", attributes={"plan": "free"})
    bare = row(decode(kind, PlainRecord(plain)))
    record = record_of(form, plain)
    headers = [{"key": name, "value": value} for name, value in record.headers] or None
    assert row(decode(kind, record)) == bare | {"value": record.value, "headers": headers}


_NUMBERS: Final = st.one_of(
    st.booleans(), st.integers(-(2**80), 2**80), st.floats(allow_nan=False, allow_infinity=False)
)
_TEXT: Final = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_TIMES: Final = st.sampled_from((None, ..., "2026-06-07T10:15:30Z", "2026-06-07t10:15:30.123456789+02:00"))


@st.composite
def events(draw: st.DrawFn) -> tuple[Kind, bytes]:
    """Return a valid event of any kind."""
    kind: Kind = draw(st.sampled_from(list(MODELS)))
    changes: dict[str, Any] = {
        "unitId": draw(_TEXT),
        "event": draw(_TEXT),
        "timestamp": draw(_TIMES),
        "eventId": draw(st.one_of(st.sampled_from((None, "", ...)), _TEXT)),
        "attributes": draw(st.one_of(st.none(), st.dictionaries(_TEXT, st.text(max_size=5), max_size=3))),
        "segments": draw(st.one_of(st.none(), st.lists(_TEXT, max_size=3))),
    }
    if draw(st.booleans()):
        changes |= {"flagKey": ..., "experimentKey": "support_answer_model_route_2026_06"}
    if kind == "outcome":
        changes |= {f"metric {name}": number for name, number in draw(st.dictionaries(_TEXT, _NUMBERS)).items()}
    if kind == "guardrail":
        changes["value"] = draw(_NUMBERS)
    escaped = draw(st.booleans())
    fields = {name: value for name, value in (VALID[kind] | changes).items() if value is not ...}
    return kind, json.dumps(fields, ensure_ascii=escaped, indent=draw(st.sampled_from((None, 1)))).encode()


@given(events(), st.sampled_from(list(FORMS)))
def test_any_valid_event_in_any_envelope_has_the_columns_of_the_plain_one(event: tuple[Kind, bytes], form: str) -> None:
    kind, value = event
    batches = [DECODER.decode(kind, kind, [record], NOON) for record in (PlainRecord(value), record_of(form, value))]
    assert not [refused for batch in batches for refused in batch.refused]
    plain, wrapped = (row(batch) for batch in batches)
    for batch, found in zip(batches, (plain, wrapped), strict=True):
        found["event_time"] = batch.events["event_time"].view(pa.int64())[0].as_py()
    if form in CLOUD:
        plain["event_id"] = plain["event_id"] or CE_ID
        if json.loads(value).get("timestamp") is None:
            plain["event_time"] = parse_time(CE_TIME)
    same = {*EVENT.names} - {"value", "headers"}
    assert {name: wrapped[name] for name in same} == {name: plain[name] for name in same}


@st.composite
def accidents(draw: st.DrawFn) -> PlainRecord:
    """Return an event in an envelope, cut or with bits flipped, under headers of this or another form."""
    _, inner = draw(events())
    value, headers = FORMS[draw(st.sampled_from(list(FORMS)))](draw(st.one_of(st.just(inner), st.binary(max_size=30))))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(0, len(value) - 1)))
        flipped = bytes([(value[place] if value else 0) ^ 1 << draw(st.integers(0, 7))])
        value = draw(st.sampled_from((value[:place], value[:place] + flipped + value[place + 1 :])))
    other = FORMS[draw(st.sampled_from(list(FORMS)))](b"")[1]
    return PlainRecord(value, headers=draw(st.sampled_from((headers, headers, other, headers + other))))


@given(st.sampled_from(list(MODELS)), st.lists(accidents(), max_size=4))
def test_whatever_is_broken_each_record_has_one_fate(kind: Kind, found: list[PlainRecord]) -> None:
    records = [PlainRecord(each.value, offset, headers=each.headers) for offset, each in enumerate(found)]
    decoded = DECODER.decode(kind, kind, records, NOON)
    check(decoded, records)
    assert "internal" not in {each.reason for each in decoded.refused}
    for refused in decoded.refused:
        assert (refused.record.value, refused.record.headers) == (
            records[refused.record.offset].value,
            records[refused.record.offset].headers,
        )


def test_a_batch_of_all_forms_keeps_the_order_of_its_records() -> None:
    records = [record_of(form, value_of("outcome", latencyMs=place), place) for place, form in enumerate(FORMS)]
    records += [PlainRecord(value_of("outcome", latencyMs=len(FORMS)), len(FORMS)), PlainRecord(b"\0", len(FORMS) + 1)]
    decoded = decode("outcome", *records)
    assert [dict(each)["latencyMs"] for each in decoded.events["values"].to_pylist()] == [*range(len(FORMS) + 1)]
    assert refusal_reasons(decoded) == ["bad_framing"]


def refusal_reasons(decoded: Decoded) -> list[str]:
    return [each.reason for each in decoded.refused]


# ── What is no envelope ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"data": 1, "id": 2, "specversion": 1.0}, id="metrics named as in an envelope"),
        pytest.param({"user": True, "metrics": 3, "variations": 2}, id="metrics named as in an insight"),
        pytest.param({"resourceLogs": 1}, id="a metric named as in an export of logs"),
    ],
)
def test_a_plain_event_with_such_names_stays_plain(more: dict[str, Any]) -> None:
    assert row(decode("outcome", PlainRecord(value_of("outcome", **more))))["values"].keys() >= more.keys()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((("ce_id", b"1"), ("ce_time", b"2026-01-01T00:00:00Z")), id="without ce_specversion"),
        pytest.param((("content-type", b"application/avro"),), id="another content type"),
        pytest.param((("content-type", b"text/cloudevents"),), id="a content type that resembles it"),
        pytest.param(
            (("content-type", b"application/cloudevents+json"), ("content-type", b"text/json")), id="not the last"
        ),
        pytest.param((("content-type", None), ("__value_schema_id", b"junk")), id="a schema ID that is none"),
    ],
)
def test_such_headers_change_nothing_about_a_plain_event(headers: Headers) -> None:
    found = row(decode("outcome", PlainRecord(PLAIN, headers=headers)))
    assert (found["event_id"], found["event_time"]) == (None, NOON)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"user": {"keyId": 1}, "metrics": []}, id="a user without a key"),
        pytest.param({"user": {"keyId": "u"}, "metrics": [], "event": "e"}, id="a user beside other fields"),
        pytest.param({"user": {"keyId": "u"}}, id="a user alone"),
        pytest.param({"resourceLogs": [], "event": "e"}, id="logs beside other fields"),
        pytest.param({"specversion": "1.0", "id": "1", "source": "/"}, id="an envelope without a type"),
        pytest.param([], id="an empty list"),
    ],
)
def test_what_only_resembles_an_envelope_is_a_wrong_event(body: Any) -> None:  # noqa: ANN401 -- as JSON
    assert refusal(decode("outcome", json_record(body))).reason == "schema_violation"


def test_a_record_without_a_value_is_a_tombstone_whatever_its_headers() -> None:
    assert refusal(decode("outcome", PlainRecord(None, headers=BINARY))).reason == "tombstone"


# ── Schema registry ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        pytest.param(b"\0", (), id="a magic byte alone"),
        pytest.param(b"\0\0\0", (), id="cut in the ID"),
        pytest.param(b"\0\0\0\0\7", (), id="no payload"),
        pytest.param(b"\1" + GUID[:9], (), id="cut in the GUID"),
        pytest.param(b"\1" + PLAIN, (), id="JSON where the GUID should be"),
        pytest.param(b"\0\0\0\0\7\2\4" + b"conv_1", (), id="Avro"),
        pytest.param(b"\0\0\0\0\7\0\x0a\6conv_1", (), id="Protobuf, with its message indexes"),
        pytest.param(b"\0\0\0\0\7" + PLAIN[:-9], (), id="cut JSON"),
        pytest.param(b"\0\0\0\0\7[1]", (), id="a list"),
        pytest.param(b"\0\0\0\0\7\0\0\0\0\7" + PLAIN, (), id="framed twice"),
        pytest.param(b"\x0a\6conv_1", (("__value_schema_id", b"\1" + GUID),), id="Protobuf with the ID in a header"),
    ],
)
def test_a_frame_around_anything_but_a_json_object_is_bad_framing(value: bytes, headers: Headers) -> None:
    decoded = decode("outcome", PlainRecord(value, headers=headers))
    assert told(decoded) == ("bad_framing", [("schema_registry", "value")])
    assert "JSON serializer, not Avro or Protobuf" in refusal(decoded).message


def test_a_framed_event_that_breaks_the_contract_is_a_schema_violation() -> None:
    decoded = decode("outcome", record_of("schema ID", value_of("outcome", unitId=7, event=...)))
    assert told(decoded) == ("schema_violation", [("missing", "event"), ("string_type", "unitId")])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30T10:15:30Z", "1999-12-31T23:59:59Z"])
def test_a_wrong_time_in_an_envelope_is_a_schema_violation(form: str, text: str) -> None:
    reason, problems = told(decode("outcome", record_of(form, value_of("outcome", timestamp=text))))
    assert (reason, problems[0][1]) == ("schema_violation", "timestamp")


# ── CloudEvents ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", CLOUD)
def test_an_envelope_gives_time_and_id_where_the_event_has_none(form: str) -> None:
    found = row(decode("outcome", record_of(form, value_of("outcome"))))
    assert (found["event_id"], found["event_time"]) == (CE_ID, parse_time(CE_TIME))


@pytest.mark.parametrize("form", CLOUD)
def test_the_events_own_time_and_id_go_before_those_of_the_envelope(form: str) -> None:
    found = row(
        decode("outcome", record_of(form, value_of("outcome", eventId="own", timestamp="2026-06-07T10:15:30Z")))
    )
    assert (found["event_id"], found["event_time"]) == ("own", parse_time("2026-06-07T10:15:30Z"))


@pytest.mark.parametrize("form", CLOUD)
def test_the_time_of_the_envelope_goes_before_that_of_a_replay(form: str) -> None:
    """The header keeps the record's own time, which counts where neither body nor envelope has one."""
    record = record_of(form, PLAIN)
    again = PlainRecord(record.value, headers=(*record.headers, ("evidence.timestamp", b"2026-06-07T08:00:00Z")))
    assert row(decode("outcome", again))["event_time"] == parse_time(CE_TIME)


def test_an_envelope_without_a_time_leaves_it_to_the_record() -> None:
    headers = tuple(header for header in BINARY if header[0] != "ce_time")
    assert row(decode("outcome", PlainRecord(PLAIN, headers=headers)))["event_time"] == NOON
    marked = (*headers, ("evidence.timestamp", b"2026-06-07T08:00:00Z"))
    found = row(decode("outcome", PlainRecord(PLAIN, headers=marked)))
    assert found["event_time"] == parse_time("2026-06-07T08:00:00Z")


def test_source_and_id_are_told_apart_and_long_ones_shortened() -> None:
    def event_id(source: str, number: str) -> str:
        mine = {"ce_source": source.encode(), "ce_id": number.encode()}
        headers = tuple((name, mine.get(name, value)) for name, value in BINARY)
        return str(row(decode("outcome", PlainRecord(PLAIN, headers=headers)))["event_id"])

    assert event_id("/a b", "c") != event_id("/a", "b c")
    assert event_id("/a", '1","2') != event_id('/a","1', "2")
    assert event_id("/" + "a" * 300, "1") != event_id("/" + "a" * 300, "2")
    assert len(event_id("/" + "a" * 3_000, "1")) < 256


def test_a_time_of_the_envelope_may_lie_in_the_future_no_more_than_others() -> None:
    headers = tuple((name, b"2027-01-01T00:00:00Z" if name == "ce_time" else value) for name, value in BINARY)
    assert refusal(decode("outcome", PlainRecord(PLAIN, headers=headers))).reason == "future_timestamp"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("ce_specversion", b"0.3", id="an old version"),
        pytest.param("ce_specversion", b"1.0.2", id="a version of the document"),
        pytest.param("ce_specversion", None, id="no version"),
        pytest.param("ce_id", b"", id="an empty ID"),
        pytest.param("ce_source", b"\xff", id="no UTF-8"),
        pytest.param("ce_type", None, id="no type"),
        pytest.param("ce_time", b"yesterday", id="no time"),
        pytest.param("ce_time", b"2026-06-07T10:15:30", id="a time without zone"),
        pytest.param("ce_time", b"1999-12-31T23:59:59Z", id="a clock never set"),
        pytest.param("ce_time", b"", id="an empty time"),
    ],
)
def test_a_broken_attribute_is_bad_framing_though_the_value_is_an_event(name: str, value: bytes | None) -> None:
    headers = tuple((each, value if each == name else text) for each, text in BINARY)
    assert told(decode("outcome", PlainRecord(PLAIN, headers=headers))) == (
        "bad_framing",
        [("cloudevents", "headers", name)],
    )


@pytest.mark.parametrize("absent", ["ce_id", "ce_source", "ce_type"])
def test_a_missing_attribute_is_bad_framing(absent: str) -> None:
    headers = tuple(header for header in BINARY if header[0] != absent)
    assert told(decode("outcome", PlainRecord(PLAIN, headers=headers)))[1] == [("cloudevents", "headers", absent)]


def structured(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 -- as JSON
    body = json.loads(FORMS["CloudEvent in structured mode"](PLAIN)[0])
    return {name: value for name, value in (body | changes).items() if value is not ...}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        pytest.param(structured(specversion="0.3"), ("specversion",), id="an old version"),
        pytest.param(structured(specversion=1.0), ("specversion",), id="a number as version"),
        pytest.param(structured(id=7), ("id",), id="a number as ID"),
        pytest.param(structured(type=...), ("type",), id="no type"),
        pytest.param(structured(time=1780827330), ("time",), id="a number as time"),
        pytest.param(structured(data=...), ("data",), id="no data"),
        pytest.param(structured(data=None), ("data",), id="null as data"),
        pytest.param(structured(data_base64="e30="), ("data",), id="data twice"),
        pytest.param(structured(data="<outcome/>", datacontenttype="application/xml"), ("data",), id="XML"),
        pytest.param(structured(data=json.dumps(VALID["outcome"])), ("data",), id="JSON as a text"),
        pytest.param(structured(data=[VALID["outcome"]]), ("data",), id="a list as data"),
        pytest.param(structured(data=..., data_base64="%%"), ("data_base64",), id="no base64"),
        pytest.param(structured(data=..., data_base64=7), ("data_base64",), id="a number as base64"),
        pytest.param(structured(data=..., data_base64="AAH/"), ("data_base64",), id="bytes in base64"),
        pytest.param([structured()], ("value",), id="a batch under the content type of one"),
        pytest.param(VALID["outcome"], ("specversion",), id="an event without its envelope"),
        pytest.param("event", ("value",), id="a text"),
    ],
)
def test_a_broken_envelope_is_bad_framing(body: Any, place: tuple[str, ...]) -> None:  # noqa: ANN401 -- as JSON
    headers = (("content-type", b"application/cloudevents+json"),)
    assert told(decode("outcome", json_record(body, headers))) == ("bad_framing", [("cloudevents", *place)])


@pytest.mark.parametrize(
    ("content_type", "value"),
    [
        pytest.param(b"application/cloudevents-batch+json", [structured()], id="a batch by its content type"),
        pytest.param(b"", [structured(), structured()], id="a batch by its look"),
    ],
)
def test_a_batch_is_refused_and_told_as_such(content_type: bytes, value: list[Any]) -> None:
    decoded = decode("outcome", json_record(value, (("content-type", content_type),)))
    assert refusal(decoded).reason == "bad_framing"
    assert "publish a record for each" in refusal(decoded).message


@pytest.mark.parametrize("content_type", [b"application/cloudevents+avro", b"application/cloudevents+protobuf"])
def test_other_event_formats_are_bad_framing(content_type: bytes) -> None:
    decoded = decode("outcome", PlainRecord(b"\x0a\1", headers=(("content-type", content_type),)))
    assert told(decoded) == ("bad_framing", [("cloudevents", "headers", "content-type")])


def test_data_that_are_no_json_are_bad_framing() -> None:
    headers = tuple((name, b"application/avro" if name == "content-type" else text) for name, text in BINARY)
    assert told(decode("outcome", PlainRecord(b"\2\4conv_1", headers=headers)))[1] == [("cloudevents", "value")]


def test_a_content_type_is_read_whatever_its_case() -> None:
    headers = (("content-type", b"Application/CloudEvents+JSON ;charset=utf-8"),)
    assert row(decode("outcome", json_record(structured(), headers)))["event_id"] == CE_ID


# ── FeatBit ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def custom(**properties: str) -> dict[str, Any]:
    return {"customizedProperties": [{"name": name, "value": value} for name, value in properties.items()]}


def test_an_evaluation_that_says_what_ran_is_an_exposure() -> None:
    found = row(decode("exposure", json_record(insight())))
    names = ("event", "unit_id", "variation", "assignment_unit", "model_route", "prompt_version", "retrieval_profile")
    assert [found[name] for name in names] == [
        *("FlagValue", "conv_98271", "candidate", "conversation", "support_model_b", "support_v3", "baseline"),
    ]
    assert (found["fallback_used"], found["attributes"]) == (False, {"plan": "enterprise"})
    assert found["event_time"] == parse_time("2026-06-07T10:15:30.25Z")


def test_the_unit_of_an_insight_is_a_user_unless_a_property_says_otherwise() -> None:
    properties = [each for each in insight()[0]["user"]["customizedProperties"] if each["name"] != "assignmentUnit"]
    found = row(decode("exposure", json_record(insight(user={"customizedProperties": properties})[0])))
    assert found["assignment_unit"] == "user"


def test_an_evaluation_that_does_not_say_what_ran_is_told_what_is_missing() -> None:
    decoded = decode("exposure", json_record(insight(user=custom(plan="free"))))
    missing = ("modelRoute", "promptVersion", "retrievalProfile", "fallbackUsed")
    assert told(decoded) == ("schema_violation", [("missing", name) for name in missing])
    assert "put it into the user's custom property modelRoute" in refusal(decoded).message


def test_a_metric_that_names_flag_and_variation_is_an_outcome() -> None:
    user = custom(flagKey="support_answer_model_route", variation="candidate", plan="free")
    found = row(decode("outcome", json_record(insight(user=user, variations=[], metrics=[METRIC]))))
    assert (found["event"], found["unit_id"], found["variation"]) == (METRIC["eventName"], "conv_98271", "candidate")
    assert (found["values"], found["attributes"]) == ({"numericValue": 1.0}, {"plan": "free"})
    assert found["event_time"] == parse_time("2026-06-07T10:15:30.25Z")


def test_a_metric_may_name_an_experiment() -> None:
    user = custom(experimentKey="support_answer_model_route_2026_06", variation="candidate")
    found = row(decode("outcome", json_record(insight(user=user, variations=..., metrics=[METRIC]))))
    assert found["flag_key"] == "support_answer_model_route"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        pytest.param(
            "outcome",
            insight(variations=[], metrics=[METRIC]),
            ("schema_violation", [("missing", "flagKey"), ("missing", "variation")]),
            id="a metric without flag and variation",
        ),
        pytest.param("exposure", insight(variations=[]), ("bad_framing", [("featbit",)]), id="no event"),
        pytest.param("exposure", insight(metrics=[METRIC]), ("bad_framing", [("featbit",)]), id="two events"),
        pytest.param("exposure", insight() + insight(), ("bad_framing", [("featbit",)]), id="two insights"),
        pytest.param("exposure", [*insight(), 7], ("bad_framing", [("featbit",)]), id="no insight behind one"),
        pytest.param("exposure", [*insight(), insight()], ("bad_framing", [("featbit",)]), id="an array behind one"),
        pytest.param(
            "exposure", insight(variations=[7]), ("bad_framing", [("featbit", "variations", "0")]), id="a number"
        ),
        pytest.param("outcome", insight(), ("schema_violation", [("featbit", "variations")]), id="in the wrong topic"),
        pytest.param("guardrail", insight(), ("schema_violation", [("featbit", "variations")]), id="as a guardrail"),
        pytest.param(
            "exposure",
            insight(variations=[], metrics=[METRIC]),
            ("schema_violation", [("featbit", "metrics")]),
            id="a metric among exposures",
        ),
        pytest.param(
            "exposure",
            insight(user={"customizedProperties": [{"name": "plan", "value": 7}]}),
            ("bad_framing", [("featbit", "user", "customizedProperties", "0")]),
            id="a number as property",
        ),
        pytest.param(
            "exposure",
            insight(variations=[insight()[0]["variations"][0] | {"sendToExperiment": False}]),
            ("schema_violation", [("featbit", "variations", "0", "sendToExperiment")]),
            id="outside of experiments",
        ),
        pytest.param(
            "exposure",
            insight(variations=[insight()[0]["variations"][0] | {"timestamp": "now"}]),
            ("schema_violation", [("time_parsing", "timestamp")]),
            id="no time",
        ),
        pytest.param(
            "exposure",
            insight(variations=[{"timestamp": 1_780_827_330_250}]),
            ("schema_violation", [("missing", "flagKey"), ("missing", "variation")]),
            id="no flag",
        ),
    ],
)
def test_insights_that_are_no_event_are_told_why(
    kind: Kind,
    body: Any,  # noqa: ANN401 -- as JSON
    expected: tuple[str, Any],
) -> None:
    assert told(decode(kind, json_record(body))) == expected


# ── OpenTelemetry ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_log_record_that_says_what_ran_is_an_exposure() -> None:
    found = row(decode("exposure", json_record(evaluation(log_record()))))
    assert found["event_time"] == parse_time("2026-06-07T10:15:30.25Z")
    assert (found["event"], found["unit_id"], found["variation"]) == (
        *("feature_flag.evaluation", "conv_98271", "candidate"),
    )
    names = ("assignment_unit", "model_route", "prompt_version", "retrieval_profile", "fallback_used")
    assert [found[name] for name in names] == ["conversation", "support_model_b", "support_v3", "baseline", False]
    assert found["attributes"] == {"feature_flag.provider.name": "Flag Manager", "feature_flag.version": "01ABCDEF"}


def test_a_plain_evaluation_is_told_which_attributes_are_missing() -> None:
    attributes = {f"evidence.{name}": ... for name in ("assignment_unit", "model_route", "prompt_version")}
    attributes |= {"evidence.retrieval_profile": ..., "evidence.fallback_used": ...}
    decoded = decode("exposure", json_record(evaluation(log_record(attributes=attributes))))
    missing = ("assignmentUnit", "modelRoute", "promptVersion", "retrievalProfile", "fallbackUsed")
    assert told(decoded) == ("schema_violation", [("missing", name) for name in missing])
    assert "evidence.model_route" in refusal(decoded).details


@pytest.mark.parametrize(
    ("log", "at"),
    [
        pytest.param(log_record(timeUnixNano=...), "2026-06-07T10:15:31Z", id="when it was observed"),
        pytest.param(log_record(timeUnixNano="0"), "2026-06-07T10:15:31Z", id="zero is unknown"),
        pytest.param(log_record(timeUnixNano=1_780_827_330_250_000_999), "2026-06-07T10:15:30.25Z", id="a number"),
        pytest.param(log_record(timeUnixNano=..., observedTimeUnixNano=...), "2026-06-07T12:00:00Z", id="the record's"),
    ],
)
def test_the_time_of_a_log_record(log: dict[str, Any], at: str) -> None:
    assert row(decode("exposure", json_record(evaluation(log))))["event_time"] == parse_time(at)


def test_the_name_of_the_event_may_be_an_attribute() -> None:
    log = log_record(eventName=..., attributes={"event.name": "feature_flag.evaluation"})
    assert row(decode("exposure", json_record(evaluation(log))))["model_route"] == "support_model_b"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        pytest.param(
            "exposure",
            evaluation(log_record(), log_record()),
            ("bad_framing", [("opentelemetry", "resourceLogs")]),
            id="two log records",
        ),
        pytest.param(
            "exposure", evaluation(), ("bad_framing", [("opentelemetry", "resourceLogs")]), id="no log record"
        ),
        pytest.param(
            "exposure", {"resourceLogs": [7]}, ("bad_framing", [("opentelemetry", "resourceLogs")]), id="no OTLP"
        ),
        pytest.param(
            "exposure",
            evaluation(log_record(attributes={"x": 1}) | {"attributes": [{"key": "x", "value": {"intValue": "one"}}]}),
            ("bad_framing", [("opentelemetry", "resourceLogs")]),
            id="an integer that is none",
        ),
        pytest.param(
            "exposure",
            evaluation(log_record(eventName="exception")),
            ("schema_violation", [("opentelemetry", "eventName")]),
            id="another event",
        ),
        pytest.param(
            "outcome",
            evaluation(log_record()),
            ("schema_violation", [("opentelemetry", "eventName")]),
            id="in the wrong topic",
        ),
        pytest.param(
            "exposure",
            evaluation(log_record(attributes={"evidence.fallback_used": "false"})),
            ("schema_violation", [("bool_type", "fallbackUsed")]),
            id="a text for a boolean",
        ),
        pytest.param(
            "exposure",
            evaluation(log_record(timeUnixNano="soon")),
            ("schema_violation", [("time_parsing", "timestamp")]),
            id="no time",
        ),
    ],
)
def test_exports_that_are_no_exposure_are_told_why(
    kind: Kind,
    body: Any,  # noqa: ANN401 -- as JSON
    expected: tuple[str, Any],
) -> None:
    assert told(decode(kind, json_record(body))) == expected


@pytest.mark.parametrize("form", FORMS)
def test_vendors_events_come_in_envelopes_too(form: str) -> None:
    for body in (insight(), evaluation(log_record())):
        found = row(decode("exposure", record_of(form, json.dumps(body).encode())))
        assert found["event_id"] == (CE_ID if form in CLOUD else None)
        assert found["event_time"] == parse_time("2026-06-07T10:15:30.25Z")


# ── What is told ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_in_one_record_is_refused_about_as_quickly_as_it_is_read() -> None:
    """As exporters batch: the model, which would tell all that is wrong with it, takes eighty times as long."""
    record = json_record(evaluation(*[log_record()] * 600))
    value = record.value or b""

    def seconds(call: Callable[[], object]) -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    reading = min(seconds(lambda: from_json(value)) for _ in range(5))
    assert told(decode("exposure", record)) == ("bad_framing", [("opentelemetry", "resourceLogs")])
    assert min(seconds(lambda: decode("exposure", record)) for _ in range(5)) < 15 * reading


def test_details_never_repeat_what_the_record_holds() -> None:
    secret = "s3cret"
    bodies = [
        structured(specversion=secret),
        structured(time=secret),
        structured(data=secret),
        insight(user=custom(modelRoute=secret)),
        insight(variations=[secret]),
        evaluation(log_record(eventName=secret)),
        evaluation(log_record(attributes={"feature_flag.key": ..., "secret": secret})),
    ]
    records = [json_record(body) for body in bodies]
    records += [
        PlainRecord(PLAIN, headers=(*BINARY, ("ce_time", secret.encode()))),
        PlainRecord(b"\0" + secret.encode()),
    ]
    for record in records:
        only = refusal(decode("exposure", record))
        assert secret not in only.details + only.message


@pytest.mark.parametrize("depth", [100, 198, 250, 5_000])
def test_deep_data_are_refused_and_raise_nothing(depth: int) -> None:
    deep = ('{"a":' * depth + "1" + "}" * depth).encode()
    decoded = decode("outcome", *(record_of(form, deep, offset) for offset, form in enumerate(FORMS)))
    assert {each.reason for each in decoded.refused} <= {"bad_framing", "schema_violation", "not_json"}
    assert len(decoded.refused) == len(FORMS)
