"""Envelopes, opened a second way: the rules of docs/wire.md, written out by hand for the audit."""

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pipeline.verify.times import YEAR_2000, time_of

__all__ = ["opened", "says_cloudevent", "unframed"]

Json = Any  # whatever a JSON text holds
Body = dict[str, Json]
Faults = frozenset[str]  # reasons to refuse a record, any of which is a right one
Headers = Sequence[tuple[str, bytes | None]]
Read = Callable[[bytes], Json | Faults]

_FRAMING: Final = Faults({"bad_framing"})
_SCHEMA: Final = Faults({"schema_violation"})

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 253_402_300_799_999_999  # µs, in the year 9999
_LONGEST_ID: Final = 256  # characters

_EXECUTED: Final = ("modelRoute", "promptVersion", "retrievalProfile", "fallbackUsed")
_SAID: Final = {
    "feature_flag.key": "flagKey",
    "feature_flag.result.variant": "variation",
    "feature_flag.context.id": "unitId",
    "evidence.assignment_unit": "assignmentUnit",
    "evidence.model_route": "modelRoute",
    "evidence.prompt_version": "promptVersion",
    "evidence.retrieval_profile": "retrievalProfile",
    "evidence.fallback_used": "fallbackUsed",
}
_SAID_BESIDE: Final = ("feature_flag.provider.name", "feature_flag.set.id", "feature_flag.version")


class _Unread(Exception):
    def __init__(self, faults: Faults) -> None:
        super().__init__(faults)
        self.faults = faults


def unframed(value: bytes) -> bytes:
    """Return the value without the magic byte and schema ID of a schema registry, if it begins with them."""
    return value[{b"\0": 5, b"\1": 17}.get(value[:1], 0) :]


def says_cloudevent(headers: Headers) -> bool:
    """Return whether headers make a CloudEvent of the record."""
    return any(name == "ce_specversion" for name, _ in headers) or _media(headers).startswith("application/cloudevents")


def opened(kind: str, headers: Headers, value: bytes, read: Read) -> Body | Faults | None:
    """Return the body of the event in an envelope, or faults; None where there is no envelope.

    `read` reads JSON.
    """
    try:
        return _opened(kind, headers, value, read)
    except _Unread as unread:
        return unread.faults


def _opened(kind: str, headers: Headers, value: bytes, read: Read) -> Body | None:
    framed = value[:1] in {b"\0", b"\1"}
    body, cloud = read(unframed(value)), says_cloudevent(headers)
    if isinstance(body, frozenset):
        if cloud or framed or any(name == "__value_schema_id" for name, _ in headers):
            raise _Unread(body | _FRAMING)
        return None
    if not cloud and not _is_envelope(body):
        event = _vendors(kind, body)
        if event is None and framed:
            _demand(type(body) is dict)
            return body  # type: ignore[no-any-return]
        return event
    binary = cloud and not _media(headers).startswith("application/cloudevents")
    if cloud and not binary:
        _demand(_media(headers) == "application/cloudevents+json")
    _demand(binary or type(body) is dict)
    attributes = _attributes(headers) if binary else body
    event_id, time = _identity(attributes), attributes.get("time")
    data = body if binary else _data(body, read)
    event = _vendors(kind, data)
    if event is None:
        _demand(type(data) is dict)
        event = dict(data)
    if event.get("eventId") in (None, ""):
        event["eventId"] = event_id
    if event.get("timestamp") is None:
        event["timestamp"] = time
    return event


def _demand(holds: bool, faults: Faults = _FRAMING) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise _Unread(faults)


def _first(body: Json) -> Json:
    return body[0] if type(body) is list and body else body


# ── CloudEvents ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _media(headers: Headers) -> str:
    media = ""
    for name, value in headers:
        if name == "content-type":
            media = (value or b"").split(b";")[0].strip().lower().decode(errors="replace")
    return media


def _is_envelope(body: Json) -> bool:
    first = _first(body)
    return type(first) is dict and all(type(first.get(name)) is str for name in ("specversion", "id", "source", "type"))


def _attributes(headers: Headers) -> Body:
    found: Body = {}
    for name, value in headers:
        if name.startswith("ce_"):
            try:
                found[name[3:]] = None if value is None else value.decode()
            except UnicodeDecodeError:
                found[name[3:]] = b""
    return found


def _identity(attributes: Mapping[str, Json]) -> str:
    """Return the event ID of an envelope that has all it must have."""
    for name in ("specversion", "id", "source", "type"):
        _demand(type(attributes.get(name)) is str and attributes[name] != "")
    _demand(attributes["specversion"] == "1.0")
    if (time := attributes.get("time")) is not None:
        _demand(type(time) is str and (time_of(time) or 0) >= YEAR_2000)
    source, number = (json.dumps(attributes[name], ensure_ascii=False) for name in ("source", "id"))
    text = f"[{source},{number}]"
    return text if len(text) <= _LONGEST_ID else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _data(body: Body, read: Read) -> Json:
    data, encoded = body.get("data"), body.get("data_base64")
    _demand((data is None) != (encoded is None))
    if encoded is None:
        return data
    _demand(type(encoded) is str)
    try:
        text = b64decode(encoded, validate=True)
    except ValueError:
        raise _Unread(_FRAMING) from None
    data = read(text)
    if isinstance(data, frozenset):
        raise _Unread(data | _FRAMING)
    return data


