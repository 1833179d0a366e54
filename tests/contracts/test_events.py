"""What a valid event is."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.events import MODELS, Exposure, Guardrail, Kind, Outcome, json_schema
from tests.contracts.records import VALID, value_of


def _errors(kind: Kind, value: bytes) -> list[tuple[str, str]]:
    """Return where the model finds what kinds of errors."""
    try:
        MODELS[kind].model_validate_json(value)
    except ValidationError as invalid:
        return [(".".join(map(str, error["loc"])), error["type"]) for error in invalid.errors()]
    return []


@pytest.mark.parametrize("kind", MODELS)
def test_an_event_is_valid_as_services_publish_it(kind: Kind) -> None:
    assert _errors(kind, value_of(kind)) == []


def test_names_are_snake_case_in_python_and_times_are_microseconds() -> None:
    event = MODELS["exposure"].model_validate_json(value_of("exposure"))
    assert isinstance(event, Exposure)
    assert (event.unit_id, event.model_route, event.fallback_used) == ("conv_98271", "support_model_b", False)
    assert event.timestamp == 1_780_827_330_000_000


def test_every_further_field_of_an_outcome_is_a_metric() -> None:
    event = MODELS["outcome"].model_validate_json(value_of("outcome"))
    assert isinstance(event, Outcome)
    assert event.metrics == {
        "resolvedWithoutEscalation": True,
        "humanCorrection": False,
        "latencyMs": 1840.0,
        "estimatedCost": 0.014,
    }


@pytest.mark.parametrize("kind", MODELS)
def test_an_event_comes_back_from_its_json(kind: Kind) -> None:
    event = MODELS[kind].model_validate_json(value_of(kind, timestamp="2026-06-07T10:15:30.123456+02:00"))
    assert MODELS[kind].model_validate_json(event.model_dump_json(by_alias=True, exclude_none=True)) == event


@pytest.mark.parametrize(
    ("kind", "changes", "errors"),
    [
        pytest.param("exposure", {"unitId": ...}, [("unitId", "missing")], id="missing"),
        pytest.param("exposure", {"unitId": ""}, [("unitId", "string_too_short")], id="empty unit"),
        pytest.param("exposure", {"unitId": "u" * 1025}, [("unitId", "string_too_long")], id="unit of 1025 characters"),
        pytest.param("exposure", {"unitId": "é" * 1024}, [], id="unit of 1024 characters"),
        pytest.param("exposure", {"unitId": 7}, [("unitId", "string_type")], id="number for text"),
        pytest.param("exposure", {"unitId": None}, [("unitId", "string_type")], id="null for a required field"),
        pytest.param("exposure", {"event": "e" * 257}, [("event", "string_too_long")], id="name of 257 characters"),
        pytest.param("exposure", {"variation": ""}, [("variation", "string_too_short")], id="empty variation"),
        pytest.param("exposure", {"modelRoute": ""}, [("modelRoute", "string_too_short")], id="empty route"),
        pytest.param("exposure", {"fallbackUsed": "false"}, [("fallbackUsed", "bool_type")], id="text for boolean"),
        pytest.param("exposure", {"fallbackUsed": 0}, [("fallbackUsed", "bool_type")], id="number for boolean"),
        pytest.param("exposure", {"color": "red"}, [("color", "extra_forbidden")], id="unknown field"),
        pytest.param("exposure", {"unit_id": "u"}, [("unit_id", "extra_forbidden")], id="snake case on the wire"),
        pytest.param("exposure", {"flagKey": ...}, [("", "flag_missing")], id="neither flag nor experiment"),
        pytest.param("exposure", {"flagKey": ..., "experimentKey": "e"}, [], id="experiment for flag"),
        pytest.param(
            "exposure", {"eventId": None, "reason": None, "segments": None}, [], id="null for optional fields"
        ),
        pytest.param("exposure", {"segments": ["a", ""]}, [("segments.1", "string_too_short")], id="empty segment"),
        pytest.param("exposure", {"segments": "a"}, [("segments", "tuple_type")], id="text for a list"),
        pytest.param("exposure", {"attributes": {"plan": 1}}, [("attributes.plan", "string_type")], id="attribute"),
        pytest.param("exposure", {"attributes": {"": "x"}}, [("attributes..[key]", "string_too_short")], id="no name"),
        pytest.param("exposure", {"timestamp": 1780827330}, [("timestamp", "time_type")], id="seconds for a time"),
        pytest.param("exposure", {"timestamp": "1780827330"}, [("timestamp", "time_parsing")], id="seconds in text"),
        pytest.param(
            "exposure", {"timestamp": "2026-06-07T10:15:30"}, [("timestamp", "time_parsing")], id="naive time"
        ),
        pytest.param("exposure", {"timestamp": "1999-12-31T23:59:59Z"}, [("timestamp", "time_too_early")], id="1999"),
        pytest.param("outcome", {"latencyMs": "1840"}, [("latencyMs", "number_type")], id="metric in text"),
        pytest.param("outcome", {"latencyMs": None}, [("latencyMs", "number_type")], id="null for a metric"),
        pytest.param("outcome", {"latencyMs": float("nan")}, [("latencyMs", "number_type")], id="NaN"),
        pytest.param("outcome", {"latencyMs": float("-inf")}, [("latencyMs", "number_type")], id="infinity"),
        pytest.param("outcome", {"latencyMs": 10**400}, [("latencyMs", "number_type")], id="beyond a double"),
        pytest.param("outcome", {"latencyMs": 2**70}, [], id="beyond 64 bits"),
        pytest.param("outcome", {"": 1}, [("", "string_too_short")], id="metric without a name"),
        pytest.param("outcome", {"m" * 257: 1}, [("m" * 257, "string_too_long")], id="metric with a long name"),
        pytest.param("guardrail", {"severity": "fatal"}, [("severity", "literal_error")], id="unknown severity"),
        pytest.param("guardrail", {"severity": ...}, [("severity", "missing")], id="no severity"),
        pytest.param("guardrail", {"value": 0.93}, [], id="number for a guardrail's value"),
        pytest.param("guardrail", {"value": "0.93"}, [("value", "number_type")], id="text for a guardrail's value"),
        pytest.param("guardrail", {"confirmed": ...}, [], id="nobody confirmed"),
    ],
)
def test_what_breaks_the_contract(kind: Kind, changes: dict[str, Any], errors: list[tuple[str, str]]) -> None:
    assert _errors(kind, value_of(kind, **changes)) == errors


@pytest.mark.parametrize(
    ("kind", "topic"), [(kind, topic) for kind in MODELS for topic in MODELS if kind != topic], ids="-on-".join
)
def test_an_event_on_the_topic_of_another_kind_is_not_valid(kind: Kind, topic: Kind) -> None:
    assert _errors(topic, value_of(kind))


def test_of_a_key_given_twice_the_last_counts() -> None:
    value = value_of("guardrail").replace(b'"value": true', b'"value": 1, "value": 2')
    event = MODELS["guardrail"].model_validate_json(value)
    assert isinstance(event, Guardrail)
    assert event.value == 2.0


def test_an_empty_event_id_is_absent() -> None:
    assert MODELS["outcome"].model_validate_json(value_of("outcome", eventId="")).event_id is None


@pytest.mark.parametrize("kind", MODELS)
def test_events_are_immutable(kind: Kind) -> None:
    event = MODELS[kind].model_validate(VALID[kind])
    with pytest.raises(ValidationError, match="frozen"):
        event.unit_id = "other"  # type: ignore[misc]


@pytest.mark.parametrize("kind", MODELS)
def test_the_json_schema_is_one(kind: Kind) -> None:
    schema = json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(VALID[kind], schema)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@given(st.data(), st.sampled_from(list(MODELS)))
def test_the_json_schema_accepts_what_the_model_accepts(data: st.DataObject, kind: Kind) -> None:
    names = st.sampled_from([field.alias or "" for field in MODELS[kind].model_fields.values()])
    changes = data.draw(st.dictionaries(names | st.text(max_size=3), _JSON | st.just(...), max_size=3))
    value = value_of(kind, **changes)
    event = json.loads(value)
    by_schema = jsonschema.Draft202012Validator(json_schema(kind)).is_valid(event)
    assert by_schema is not bool(_errors(kind, value))
