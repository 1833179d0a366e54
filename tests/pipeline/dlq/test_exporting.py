"""Dead letters in the lake: each once, however often an export runs and wherever it dies."""

from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import DamagedFile, Fenced, TopicsUnfit
from pipeline.dlq.exporting import Exported, export_letters, rows_of
from pipeline.dlq.letters import read_letter
from pipeline.dlq.places import Place
from pipeline.dlq.reading import MemoryReader
from pipeline.verify.audit import audit
from pipeline.verify.topics import Record
from sinks.exports import Exporter
from sinks.lineage import open_lake
from sinks.storage import LocalStorage, Storage
from sinks.tables import DEAD_LETTERS
from sinks.views import connect
from tests.pipeline.auditing import busy_lab
from tests.pipeline.dlq import letters
from tests.pipeline.dlq.letters import LATER
from tests.pipeline.lab import NOON, outcome

DAY_MS = 86_400_000


def made(number: int, offset: int, **more: object) -> Record:
    """Return a letter of the outcome at offset `number`."""
    headers = letters.evidence(Place("outcomes", 0, number), [("trace", b"\xff")], **more)  # type: ignore[arg-type]
    return letters.record(headers, outcome(f"u{number}", 1), offset)


def topics(*logs: list[Record]) -> MemoryReader:
    return MemoryReader({"outcomes.dlq": dict(enumerate(logs))}, batch=2)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(tmp_path / "lake")
    open_lake(made, lambda: "lake")
    return made


def export(reader: MemoryReader, storage: Storage, writer: str = "w", *names: str) -> Exported:
    exporter = Exporter(storage, "dead_letters", writer)
    return export_letters(reader, exporter, names or ("outcomes.dlq",), lake_id="lake", now=NOON)


def asked(storage: LocalStorage, sql: str) -> list[Any]:
    with closing(connect(storage.root)) as connection:
        return cast("list[Any]", connection.execute(sql).fetchall())


def test_running_it_twice_adds_nothing(storage: LocalStorage) -> None:
    reader = topics([made(0, 0), made(1, 1)], [made(2, 0)])
    assert export(reader, storage) == Exported(3, 1)
    assert export(reader, storage, "x") == Exported(0, 0)
    reader.logs["outcomes.dlq"][1].append(made(3, 1))
    assert export(reader, storage, "y") == Exported(1, 1)
    assert asked(storage, "SELECT unit_id FROM dead_letters ORDER BY 1") == [("u0",), ("u1",), ("u2",), ("u3",)]
    assert asked(storage, "SELECT count(*) FROM exported_dead_letters") == [(4,)]


def test_a_letter_that_was_sent_twice_is_one(storage: LocalStorage) -> None:
    export(topics([made(0, 0), made(0, 1), made(1, 2)]), storage)
    assert asked(storage, 'SELECT "offset", dlq_offset FROM dead_letters ORDER BY ALL') == [(0, 0), (1, 2)]


def test_letters_without_origin_are_told_apart_by_where_they_lie(storage: LocalStorage) -> None:
    export(topics([letters.record([], b"a", 0), letters.record([], b"b", 1)]), storage)
    rows = asked(storage, 'SELECT topic, "offset", dlq_topic, reason FROM dead_letters ORDER BY dlq_offset')
    assert rows == [(None, None, "outcomes.dlq", "unknown")] * 2


def test_a_row_holds_all_that_the_letter_tells(storage: LocalStorage) -> None:
    export(topics([made(0, 0, reason="late", stage="close", message="m", details="[1]", replay_count=2)]), storage)
    names = (
        "reason",
        "family",
        "stage",
        "message",
        "details",
        "topic",
        "partition",
        '"offset"',
        "flag_key",
        "variation",
    )
    [row] = asked(storage, f"SELECT {', '.join(names)} FROM dead_letters")  # noqa: S608
    assert row == ("late", "evidence", "close", "m", "[1]", "outcomes", 0, 0, "route", "control")
    [row] = asked(
        storage,
        "SELECT epoch_us(record_time), epoch_us(failed_at), replay_count, truncated, key, value, headers, dt::VARCHAR "
        "FROM dead_letters",
    )
    assert row == (NOON, LATER, 2, False, b"k", outcome("u0", 1), [{"key": "trace", "value": b"\xff"}], "2026-06-07")


def test_each_day_has_a_directory(storage: LocalStorage) -> None:
    export(topics([made(0, 0), made(1, 1, failed_at_us=LATER + DAY_MS * 1_000)]), storage)
    assert [name.split("/")[2] for name in storage.list("tables/dead_letters")] == ["dt=2026-06-07", "dt=2026-06-08"]


