"""One partition between two checkpoints: what it takes in, what it sends, what it hands over."""

from typing import Final

import pytest

from contracts.dead_letters import ORIGIN_HEADER, TIMESTAMP_HEADER
from contracts.decode import Decoder
from contracts.flags import ContractBook
from contracts.placement import crc32_partition, murmur2_partition
from pipeline.breaker import Limits
from pipeline.fetched import Fetched
from pipeline.letters import Sender
from pipeline.outbox import Letter
from pipeline.partition import Partition, Rules
from tests.pipeline.lab import FLAG, HOUR, NOON, TOPICS, Record, contract, exposure, outcome

PARTITIONS: Final = 4
HERE: Final = 1


def _unit(murmur2: int, crc32: int) -> str:
    names = (f"u{number}" for number in range(1_000))
    return next(
        name
        for name in names
        if murmur2_partition([name], PARTITIONS)[0] == murmur2 and crc32_partition(name.encode(), PARTITIONS) == crc32
    )


MINE: Final = _unit(HERE, 0)
MISPLACED: Final = _unit(2, HERE)


class Bench:
    """A partition that began at offset 0 of each topic, and what it sent."""

    def __init__(self, *, reroute: bool = True, breaker: Limits = Limits(0.5, 100, 100)) -> None:  # noqa: B008 - frozen
        self.sent: list[Letter] = []
        self.partition = Partition(
            HERE,
            TOPICS,
            dict.fromkeys(TOPICS, 0),
            None,
            Rules(Sender("group", "1"), PARTITIONS, reroute, breaker, 0, 10 * HOUR),
            Decoder(ContractBook([contract()]), 1 << 20, HOUR),
            self.sent.append,
        )

    def letter(self) -> Letter:
        """Return the one letter that was sent."""
        [letter] = self.sent
        return letter

    def read(self, topic: str, *records: Record, start: int | None = None, end: int | None = None) -> bool:
        """Take in the records of a fetch that spans `[start, end)`; without, exactly the records."""
        begin = self.partition.next_offsets[topic] if start is None else start
        following = (records[-1].offset + 1 if records else begin) if end is None else end
        return self.partition.accept(topic, Fetched(begin, following, records, following, at_end=False), NOON, 5)


def test_a_fetch_moves_the_next_offset() -> None:
    bench = Bench()
    assert bench.read("exposures", Record(0, exposure(MINE, 0)), Record(1, exposure(MINE, 1)))
    assert bench.partition.next_offsets == {"exposures": 2, "outcomes": 0, "guardrails": 0}
    assert bench.partition.buffered_rows == 2
    assert bench.partition.buffered_bytes > 0


def test_a_gap_before_a_fetch_is_refused() -> None:
    """Something was dropped on the way; the caller reads again."""
    bench = Bench()
    assert not bench.read("exposures", Record(3, exposure(MINE, 0)), start=3)
    assert bench.partition.next_offsets["exposures"] == 0
    assert bench.partition.buffered_rows == 0


def test_leftovers_of_an_earlier_position_are_ignored() -> None:
    bench = Bench()
    bench.read("exposures", Record(0, exposure(MINE, 0)))
    assert bench.read("exposures", Record(0, exposure(MINE, 0)), start=0)
    assert bench.partition.buffered_rows == 1


def test_offsets_without_record_are_undelivered() -> None:
    """A fetch may begin, go on and end with control, aborted or compacted records."""
    bench = Bench()
    bench.read("exposures", Record(2, exposure(MINE, 0)), Record(5, exposure(MINE, 0)), end=8)
    bench.read("outcomes", end=3)
    assert bench.partition.freeze(0).undelivered == {"exposures": [(0, 2), (3, 5), (6, 8)], "outcomes": [(0, 3)]}


def test_freezing_hands_over_and_begins_anew() -> None:
    bench = Bench()
    bench.read("exposures", Record(0, exposure(MINE, 0)), Record(1, b"{"))
    frozen = bench.partition.freeze(0)
    assert (frozen.rows, [refused.reason for refused in frozen.refused]) == (1, ["not_json"])
    assert frozen.next_offsets["exposures"] == 2
    bench.read("exposures", Record(2, exposure(MINE, 1)))
    assert frozen.next_offsets["exposures"] == 2
    again = bench.partition.freeze(0)
    assert (again.rows, again.refused, again.next_offsets["exposures"]) == (1, (), 3)


def test_age_counts_from_the_oldest_news() -> None:
    bench = Bench()
    assert bench.partition.age(50) == 0
    bench.read("exposures", Record(0, b"{"))  # read at 5
    bench.read("exposures", Record(1, b"{"))
    assert bench.partition.age(50) == 45
    bench.partition.freeze(60)
    assert bench.partition.age(70) == 0


