"""The publisher for Kafka, on brokers that live, die and never were."""

import math
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NoReturn, Self

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Record

from contracts.placement import murmur2_partition
from evidence_client import Counts, Evidence, KafkaPublisher, Loss, Message
from pipeline.settings import Settings
from tests.brokers import PASSWORD, USERNAME, ApacheKafka
from tests.client.assignments import RAN, assigned
from tests.client.topics import PARTITIONS, Topics
from tests.waiting import until

NOBODY: Final = "127.0.0.1:1"  # a port on which nobody listens
RATE: Final = 5_000  # events a second

# of org.apache.kafka.common.utils.UtilsTest, and of librdkafka's rdmurmur2.c
VECTORS: Final = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
    "kafka": 0xD067CF64,
    "giberish123456789": 0x8F552B0C,
    "1234": 0x9FC97B14,
    "234": 0xE7C009CA,
    "34": 0x873930DA,
    "4": 0x5A4B5CA1,
    "PreAmbleWillBeRemoved,ThePrePartThatIs": 0x78424F1C,
    "reAmbleWillBeRemoved,ThePrePartThatIs": 0x4A62B377,
    "eAmbleWillBeRemoved,ThePrePartThatIs": 0xE0E4E09E,
    "AmbleWillBeRemoved,ThePrePartThatIs": 0x62B8B43F,
}


@pytest.fixture
def topics(embedded: str, settings_for: Callable[..., Settings]) -> Topics:
    return Topics(settings_for(embedded))


def message(number: int, size: int = 0) -> Message:
    return Message("outcome", b"unit-%d" % number, b'{"number":%d,"text":"%s"}' % (number, b"x" * size))


def total(counts: Counts) -> int:
    return counts.acknowledged + counts.queued + sum(counts.dropped.values())


# keys


def test_units_lie_where_java_clients_place_them(topics: Topics) -> None:
    units = [*VECTORS, "größer", "\U0001f680", " ", "\0", *(uuid.uuid4().hex for _ in range(100))]
    publisher = topics.publisher()
    evidence = Evidence(publisher)
    for unit in units:
        with evidence.run(assigned(unit)) as run:
            run.executed(**RAN)
        run.outcome("answered", {"resolved": True})
        run.guardrail("unsafe_answer", 0, severity="info")
    assert evidence.close(20) == 0
    records = topics.read(3 * len(units))
    placed = {key: {partition for unit, partition, _ in records if unit == key} for key in units}
    expected = murmur2_partition(units, PARTITIONS).tolist()
    assert placed == {unit: {partition} for unit, partition in zip(units, expected, strict=True)}
    assert Counter(unit for unit, _, _ in records) == dict.fromkeys(units, 3)
    for unit, hashed in VECTORS.items():
        assert placed[unit] == {(hashed & 0x7FFFFFFF) % PARTITIONS}


