"""The three kinds of event as they go to Kafka, held against the evidence contract before they go.

The rules are the pipeline's: what is built here validates there. Types are strict (no number in a string, no NaN),
lengths count characters, times have a zone. `Invalid` names the field and what is wrong, never what it holds.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal

from evidence_client.assignment import Assignment, Route

__all__ = [
    "MAX_VALUE_BYTES",
    "Invalid",
    "Kind",
    "Message",
    "TooLarge",
    "encode",
    "exposure",
    "guardrail",
    "outcome",
    "time_of",
]

Kind = Literal["exposure", "outcome", "guardrail"]
Body = dict[str, Any]

MAX_VALUE_BYTES: Final = 900_000  # with its batch around it, what a broker takes unless told otherwise (1 MiB)
NAME: Final = 256  # characters
UNIT_ID: Final = 1024  # characters
REASON: Final = 1024  # characters
SEVERITIES: Final = ("info", "warning", "severe")
NOT_USED: Final = "none"  # a prompt or retrieval profile that a route does not have

EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=timezone.utc)  # earlier ones come from clocks that were never set
AHEAD: Final = timedelta(minutes=5)  # of this machine's clock; workers refuse what is 10 minutes ahead of theirs
SECOND: Final = timedelta(seconds=1)

# What every event says; none of it is the name of a metric.
FIELDS: Final = frozenset(
    "event eventId flagKey experimentKey unitId variation timestamp attributes segments".split()  # noqa: SIM905
)


class Invalid(ValueError):
    """An event would break the evidence contract; the message names the field."""


class TooLarge(Invalid):
    """An event would be longer than what is sent."""


@dataclass(frozen=True)
class Message:
    """One record for Kafka: its key is the UTF-8 of the unit ID, its value a valid event in JSON."""

    kind: Kind
    key: bytes
    value: bytes

    @property
    def size(self) -> int:
        """The bytes of key and value."""
        return len(self.key) + len(self.value)


def exposure(assignment: Assignment, event: object, route: Route, *, fallback_used: bool) -> Body:
    """Return the body of an exposure: the unit met its variation, and `route` is what really ran. Raises Invalid."""
    body = _body(assignment, event)
    body["assignmentUnit"] = _text(assignment.assignment_unit, "assignmentUnit")
    body["modelRoute"] = _text(route.model_route, "modelRoute")
    body["promptVersion"] = _text(_or_not_used(route.prompt_version), "promptVersion")
    body["retrievalProfile"] = _text(_or_not_used(route.retrieval_profile), "retrievalProfile")
    body["fallbackUsed"] = fallback_used
    if assignment.reason is not None:
        body["reason"] = _text(assignment.reason, "reason", REASON, least=0)
    return body


def outcome(assignment: Assignment, event: object, metrics: object) -> Body:
    """Return the body of an outcome: what came of it, by metric name. Raises Invalid."""
    body = _body(assignment, event)
    if not isinstance(metrics, Mapping):
        raise Invalid(f"metrics should map names to booleans and numbers, not be a {_kind(metrics)}")
    for name, value in metrics.items():
        name = _text(name, "the name of a metric")  # noqa: PLW2901  # an exact str from here on
        if name in FIELDS:
            raise Invalid(f"a metric cannot have the name {name}, which every event has")
        body[name] = _number(value, f"the metric {name!r}")
    return body


def guardrail(  # noqa: PLR0913  # the fields of a guardrail
    assignment: Assignment, event: object, name: object, value: object, *, severity: object, confirmed: object
) -> Body:
    """Return the body of a guardrail: something that must not happen was measured. Raises Invalid."""
    body = _body(assignment, event)
    body["guardrail"] = _text(name, "guardrail")
    body["value"] = _number(value, "value")
    body["severity"] = _text(severity, "severity")
    if body["severity"] not in SEVERITIES:
        raise Invalid(f"severity should be one of {', '.join(SEVERITIES)}")
    if confirmed is not None:
        if not isinstance(confirmed, bool):
            raise Invalid(f"confirmed should be a bool, not {_kind(confirmed)}")
        body["confirmed"] = confirmed
    return body


def encode(kind: Kind, body: Body, event_id: object, timestamp: str) -> Message:
    """Return the message of a body with its ID and time. Raises Invalid, or TooLarge."""
    whole = {**body, "eventId": _text(event_id, "eventId"), "timestamp": timestamp}
    try:
        value = json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise Invalid("a text holds half of a surrogate pair, which UTF-8 does not have") from None
    if len(value) > MAX_VALUE_BYTES:
        raise TooLarge(f"the event has {len(value)} bytes, more than the {MAX_VALUE_BYTES} that are sent")
    return Message(kind, body["unitId"].encode(), value)


def time_of(at: object, now: float) -> str:
    """Return a time as RFC 3339 in UTC: `at`, or the clock's `now` in seconds where that is None. Raises Invalid."""
    clock = EPOCH + timedelta(seconds=now)
    if at is None:
        at = clock
    if not isinstance(at, datetime) or at.tzinfo is None or at.utcoffset() is None:
        raise Invalid("at should be a datetime with a zone, such as datetime.now(timezone.utc)")
    since = at - EPOCH
    if since < EARLIEST - EPOCH:
        raise Invalid("the time should be in or after the year 2000; is the clock set?")
    if since > clock - EPOCH + AHEAD:
        raise Invalid(f"at is {(since - (clock - EPOCH)) // SECOND} s ahead of the clock")
    return (EPOCH + since).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _body(assignment: Assignment, event: object) -> Body:
    """Return what all three kinds say."""
    if not isinstance(assignment, Assignment):
        raise Invalid(f"the assignment should be an Assignment, not {_kind(assignment)}")
    body: Body = {"event": _text(event, "event")}
    if assignment.flag_key is not None:
        body["flagKey"] = _text(assignment.flag_key, "flagKey")
    if assignment.experiment_key is not None:
        body["experimentKey"] = _text(assignment.experiment_key, "experimentKey")
    if len(body) == 1:
        raise Invalid("an assignment should have a flag_key or an experiment_key")
    body["unitId"] = _text(assignment.unit_id, "unitId", UNIT_ID)
    body["variation"] = _text(assignment.variation, "variation")
    if attributes := assignment.attributes:
        if not isinstance(attributes, Mapping):
            raise Invalid(f"attributes should map names to texts, not be a {_kind(attributes)}")
        body["attributes"] = {
            _text(name, "the name of an attribute"): _text(value, f"the attribute {name!r}", MAX_VALUE_BYTES, least=0)
            for name, value in attributes.items()
        }
    if segments := assignment.segments:
        if isinstance(segments, str) or not isinstance(segments, Sequence):
            raise Invalid(f"segments should be a list of names, not a {_kind(segments)}")
        body["segments"] = [_text(name, "the name of a segment") for name in segments]
    return body


def _or_not_used(value: str | None) -> str:
    return NOT_USED if value is None else value


def _text(value: object, field: str, most: int = NAME, *, least: int = 1) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{field} should be a text, not {_kind(value)}")
    if not least <= len(value) <= most:
        raise Invalid(f"{field} should have {least} to {most} characters, not {len(value)}")
    return str.__str__(value)


def _number(value: object, field: str) -> bool | int | float:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite:
            raise Invalid(f"{field} should be a number that fits a double")
        return value
    raise Invalid(f"{field} should be a bool, an int or a float, not {_kind(value)}")


def _kind(value: object) -> str:
    """Return the type by its whole name: some libraries have a bool, or a str, of their own."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