def test_each_contract_version_knows_the_offsets_that_it_validated() -> None:
    bench = Bench()
    bench.read("exposures", Record(0, b"{"), Record(1, exposure(MINE, 0)), Record(2, exposure(MINE, 0)))
    changed = contract(FLAG.replace("24h", "12h"))
    bench.partition.decoder = Decoder(ContractBook([changed]), 1 << 20, HOUR)
    bench.read("exposures", Record(3, exposure(MINE, 0)))
    bench.read("outcomes", Record(0, outcome(MINE, 0)))
    assert bench.partition.freeze(0).versions == {
        contract().version: {"exposures": (1, 2)},
        changed.version: {"exposures": (3, 3), "outcomes": (0, 0)},
    }


def test_a_refused_record_is_sent_and_told() -> None:
    bench = Bench()
    bench.read("exposures", Record(0, b"{", timestamp=77))
    letter = bench.letter()
    assert (letter.topic, letter.partition, letter.value) == ("exposures.dlq", HERE, b"{")
    [refused] = bench.partition.freeze(0).refused
    assert (refused.reason, refused.stage, refused.topic, refused.offset) == ("not_json", "decode", "exposures", 0)
    assert refused.record_time == 77_000


def test_a_misplaced_record_is_copied_to_its_partition() -> None:
    bench = Bench()
    record = Record(4, exposure(MISPLACED, 0), timestamp=77, key=b"key", headers=[("trace", b"1")])
    bench.read("exposures", Record(3, exposure(MINE, 0)), record)
    letter = bench.letter()
    assert (letter.topic, letter.partition) == ("exposures", 2)
    assert (letter.key, letter.value, letter.timestamp) == (record.key, record.value, record.timestamp)
    assert letter.headers == [
        ("trace", b"1"),
        (TIMESTAMP_HEADER, b"1970-01-01T00:00:00.077Z"),
        (ORIGIN_HEADER, b"exposures/1/4"),
    ]
    frozen = bench.partition.freeze(0)
    assert (frozen.rows, [(refused.reason, refused.offset) for refused in frozen.refused]) == (1, [("rerouted", 4)])
    assert bench.partition.misplaced == {"crc32": 1}


def test_a_copy_keeps_the_event_time_of_an_earlier_copy() -> None:
    bench = Bench()
    time = (TIMESTAMP_HEADER, b"2026-06-07T11:00:00Z")
    bench.read("exposures", Record(0, exposure(MISPLACED, 0), headers=[time]))
    assert [header for header in bench.letter().headers if header[0] == TIMESTAMP_HEADER] == [time]


@pytest.mark.parametrize(
    ("reroute", "headers"),
    [
        pytest.param(True, [(ORIGIN_HEADER, b"exposures/0/9")], id="misplaced again"),
        pytest.param(False, [], id="rerouting is off"),
    ],
)
def test_a_misplaced_record_becomes_a_dead_letter(reroute: bool, headers: list[tuple[str, bytes | None]]) -> None:  # noqa: FBT001
    bench = Bench(reroute=reroute)
    bench.read("exposures", Record(0, exposure(MISPLACED, 0), headers=headers))
    letter = bench.letter()
    assert letter.topic == "exposures.dlq"
    [refused] = bench.partition.freeze(0).refused
    assert (refused.reason, refused.stage) == ("misplaced", "placement")


def test_only_valid_records_in_their_partition_move_the_watermark() -> None:
    bench = Bench()
    for topic in TOPICS:
        bench.read(topic, Record(0, b"{"), Record(1, (exposure if topic == "exposures" else outcome)(MISPLACED, 0)))
    assert bench.partition.advance(0) is None


def test_a_breaker_stops_the_partition_and_says_why() -> None:
    bench = Bench(breaker=Limits(1.0, 1_000, 3))
    bench.read("exposures", Record(0, b"{"), Record(1, b"{"))
    assert bench.partition.freeze(0).stopped is None
    bench.read("exposures", Record(2, b"{"))
    stopped = bench.partition.freeze(0).stopped
    assert stopped is not None, "a row goes on over a freeze"
    assert (stopped.topic, stopped.reason, stopped.at) == ("exposures", "3 records in a row were refused", NOON)


def test_a_batch_of_valid_records_may_bring_the_share_to_its_minimum() -> None:
    """Then it is the last refusal before it that tells what is wrong."""
    bench = Bench(breaker=Limits(0.5, 4, 100))
    bench.read("exposures", Record(0, b"{"), Record(1, b"["))
    told = bench.sent[-1].headers
    bench.read("exposures", Record(2, exposure(MINE, 0)), Record(3, exposure(MINE, 1)))
    stopped = bench.partition.freeze(0).stopped
    assert stopped is not None
    assert (stopped.topic, stopped.reason) == ("exposures", "2 of the last 4 records were refused")
    assert ("__dlq.errors.message", stopped.details.encode()) in told


def test_misplaced_records_trip_no_breaker() -> None:
    """They are told by their partitioner, and joined where they belong."""
    bench = Bench(breaker=Limits(0.5, 2, 2))
    bench.read("exposures", *(Record(offset, exposure(MISPLACED, 0)) for offset in range(4)))
    assert bench.partition.stopped is None
