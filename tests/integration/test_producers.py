"""What producers may do, and what becomes of it: compressed, transactional, misplaced, greatest and wrong records.

All of it lies in the topics of one deployment on each broker, and one worker has read it to the end.
"""

from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from contracts.dead_letters import ORIGIN_HEADER
from contracts.placement import crc32_partition, murmur2_partition
from contracts.times import format_time
from pipeline.preflight import DLQ_SUFFIX
from pipeline.traffic import Message
from sinks.views import connect
from tests.brokers import ApacheKafka
from tests.integration.deployment import Deployment, Letter, exposure, guardrail, outcome, pair

CODECS: Final = ("gzip", "snappy", "lz4", "zstd")
PARTITIONS: Final = 2
GREATEST: Final = (1 << 20) + 65_536 - 200  # the topics' max.message.bytes, less the envelope of a batch of one
SMALL: Final = 100_000  # what the dead-letter topic of guardrails takes, where the broker has such limits

MISPLACED: Final = tuple(
    unit
    for unit in (f"misplaced-{number}" for number in range(24))
    if crc32_partition(unit.encode(), PARTITIONS) != murmur2_partition([unit], PARTITIONS)[0]
)

WRONG: Final = replace(exposure("wrong", 0, eventId=7, secret="s3cret"), headers=(("trace", b"1-5759e988"),))


@dataclass(frozen=True)
class Read:
    """A deployment that was read, and whether its broker is Apache Kafka."""

    deployment: Deployment
    apache: bool

    def letters(self) -> list[Letter]:
        """Return the dead letters of its worker."""
        return [letter for letter in self.deployment.letters() if letter.group == self.deployment.settings.group]


