"""The topics as an AsyncAPI 3.1 document, with Kafka bindings: what producers send, and what on-call reads.

The document is that of the pipeline: it receives from the three topics and sends to their dead-letter topics, and back
to the three what lay in a wrong partition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.dead_letters import HEADERS, ORIGIN_HEADER, REASONS, REPLAYED_HEADER, STAGES, TIMESTAMP_HEADER
from contracts.events import MODELS, Kind
from contracts.flags import ContractBook
from contracts.schemas import event_schema

__all__ = ["Channel", "Cluster", "asyncapi"]

_BINDING: Final = "0.5.0"  # of the Kafka bindings
_ON_TRUNCATION: Final = frozenset({"evidence.dlq.truncated", "evidence.dlq.size", "evidence.dlq.sha256"})
_TIMES: Final = frozenset({"evidence.dlq.failed_at", "evidence.dlq.timestamp"})

_ABOUT: Final = (
    "Exposures, outcomes and guardrails of AI features, joined into facts. The key of each message is its unit ID, and "
    "the partitioner is murmur2, so that the events of a unit meet in one partition number."
)

_ENVELOPES: Final = (
    "The payload is the event. It may come in an envelope, which is opened before the event is judged: a schema "
    "registry's framing, CloudEvents 1.0 (structured or binary), an insight of FeatBit, a log record of OpenTelemetry."
)

_SAYS: Final[Mapping[Kind, str]] = {
    "exposure": "What really ran, when a unit met a variation.",
    "outcome": "What came of it; every further field is a metric.",
    "guardrail": "What must not happen, or is watched, was measured.",
}

_SCHEMES: Final[Mapping[str, dict[str, str]]] = {
    "PLAIN": {"type": "plain", "description": "SASL/PLAIN"},
    "SCRAM-SHA-256": {"type": "scramSha256", "description": "SASL/SCRAM-SHA-256"},
    "SCRAM-SHA-512": {"type": "scramSha512", "description": "SASL/SCRAM-SHA-512"},
    "X509": {"type": "X509", "description": "A certificate of the client"},
}


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic and its configuration, as Kafka names it."""

    topic: str
    partitions: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the topics are, and who reads them. No password is part of it."""

    brokers: Sequence[str]  # host:port
    encrypted: bool
    scheme: str | None  # of SASL, or X509; None: whoever reaches the brokers may connect
    group: str
    sources: Mapping[Kind, Channel]
    dead_letters: Mapping[Kind, Channel]
    reroutes: bool


def asyncapi(cluster: Cluster, book: ContractBook | None, version: str) -> dict[str, Any]:
    """Return the document; `version` is that of this software, `book` limits events to its contracts."""
    document: dict[str, Any] = {
        "asyncapi": "3.1.0",
        "id": "urn:evidence:pipeline",
        "info": {
            "title": "Evidence of AI model experiments",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {f"broker{number}": _server(cluster, at) for number, at in enumerate(cluster.brokers, 1)},
        "channels": {},
        "operations": {},
        "components": {
            "schemas": {kind: _payload(kind, book) for kind in MODELS},
            "messages": {**{kind: _event(kind) for kind in MODELS}, "deadLetter": _dead_letter()},
        },
    }
    for kind in MODELS:
        name, letters = f"{kind}s", f"{kind}DeadLetters"
        document["channels"][name] = _channel(cluster.sources[kind], _SAYS[kind], kind)
        document["channels"][letters] = _channel(
            cluster.dead_letters[kind],
            f"Records of {cluster.sources[kind].topic} that break the contract.",
            "deadLetter",
        )
        document["operations"] |= _operations(cluster, kind, name, letters)
    if cluster.scheme is not None:
        document["components"]["securitySchemes"] = {"brokers": _SCHEMES[cluster.scheme]}
    return document


def _server(cluster: Cluster, broker: str) -> dict[str, Any]:
    server: dict[str, Any] = {
        "host": broker,
        "protocol": "kafka-secure" if cluster.encrypted else "kafka",
        "description": "A broker to start from.",
    }
    if cluster.scheme is not None:
        server["security"] = [{"$ref": "#/components/securitySchemes/brokers"}]
    return server


def _channel(channel: Channel, says: str, message: str) -> dict[str, Any]:
    configs: dict[str, Any] = {
        name: [value] if name == "cleanup.policy" else int(value) for name, value in channel.configs.items()
    }
    return {
        "address": channel.topic,
        "description": says,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "topic": channel.topic,
                "partitions": channel.partitions,
                "topicConfiguration": configs,
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations(cluster: Cluster, kind: Kind, source: str, letters: str) -> dict[str, Any]:
    title = kind.capitalize()
    group = {"groupId": {"type": "string", "enum": [cluster.group]}, "bindingVersion": _BINDING}
    operations = {
        f"receive{title}s": {
            **_operation("receive", source, kind, f"Join {kind}s into facts."),
            "bindings": {"kafka": group},
        },
        f"send{title}DeadLetters": _operation("send", letters, "deadLetter", f"Put {kind}s aside that are refused."),
    }
    if cluster.reroutes:
        says = f"Copy {kind}s that lie in a wrong partition to the right one."
        operations[f"reroute{title}s"] = _operation("send", source, kind, says)
    return operations


def _operation(action: str, channel: str, message: str, says: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": says,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }


def _payload(kind: Kind, book: ContractBook | None) -> dict[str, Any]:
    """Return the event's schema; AsyncAPI's own dialect has all that it uses."""
    return {name: part for name, part in event_schema(kind, book).items() if not name.startswith("$")}


def _event(kind: Kind) -> dict[str, Any]:
    return {
        "name": kind,
        "title": kind.capitalize(),
        "summary": _SAYS[kind],
        "description": _ENVELOPES,
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                TIMESTAMP_HEADER: _text("The event time of a copy whose body has none.", format="date-time"),
                ORIGIN_HEADER: _text("Where a rerouted copy was first: topic/partition/offset."),
                REPLAYED_HEADER: _text("Which dead letter a replayed record was: topic/partition/offset."),
            },
        },
        "payload": {"$ref": f"#/components/schemas/{kind}"},
        "correlationId": {"description": "The unit joins its events.", "location": "$message.payload#/unitId"},
        "bindings": {"kafka": {"key": _text("The unit ID, in UTF-8."), "bindingVersion": _BINDING}},
    }


def _dead_letter() -> dict[str, Any]:
    properties = {
        name: _text(says, **({"format": "date-time"} if name in _TIMES else {})) for name, says in HEADERS.items()
    }
    properties["evidence.dlq.reason"]["enum"] = sorted(REASONS)
    properties["evidence.dlq.stage"]["enum"] = sorted(STAGES)
    return {
        "name": "deadLetter",
        "title": "Dead letter",
        "summary": "A record as it came, with headers that say what is wrong with it. It may come twice.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "properties": properties,
            "required": [name for name in HEADERS if name not in _ON_TRUNCATION],
        },
        "payload": {"description": "The record's value, bytes as they came."},
        "bindings": {"kafka": {"key": _text("The record's key, bytes as they came."), "bindingVersion": _BINDING}},
    }


def _text(says: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a schema holds
    return {"type": "string", "description": says, **more}
