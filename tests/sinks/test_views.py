"""The lake as analysts see it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from contracts.columns import EVENT
from contracts.errors import ContractError, DamagedFile, LakeError, StorageUnavailable
from sinks.dictionary import COLUMNS, RELATIONS
from sinks.lineage import Lineage, open_lake
from sinks.manifest import FileRef, Stopped
from sinks.segments import write_segment
from sinks.storage import LocalStorage
from sinks.tables import TABLES, stage_table
from sinks.views import connect
from tests.sinks.rows import DAY, HOUR, NOON, events, manifest, stamp, table, topic

FLAG_FILE = Path(__file__).parents[2] / "examples" / "support_answer_model_route.yaml"


class _Lake:
    """A lake to put things in, and to ask."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage = LocalStorage(root)
        open_lake(self.storage, lambda: "lake")

    def stage(self, name: str, *rows: dict[str, Any], seq: int = 1, partition: int = 3) -> tuple[FileRef, ...]:
        return stage_table(self.storage, name, table(name, *rows), stamp(seq, partition=partition))

    def publish(self, name: str, *rows: dict[str, Any], seq: int = 1, partition: int = 3) -> None:
        for file in self.stage(name, *rows, seq=seq, partition=partition):
            self.storage.rename(str(file.staged), file.name)

    def commit(self, seq: int = 1, **fields: Any) -> None:  # noqa: ANN401 - fields of a manifest
        made = manifest(seq, **fields)
        Lineage(self.storage, made.partition).commit(made)

    def ask(self, sql: str) -> list[Any]:
        with self.open() as connection:
            rows: list[Any] = connection.execute(sql).fetchall()
            return rows

    @contextmanager
    def open(self) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = connect(self.root)
        try:
            yield connection
        finally:
            connection.close()


@pytest.fixture
def lake(tmp_path: Path) -> _Lake:
    return _Lake(tmp_path / "lake")


def described(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f'DESCRIBE "{relation}"').fetchall()}


@pytest.mark.parametrize("relation", sorted(RELATIONS))
def test_a_relation_has_the_described_columns_and_comments(lake: _Lake, relation: str) -> None:
    with lake.open() as connection:
        assert list(described(connection, relation)) == list(COLUMNS[relation])
        comments = connection.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", [relation]
        )
        assert dict(comments.fetchall()) == COLUMNS[relation]
        assert connection.execute(f"SELECT count(*) FROM {relation}").fetchall() == [(0,)]  # noqa: S608 - own names


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_has_the_same_types_with_files_and_without(lake: _Lake, name: str) -> None:
    with lake.open() as connection:
        empty = described(connection, name)
    lake.publish(name, {})
    with lake.open() as connection:
        assert described(connection, name) == empty


def test_a_table_view_reads_all_days_and_partitions(lake: _Lake) -> None:
    lake.publish("facts", {"unit_id": "u1", "metrics": [("resolved", 1.0)]})
    lake.publish("facts", {"unit_id": "u2", "window_start": NOON + DAY}, partition=11)
    found = lake.ask("SELECT unit_id, metrics['resolved'], dt::VARCHAR FROM facts ORDER BY 1")
    assert found == [("u1", 1.0, "2026-06-07"), ("u2", None, "2026-06-08")]


def test_staged_files_are_not_seen(lake: _Lake) -> None:
    lake.publish("facts", {})
    lake.stage("facts", {}, seq=2)
    assert lake.ask("SELECT count(*) FROM facts") == [(1,)]


