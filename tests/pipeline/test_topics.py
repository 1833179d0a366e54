"""Topics on real brokers: what `create` makes is what `check` wants, and what a cluster refuses is told in one line."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from contracts.errors import KafkaError, KafkaUnavailable, SettingsError, TopicsUnfit
from pipeline.preflight import ENVELOPE_BYTES
from pipeline.settings import Settings
from pipeline.topics import check, create, topic_states
from tests.brokers import PASSWORD, USERNAME, ApacheKafka
from tests.certificates import KEY_PASSWORD

SettingsFor = Callable[..., Settings]
DAY_US = 86_400_000_000
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Flag:
    """All that `topics` wants to know of a contract."""

    window_us: int


def make(settings: Settings, topic: str, partitions: int, configs: dict[str, str]) -> None:
    """Make a topic as someone else would."""
    client = AdminClient(settings.librdkafka())
    client.create_topics([NewTopic(topic, partitions, 1, config=configs)])[topic].result()


def publish(settings: Settings, topic: str, partition: int, count: int) -> None:
    single = {"batch.num.messages": 1}  # the embedded broker takes a batch at the end for one record
    producer = Producer(settings.librdkafka() | single)
    for _ in range(count):
        producer.produce(topic, b"{}", partition=partition)
    assert producer.flush(30) == 0


def test_created_topics_are_fit(bootstrap: str, settings_for: SettingsFor) -> None:
    settings = settings_for(bootstrap)
    made = create(settings, [Flag(DAY_US)], partitions=3, replication=1)
    assert [one.topic for one in made] == [name for topic in settings.topics for name in (topic, f"{topic}.dlq")]
    assert all(one.made and one.partitions == 3 for one in made)
    assert check(settings, [Flag(DAY_US)]) == []


def test_creating_again_changes_nothing(bootstrap: str, settings_for: SettingsFor) -> None:
    settings = settings_for(bootstrap)
    create(settings, [], partitions=2, replication=1)
    assert [(one.made, one.partitions) for one in create(settings, [], partitions=5, replication=1)] == [(False, 2)] * 6


def test_dead_letter_topic_follows_a_source_that_was_there(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    """It gets its source's partitions, outlives its records, and has room for the largest with added headers."""
    settings = settings_for(apache.bootstrap)
    source = settings.outcomes_topic
    make(settings, source, 5, {"max.message.bytes": "3000000", "retention.ms": str(30 * DAY_MS)})
    made = {one.topic: one for one in create(settings, [Flag(DAY_US)], partitions=5, replication=1)}
    assert (made[source].made, made[f"{source}.dlq"].made) == (False, True)
    assert check(settings, [Flag(DAY_US)]) == []