def test_many_letters_are_written_piece_by_piece(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dlq.exporting._ROWS", 2)
    assert export(topics([made(number, number) for number in range(5)]), storage) == Exported(5, 3)
    assert asked(storage, "SELECT count(*) FROM dead_letters") == [(5,)]


def test_a_topic_that_was_made_again_is_read_from_its_beginning(storage: LocalStorage) -> None:
    export(topics([made(0, 0), made(1, 1)]), storage)

    class MadeAgain(MemoryReader):
        def topic_id(self, topic: str) -> str | None:
            return f"{topic} again"

    export(MadeAgain({"outcomes.dlq": {0: [made(7, 0)]}}), storage, "x")
    assert asked(storage, "SELECT unit_id FROM dead_letters ORDER BY 1") == [("u0",), ("u1",), ("u7",)]


def test_letters_that_were_deleted_are_passed_over(storage: LocalStorage) -> None:
    reader = topics([made(0, 0)])
    export(reader, storage)
    reader.logs["outcomes.dlq"][0] = [made(5, 5)]
    reader.first["outcomes.dlq", 0] = 5
    assert export(reader, storage, "x") == Exported(1, 1)


def test_of_two_exports_at_a_time_one_gives_way(storage: LocalStorage) -> None:
    slow = Exporter(storage, "dead_letters", "slow")
    begun = slow.begin("lake", NOON)
    staged = slow.stage(begun, rows_of([read_letter(Place("outcomes.dlq", 0, 0), made(0, 0))]))
    export(topics([made(0, 0)]), storage)
    with pytest.raises(Fenced, match="run this again"):
        slow.commit(staged)
    assert asked(storage, "SELECT count(*) FROM exported_dead_letters") == [(1,)]
    assert storage.list("staging") == []


def test_an_export_that_dies_before_it_publishes_is_finished_by_the_next(storage: LocalStorage) -> None:
    class Dying(LocalStorage):
        def rename(self, source: str, target: str) -> None:  # noqa: ARG002
            raise KeyboardInterrupt

    reader = topics([made(0, 0), made(1, 1, failed_at_us=LATER + DAY_MS * 1_000)])
    with pytest.raises(KeyboardInterrupt):
        export(reader, Dying(storage.root))
    assert storage.list("tables") == []
    assert export(reader, storage, "x") == Exported(0, 0)
    assert asked(storage, "SELECT unit_id FROM dead_letters ORDER BY 1") == [("u0",), ("u1",)]
    assert storage.list("staging") == []


def test_an_export_that_dies_before_it_commits_leaves_nothing(storage: LocalStorage) -> None:
    reader = topics([made(0, 0)])
    dead = Exporter(storage, "dead_letters", "dead")
    dead.stage(dead.begin("lake", NOON), rows_of([read_letter(Place("outcomes.dlq", 0, 0), made(0, 0))]))
    assert export(reader, storage) == Exported(1, 1)
    assert asked(storage, "SELECT count(*) FROM exported_dead_letters") == [(1,)]
    assert storage.list("staging") == []


def test_only_the_newest_exports_are_kept(storage: LocalStorage) -> None:
    reader = topics([])
    for number in range(4):
        reader.logs["outcomes.dlq"][0].append(made(number, number))
        export(reader, storage, f"w{number}")
    assert storage.list("exports") == [f"exports/dead_letters/{number:09d}.json" for number in (3, 4)]


def test_a_damaged_export_is_named(storage: LocalStorage) -> None:
    storage.create_once("exports/dead_letters/000000001.json", b"{}")
    with pytest.raises(DamagedFile, match=r"exports/dead_letters/000000001.json is no export"):
        export(topics([made(0, 0)]), storage)


def test_a_missing_topic_is_named(storage: LocalStorage) -> None:
    with pytest.raises(TopicsUnfit, match=r"outcomes\.DLT does not exist"):
        export(topics(), storage, "w", "outcomes.DLT")


def test_the_audit_does_not_mind_exported_files() -> None:
    lab = busy_lab()
    export(topics([made(0, 0)]), lab.storage)
    assert audit(lab.storage, None).clean


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from([name for name, _ in letters.evidence(Place("t", 0, 0))]) | st.text(max_size=5),
            st.none() | st.binary(max_size=12) | st.just(b"999999999999999999"),
        ),
        max_size=14,
    ),
    value=st.none() | st.binary(max_size=20) | st.just(b'{"flagKey": "\\ud83d\\ude00", "timestamp": 1}'),
    timestamp=st.integers(-1, 2**53),
)
def test_whatever_a_record_holds_is_a_row(headers: letters.Headers, value: bytes | None, timestamp: int) -> None:
    record = letters.record(headers, value)._replace(timestamp=timestamp)
    rows = rows_of([read_letter(Place("outcomes.dlq", 0, 0), record)])
    assert rows.schema == DEAD_LETTERS
    assert rows["value"].to_pylist() == [value]
