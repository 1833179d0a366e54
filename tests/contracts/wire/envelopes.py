"""Every envelope that an event may come in, and vendors' events, as their documentation and source have them."""

import base64
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.contracts.records import PlainRecord

__all__ = ["CE_ID", "CE_TIME", "FORMS", "GUID", "METRIC", "Headers", "evaluation", "insight", "log_record", "record_of"]

Headers = tuple[tuple[str, bytes | None], ...]
Form = Callable[[bytes], tuple[bytes, Headers]]

GUID: Final = uuid.UUID("89791762-2336-4186-9674-299b90a802e2").bytes
CE_TIME: Final = "2026-06-07T11:30:00.25Z"
CE_ID: Final = '["/support/answers","A234-1234-1234"]'

# https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
_ATTRIBUTES: Final = {
    "specversion": "1.0",
    "type": "com.example.support.answered",
    "source": "/support/answers",
    "id": "A234-1234-1234",
    "time": CE_TIME,
}
_BINARY: Final = (
    ("traceparent", b"00-abc"),
    *((f"ce_{name}", text.encode()) for name, text in _ATTRIBUTES.items()),
    ("content-type", b"application/json"),
)
_STRUCTURED: Final = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)


def _structured(value: bytes) -> bytes:
    """Put the value into an envelope as it is, byte by byte."""
    return json.dumps(_ATTRIBUTES).encode()[:-1] + b', "datacontenttype": "application/json", "data": ' + value + b"}"


def _base64(value: bytes) -> bytes:
    return json.dumps(_ATTRIBUTES | {"data_base64": base64.b64encode(value).decode()}).encode()


def _id(value: bytes) -> bytes:
    return b"\0\0\1\x86\xa1" + value


FORMS: Final[Mapping[str, Form]] = {
    "schema ID": lambda value: (_id(value), ()),
    "schema GUID": lambda value: (b"\1" + GUID + value, ()),
    "schema GUID in a header": lambda value: (value, (("__value_schema_id", b"\1" + GUID),)),
    "CloudEvent in binary mode": lambda value: (value, _BINARY),
    "CloudEvent in structured mode": lambda value: (_structured(value), _STRUCTURED),
    "CloudEvent with data in base64": lambda value: (_base64(value), _STRUCTURED),
    "CloudEvent without content type": lambda value: (_structured(value), ()),
    "schema ID and binary mode": lambda value: (_id(value), _BINARY),
    "schema ID and structured mode": lambda value: (_id(_structured(value)), _STRUCTURED),
}


def record_of(form: str, value: bytes, offset: int = 0) -> PlainRecord:
    """Return a record that holds the value in one of the forms."""
    wrapped, headers = FORMS[form](value)
    return PlainRecord(wrapped, offset, headers=headers)


def insight(*, user: Mapping[str, Any] | None = None, **changes: Any) -> list[dict[str, Any]]:  # noqa: ANN401 -- as JSON
    """Return an insight with one evaluation that says what ran, with other lists or without (`...`).

    https://docs.featbit.co/api-docs/track-insights-api, and what InsightController.cs of featbit/featbit binds.
    """
    properties = {
        "modelRoute": "support_model_b",
        "promptVersion": "support_v3",
        "retrievalProfile": "baseline",
        "fallbackUsed": "false",
        "assignmentUnit": "conversation",
        "plan": "enterprise",
    }
    fields: dict[str, Any] = {
        "user": {
            "keyId": "conv_98271",
            "name": "bob",
            "customizedProperties": [{"name": name, "value": value} for name, value in properties.items()],
        }
        | dict(user or {}),
        "variations": [
            {
                "featureFlagKey": "support_answer_model_route",
                "variation": {"id": "3da96792-debf-4878-905a-c9b5f9178cd0", "value": "candidate"},
                "sendToExperiment": True,
                "timestamp": 1_780_827_330_250,
            }
        ],
        "metrics": [],
    } | changes
    return [{name: value for name, value in fields.items() if value is not ...}]


METRIC: Final = {
    "route": "index/metric",
    "type": "CustomEvent",
    "eventName": "support_conversation_outcome",
    "numericValue": 1,
    "appType": "pythonserverside",
    "timestamp": 1_780_827_330_250,
}


def log_record(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 -- as JSON
    """Return an evaluation as a log record of OTLP, with other fields; attributes are given as a plain mapping.

    https://opentelemetry.io/docs/specs/semconv/feature-flags/feature-flags-events/ and, for the form,
    https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
    """
    attributes: dict[str, Any] = {
        "feature_flag.key": "support_answer_model_route",
        "feature_flag.provider.name": "Flag Manager",
        "feature_flag.result.variant": "candidate",
        "feature_flag.result.reason": "targeting_match",
        "feature_flag.context.id": "conv_98271",
        "feature_flag.version": "01ABCDEF",
        "evidence.assignment_unit": "conversation",
        "evidence.model_route": "support_model_b",
        "evidence.prompt_version": "support_v3",
        "evidence.retrieval_profile": "baseline",
        "evidence.fallback_used": False,
    } | changes.pop("attributes", {})
    fields = {
        "timeUnixNano": "1780827330250000000",
        "observedTimeUnixNano": "1780827331000000000",
        "severityNumber": 9,
        "eventName": "feature_flag.evaluation",
        "attributes": [{"key": key, "value": _any(value)} for key, value in attributes.items() if value is not ...],
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
    } | changes
    return {name: value for name, value in fields.items() if value is not ...}


def _any(value: Any) -> dict[str, Any]:  # noqa: ANN401 -- as JSON
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue"}
    return {kinds.get(type(value), "stringValue"): str(value) if type(value) is int else value}


def evaluation(*logs: dict[str, Any]) -> dict[str, Any]:
    """Return log records as the collector's Kafka exporter writes them with the encoding otlp_json."""
    scope = {"name": "OpenFeature", "version": "1.0"}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "support"}}]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": list(logs)}]}]}