# ── Vendors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _vendors(kind: str, body: Json) -> Body | None:
    if _is_insight(_first(body)):
        return _insight(kind, body if type(body) is list else [body])
    if type(body) is dict and [*body] == ["resourceLogs"] and type(body["resourceLogs"]) is list:
        return _evaluation(kind, body["resourceLogs"])
    return None


def _is_insight(body: Json) -> bool:
    return (
        type(body) is dict
        and {*body} <= {"user", "variations", "metrics"}
        and type(body.get("user")) is dict
        and type(body["user"].get("keyId")) is str
        and (type(body.get("variations")) is list or type(body.get("metrics")) is list)
    )


def _insight(kind: str, insights: Sequence[Json]) -> Body:
    for insight in insights:
        _demand(_is_insight(insight))
    evaluations = [(insight["user"], each) for insight in insights for each in _every(insight.get("variations"))]
    metrics = [(insight["user"], each) for insight in insights for each in _every(insight.get("metrics"))]
    _demand(len(evaluations) + len(metrics) == 1)
    ((user, each),) = evaluations or metrics
    _demand(type(each) is dict)
    _demand((kind == "exposure" and bool(evaluations)) or (kind == "outcome" and bool(metrics)), _SCHEMA)
    custom: dict[str, str] = {}
    for told in _every(user.get("customizedProperties")):
        _demand(type(told) is dict and type(told.get("name")) is str and type(told.get("value")) is str)
        custom[told["name"]] = told["value"]
    time = each.get("timestamp")
    event: Body = {"unitId": user["keyId"], "timestamp": _text_of(time * 1_000) if type(time) is int else time}
    ours = {*_EXECUTED, "flagKey", "experimentKey", "variation", "assignmentUnit", "reason"}
    if others := {name: text for name, text in custom.items() if name not in ours}:
        event["attributes"] = others
    if kind == "outcome":
        event |= {name: custom[name] for name in ("flagKey", "experimentKey", "variation") if name in custom}
        event["event"] = each.get("eventName")
        if each.get("numericValue") is not None:
            event["numericValue"] = each["numericValue"]
        return event
    served = each.get("variation")
    _demand({*_EXECUTED} <= {*custom} and each.get("sendToExperiment") is not False, _SCHEMA)
    event |= {name: custom[name] for name in _EXECUTED}
    event["fallbackUsed"] = {"true": True, "false": False}.get(custom["fallbackUsed"].lower())
    event["event"] = "FlagValue"
    event["flagKey"] = each.get("featureFlagKey")
    event["variation"] = served.get("value") if type(served) is dict else None
    event["assignmentUnit"] = custom.get("assignmentUnit", "user")
    event["reason"] = custom.get("reason")
    return event


def _every(value: Json) -> Sequence[Json]:
    if value is None:
        return ()
    return value if type(value) is list else (value,)


def _evaluation(kind: str, resources: Sequence[Json]) -> Body:
    try:
        logs = [
            log for each in resources for scope in each.get("scopeLogs") or () for log in scope.get("logRecords") or ()
        ]
        told = {each["key"]: _scalar(each["value"]) for log in logs for each in log.get("attributes") or ()}
        names = [log.get("eventName") for log in logs] + [told.get("event.name")]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise _Unread(_FRAMING) from None
    _demand(len(logs) == 1)
    _demand("feature_flag.evaluation" in names and kind == "exposure", _SCHEMA)
    event: Body = {field: told.get(name) for name, field in _SAID.items()}
    event["event"] = "feature_flag.evaluation"
    event["reason"] = told.get("feature_flag.result.reason")
    if beside := {name: told[name] for name in _SAID_BESIDE if type(told.get(name)) is str}:
        event["attributes"] = beside
    event["timestamp"] = None
    for name in ("observedTimeUnixNano", "timeUnixNano"):  # the last that is given counts
        given = logs[0].get(name)
        if given not in (None, 0, "0", ""):
            if type(given) is str and given.isascii() and given.isdigit() and len(given) <= len(str(2**64)):
                given = int(given)
            event["timestamp"] = _text_of(given // 1_000) if type(given) is int else given
    return event


def _scalar(value: Mapping[str, Json]) -> Json:
    for name in ("stringValue", "boolValue", "doubleValue"):
        if name in value:
            return value[name]
    return int(value["intValue"]) if "intValue" in value else None


def _text_of(microseconds: int) -> str | int:
    """Return a time as text; a number that is none stays one, which no rule lets pass."""
    if not 0 <= microseconds <= _LATEST:
        return microseconds
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()