def test_retention_covers_the_longest_window(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    """Topics that fit one contract may not fit the next, whose window is longer."""
    settings = settings_for(apache.bootstrap)
    create(settings, [Flag(DAY_US)], partitions=1, replication=1)
    problems = check(settings, [Flag(DAY_US), Flag(60 * DAY_US)])
    assert [(one.severity, one.topic) for one in problems] == [("error", topic) for topic in settings.topics]
    assert "set retention.ms above" in problems[0].remedy


def test_long_windows_get_long_retention(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    settings = settings_for(apache.bootstrap)
    create(settings, [Flag(60 * DAY_US)], partitions=1, replication=1)
    assert check(settings, [Flag(60 * DAY_US)]) == []


def test_large_values_get_large_messages(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    """A value of the greatest size that is read fits into its topic, and as a dead letter into the other."""
    settings = settings_for(apache.bootstrap, max_value_bytes=4_000_000)
    create(settings, [], partitions=1, replication=1)
    producer = Producer(settings.librdkafka() | {"message.max.bytes": 5_000_000})
    refused: list[Any] = []
    room = {"": 4_000_000, ".dlq": 4_000_000 + ENVELOPE_BYTES}
    for suffix, size in room.items():
        topic = settings.exposures_topic + suffix
        producer.produce(topic, bytes(size), on_delivery=lambda error, _: refused.append(error))
    assert producer.flush(30) == 0
    assert refused == [None, None]


def test_missing_topics_are_told(bootstrap: str, settings_for: SettingsFor) -> None:
    settings = settings_for(bootstrap)
    problems = check(settings, [])
    assert {one.topic for one in problems} == set(settings.topics)
    assert {one.remedy for one in problems} == {"run: evidence topics create"}
    with pytest.raises(TopicsUnfit, match=f"{settings.exposures_topic} does not exist; run: evidence topics create"):
        topic_states(settings)


def test_unequal_partition_counts_are_told(bootstrap: str, settings_for: SettingsFor) -> None:
    settings = settings_for(bootstrap)
    make(settings, settings.guardrails_topic, 3, {})
    create(settings, [], partitions=4, replication=1)
    told = [one.topic for one in check(settings, []) if one.message.startswith("partition counts differ")]
    assert told == list(settings.topics)


def test_unconfigured_topics_of_the_embedded_broker_are_noted(embedded: str, settings_for: SettingsFor) -> None:
    """It keeps no configuration that it was not given; that is no failure."""
    settings = settings_for(embedded)
    for topic in settings.topics:
        make(settings, topic, 1, {})
        make(settings, f"{topic}.dlq", 1, {})
    assert {one.severity for one in check(settings, [])} == {"note"}


def test_states_tell_first_and_end_offsets(bootstrap: str, settings_for: SettingsFor) -> None:
    settings = settings_for(bootstrap)
    create(settings, [], partitions=2, replication=1)
    publish(settings, settings.outcomes_topic, partition=1, count=3)
    states = topic_states(settings)
    assert list(states) == list(settings.topics)
    assert states[settings.outcomes_topic].partitions == 2
    assert states[settings.outcomes_topic].first == {0: 0, 1: 0}
    assert states[settings.outcomes_topic].end == {0: 0, 1: 3}
    assert len({state.topic_id for state in states.values()}) == 3


def test_open_transaction_holds_the_end_back(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    """A reader of committed records cannot get past it, so it must not be told to."""
    settings = settings_for(apache.bootstrap)
    create(settings, [], partitions=1, replication=1)
    topic = settings.exposures_topic
    publish(settings, topic, partition=0, count=2)
    producer = Producer(settings.librdkafka() | {"transactional.id": settings.group})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"{}", partition=0)
    assert producer.flush(30) == 0
    assert topic_states(settings)[topic].end == {0: 2}
    producer.abort_transaction(30)
    assert topic_states(settings)[topic].end == {0: 4}  # the aborted record and the marker of its end


def test_topic_made_again_has_another_id(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    settings = settings_for(apache.bootstrap)
    create(settings, [], partitions=1, replication=1)
    topic = settings.exposures_topic
    before = topic_states(settings)[topic]
    client = AdminClient(settings.librdkafka())
    client.delete_topics([topic])[topic].result()
    create(settings, [], partitions=1, replication=1)
    after = topic_states(settings)[topic]
    assert (before.partitions, before.end) == (after.partitions, after.end)
    assert before.topic_id != after.topic_id


# what a cluster refuses


def test_no_broker_is_told_within_bounds(settings_for: SettingsFor) -> None:
    settings = settings_for("127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(KafkaUnavailable, match=r"127\.0\.0\.1:1 .*refused.*EVIDENCE_BOOTSTRAP_SERVERS") as error:
        topic_states(settings, timeout_s=1.5)
    assert time.monotonic() - started < 10
    assert "\n" not in str(error.value)


def test_too_many_replicas_are_refused_in_one_line(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    settings = settings_for(apache.bootstrap)
    with pytest.raises(KafkaError, match="cannot make the topic") as error:
        create(settings, [], partitions=1, replication=3)
    assert "\n" not in str(error.value)


# security


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_sasl_over_tls(apache: ApacheKafka, settings_for: SettingsFor, mechanism: str) -> None:
    settings = settings_for(apache.secure, **sasl(apache, PASSWORD), kafka_sasl_mechanism=mechanism)
    create(settings, [], partitions=1, replication=1)
    assert check(settings, []) == []


def test_client_certificate(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    settings = settings_for(
        apache.mutual,
        kafka_security_protocol="SSL",
        kafka_ssl_ca=apache.certificates.ca,
        kafka_ssl_cert=apache.certificates.client,
        kafka_ssl_key=apache.certificates.client_key,
        kafka_ssl_key_password=KEY_PASSWORD,
    )
    create(settings, [], partitions=1, replication=1)
    assert check(settings, []) == []


def test_wrong_password_is_told_at_once(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    settings = settings_for(apache.secure, **sasl(apache, "wrong"), kafka_sasl_mechanism="PLAIN")
    with pytest.raises(KafkaUnavailable, match="Authentication failed"):
        topic_states(settings)


def test_strange_authority_is_told_at_once(apache: ApacheKafka, settings_for: SettingsFor) -> None:
    """A broker whose certificate nobody vouches for gets no password."""
    trusting_others = sasl(apache, PASSWORD) | {"kafka_ssl_ca": None}
    settings = settings_for(apache.secure, **trusting_others, kafka_sasl_mechanism="PLAIN")
    with pytest.raises(KafkaUnavailable, match="certificate verify failed"):
        topic_states(settings)


def test_unreadable_authority_is_a_wrong_setting(settings_for: SettingsFor) -> None:
    settings = settings_for("127.0.0.1:1", kafka_security_protocol="SSL", kafka_ssl_ca="missing.pem")
    with pytest.raises(SettingsError, match="correct EVIDENCE_KAFKA_"):
        check(settings, [])


def sasl(apache: ApacheKafka, password: str) -> dict[str, Any]:
    return {
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_username": USERNAME,
        "kafka_sasl_password": password,
        "kafka_ssl_ca": apache.certificates.ca,
    }
