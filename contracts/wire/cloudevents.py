"""CloudEvents 1.0 as records: what the envelope says, and the data in it.

Binary mode is a header `ce_specversion`, with the other attributes in headers beside it and the data as the value.
Structured mode is a header `content-type` that begins with `application/cloudevents`; without such a header it is a
JSON object that has the four attributes that every CloudEvent must have. See the Kafka protocol binding and the JSON
event format, both version 1.0.
"""

import hashlib
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json, to_json

from contracts.times import EARLIEST, parse_time
from contracts.wire.broken import bad_framing

__all__ = ["CloudEvent", "in_headers", "in_value", "looks_like_one", "unwrapped"]

_MARK: Final = "ce_specversion"
_CONTENT_TYPE: Final = "content-type"
_MEDIA: Final = "application/cloudevents"

_REQUIRED: Final = ("specversion", "id", "source", "type")
_ATTRIBUTES: Final = {f"ce_{name}": name for name in (*_REQUIRED, "time")}  # by header
_LONGEST_ID: Final = 256  # characters of an event ID

_DATA: Final = "Input should be a JSON object, the event itself and no text of it, as application/json"
_ENVELOPE: Final = "Input should be a JSON object, the envelope around one event"
_BATCH: Final = "Input should be one event; the Kafka binding has no batches: publish a record for each"

Json = Any  # as JSON is read
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """What is used of an envelope: the data, and what stands in for fields that the event in it does not have."""

    data: Json
    event_id: str
    time: str | None

    def complete(self, event: Json) -> dict[str, Json]:
        """Return the event that the data hold, with an event ID and a time where it has none."""
        if not isinstance(event, dict):
            raise bad_framing("cloudevents", ("data",), _DATA)
        added: dict[str, Json] = {}
        if event.get("eventId") in (None, ""):
            added["eventId"] = self.event_id
        if self.time is not None and event.get("timestamp") is None:
            added["timestamp"] = self.time
        return event | added


def in_headers(headers: Headers) -> bool:
    """Return whether headers say that the record is a CloudEvent, whatever its value looks like."""
    # a loop, and a look at the bytes: records with a trace or a content type of another kind pass here too
    for name, value in headers:
        if name == _MARK:
            return True
        if name == _CONTENT_TYPE and b"cloudevents" in (value or b"").lower():
            return _media_type(headers).startswith(_MEDIA) or any(each == _MARK for each, _ in headers)
    return False


def looks_like_one(body: Json) -> bool:
    """Return whether a JSON text is an envelope, or a batch that begins with one, though no header says so."""
    first = body[0] if isinstance(body, list) and body else body
    return isinstance(first, dict) and all(isinstance(first.get(name), str) for name in _REQUIRED)


def unwrapped(headers: Headers, read: Callable[[], Json]) -> CloudEvent:
    """Open what headers call a CloudEvent; `read` reads its value as JSON, or raises ValueError. Raises Broken."""
    media = _media_type(headers)
    if not media.startswith(_MEDIA):
        return _binary(headers, read)
    if media.startswith(f"{_MEDIA}-batch"):
        raise bad_framing("cloudevents", ("headers", _CONTENT_TYPE), _BATCH)
    if media != f"{_MEDIA}+json":
        raise bad_framing("cloudevents", ("headers", _CONTENT_TYPE), f"Input should be {_MEDIA}+json, the JSON format")
    try:
        body = read()
    except ValueError:
        raise bad_framing("cloudevents", ("value",), _ENVELOPE) from None
    return in_value(body)


def in_value(body: Json) -> CloudEvent:
    """Open an envelope in structured mode. Raises Broken."""
    if not isinstance(body, dict):
        raise bad_framing("cloudevents", ("value",), _BATCH if isinstance(body, list) else _ENVELOPE)
    event_id, time = _attributes(body, ())
    data, encoded = body.get("data"), body.get("data_base64")
    if (data is None) == (encoded is None):
        raise bad_framing("cloudevents", ("data",), "Input should have the event as data, or else as data_base64")
    if encoded is not None:
        try:
            data = from_json(b64decode(encoded, validate=True))
        except (TypeError, ValueError):
            text = "Input should be a JSON object, the event, in base64"
            raise bad_framing("cloudevents", ("data_base64",), text) from None
    return CloudEvent(data, event_id, time)


def _binary(headers: Headers, read: Callable[[], Json]) -> CloudEvent:
    attributes = {_ATTRIBUTES[name]: value for name, value in headers if name in _ATTRIBUTES}
    event_id, time = _attributes(attributes, ("headers",))
    try:
        return CloudEvent(read(), event_id, time)
    except ValueError:
        raise bad_framing("cloudevents", ("value",), _DATA) from None


def _media_type(headers: Headers) -> str:
    """Return the content type without its parameters, in lower case; empty where there is none."""
    given = [value or b"" for name, value in headers if name == _CONTENT_TYPE]
    return given[-1].partition(b";")[0].strip().lower().decode(errors="replace") if given else ""


def _attributes(given: Mapping[str, Json], path: Sequence[str]) -> tuple[str, str | None]:
    """Return event ID and time, if all that the envelope must have is there."""
    prefix = "ce_" if path else ""
    texts = {name: _text(given.get(name)) for name in (*_REQUIRED, "time")}
    for name, text in texts.items():
        if not text and (name in _REQUIRED or given.get(name) is not None):
            raise bad_framing("cloudevents", (*path, prefix + name), "Input should be a text that is not empty")
    if texts["specversion"] != "1.0":
        text = "Input should be 1.0; update the producer's SDK"
        raise bad_framing("cloudevents", (*path, f"{prefix}specversion"), text)
    time = texts["time"] or None
    if time is not None and not _is_time(time):
        text = "Input should be an RFC 3339 time in or after the year 2000"
        raise bad_framing("cloudevents", (*path, f"{prefix}time"), text)
    return _event_id(texts["source"], texts["id"]), time


def _text(value: Json) -> str:
    """Return a text as JSON or a header has it; an empty one for anything else."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return ""
    return value if isinstance(value, str) else ""


def _is_time(text: str) -> bool:
    try:
        return parse_time(text) >= EARLIEST
    except ValueError:
        return False


def _event_id(source: str, number: str) -> str:
    """Return one text for source and ID, which together name an event; in place of a long one its SHA-256."""
    text = to_json([source, number]).decode()
    return text if len(text) <= _LONGEST_ID else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
