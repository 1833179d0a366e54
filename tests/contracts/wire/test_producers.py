"""What real producers write is read: Confluent's serialisers, the SDK of CloudEvents, that of OpenTelemetry."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.json_format import MessageToDict
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.semconv._incubating.attributes import feature_flag_attributes

from contracts.events import MODELS, Kind, json_schema
from contracts.times import parse_time
from tests.contracts.records import NOON, VALID, PlainRecord
from tests.contracts.test_decode import decode, row
from tests.contracts.wire.envelopes import log_record


def columns(kind: Kind, record: PlainRecord) -> dict[str, Any]:
    """Return what the columns say, but for the bytes of the record and what an envelope adds."""
    found = row(decode(kind, record))
    return {name: found[name] for name in found.keys() - {"value", "headers", "event_id", "event_time"}}


def plain(kind: Kind) -> dict[str, Any]:
    return columns(kind, PlainRecord(json.dumps(VALID[kind]).encode()))


@pytest.mark.parametrize("in_header", [False, True], ids=["ID before the value", "GUID in a header"])
@pytest.mark.parametrize("kind", MODELS)
def test_what_confluents_json_serializer_writes_is_read(kind: Kind, in_header: bool) -> None:  # noqa: FBT001
    """The registry is the client's own double; the schema is ours, which the serialiser holds the event against."""
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    configuration = {"schema.id.serializer": header_schema_id_serializer} if in_header else {}
    serializer = JSONSerializer(json.dumps(json_schema(kind)), registry, conf=configuration)
    headers: list[tuple[str, bytes | None]] = []
    value = serializer(VALID[kind], SerializationContext(kind, MessageField.VALUE, headers))
    assert (value[0] == 0, len(headers)) == (not in_header, in_header)
    assert columns(kind, PlainRecord(value, headers=headers)) == plain(kind)


WRITERS: Final[Mapping[str, Callable[[CloudEvent], kafka.KafkaMessage]]] = {
    "binary": kafka.to_binary_event,
    "structured": kafka.to_structured_event,
}


@pytest.mark.parametrize("mode", WRITERS)
@pytest.mark.parametrize("kind", MODELS)
def test_what_the_sdk_of_cloudevents_writes_is_read(kind: Kind, mode: str) -> None:
    body = {name: value for name, value in VALID[kind].items() if name != "timestamp"}
    attributes = {
        "id": "1",
        "source": "/support",
        "type": "com.example.support",
        "specversion": "1.0",
        "time": datetime(2026, 6, 7, 11, 30, 0, 250_000, UTC),
        "datacontenttype": "application/json",
        "partitionkey": "conv_98271",
    }
    message = WRITERS[mode](CloudEvent(attributes, body))
    assert message.key == "conv_98271"
    record = PlainRecord(message.value, headers=list(message.headers.items()))
    assert columns(kind, record) == plain(kind)
    found = row(decode(kind, record))
    assert (found["event_id"], found["event_time"]) == ('["/support","1"]', parse_time("2026-06-07T11:30:00.25Z"))


def test_what_the_sdk_of_opentelemetry_writes_is_read() -> None:
    exported = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exported))
    sample = {each["key"]: next(iter(each["value"].values())) for each in log_record()["attributes"]}
    provider.get_logger("OpenFeature").emit(
        LogRecord(timestamp=NOON * 1_000, event_name="feature_flag.evaluation", attributes=sample)
    )
    provider.shutdown()
    exports = MessageToDict(encode_logs(exported.get_finished_logs()))
    found = row(decode("exposure", PlainRecord(json.dumps(exports).encode())))
    assert found["event_time"] == NOON
    assert (found["unit_id"], found["model_route"], found["fallback_used"]) == ("conv_98271", "support_model_b", False)


def test_the_attributes_are_those_of_the_semantic_conventions() -> None:
    known = {name for name in vars(feature_flag_attributes).values() if isinstance(name, str)}
    used = {each["key"] for each in log_record()["attributes"] if each["key"].startswith("feature_flag.")}
    assert used <= known
