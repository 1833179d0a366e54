"""Envelopes that events come in, and how they are opened: `docs/wire.md` says what is read from where.

From the outside in, each at most once: schema-registry framing, CloudEvents, then a vendor's event in place of the
contract's. `opened` takes each step, and says what is wrong. `read_at_once` takes the same steps with the fast reader
in place of the JSON parser, which is a few times as fast and leaves to `opened` whatever is unusual.
"""

from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json, to_json

from contracts.events import Kind
from contracts.structs import FastReader, Struct
from contracts.wire import cloudevents, featbit, opentelemetry, registry
from contracts.wire.broken import Broken
from contracts.wire.cloudevents import in_headers

__all__ = ["Broken", "in_headers", "opened", "read_at_once"]

Json = Any  # as JSON is read


def opened(kind: Kind, value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> bytes | None:
    """Return the event in the envelope of a record, as JSON of the contract; None where no envelope is recognised.

    The event may still break the contract. `kind` is that of the record's topic. Raises Broken for a recognised
    envelope in which there is no event of the topic, and nothing else for any record.
    """
    payload = registry.unframed(value)
    text = value if payload is None else payload
    event: Json = None
    cloud = None
    if in_headers(headers):
        cloud = cloudevents.unwrapped(headers, text, from_json, from_json)
    else:
        try:
            event = from_json(text)
        except ValueError:
            if payload is not None or registry.has_id(headers):
                raise registry.not_json() from None
            return None
        if cloudevents.looks_like_one(event):
            cloud = cloudevents.in_value(event, from_json)
    adapted = _adapted(kind, event if cloud is None else cloud[0])
    if cloud is not None:
        data, event_id, time = cloud
        event = cloudevents.complete(adapted or data, event_id, time)
    elif adapted is not None:
        event = adapted
    elif payload is None:
        return None
    elif not isinstance(event, dict):
        raise registry.not_json()
    return to_json(event, inf_nan_mode="constants")


def read_at_once(reader: FastReader, value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> Struct:
    """Return the event of a record, plain or in an envelope, as the reader reads what `opened` returns.

    Raises anything for what must be opened step by step: a vendor's event, all that is broken or unusual.
    """
    payload = registry.unframed(value)
    text = value if payload is None else payload
    if headers and in_headers(headers):
        return cloudevents.fill(*cloudevents.unwrapped(headers, text, reader.decode, reader.decode_around))
    if payload is None and b"specversion" in value:
        return cloudevents.fill(*cloudevents.in_value(reader.decode_around(value), reader.decode))
    return reader.decode(text)


def _adapted(kind: Kind, body: Json) -> dict[str, Json] | None:
    """Return a vendor's event as one of the contract; None where it is no vendor's."""
    if featbit.is_insight(body):
        return featbit.event_of(kind, body)
    if opentelemetry.is_logs(body):
        return opentelemetry.event_of(kind, body)
    return None
