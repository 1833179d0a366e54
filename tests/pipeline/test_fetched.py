"""News of a fetch in parts."""

from pipeline.fetched import Fetched
from tests.pipeline.lab import Record

RECORDS = [Record(offset, b"{}") for offset in (10, 11, 14, 15, 19)]
NEWS = Fetched(9, 21, RECORDS, 30, at_end=True)


def test_parts_have_all_records_and_join_without_a_gap() -> None:
    assert list(NEWS.parts(2)) == [
        Fetched(9, 14, RECORDS[:2], 30, at_end=False),
        Fetched(14, 19, RECORDS[2:4], 30, at_end=False),
        Fetched(19, 21, RECORDS[4:], 30, at_end=True),
    ]


def test_few_records_are_one_part() -> None:
    assert list(NEWS.parts(5)) == [NEWS]
    nothing = Fetched(9, 12, (), 12, at_end=True)
    assert list(nothing.parts(5)) == [nothing]