@pytest.mark.parametrize(
    ("configuration", "why"),
    [
        pytest.param(
            {"partitioner": "consistent_random"}, "partitioner cannot be 'consistent_random': ", id="partitioner"
        ),
        pytest.param({"topic.partitioner": "random"}, "topic.partitioner cannot be 'random': ", id="by another name"),
        pytest.param({"enable.idempotence": False}, "enable.idempotence cannot be False: ", id="idempotence"),
        pytest.param({"acks": 1}, "`acks` must be set to `all`", id="acks"),
        pytest.param({"max.in.flight": 5}, "max.in.flight cannot be 5: ", id="loss"),
        pytest.param({"max.in.flight.requests.per.connection": 2}, "may be lost", id="loss by another name"),
        pytest.param({"default.topic.config": {}}, "default.topic.config cannot be {}: ", id="topic"),
        pytest.param({"transactional.id": "t"}, "transactional.id cannot be 't': ", id="transactions"),
        pytest.param({"queue.buffering.max.messages": 1}, "give max_messages to the publisher", id="bound"),
        pytest.param({"delivery.report.only.error": True}, "every acknowledgement is counted", id="reports"),
        pytest.param({"no.such": 1}, 'No such configuration property: "no.such"', id="unknown"),
        pytest.param({"linger.ms": "soon"}, "Invalid value", id="value"),
        pytest.param({"security.protocol": "SSL", "ssl.ca.location": "/no/such"}, "ssl.ca.location failed", id="files"),
        pytest.param({"bootstrap.servers": ""}, "bootstrap.servers should name brokers", id="nobody"),
        pytest.param({"bootstrap.servers": "kafka:port"}, "bootstrap.servers should name brokers", id="no port"),
        pytest.param({"bootstrap.servers": "a:9092, "}, "bootstrap.servers should name brokers", id="half"),
        pytest.param({3: 3}, "librdkafka refuses the configuration", id="name"),
        pytest.param([], "configuration should map", id="no mapping"),
    ],
)
def test_a_configuration_that_could_not_work_is_refused_at_start(configuration: Any, why: str) -> None:  # noqa: ANN401  # anything
    given = {"bootstrap.servers": NOBODY, **configuration} if configuration else configuration
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # its words are compared below
        KafkaPublisher(given)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_messages": 0},
        {"max_bytes": "1"},
        {"topics": None},
        {"topics": {"exposure": "e"}},
        {"topics": dict.fromkeys(("exposure", "outcome", "guardrail"), "no topic")},
        {"on_loss": "print"},
        {"exit_timeout": None},
        {"exit_timeout": -1},
        {"exit_timeout": math.inf},
    ],
)
def test_arguments_that_could_not_work_are_refused_at_start(arguments: Any) -> None:  # noqa: ANN401  # anything
    with pytest.raises(ValueError, match="should"):
        KafkaPublisher({"bootstrap.servers": NOBODY}, **arguments)


@pytest.mark.parametrize(
    "configuration",
    [
        {"partitioner": "murmur2_random", "enable.idempotence": True},
        {"enable.idempotence": "true", "compression.type": "zstd", "client.id": "support"},
        {"max.in.flight": "1", "max.in.flight.requests.per.connection": 1},
        {"bootstrap.servers": "a.example.org:9092, SSL://b,[::1]:9092"},
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"},
    ],
)
def test_what_harms_nothing_is_passed_on(configuration: dict[str, Any]) -> None:
    assert KafkaPublisher({"bootstrap.servers": NOBODY, **configuration}).close(0) == 0


@pytest.mark.parametrize("password", [PASSWORD, "wrong"], ids=["right", "wrong"])
def test_security_is_librdkafkas(apache: ApacheKafka, settings_for: Callable[..., Settings], password: str) -> None:
    topics = Topics(settings_for(apache.bootstrap))
    topics.bootstrap = apache.secure
    security = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(apache.certificates.ca)}
    login = {"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": USERNAME, "sasl.password": password}
    publisher = topics.publisher(configuration={**security, **login, "message.timeout.ms": 3_000})
    publisher.publish(message(1))
    publisher.close(20)
    counts = publisher.counts()
    assert (counts.acknowledged, counts.dropped) == ((1, {}) if password == PASSWORD else (0, {"timed_out": 1}))


def test_a_publisher_starts_nothing_before_its_first_event() -> None:
    """So that a server may fork after it was made."""
    before = threading.active_count()
    publisher = KafkaPublisher({"bootstrap.servers": NOBODY})
    assert threading.active_count() == before
    publisher.publish(message(1))
    assert threading.active_count() == before + 1
    assert publisher.close(0) == 1
    assert threading.active_count() == before


# bounds


