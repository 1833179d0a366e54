"""A fetch in parts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from contracts.errors import TopicsUnfit
from pipeline.fetched import Fetch, Fetched
from tests.pipeline.lab import Batch, Record

RECORDS: Final = [Record(offset, b"{}") for offset in (10, 11, 14, 15, 19)]


def fetch(*batches: Sequence[Record]) -> Fetch:
    return Fetch("exposures/0", 9, 21, [*map(Batch, batches)], 30, at_end=True)


@pytest.mark.parametrize("cut", range(6))
def test_parts_have_all_records_and_join_without_a_gap(cut: int) -> None:
    assert list(fetch(RECORDS[:cut], RECORDS[cut:]).parts(2)) == [
        Fetched(9, 14, RECORDS[:2], 30, at_end=False),
        Fetched(14, 19, RECORDS[2:4], 30, at_end=False),
        Fetched(19, 21, RECORDS[4:], 30, at_end=True),
    ]


def test_few_records_are_one_part() -> None:
    assert list(fetch(RECORDS[:3], RECORDS[3:]).parts(5)) == [Fetched(9, 21, RECORDS, 30, at_end=True)]
    assert list(fetch().parts(5)) == [Fetched(9, 21, [], 30, at_end=True)]


def test_records_before_the_start_are_left_out() -> None:
    """A broker sends whole batches, from the one that holds the offset asked for."""
    assert list(replace(fetch(RECORDS), start=12).parts(5)) == [Fetched(12, 21, RECORDS[2:], 30, at_end=True)]


def test_a_batch_is_unpacked_when_it_is_time() -> None:
    unpacked = []

    class Seen(Batch):
        def __iter__(self) -> Iterator[Record]:
            unpacked.append(len(self))
            return super().__iter__()

    parts = replace(fetch(), batches=[Seen(RECORDS[:3]), Seen(RECORDS[3:])]).parts(2)
    assert (next(parts).records, unpacked) == (RECORDS[:2], [3])
    assert (next(parts).records, unpacked) == (RECORDS[2:4], [3, 2])


def test_a_batch_that_cannot_be_unpacked_is_named() -> None:
    builder = DefaultRecordBatchBuilder(2, DefaultRecordBatch.CODEC_NONE, 0, -1, -1, -1, 1 << 20)
    builder.append(0, timestamp=7, key=None, value=b"not lz4", headers=[])
    data = builder.build()
    data[22] |= DefaultRecordBatch.CODEC_LZ4  # in the attributes
    broken = replace(fetch(), batches=[DefaultRecordBatch(bytes(data))])
    with pytest.raises(TopicsUnfit, match=r"^exposures/0: the batch before offset 1 cannot be unpacked \(.*\); look"):
        list(broken.parts(2))
