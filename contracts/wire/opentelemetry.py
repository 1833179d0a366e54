"""OpenTelemetry's `feature_flag.evaluation` events, as the collector's Kafka exporter writes them: OTLP as JSON.

The attributes are those of the semantic conventions for feature flags in events. They tell what a flag said, not what
ran: that comes from attributes `evidence.*` of the same log record. A record of Kafka has one fate, so it may hold one
log record and no more.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from contracts.events import Kind
from contracts.times import LATEST, format_time
from contracts.wire.broken import bad_framing, missing, violation

__all__ = ["event_of", "is_logs"]

Json = Any  # as JSON is read

_EVENT: Final = "feature_flag.evaluation"
_FIELDS: Final = {
    "flagKey": "feature_flag.key",
    "variation": "feature_flag.result.variant",
    "unitId": "feature_flag.context.id",
    "assignmentUnit": "evidence.assignment_unit",
    "modelRoute": "evidence.model_route",
    "promptVersion": "evidence.prompt_version",
    "retrievalProfile": "evidence.retrieval_profile",
    "fallbackUsed": "evidence.fallback_used",
}
"""The attribute of each field of an exposure."""
_KEPT: Final = ("feature_flag.provider.name", "feature_flag.set.id", "feature_flag.version")
"""What becomes an attribute of the exposure, under its own name, where it is a text."""
_LONGEST_TIME: Final = 20  # digits of 64 bits


def is_logs(body: Json) -> bool:
    """Return whether a JSON text is an export of logs."""
    return isinstance(body, dict) and body.keys() == {"resourceLogs"} and isinstance(body["resourceLogs"], list)


def event_of(kind: Kind, body: Mapping[str, Json]) -> dict[str, Json]:
    """Return the one evaluation of an export as an exposure of the contract. Raises Broken."""
    try:
        logs = list(_logs(body))
        given = {each["key"]: _value(each["value"]) for log in logs for each in log.get("attributes") or ()}
        names = [log.get("eventName") for log in logs]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        text = "Input should be OTLP as JSON; set the exporter's encoding to otlp_json"
        raise bad_framing("opentelemetry", ("resourceLogs",), text) from None
    if len(logs) != 1:
        text = f"Input should hold one log record, it holds {len(logs)}; let the collector send each by itself"
        raise bad_framing("opentelemetry", ("resourceLogs",), text)
    if _EVENT not in (names[0], given.get("event.name")):
        raise violation("opentelemetry", ("eventName",), f"Input should be {_EVENT}; filter other log records out")
    if kind != "exposure":
        raise violation("opentelemetry", ("eventName",), "Input should be an exposure; send evaluations to that topic")
    absent = [(field, f"the attribute {place}") for field, place in _FIELDS.items() if given.get(place) is None]
    if absent:
        raise missing(absent)
    return {
        "event": _EVENT,
        **{field: given[place] for field, place in _FIELDS.items()},
        "reason": given.get("feature_flag.result.reason"),
        "attributes": {name: given[name] for name in _KEPT if isinstance(given.get(name), str)} or None,
        "timestamp": _time(logs[0]),
    }


def _logs(body: Mapping[str, Json]) -> Iterator[Mapping[str, Json]]:
    for resource in body["resourceLogs"]:
        for scope in resource.get("scopeLogs") or ():
            yield from scope.get("logRecords") or ()


def _value(value: Mapping[str, Json]) -> Json:
    """Return what an attribute's value holds, where that is a scalar; None otherwise."""
    for kind in ("stringValue", "boolValue", "doubleValue"):
        if kind in value:
            return value[kind]
    return int(value["intValue"]) if "intValue" in value else None


def _time(log: Mapping[str, Json]) -> Json:
    """Return as text when it happened, else when it was observed; None where neither is told.

    What is no time is for the model to refuse.
    """
    for name in ("timeUnixNano", "observedTimeUnixNano"):
        given = log.get(name)
        if given in (None, 0, "0", ""):
            continue
        if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= _LONGEST_TIME:
            given = int(given)
        if type(given) is int and 0 <= given // 1000 <= LATEST:
            return format_time(given // 1000, "microseconds")
        return given
    return None
