"""Segments and residue tell a checkpoint what it must know without opening them."""

import pyarrow as pa
import pytest

from contracts.columns import EVENT
from sinks.parquet import require
from sinks.segments import write_merged, write_residue, write_segment
from sinks.storage import MemoryStorage
from sinks.tables import RESIDUE
from tests.sinks.rows import NOON, events, rows_of, stamp


def test_a_segment_tells_times_flags_and_offsets() -> None:
    """Both ends of the offsets are included."""
    storage = MemoryStorage()
    rows = events(
        {"flag_key": "a", "topic": "exposures", "offset": 7, "event_time": NOON},
        {"flag_key": "a", "topic": "exposures", "offset": 5, "event_time": NOON + 9},
        {"flag_key": "b", "topic": "outcomes", "offset": 6, "event_time": NOON + 4},
    )
    segment = write_segment(storage, rows, stamp(12))
    assert segment.name == "segments/p00003/000000000012-a-0.parquet"
    assert (segment.rows, segment.min_event_time, segment.max_event_time) == (3, NOON, NOON + 9)
    assert segment.flags == {"a": NOON + 9, "b": NOON + 4}
    assert segment.offsets == {"exposures": (5, 7), "outcomes": (6, 6)}
    assert require(storage, segment) == rows


def test_a_segment_keeps_codes_as_strings_and_the_record_as_it_came() -> None:
    storage = MemoryStorage()
    record = {"kind": "outcome", "value": b"\xff", "key": b"k", "headers": [{"key": "h", "value": None}]}
    coded = events(record).cast(EVENT)
    segment = write_segment(storage, coded, stamp(), part=2)
    assert segment.name.endswith("-2.parquet")
    assert require(storage, segment) == events(record)


def test_residue_tells_the_last_end_of_each_flag() -> None:
    storage = MemoryStorage()
    rows = rows_of(RESIDUE, {"window_end": NOON}, {"window_end": NOON + 1}, {"flag_key": "b", "window_end": 5})
    residue = write_residue(storage, rows, stamp(12))
    assert residue.name == "segments/p00003/000000000012-a-0.residue.parquet"
    assert (residue.rows, residue.flags) == (3, {"a": NOON + 1, "b": 5})


def test_codes_of_several_batches_are_one_alphabet() -> None:
    storage = MemoryStorage()
    batches = [events({"topic": topic, "flag_key": topic}).cast(EVENT) for topic in ("exposures", "outcomes")]
    segment = write_segment(storage, pa.concat_tables(batches), stamp())
    assert segment.offsets == {"exposures": (0, 0), "outcomes": (0, 0)}
    assert segment.flags == {"exposures": NOON, "outcomes": NOON}


def test_pieces_are_one_segment_and_tell_together_what_each_would() -> None:
    storage = MemoryStorage()
    first = events({"flag_key": "a", "offset": 7, "event_time": NOON + 9}, {"flag_key": "b", "offset": 5})
    second = events({"flag_key": "b", "offset": 9, "event_time": NOON + 4}).cast(EVENT)
    segment = write_merged(storage, [first, events(), second], stamp(), part=1)
    assert segment is not None
    assert (segment.rows, segment.max_event_time) == (3, NOON + 9)
    assert segment.flags == {"a": NOON + 9, "b": NOON + 4}
    assert require(storage, segment) == pa.concat_tables([first, second.cast(first.schema)])


def test_pieces_without_rows_make_no_file() -> None:
    storage = MemoryStorage()
    assert write_merged(storage, [events(), events()], stamp()) is None
    assert storage.list("segments") == []


def test_a_segment_has_an_event() -> None:
    with pytest.raises(ValueError, match="at least one event"):
        write_segment(MemoryStorage(), events(), stamp())