@pytest.mark.parametrize("bounds", [{"max_messages": 100}, {"max_bytes": 100 * 1_032}], ids=["messages", "bytes"])
def test_the_queue_has_bounds(bounds: dict[str, Any]) -> None:
    losses: list[Loss] = []
    publisher = KafkaPublisher({"bootstrap.servers": NOBODY}, on_loss=losses.append, **bounds)
    taken = [publisher.publish(message(100 + number, 1_000)) for number in range(150)]
    assert message(100, 1_000).size == 1_032
    assert taken == [True] * 100 + [False] * 50
    counts = publisher.counts()
    assert (counts.queued, counts.queued_bytes, counts.dropped) == (100, 103_200, {"queue_full": 50})
    assert publisher.close(0) == 100
    assert sum(loss.count for loss in losses) == 150
    assert {loss.reason for loss in losses} == {"queue_full", "unsent"}


def test_what_no_broker_takes_in_time_is_dropped() -> None:
    publisher = KafkaPublisher({"bootstrap.servers": NOBODY, "message.timeout.ms": 300, "linger.ms": 5})
    publisher.publish(message(1))
    assert publisher.flush(10) == 0
    assert publisher.counts().dropped == {"timed_out": 1}
    assert publisher.close(0) == 0


def test_what_the_producer_finds_too_large_is_dropped() -> None:
    publisher = KafkaPublisher({"bootstrap.servers": NOBODY, "message.max.bytes": 2_000})
    publisher.publish(message(1, 3_000))
    assert publisher.flush(10) == 0
    assert publisher.counts().dropped == {"too_large": 1}
    publisher.close(0)


def test_a_topic_that_is_missing_is_named(apache: ApacheKafka) -> None:
    losses: list[Loss] = []
    configuration = {"bootstrap.servers": apache.bootstrap, "topic.metadata.propagation.max.ms": 500}
    kinds = dict.fromkeys(("exposure", "outcome", "guardrail"), "no-such-topic")
    publisher = KafkaPublisher(configuration, topics=kinds, on_loss=losses.append)  # type: ignore[arg-type]  # of kinds
    publisher.publish(message(1))
    assert publisher.flush(20) == 0
    publisher.close(5)
    assert publisher.counts().dropped == {"delivery_failed": 1}
    assert "no-such-topic" in losses[0].why