def test_times_are_utc_wherever_the_reader_is(lake: _Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    lake.publish("facts", {})
    assert lake.ask("SELECT window_start::VARCHAR FROM facts") == [("2026-06-07 12:00:00+00",)]


@pytest.mark.parametrize("name", ["it's a lake", "[a]*?", 'say "lake"'])
def test_a_lake_may_have_any_path(tmp_path: Path, name: str) -> None:
    lake = _Lake(tmp_path / name)
    lake.publish("facts", {})
    segment = write_segment(lake.storage, events({}), stamp())
    lake.commit(segments=(segment,))
    assert lake.ask("SELECT (SELECT count(*) FROM facts), (SELECT count(*) FROM open_events)") == [(1, 1)]


def test_a_relative_path_survives_a_change_of_directory(lake: _Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.publish("facts", {})
    monkeypatch.chdir(lake.root.parent)
    connection = connect("lake")
    monkeypatch.chdir("/")
    assert connection.execute("SELECT count(*) FROM facts").fetchall() == [(1,)]
    connection.close()


def at(offset: int, **row: object) -> dict[str, Any]:
    return {"topic": "exposures", "partition": 3, "offset": offset, **row}


def opened(offset: int, **row: object) -> dict[str, Any]:
    return {"kind": "exposure", "topic": "exposures", "offset": offset, **row}


def a_lake_in_use(lake: _Lake) -> None:
    """Offsets 10 to 20: two joined, two unjoined, two refused, two undelivered, one open, and number 19 is missing.

    The segment still holds 10 and 12, decided since, and the next checkpoint (offset 20) is not committed.
    """
    lake.publish("events", at(10), at(11), at(20))
    lake.publish("unjoined", at(12, reason="late"), at(13, reason="duplicate"))
    lake.publish("refused", at(14, reason="not_json"), at(15, reason="rerouted"))
    rows = events(opened(10), opened(12), opened(18, unit_id="u", event_time=NOON + HOUR))
    segment = write_segment(lake.storage, rows, stamp())
    state = topic(first_offset=10, next_offset=20, closed_offset=18, undelivered=((16, 18),))
    lake.commit(topics={"exposure": state}, segments=(segment,))


def test_the_account_counts_each_fate_and_what_has_none(lake: _Lake) -> None:
    a_lake_in_use(lake)
    with lake.open() as connection:
        (row,) = connection.execute("SELECT * FROM account").fetchall()
        account = dict(zip(described(connection, "account"), row, strict=True))
    head = {name: account.pop(name) for name in ("topic", "partition", "first_offset", "next_offset")}
    assert head == {"topic": "exposures", "partition": 3, "first_offset": 10, "next_offset": 20}
    assert {fate: count for fate, count in account.items() if count} == {
        "joined": 2,
        "late": 1,
        "duplicate": 1,
        "not_json": 1,
        "rerouted": 1,
        "undelivered": 2,
        "open": 1,
        "unaccounted": 1,
    }


def test_the_account_of_offsets_names_the_fate_of_each(lake: _Lake) -> None:
    a_lake_in_use(lake)
    assert lake.ask('SELECT "offset", fate, reason FROM account_offsets ORDER BY 1') == [
        (10, "joined", None),
        (11, "joined", None),
        (12, "unjoined", "late"),
        (13, "unjoined", "duplicate"),
        (14, "refused", "not_json"),
        (15, "refused", "rerouted"),
        (16, "undelivered", None),
        (17, "undelivered", None),
        (18, "open", None),
    ]


def test_the_account_keeps_topics_and_partitions_apart(lake: _Lake) -> None:
    for partition in (3, 11):
        lake.publish(
            "events",
            *(at(0, partition=partition, topic=name) for name in ("exposures", "outcomes")),
            seq=1,
            partition=partition,
        )
        kinds = {
            "exposure": topic(next_offset=1),
            "outcome": topic("outcomes", next_offset=1),
            "guardrail": topic("guardrails", next_offset=0),
        }
        lake.commit(partition=partition, topics=kinds)
    assert lake.ask('SELECT topic, "partition", joined, unaccounted FROM account') == [
        ("exposures", 3, 1, 0),
        ("exposures", 11, 1, 0),
        ("guardrails", 3, 0, 0),
        ("guardrails", 11, 0, 0),
        ("outcomes", 3, 1, 0),
        ("outcomes", 11, 1, 0),
    ]


def test_an_open_event_of_one_partition_is_not_the_decided_one_of_another(lake: _Lake) -> None:
    for partition in (3, 11):
        segment = write_segment(lake.storage, events(opened(5)), stamp(partition=partition))
        lake.commit(partition=partition, segments=(segment,))
    lake.publish("events", at(5))
    assert lake.ask('SELECT "partition", "offset" FROM open_events') == [(11, 5)]


def test_open_exposures_are_the_undecided_ones(lake: _Lake) -> None:
    a_lake_in_use(lake)
    found = lake.ask('SELECT unit_id, variation, event_time::VARCHAR, "offset" FROM exposures_open')
    assert found == [("u", "a", "2026-06-07 13:00:00+00", 18)]


def test_a_segment_written_with_codes_reads_as_text(lake: _Lake) -> None:
    segment = write_segment(lake.storage, events(opened(5, flag_key="f")).cast(EVENT), stamp())
    lake.commit(segments=(segment,))
    assert lake.ask('SELECT flag_key, topic, "offset" FROM exposures_open') == [("f", "exposures", 5)]


def test_other_kinds_of_open_events_are_no_open_exposures(lake: _Lake) -> None:
    segment = write_segment(lake.storage, events({"kind": "outcome"}), stamp())
    lake.commit(segments=(segment,))
    assert lake.ask("SELECT (SELECT count(*) FROM open_events), (SELECT count(*) FROM exposures_open)") == [(1, 0)]


def test_facts_by_variation_counts_flags(lake: _Lake) -> None:
    lake.publish(
        "facts",
        {"variation": "control", "clean": True},
        {"variation": "control", "flags": ["crossover", "wrong_state"]},
        {"variation": "candidate", "flags": ["crossover"]},
    )
    found = lake.ask("SELECT variation, facts, clean, crossover, wrong_state, route_drift FROM facts_by_variation")
    assert found == [("candidate", 1, 0, 1, 0, 0), ("control", 2, 1, 1, 1, 0)]


def test_each_flag_with_metrics_has_a_view_with_a_column_a_metric(lake: _Lake) -> None:
    lake.storage.create_once("contracts/0123456789abcdef.yaml", FLAG_FILE.read_bytes())
    flag = {"flag_key": "support_answer_model_route"}
    lake.publish("facts", {**flag, "metrics": [("resolved", 1.0), ("cost", 0.25)]}, {**flag}, {"flag_key": "other"})
    with lake.open() as connection:
        columns = described(connection, "metrics_support_answer_model_route")
        assert list(columns) == [*COLUMNS["facts"], "resolved", "human_correction", "latency", "cost"]
        assert columns["cost"] == "DOUBLE"
        rows = connection.execute("SELECT resolved, cost FROM metrics_support_answer_model_route ORDER BY 1").fetchall()
        assert rows == [(1.0, 0.25), (None, None)]


def flag_file(key: str, *metrics: str) -> bytes:
    """Return a flag file; without metrics, one of a flag that has no experiment."""
    flag = f"flag:\n  key: {json.dumps(key)}\n  type: string\n  variations: {{a: m}}\n"
    lines = [
        f"    {json.dumps(name)}: {{event: e, kind: mean, aggregate: count, window: 1h, goal: increase}}\n"
        for name in metrics
    ]
    return (flag + ("experiment:\n  key: e\n  metrics:\n" + "".join(lines) if metrics else "")).encode()


def test_metrics_of_all_versions_have_a_column(lake: _Lake) -> None:
    lake.storage.create_once("contracts/1.yaml", flag_file("f", "m1", "m2"))
    lake.storage.create_once("contracts/2.yaml", flag_file("f", "m2", "m3"))
    with lake.open() as connection:
        assert list(described(connection, "metrics_f"))[-3:] == ["m1", "m2", "m3"]


def route_file(model: str, owner: str = "ai") -> bytes:
    return f"flag:\n  key: f\n  type: string\n  owner: {owner}\n  variations: {{a: {model}}}\n".encode()


def keep(lake: _Lake, text: bytes) -> str:
    """Keep a contract as a checkpoint does; return its version."""
    version = hashlib.sha256(text).hexdigest()[:16]
    lake.storage.create_once(f"contracts/{version}.yaml", text)
    return version


def a_lake_of_two_epochs(lake: _Lake) -> list[str]:
    """Make a flag of three versions, the first two of one epoch; the last comes back to the first route."""
    versions = [keep(lake, text) for text in (route_file("m"), route_file("n"), route_file("m", owner="other"))]
    used = [(versions[0], NOON), (versions[0], NOON + HOUR), (versions[1], NOON + DAY), (versions[2], NOON + 2 * DAY)]
    for number, (version, start) in enumerate(used):
        row = {"flag_key": "f", "variation": "a", "contract_version": version, "window_start": start, "clean": True}
        lake.publish("facts", {**row, "unit_id": f"u{number}"}, seq=number + 1)
    return versions


def test_facts_of_contracts_that_mean_something_else_have_another_epoch(lake: _Lake) -> None:
    a_lake_of_two_epochs(lake)
    found = lake.ask("SELECT unit_id, epoch FROM facts ORDER BY 1")
    assert found == [("u0", 1), ("u1", 1), ("u2", 2), ("u3", 1)]


def test_no_view_counts_facts_of_two_epochs_together(lake: _Lake) -> None:
    a_lake_of_two_epochs(lake)
    found = lake.ask("SELECT flag_key, epoch, variation, facts, clean FROM facts_by_variation")
    assert found == [("f", 1, "a", 3, 3), ("f", 2, "a", 1, 1)]


def test_the_contracts_of_a_lake_are_listed_with_the_facts_that_follow_them(lake: _Lake) -> None:
    first, second, third = a_lake_of_two_epochs(lake)
    unused = keep(lake, route_file("later"))
    found = lake.ask("SELECT contract_version, epoch, first_used::VARCHAR, facts, text[:5] FROM contracts")
    assert found == [
        (first, 1, "2026-06-07 12:00:00+00", 2, "flag:"),
        (third, 1, "2026-06-09 12:00:00+00", 1, "flag:"),
        (second, 2, "2026-06-08 12:00:00+00", 1, "flag:"),
        (unused, 3, None, 0, "flag:"),
    ]


def test_epochs_are_numbered_by_their_first_fact_and_flag_by_flag(lake: _Lake) -> None:
    late, early = keep(lake, route_file("late")), keep(lake, route_file("early"))
    other = keep(lake, flag_file("g"))
    for number, (version, start) in enumerate([(late, NOON + DAY), (early, NOON), (other, NOON)]):
        lake.publish("facts", {"contract_version": version, "window_start": start}, seq=number + 1)
    found = lake.ask("SELECT contract_version, epoch FROM facts")
    assert set(found) == {(late, 2), (early, 1), (other, 1)}


def test_a_fact_of_a_contract_that_came_after_connecting_has_no_epoch(lake: _Lake) -> None:
    version = keep(lake, route_file("m"))
    lake.publish("facts", {"contract_version": version})
    with lake.open() as connection:
        lake.publish("facts", {"contract_version": "0123456789abcdef"}, seq=2)
        assert connection.execute("SELECT epoch FROM facts ORDER BY 1").fetchall() == [(1,), (None,)]


def test_names_that_would_collide_are_numbered(lake: _Lake) -> None:
    for number, key in enumerate(("f-x", "f.x")):
        lake.storage.create_once(f"contracts/{number}.yaml", flag_file(key, "Clean", "epoch", 'a"b', "it's"))
    with lake.open() as connection:
        assert list(described(connection, "metrics_f_x"))[-4:] == ["Clean_2", "epoch_2", 'a"b', "it's"]
        assert list(described(connection, "metrics_f_x_2"))[-4:] == ["Clean_2", "epoch_2", 'a"b', "it's"]


def test_a_flag_without_metrics_has_no_view_of_its_own(lake: _Lake) -> None:
    lake.storage.create_once("contracts/1.yaml", flag_file("f"))
    assert lake.ask("SELECT view_name FROM duckdb_views() WHERE view_name LIKE 'metrics%'") == []


def test_a_damaged_contract_is_named(lake: _Lake) -> None:
    lake.storage.create_once("contracts/1.yaml", b"flag: [")
    with pytest.raises(ContractError, match=r"contracts/1\.yaml"):
        connect(lake.root)


def test_manifests_shows_the_newest_of_each_partition(lake: _Lake) -> None:
    segment = write_segment(lake.storage, events({}, {}), stamp())
    lake.commit(1)
    lake.commit(2, watermark=NOON, segments=(segment,), totals={"joined": 7, "late": 1})
    stop = Stopped(reason="refusals", topic="outcomes", at=NOON + 1, details="")
    lake.commit(1, partition=11, stopped=stop)
    found = lake.ask(
        "SELECT m.partition, seq, watermark::VARCHAR, closed_through, segments, segment_rows, totals['late'], stopped, "
        "stopped_topic FROM manifests m ORDER BY 1"
    )
    assert found == [
        (3, 2, "2026-06-07 12:00:00+00", None, 1, 2, 1, None, None),
        (11, 1, None, None, 0, 0, None, "refusals", "outcomes"),
    ]


def test_committed_files_that_are_not_in_place_are_counted(lake: _Lake) -> None:
    (file,) = lake.stage("facts", {})
    lake.commit(files=(file,))
    assert lake.ask("SELECT unpublished FROM manifests") == [(1,)]
    lake.storage.rename(str(file.staged), file.name)
    assert lake.ask("SELECT unpublished FROM manifests") == [(0,)]


def test_a_segment_that_is_gone_for_good_is_damage(lake: _Lake) -> None:
    segment = write_segment(lake.storage, events({}), stamp())
    lake.commit(segments=(segment,))
    lake.storage.delete(segment.name)
    with pytest.raises(DamagedFile, match=r"segments/.* is missing, manifests/.*1\.json names it; restore it"):
        connect(lake.root)


def test_a_path_without_a_lake_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=f"{tmp_path}/none holds no lake; name one with EVIDENCE_LAKE"):
        connect(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_file_in_place_of_a_lake_says_so(tmp_path: Path) -> None:
    (tmp_path / "lake").touch()
    with pytest.raises(StorageUnavailable, match="a file stands where a directory is needed"):
        connect(tmp_path / "lake")


def test_reading_writes_nothing_into_the_lake(lake: _Lake) -> None:
    a_lake_in_use(lake)
    before = {place: place.stat().st_mtime_ns for place in lake.root.rglob("*")}
    lake.ask("SELECT * FROM account")
    assert {place: place.stat().st_mtime_ns for place in lake.root.rglob("*")} == before
