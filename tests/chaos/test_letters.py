"""Dead letters that brokers take at a second try only, while more are sent: a flush ends nevertheless."""

import threading
import time
import uuid

from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.outbox import Letter, Outbox
from tests.brokers import ApacheKafka
from tests.waiting import until

DAY_MS = 86_400_000
FLUSHES = 20


def test_a_flush_waits_for_nothing_that_is_sent_after_it_began(apache: ApacheKafka) -> None:
    """Every letter has a record time that its topic refuses, as from a machine whose clock is ahead."""
    topic = uuid.uuid4().hex
    kafka = {"bootstrap.servers": apache.bootstrap}
    admin = AdminClient(kafka)
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result()
    outbox, stop = Outbox(kafka), threading.Event()
    sent: list[int] = []

    def send() -> None:
        while not stop.wait(0.005):
            now = time.time_ns() // 1_000_000
            sent.append(now)
            outbox.send(Letter(topic, len(sent) % 3, b"key", b"{", [], now + DAY_MS, other_timestamp=now))

    sender = threading.Thread(target=send)
    sender.start()
    deadline = time.monotonic() + 60
    try:
        until(lambda: len(sent) > FLUSHES, what="letters")
        for _ in range(FLUSHES):
            outbox.flush(lambda: time.monotonic() > deadline)
    finally:
        stop.set()
        sender.join()
        outbox.flush(lambda: time.monotonic() > deadline)
        outbox.close()