def test_a_producer_that_fails_for_good_is_replaced(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    """As librdkafka's do where the order of their events cannot be kept."""

    class Doomed(Producer):  # type: ignore[misc]  # which is untyped
        """A producer that fails for good at its third event."""

        events = 0

        def produce(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # as librdkafka's
            Doomed.events += 1
            if Doomed.events == 3:
                raise KafkaException(KafkaError(KafkaError._FATAL, "out of order", fatal=True))  # noqa: SLF001
            super().produce(*arguments, **named)

    publisher = topics.publisher()
    monkeypatch.setattr("evidence_client.kafka.Producer", Doomed)
    for number in range(5):
        publisher.publish(message(number))
    assert publisher.close(20) == publisher.counts().dropped.get("unsent", 0)
    counts = publisher.counts()
    assert counts.recorded == total(counts) == 5
    assert counts.acknowledged >= 3  # the third and what came later; those in flight may have been given up
    assert {body["number"] for _, _, body in topics.read(3)} >= {2, 3, 4}


def test_faults_of_the_producer_cost_no_more_than_their_event(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    faults: dict[str, list[Exception]] = {"produce": [BufferError(), RuntimeError()], "poll": [RuntimeError()]}

    class Faulty(Producer):  # type: ignore[misc]  # which is untyped
        """A producer whose methods first raise."""

        def produce(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # as librdkafka's
            if faults["produce"]:
                raise faults["produce"].pop(0)
            super().produce(*arguments, **named)

        def poll(self, *arguments: Any) -> int:  # noqa: ANN401  # as librdkafka's
            if faults["poll"]:
                raise faults["poll"].pop()
            return int(super().poll(*arguments))

    publisher = topics.publisher()
    monkeypatch.setattr("evidence_client.kafka.Producer", Faulty)
    for number in range(5):
        publisher.publish(message(number))
    assert publisher.close(20) == 0
    counts = publisher.counts()
    assert (counts.recorded, counts.acknowledged) == (5, 3)
    assert counts.dropped == {"queue_full": 1, "internal": 1}


def test_where_no_thread_can_start_events_wait_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    losses: list[Loss] = []
    publisher = KafkaPublisher({"bootstrap.servers": NOBODY}, on_loss=losses.append)
    monkeypatch.setattr("threading.Thread.start", start)
    publisher.drop("invalid", "")
    assert publisher.publish(message(1))
    assert publisher.counts().queued == 1
    assert publisher.close(0) == 1
    assert publisher.counts().dropped == {"invalid": 1, "unsent": 1}
    assert {loss.reason for loss in losses} == {"invalid", "unsent"}


def test_the_callback_may_close() -> None:
    closed: list[int] = []
    publisher = KafkaPublisher({"bootstrap.servers": NOBODY}, on_loss=lambda _: closed.append(publisher.close(0)))
    publisher.drop("invalid", "")
    until(lambda: closed, what="the callback")
    assert closed == [0]


def test_a_callback_that_hangs_makes_nobody_wait() -> None:
    hanging, gone = threading.Event(), threading.Event()

    def hang(_: Loss) -> None:
        hanging.set()
        gone.wait(20)

    publisher = KafkaPublisher({"bootstrap.servers": NOBODY}, on_loss=hang, max_messages=10)
    publisher.drop("invalid", "")
    assert hanging.wait(10)
    began = time.monotonic()
    for number in range(1_000):
        publisher.publish(message(number))
    assert publisher.close(0) == 10
    assert time.monotonic() - began < 10
    gone.set()


# outages


class Service:
    """Publishes at a steady rate from two threads, and looks at the counts all the while."""

    def __init__(self, publisher: KafkaPublisher) -> None:
        self.publisher, self.sent = publisher, 0
        self.sums: set[bool] = set()
        self._evidence = Evidence(publisher)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._serve, args=(number,)) for number in range(2)]

    def __enter__(self) -> Self:  # noqa: D105
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _serve(self, number: int) -> None:
        begun, sent = time.monotonic(), 0
        while not self._stop.is_set():
            for _ in range(int((time.monotonic() - begun) * RATE / 2) - sent):
                self._evidence.outcome(assigned(f"{number}-{sent}"), "answered", {"number": sent})
                sent += 1
            counts = self.publisher.counts()
            self.sums.add(counts.recorded == total(counts))
            time.sleep(0.005)
        with self._lock:
            self.sent += sent


def test_a_broker_that_dies_comes_back_and_dies_for_good(
    own_apache: ApacheKafka, settings_for: Callable[..., Settings]
) -> None:
    """What was acknowledged is there once; the rest is counted, to the last event."""
    topics = Topics(settings_for(own_apache.bootstrap))
    publisher = topics.publisher(configuration={"reconnect.backoff.max.ms": 500}, max_messages=6_000)
    with Service(publisher) as service:
        until(lambda: publisher.counts().acknowledged > RATE // 2, deadline=60, what="acknowledgements")
        own_apache.kill()
        until(lambda: publisher.counts().dropped.get("queue_full", 0) > RATE // 5, deadline=60, what="a full queue")
        own_apache.start()
        acknowledged = publisher.counts().acknowledged
        until(lambda: publisher.counts().acknowledged > acknowledged + RATE // 2, deadline=60, what="it goes on")
    assert publisher.close(60) == 0
    counts = publisher.counts()
    assert service.sums == {True}
    assert service.sent == counts.recorded == counts.acknowledged + counts.dropped["queue_full"]
    assert set(counts.dropped) == {"queue_full"}
    identities = Counter(body["eventId"] for _, _, body in topics.read(counts.acknowledged))
    assert len(identities) == sum(identities.values()) == counts.acknowledged

    publisher = topics.publisher(configuration={"message.timeout.ms": 1_000}, max_messages=2_000)
    with Service(publisher) as service:
        until(lambda: publisher.counts().acknowledged > RATE // 2, deadline=60, what="acknowledgements")
        own_apache.kill()
        until(lambda: len(publisher.counts().dropped) == 2, deadline=60, what="events that time out")
    left = publisher.close(0)
    counts = publisher.counts()
    assert service.sums == {True}
    assert (left, counts.queued, counts.queued_bytes) == (counts.dropped.get("unsent", 0), 0, 0)
    assert service.sent == counts.recorded == counts.acknowledged + sum(counts.dropped.values())
    assert {"queue_full", "timed_out"} <= set(counts.dropped) <= {"queue_full", "timed_out", "unsent"}


# processes


def run_program(program: str, topics: Topics, exit_s: float = 10) -> str:
    """Run a program of its own that has `publisher` and `message`; return what it prints."""
    start = f"""
        import os, sys, threading, time
        from evidence_client import KafkaPublisher, Message
        brokers = {{"bootstrap.servers": "{topics.bootstrap}"}}
        publisher = KafkaPublisher(brokers, topics={topics.names!r}, exit_timeout={exit_s})
        def message(number):
            return Message("outcome", b"unit", b'{{"number":%d}}' % number)
    """
    text = textwrap.dedent(start) + textwrap.dedent(program)
    answer = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout


def numbers(topics: Topics, count: int) -> list[int]:
    return sorted(body["number"] for _, _, body in topics.read(count))


def test_what_is_queued_at_exit_is_sent(topics: Topics) -> None:
    run_program("for number in range(1000): publisher.publish(message(number))", topics)
    assert numbers(topics, 1_000) == list(range(1_000))


def test_an_exit_without_a_broker_takes_bounded_time(topics: Topics) -> None:
    topics.bootstrap = NOBODY
    began = time.monotonic()
    run_program("import logging; logging.disable(); publisher.publish(message(1))", topics, exit_s=0.5)
    assert time.monotonic() - began < 20


def test_each_forked_process_sends_its_own(topics: Topics) -> None:
    """As under a server that makes the publisher, uses it, and forks its workers while it does."""
    program = """
        for number in range(100):
            publisher.publish(message(number))
        busy = threading.Event()
        def go_on():
            for number in range(100, 600):
                publisher.publish(message(number))
                time.sleep(0.0005)
        thread = threading.Thread(target=go_on)
        thread.start()
        children = []
        for child in range(1, 5):
            time.sleep(0.02)
            if not (pid := os.fork()):
                assert publisher.counts().recorded == 0
                for number in range(50):
                    publisher.publish(message(child * 1000 + number))
                sys.exit(0)  # as workers end: what is queued is sent
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
        thread.join()
        print(publisher.close(10), publisher.counts().acknowledged)
    """
    assert run_program(program, topics) == "0 600\n"
    expected = [*range(600), *(child * 1_000 + number for child in range(1, 5) for number in range(50))]
    assert numbers(topics, len(expected)) == sorted(expected)


def test_children_of_multiprocessing_send_theirs_at_exit(topics: Topics) -> None:
    """Though they end without the interpreter's own exit handlers."""
    program = """
        import multiprocessing
        def work(child):
            for number in range(50):
                publisher.publish(message(child * 1000 + number))
        publisher.publish(message(0))
        children = [multiprocessing.get_context("fork").Process(target=work, args=(child,)) for child in (1, 2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print([child.exitcode for child in children])
    """
    assert run_program(program, topics) == "[0, 0]\n"
    assert numbers(topics, 101) == [0, *range(1_000, 1_050), *range(2_000, 2_050)]


def test_records_tell_their_keys(topics: Topics) -> None:
    """Which the sizes in the ledger lean on: they come back with each delivery report."""
    sizes: list[int] = []

    def delivered(_: object, record: Record) -> None:
        sizes.append(len(record.key()) + len(record.value()))

    producer = Producer({"bootstrap.servers": topics.bootstrap})
    producer.produce(topics.names["outcome"], key=b"unit-1", value=b"x" * 100, on_delivery=delivered)
    assert producer.flush(20) == 0
    assert sizes == [106]
