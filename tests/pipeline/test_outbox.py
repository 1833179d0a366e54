"""What is sent is kept until a broker has it."""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from contracts.errors import KafkaUnavailable
from pipeline.outbox import Letter, Outbox
from pipeline.settings import Settings
from tests.brokers import ApacheKafka
from tests.waiting import until


def letter(topic: str, value: bytes = b"v") -> Letter:
    return Letter(topic, 0, b"k", value, [("h", b"x"), ("none", None)], 1_780_833_600_000)


@pytest.fixture
def outbox() -> Iterator[Callable[[str], Outbox]]:
    """Give what makes an outbox for a broker's address."""
    made: list[Outbox] = []

    def make(bootstrap: str) -> Outbox:
        made.append(Outbox({"bootstrap.servers": bootstrap}))
        return made[-1]

    yield make
    for each in made:
        each.close()


def make_topic(bootstrap: str, topic: str, **configuration: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1, config=configuration)])[topic].result()


def never() -> bool:
    return False


def test_flush_returns_when_all_is_acknowledged(
    bootstrap: str, settings_for: Callable[..., Settings], outbox: Callable[[str], Outbox]
) -> None:
    topic = settings_for(bootstrap).exposures_topic
    make_topic(bootstrap, topic)
    acknowledged: list[tuple[int, int]] = []
    box = outbox(bootstrap)
    for _ in range(3):
        box.send(
            replace(letter(topic), acknowledged=lambda partition, offset: acknowledged.append((partition, offset)))
        )
    box.flush(never)
    assert sorted(acknowledged) == [(0, 0), (0, 1), (0, 2)]


def test_nothing_is_sent_twice_by_a_second_flush(
    bootstrap: str, settings_for: Callable[..., Settings], outbox: Callable[[str], Outbox]
) -> None:
    topic = settings_for(bootstrap).exposures_topic
    make_topic(bootstrap, topic)
    acknowledged: list[int] = []
    box = outbox(bootstrap)
    box.send(replace(letter(topic), acknowledged=lambda _, offset: acknowledged.append(offset)))
    box.flush(never)
    box.flush(never)
    assert acknowledged == [0]


def test_a_letter_waits_for_its_topic(
    apache: ApacheKafka,
    settings_for: Callable[..., Settings],
    outbox: Callable[[str], Outbox],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And whoever asks is told that it does, for how long and why."""
    topic = settings_for(apache.bootstrap).exposures_topic
    box = outbox(apache.bootstrap)
    assert (box.waiting(), box.trouble) == ((0, 0.0), "")
    box.send(letter(topic))
    flushing = threading.Thread(target=box.flush, args=[never])
    flushing.start()
    until(lambda: "nothing passes it until it is taken" in caplog.text, what="the refusal is said")
    assert flushing.is_alive()
    assert box.waiting()[0] == 1
    assert box.waiting()[1] > 0.5
    until(lambda: f"{topic} [0] refuses a record: " in box.trouble, what="why it waits")
    make_topic(apache.bootstrap, topic)
    flushing.join(30)
    assert not flushing.is_alive()
    box.send(letter(topic))
    until(lambda: box.waiting() == (0, 0.0), what="an acknowledgement, without a further letter")


def test_a_letter_that_is_too_large_goes_in_fewer_bytes(
    apache: ApacheKafka, settings_for: Callable[..., Settings], outbox: Callable[[str], Outbox]
) -> None:
    """As often as it takes."""
    topic = settings_for(apache.bootstrap).exposures_topic
    make_topic(apache.bootstrap, topic, **{"max.message.bytes": "2000", "compression.type": "uncompressed"})
    taken: list[int] = []
    rng = random.Random(1)  # noqa: S311 - nothing compresses it

    def of(size: int) -> Letter:
        return replace(
            letter(topic, rng.randbytes(size)),
            shrunk=lambda: of(size // 4),
            acknowledged=lambda _, __: taken.append(size),
        )

    box = outbox(apache.bootstrap)
    box.send(of(16_000))
    box.flush(never)
    assert taken == [1_000]


def test_giving_up_says_how_much_is_not_acknowledged(outbox: Callable[[str], Outbox]) -> None:
    box = outbox("127.0.0.1:1")
    box.send(letter("somewhere"))
    box.send(letter("somewhere"))
    with pytest.raises(KafkaUnavailable, match=r"2 dead letters or copies are not acknowledged \(no answer\)"):
        box.flush(lambda: True)
