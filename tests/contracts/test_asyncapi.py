"""The AsyncAPI document is valid, and true of what is sent."""

import json
from typing import Any, Final

import jsonschema
import pytest

from contracts.asyncapi import Channel, Cluster, asyncapi
from contracts.dead_letters import HEADERS, REASONS, DeadLetter
from contracts.events import MODELS, Kind
from contracts.flags import ContractBook
from tests.contracts.records import BOOK, VALID
from tests.standards import standard

CONFIGS: Final = {"cleanup.policy": "delete", "retention.ms": "604800000", "max.message.bytes": "1114112"}
KINDS: Final[tuple[Kind, ...]] = ("exposure", "outcome", "guardrail")


def cluster(**changes: Any) -> Cluster:  # noqa: ANN401 - any field
    fields: dict[str, Any] = {
        "brokers": ("a:9092", "b:9093"),
        "encrypted": False,
        "scheme": None,
        "group": "evidence",
        "sources": {kind: Channel(f"my-{kind}s", 6, CONFIGS) for kind in KINDS},
        "dead_letters": {kind: Channel(f"my-{kind}s.dlq", 6, {**CONFIGS, "retention.ms": "-1"}) for kind in KINDS},
        "reroutes": True,
    }
    return Cluster(**{**fields, **changes})


VALIDATOR: Final = jsonschema.Draft7Validator(standard("asyncapi-3.1.0"))


@pytest.mark.parametrize("book", [None, BOOK, ContractBook()], ids=["any", "one", "none"])
@pytest.mark.parametrize("scheme", [None, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "X509"])
def test_the_document_is_valid_asyncapi(book: ContractBook | None, scheme: str | None) -> None:
    document = asyncapi(cluster(scheme=scheme, encrypted=scheme == "X509"), book, "0.1.0")
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


def references(part: Any) -> list[str]:  # noqa: ANN401 - any part of a document
    match part:
        case {"$ref": str(reference)}:
            return [reference]
        case dict():
            return [found for each in part.values() for found in references(each)]
        case list():
            return [found for each in part for found in references(each)]
    return []


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi(cluster(scheme="PLAIN"), BOOK, "0.1.0")
    found = references(document)
    assert len(found) > 20
    for reference in found:
        part: Any = document
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def test_channels_are_the_topics_and_their_dead_letters_with_kafka_bindings() -> None:
    channels = asyncapi(cluster(), BOOK, "0.1.0")["channels"]
    assert [channel["address"] for channel in channels.values()] == [
        "my-exposures",
        "my-exposures.dlq",
        "my-outcomes",
        "my-outcomes.dlq",
        "my-guardrails",
        "my-guardrails.dlq",
    ]
    kafka = channels["outcomeDeadLetters"]["bindings"]["kafka"]
    assert (kafka["topic"], kafka["partitions"]) == ("my-outcomes.dlq", 6)
    assert kafka["topicConfiguration"] == {
        "cleanup.policy": ["delete"],
        "retention.ms": -1,
        "max.message.bytes": 1_114_112,
    }


def test_operations_are_those_of_the_pipeline() -> None:
    operations = asyncapi(cluster(), BOOK, "0.1.0")["operations"]
    assert {name for name in operations if operations[name]["action"] == "receive"} == {
        "receiveExposures",
        "receiveOutcomes",
        "receiveGuardrails",
    }
    assert "rerouteOutcomes" in operations
    assert "rerouteOutcomes" not in asyncapi(cluster(reroutes=False), BOOK, "0.1.0")["operations"]


def test_servers_name_how_to_reach_them_and_no_password() -> None:
    document = asyncapi(cluster(encrypted=True, scheme="SCRAM-SHA-512"), BOOK, "0.1.0")
    servers = document["servers"]
    assert [(server["host"], server["protocol"]) for server in servers.values()] == [
        ("a:9092", "kafka-secure"),
        ("b:9093", "kafka-secure"),
    ]
    assert servers["broker1"]["security"] == [{"$ref": "#/components/securitySchemes/brokers"}]
    assert document["components"]["securitySchemes"]["brokers"]["type"] == "scramSha512"
    assert "password" not in json.dumps(document)


@pytest.mark.parametrize("kind", MODELS)
def test_payloads_are_the_schemas_of_events(kind: Kind) -> None:
    """AsyncAPI's own dialect is JSON Schema draft 7."""
    payload = asyncapi(cluster(), BOOK, "0.1.0")["components"]["schemas"][kind]
    jsonschema.Draft7Validator.check_schema(payload)
    assert jsonschema.Draft7Validator(payload).is_valid(VALID[kind])
    assert "CloudEvents" in asyncapi(cluster(), BOOK, "0.1.0")["components"]["messages"][kind]["description"]
    assert not jsonschema.Draft7Validator(payload).is_valid({**VALID[kind], "variation": "unknown"})


def test_headers_of_dead_letters_are_those_that_are_sent() -> None:
    letter = DeadLetter("t", 0, 0, "late", "close", "m", "[]", "g", 0, 0, "0.1.0", 0, None, b"value")
    whole, cut = dict(letter.headers()), dict(letter.truncated(1).headers())
    assert list(cut) == list(HEADERS)
    headers = asyncapi(cluster(), BOOK, "0.1.0")["components"]["messages"]["deadLetter"]["headers"]
    assert list(headers["properties"]) == list(HEADERS)
    assert headers["required"] == list(whole)
    assert headers["properties"]["evidence.dlq.reason"]["enum"] == sorted(REASONS)
    for sent in (whole, cut):
        jsonschema.Draft7Validator(headers).validate({name: (value or b"").decode() for name, value in sent.items()})