@pytest.fixture(
    scope="module",
    params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("apache", marks=pytest.mark.kafka)],
)
def read(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Read:
    broker: str | ApacheKafka = request.getfixturevalue(request.param)
    bootstrap = broker if isinstance(broker, str) else broker.bootstrap
    deployment = Deployment.make(bootstrap, tmp_path_factory.mktemp("producers") / "home", partitions=PARTITIONS)
    if isinstance(broker, ApacheKafka):
        _limit(deployment, deployment.topic("guardrail") + DLQ_SUFFIX, SMALL)
    for codec in CODECS:
        producer = deployment.producer(**{"compression.type": codec, "linger.ms": 100})
        deployment.produce(producer, [each for unit in range(10) for each in pair(f"{codec}-{unit}", 0)])
    _transactions(deployment)
    clients_default = deployment.producer(partitioner="consistent_random")  # CRC32 of the key
    deployment.produce(clients_default, [each for unit in MISPLACED for each in pair(unit, 0)])
    large = deployment.producer(**{"message.max.bytes": 2_000_000})
    deployment.produce(large, [_great("exposure"), _great("guardrail")])
    deployment.publish([WRONG, replace(outcome("tombstone", 0), value=None), outcome("unexposed", 0)])
    deployment.publish(exposure(f"open-{number}", 60) for number in range(10))
    _end_with_marker(deployment)
    deployment.read_to_end()
    return Read(deployment, isinstance(broker, ApacheKafka))


def test_every_record_has_one_fate(read: Read) -> None:
    open_now = {("exposures", f"open-{number}") for number in range(10)}
    told, places = read.deployment.told(), read.deployment.places()
    assert len(told) == len(set(told))
    assert set(told) <= set(places)
    assert len(places) - len(told) == len(open_now) + PARTITIONS  # the guardrails behind all else are open, too


def test_the_account_leaves_no_offset_out(read: Read) -> None:
    """Control records and aborted ones are told as undelivered, open windows as open."""
    connection = connect(read.deployment.settings.lake)
    try:
        columns = 'sum("open"), sum(no_exposure), sum(rerouted), sum(unaccounted), sum(undelivered)'
        [(opened, unexposed, rerouted, unaccounted, undelivered)] = connection.sql(
            f"SELECT {columns} FROM account"  # noqa: S608
        ).fetchall()
        units = {unit for (unit,) in connection.sql("SELECT unit_id FROM exposures_open").fetchall()}
    finally:
        connection.close()
    assert (opened, unexposed, rerouted, unaccounted) == (10 + PARTITIONS, 1, 2 * len(MISPLACED), 0)
    assert undelivered >= PARTITIONS
    assert units == {f"open-{number}" for number in range(10)}


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_records_are_joined(read: Read, codec: str) -> None:
    facts = [fact for fact in read.deployment.facts() if fact["unit_id"].startswith(codec)]
    assert [(fact["exposures"], fact["outcomes"]) for fact in facts] == [(1, 1)] * 10


def test_committed_transactions_are_joined_and_aborted_ones_never_were(read: Read) -> None:
    outcomes = {fact["unit_id"]: fact["outcomes"] for fact in read.deployment.facts()}
    assert (outcomes["tx-commit-0"], outcomes["tx-commit-1"]) == (1, 1)
    if not read.apache:
        pytest.skip("the embedded broker delivers what was aborted")
    assert "tx-abort-0" not in outcomes


def test_misplaced_records_are_joined_where_they_belong(read: Read) -> None:
    """The copies are read in the run that made them, though they lie behind the end that it saw at its start."""
    facts = [fact for fact in read.deployment.facts() if fact["unit_id"] in MISPLACED]
    assert [(fact["exposures"], fact["outcomes"]) for fact in facts] == [(1, 1)] * len(MISPLACED)
    joined = {(row["topic"], row["partition"], row["offset"]) for row in read.deployment.rows("events")}
    rerouted = [row for row in read.deployment.rows("refused") if row["reason"] == "rerouted"]
    assert len(rerouted) == 2 * len(MISPLACED)
    assert not joined & {(row["topic"], row["partition"], row["offset"]) for row in rerouted}


def test_misplaced_records_are_dead_letters_where_rerouting_is_off(read: Read) -> None:
    """Another lake reads the same topics, in which the copies of the first lie as well."""
    other = read.deployment.with_new_lake().but(reroute=False)
    other.read_to_end()
    misplaced = [letter for letter in other.letters() if letter.reason == "misplaced"]
    assert Counter((letter.key or b"").decode() for letter in misplaced) == dict.fromkeys(MISPLACED, 2)
    assert "murmur2_random" in misplaced[0].headers["__dlq.errors.message"]
    assert "crc32" in misplaced[0].headers["__dlq.errors.message"]
    assert not any(ORIGIN_HEADER in letter.headers for letter in misplaced)
    assert [fact for fact in other.facts() if fact["unit_id"] in MISPLACED] == [
        fact for fact in read.deployment.facts() if fact["unit_id"] in MISPLACED
    ]


def test_a_dead_letter_tells_where_it_is_from_and_what_is_wrong(read: Read) -> None:
    [letter] = [letter for letter in read.letters() if letter.key == WRONG.key]
    assert letter.origin.topic == read.deployment.topic("exposure")
    assert (letter.partition, letter.value) == (letter.origin.partition, WRONG.value)
    names = ("reason", "stage", "details", "failed_at", "timestamp", "pipeline_version", "replay_count")
    assert set(letter.headers) == {
        "trace",
        *(f"__dlq.errors.{name}" for name in ("topic", "partition", "offset", "group", "message")),
        *(f"evidence.dlq.{name}" for name in names),
    }
    assert letter.headers["trace"] == "1-5759e988"
    assert (letter.reason, letter.headers["evidence.dlq.stage"]) == ("schema_violation", "validate")
    assert letter.headers["evidence.dlq.timestamp"] == format_time(WRONG.timestamp_ms * 1_000)
    assert "eventId" in letter.headers["evidence.dlq.details"]
    assert "s3cret" not in str(letter.headers)


def test_dead_letters_have_their_reasons(read: Read) -> None:
    reasons = {(letter.key or b"").decode(): letter.reason for letter in read.letters()}
    assert reasons == {
        "wrong": "schema_violation",
        "tombstone": "tombstone",
        "unexposed": "no_exposure",
        "great-exposure": "too_large",
        "great-guardrail": "too_large",
    }


def test_the_greatest_record_passes_as_a_dead_letter(read: Read) -> None:
    [letter] = [letter for letter in read.letters() if letter.key == b"great-exposure"]
    assert letter.value == _great("exposure").value


def test_a_dead_letter_that_its_topic_finds_too_large_is_cut(read: Read) -> None:
    if not read.apache:
        pytest.skip("the embedded broker takes any size")
    [letter] = [letter for letter in read.letters() if letter.key == b"great-guardrail"]
    whole = _great("guardrail").value or b""
    assert letter.value
    assert len(letter.value) < SMALL
    assert whole.startswith(letter.value)
    assert letter.headers["evidence.dlq.truncated"] == "true"
    assert letter.headers["evidence.dlq.size"] == str(len(whole))


def _great(kind: str) -> Message:
    """Return the greatest record that the topics take; nothing compresses it."""
    message = {"exposure": exposure, "guardrail": guardrail}[kind](f"great-{kind}", 0)
    return replace(message, value=Random(1).randbytes(GREATEST))  # noqa: S311


def _transactions(deployment: Deployment) -> None:
    producer = deployment.producer(**{"transactional.id": deployment.settings.group})
    producer.init_transactions()
    for number, ending in enumerate((producer.commit_transaction, producer.abort_transaction) * 2):
        producer.begin_transaction()
        name = "abort" if number % 2 else "commit"
        deployment.produce(producer, pair(f"tx-{name}-{number // 2}", 0))
        ending()


def _end_with_marker(deployment: Deployment) -> None:
    """Leave the marker of a transaction as the last record of each partition of the guardrails."""
    producer = deployment.producer(**{"transactional.id": deployment.settings.group})
    producer.init_transactions()
    producer.begin_transaction()
    units = {murmur2_partition([unit], PARTITIONS)[0]: unit for unit in (f"open-{number}" for number in range(10))}
    deployment.produce(producer, [replace(guardrail(unit, 60), partition=int(p)) for p, unit in units.items()])
    producer.commit_transaction()


def _limit(deployment: Deployment, topic: str, size: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(deployment.settings.librdkafka())
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result()
