"""The audit finds nothing wrong with what the pipeline wrote, and finds every kind of damage that is done to it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from contracts.errors import LakeError
from pipeline.verify.audit import audit
from pipeline.verify.report import CHECKS
from pipeline.verify.topics import LaterTopics
from sinks.lineage import Lineage
from sinks.manifest import Close, Stopped
from sinks.storage import MemoryStorage
from tests.pipeline.auditing import audited, busy_lab, newest, replace_manifest, rewrite, topics_of, wrong
from tests.pipeline.lab import TOPICS, Lab, exposure, outcome


@pytest.fixture
def lab() -> Lab:
    return busy_lab()


def first_file(lab: Lab, table: str) -> str:
    return next(file.name for file in newest(lab.storage).files if file.table == table)


def overwrite(storage: MemoryStorage, name: str, data: bytes) -> None:
    storage.delete(name)
    storage.create_once(name, data)


def rows_of(rows: pa.Table) -> list[dict[str, Any]]:
    return rows.to_pylist()  # type: ignore[no-any-return]


# what is right


def test_a_lake_is_what_its_input_makes_of_it(lab: Lab) -> None:
    found = audited(lab)
    assert found.clean
    assert [check.name for check in found.checks if check.status != "ok"] == []


def test_each_check_says_how_much_it_looked_at(lab: Lab) -> None:
    counts = {check.name: check.counts for check in audited(lab).checks}
    assert counts["facts"] == {"compared": 3}
    assert counts["events"] == {"compared": 5}
    assert counts["unjoined"] == {"compared": 3}
    assert counts["open"] == {"open": 2}
    assert counts["refused"] == {"refused": 3}
    assert counts["dead letters"] == {"letters": 5, "owed": 5}
    assert counts["account"] == {"offsets": 13, "open": 2}


def test_an_empty_lake_is_clean() -> None:
    lab = Lab()
    lab.storage.create_once("lake.json", b'{"lake_id": "lake", "schema_version": 1}')
    assert audited(lab).clean


def test_no_lake_is_an_error_that_says_so() -> None:
    with pytest.raises(LakeError, match="no lake here"):
        audit(MemoryStorage(), None)


def test_tables_that_wait_to_be_published_are_found_where_they_are_staged(lab: Lab) -> None:
    writer = lab.writer()
    lab.publish("outcomes", outcome("u1", 5), outcome("u2", 200))
    lab.read_all(writer)

    class Died(Exception):
        pass

    def die(operation: str, _name: str) -> None:
        if operation == "rename":
            raise Died

    lab.storage.on_call = die
    with pytest.raises(Died):
        lab.checkpoint(writer, close=True)
    lab.storage.on_call = lambda _operation, _name: None
    assert newest(lab.storage).unpublished()
    assert audited(lab).clean


def test_what_a_writer_left_behind_is_counted_and_no_fault(lab: Lab) -> None:
    for name in ("segments/p00000/000000000001-dead-0.parquet", "staging/p00000/000000000002-dead/facts/x.parquet"):
        lab.storage.create_once(name, b"")
    found = audited(lab)
    assert found.clean
    (strays,) = [check for check in found.checks if check.name == "strays"]
    assert strays.counts["left behind by a crash"] == 2


def test_files_of_a_later_checkpoint_are_not_judged(lab: Lab) -> None:
    lab.storage.create_once("tables/facts/dt=2026-06-07/p00000-000000000099-ab.parquet", b"")
    assert audited(lab).clean


def test_a_dead_letter_that_nobody_owes_is_spurious_and_no_fault(lab: Lab) -> None:
    lab.sent.append(lab.sent[0])
    lab.sent.append(next(letter for letter in lab.sent if letter.topic == "outcomes.dlq"))
    found = audited(lab)
    assert found.clean


# damage to files


def test_a_truncated_file_is_found(lab: Lab) -> None:
    name = first_file(lab, "events")
    overwrite(lab.storage, name, lab.storage.read(name)[:-9])
    found = audited(lab)
    assert wrong(found)["files"] == {"of another size": 1}


@pytest.mark.parametrize("where", ["tables", "segments", "archives", "contracts"])
def test_a_flipped_byte_is_found_wherever_it_is(lab: Lab, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "archives":
        monkeypatch.setattr("sinks.archives.FILES_LISTED", 1)
        writer = lab.writer()
        lab.checkpoint(writer, close=False)
    assert audited(lab).clean
    for name in lab.storage.list(where):
        data = bytearray(lab.storage.read(name))
        data[len(data) // 2] ^= 1
        overwrite(lab.storage, name, bytes(data))
    assert {"files", "contracts"} & wrong(audited(lab)).keys()


def test_a_file_that_is_gone_is_found(lab: Lab) -> None:
    lab.storage.delete(first_file(lab, "facts"))
    assert wrong(audited(lab))["files"] == {"missing": 1}


def test_a_segment_that_is_gone_is_found(lab: Lab) -> None:
    lab.storage.delete(newest(lab.storage).segments[0].name)
    found = wrong(audited(lab))
    assert found["files"] == {"missing": 1}
    assert found["open"] == {"in no segment": 2}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("tables/facts/dt=2026-06-07/p00000-000000000001-ab.parquet", id="of an earlier checkpoint"),
        pytest.param("tables/facts/dt=2026-06-07/p00009-000000000001-ab.parquet", id="of a partition without manifest"),
        pytest.param("tables/facts/mine.csv", id="of somebody else"),
    ],
)
def test_a_table_file_that_no_manifest_names_is_found(lab: Lab, name: str) -> None:
    lab.storage.create_once(name, b"")
    assert wrong(audited(lab)) == {"strays": {"in a table": 1}}


def test_a_table_file_in_the_wrong_day_is_found(lab: Lab) -> None:
    manifest = newest(lab.storage)
    file = next(file for file in manifest.files if file.table == "facts")
    moved = file.model_copy(update={"name": file.name.replace("2026-06-07", "2026-06-08")})
    lab.storage.rename(file.name, moved.name)
    files = tuple(moved if each == file else each for each in manifest.files)
    replace_manifest(lab.storage, manifest.model_copy(update={"files": files}))
    assert wrong(audited(lab)) == {"footers": {"with rows of another day": 1}}


def test_a_damaged_manifest_is_found(lab: Lab) -> None:
    name = Lineage(lab.storage, 0).name(newest(lab.storage).seq)
    overwrite(lab.storage, name, lab.storage.read(name)[:-1])
    found = audited(lab)
    assert wrong(found)["manifests"] == {"damaged": 1}
    assert not found.clean


# damage that files and manifests agree on, as a fault of the pipeline would leave it


def test_a_changed_fact_is_found_and_the_difference_told(lab: Lab) -> None:
    def change(rows: pa.Table) -> Iterable[dict[str, object]]:
        for row in rows_of(rows):
            yield {**row, "exposures": row["exposures"] + (row["unit_id"] == "u1")}

    rewrite(lab, "facts", change)
    found = audited(lab)
    assert wrong(found) == {"facts": {"differ": 1}}
    (example,) = next(check.examples for check in found.checks if check.name == "facts")
    assert "unit 'u1', control" in example
    assert "exposures is 2, should be 1" in example


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        pytest.param("facts", "metrics", [("resolved", 0.5)], id="a metric"),
        pytest.param("facts", "flags", ["crossover"], id="a flag"),
        pytest.param("facts", "attributes", [("plan", "pro")], id="an attribute"),
        pytest.param("events", "mismatched", True, id="a mismatch"),
        pytest.param("events", "values", [("cost", 1.0)], id="a value of an event"),
        pytest.param("unjoined", "reason", "duplicate", id="a reason"),
        pytest.param("unjoined", "value", "{}", id="an original text"),
    ],
)
def test_any_changed_column_is_found(lab: Lab, table: str, column: str, value: object) -> None:
    rewrite(lab, table, lambda rows: [{**row, column: value} for row in rows_of(rows)[:1]] + rows_of(rows)[1:])
    assert wrong(audited(lab))[table] == {"differ": 1}


def test_a_missing_fact_is_found(lab: Lab) -> None:
    rewrite(lab, "facts", lambda rows: rows_of(rows)[1:])
    found = wrong(audited(lab))
    assert found["facts"] == {"missing": 1}
    assert found["totals"] == {"that do not add up": 1}


def test_a_doubled_fact_is_found(lab: Lab) -> None:
    rewrite(lab, "facts", lambda rows: [rows_of(rows)[0], *rows_of(rows)])
    assert wrong(audited(lab))["facts"] == {"doubled": 1}


def test_a_lost_event_is_found_without_kafka_too(lab: Lab) -> None:
    rewrite(lab, "events", lambda rows: rows_of(rows)[1:])
    assert wrong(audited(lab))["events"] == {"missing": 1}
    assert wrong(audit(lab.storage, None))["account"] == {"without fate": 1}


def test_an_offset_with_two_fates_is_found(lab: Lab) -> None:
    rewrite(lab, "events", lambda rows: [rows_of(rows)[0], *rows_of(rows)])
    found = wrong(audited(lab))
    assert found["account"] == {"with two fates": 1}
    assert found["events"] == {"doubled": 1}


def test_an_offset_that_was_never_read_is_found(lab: Lab) -> None:
    rewrite(lab, "unjoined", lambda rows: [{**row, "offset": 77} for row in rows_of(rows)[:1]] + rows_of(rows)[1:])
    found = wrong(audited(lab))
    assert found["account"] == {"without fate": 1, "never read": 1}
    assert found["unjoined"] == {"missing": 1, "extra": 1}


def test_a_segment_listed_twice_is_found(lab: Lab) -> None:
    manifest = newest(lab.storage)
    replace_manifest(lab.storage, manifest.model_copy(update={"segments": manifest.segments * 2}))
    assert wrong(audited(lab)) == {"account": {"twice in segments": 2}}


def test_an_event_that_closes_passed_by_in_a_segment_is_found(lab: Lab) -> None:
    manifest = newest(lab.storage)
    horizons = {flag: each.model_copy(update={"decided_through": 2**60}) for flag, each in manifest.horizons.items()}
    replace_manifest(lab.storage, manifest.model_copy(update={"horizons": horizons}))
    found = wrong(audit(lab.storage, None))
    assert found["account"] == {"without fate": 2}
    assert found["closes"] == {"that contradict": 1}


def test_a_changed_total_is_found(lab: Lab) -> None:
    manifest = newest(lab.storage)
    replace_manifest(lab.storage, manifest.model_copy(update={"totals": {**manifest.totals, "joined": 6}}))
    found = audited(lab)
    assert wrong(found) == {"totals": {"that do not add up": 1}}
    assert "joined is 6, the files have 5" in "\n".join(found.lines())


def test_a_wrong_reason_of_a_refusal_is_found(lab: Lab) -> None:
    rewrite(
        lab, "refused", lambda rows: [{**row, "reason": "misplaced", "stage": "placement"} for row in rows_of(rows)]
    )
    found = wrong(audited(lab))
    assert found["refused"]["refused wrongly"] >= 1


def test_a_refusal_that_the_clock_may_explain_is_taken_on_trust(lab: Lab) -> None:
    rewrite(lab, "refused", lambda rows: [{**row, "reason": "too_large", "stage": "decode"} for row in rows_of(rows)])
    (refused,) = [check for check in audited(lab).checks if check.name == "refused"]
    assert refused.wrong == {}
    assert refused.counts["too_large on trust"] >= 1


def test_a_missing_dead_letter_is_found(lab: Lab) -> None:
    lab.sent.pop()
    assert wrong(audited(lab)) == {"dead letters": {"missing": 1}}


def test_a_dead_letter_with_another_content_is_found(lab: Lab) -> None:
    letter = lab.sent.pop()
    lab.sent.append(type(letter)(letter.topic, letter.partition, b"other", letter.value, letter.headers, 0))
    assert wrong(audited(lab)) == {"dead letters": {"altered": 1}}


def test_dead_letters_that_retention_took_are_not_called_missing(lab: Lab) -> None:
    letters = topics_of(lab)
    logs = {**letters.logs, "guardrails.dlq": {0: []}}
    found = audit(lab.storage, type(letters)(logs, first={("guardrails.dlq", 0): 2}))
    assert found.clean
    assert any("2 cannot be told" in why for check in found.checks for why in check.undone)


def test_a_record_that_was_passed_over_is_found(lab: Lab) -> None:
    manifest = newest(lab.storage)
    topic = manifest.topics["outcome"].model_copy(update={"undelivered": ((0, 1),)})
    replace_manifest(lab.storage, manifest.model_copy(update={"topics": {**manifest.topics, "outcome": topic}}))
    found = wrong(audited(lab))
    assert found["input"] == {"passed over": 1}
    assert found["account"] == {"with two fates": 1}


def test_closes_that_contradict_the_chain_are_found(lab: Lab) -> None:
    manifest = newest(lab.storage)
    first, second = manifest.closes
    later = Close(**{**second.model_dump(), "closed_through": first.closed_through - 1})
    replace_manifest(lab.storage, manifest.model_copy(update={"closes": (first, later)}))
    assert "closes" in wrong(audited(lab))


# what cannot be checked


def test_without_kafka_the_checks_that_need_none_are_done(lab: Lab) -> None:
    found = audit(lab.storage, None)
    assert found.clean
    done = [check.name for check in found.checks if check.status == "ok"]
    assert done == ["manifests", "contracts", "files", "footers", "strays", "account", "totals", "closes"]


def test_where_retention_has_eaten_the_input_it_says_what_it_could_not_do(lab: Lab) -> None:
    topics = topics_of(lab)
    logs = {**topics.logs, "outcomes": {0: topics.logs["outcomes"][0][2:]}}
    found = audit(lab.storage, type(topics)(logs, first={("outcomes", 0): 2}))
    assert found.clean
    (facts,) = [check for check in found.checks if check.name == "facts"]
    assert "outcomes [0] is read from offset 2 on" in facts.undone[0]
    assert facts.counts == {"units left out": 2, "compared": 1}
    assert "not (fully) checked: input, refused, facts" in [*found.lines()][-1]


def test_units_without_an_earlier_record_are_compared_from_given_offsets_on(lab: Lab) -> None:
    """Of the facts of u1, u2 and u3, that of u3 has no record before the offset, and is not what it should be."""
    rewrite(lab, "facts", lambda rows: [{**row, "exposures": 7} for row in rows.to_pylist()])
    topics = LaterTopics(topics_of(lab), {("outcomes", 0): 2})
    found = audit(lab.storage, topics)
    assert wrong(found) == {"facts": {"differ": 1}}
    (facts,) = [check for check in found.checks if check.name == "facts"]
    assert "unit 'u3'" in facts.examples[0]


@pytest.mark.parametrize("start", [0, 1, 3, 99])
def test_a_sound_lake_is_clean_from_any_offset_on(lab: Lab, start: int) -> None:
    heard: list[tuple[int, int]] = []
    topics = LaterTopics(topics_of(lab), {(topic, 0): start for topic in TOPICS})
    found = audit(lab.storage, topics, progress=lambda done, total: heard.append((done, total)))
    assert found.clean
    assert heard[-1] == (13, 13)
    assert [check.name for check in found.checks if check.undone] == (
        ["input", "refused", "facts", "events", "unjoined", "open", "copies"] if start else []
    )


@pytest.mark.parametrize("gone", ["exposures", "exposures.dlq"])
def test_a_topic_that_is_gone_is_told(lab: Lab, gone: str) -> None:
    topics = topics_of(lab)
    logs = {name: log for name, log in topics.logs.items() if name != gone}
    found = audit(lab.storage, type(topics)(logs))
    assert found.clean
    assert any("does not exist" in why for check in found.checks for why in check.undone)


def test_a_close_without_a_record_of_it_is_told(lab: Lab) -> None:
    replace_manifest(lab.storage, newest(lab.storage).model_copy(update={"closes": ()}))
    found = audited(lab)
    (facts,) = [check for check in found.checks if check.name == "facts"]
    assert "past of partition 0 is not known" in facts.undone[0]


def test_one_partition_is_audited_alone(lab: Lab) -> None:
    lab.storage.create_once("tables/facts/dt=2026-06-07/p00009-000000000001-ab.parquet", b"")
    assert audit(lab.storage, topics_of(lab), partitions=[0]).clean
    assert wrong(audit(lab.storage, topics_of(lab), partitions=[7])) == {"manifests": {"missing": 1}}


# a lake that lives


def test_a_checkpoint_that_commits_meanwhile_does_not_make_it_fail(lab: Lab) -> None:
    """The chain moves on, and deletes a segment, at the audit's first look at that segment."""
    segment = newest(lab.storage).segments[0].name
    moved: list[str] = []

    def go_on(operation: str, name: str) -> None:
        if operation == "read" and name == segment and not moved:
            moved.append(name)
            writer = lab.writer()
            lab.publish("exposures", exposure("u9", 300))
            lab.read_all(writer)
            lab.checkpoint(writer, close=True)
            lab.storage.delete(segment)

    topics = topics_of(lab)
    topics.logs["exposures"][0].append(topics.logs["exposures"][0][0]._replace(offset=5, value=exposure("u9", 300)))  # type: ignore[attr-defined]
    lab.storage.on_call = go_on
    found = audit(lab.storage, topics)
    assert moved == [segment]
    assert found.clean, [*found.lines()]


def test_a_chain_that_never_stands_still_is_told(lab: Lab) -> None:
    def go_on(operation: str, name: str) -> None:
        if operation == "read" and name.startswith("segments"):
            manifest = newest(lab.storage)
            following = manifest.model_copy(update={"seq": manifest.seq + 1})
            lab.storage.create_once(Lineage(lab.storage, 0).name(following.seq), following.to_bytes())
            raise FileNotFoundError(name)

    lab.storage.on_call = go_on
    found = audited(lab)
    assert found.clean
    assert any("moved on 5 times" in why for check in found.checks for why in check.undone)


def test_a_stopped_partition_is_audited_like_any_other(lab: Lab) -> None:
    stop = Stopped(reason="half", topic="exposures", at=0, details="")
    replace_manifest(lab.storage, newest(lab.storage).model_copy(update={"stopped": stop}))
    assert audited(lab).clean


# how it is told


def test_its_report_is_one_line_a_check_and_a_verdict(lab: Lab) -> None:
    lines = [*audited(lab).lines()]
    assert len(lines) == len(CHECKS) + 1
    assert lines[-1] == "verdict: the lake is what its input makes of it"


def test_its_report_for_machines_has_all_of_it(lab: Lab) -> None:
    lab.sent.pop()
    told = json.loads(json.dumps(audited(lab).as_json()))
    assert told["clean"] is False
    assert told["partitions"] == [0]
    (letters,) = [check for check in told["checks"] if check["check"] == "dead letters"]
    assert letters["status"] == "wrong"
    assert letters["wrong"] == {"missing": 1}
    assert letters["examples"] == ["missing: outcomes [0] offset 5, late"]


def test_progress_ends_where_it_said(lab: Lab) -> None:
    heard: list[tuple[int, int]] = []
    audit(lab.storage, topics_of(lab), progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (13, 13)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_many_units_are_compared_bucket_by_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.verify.buckets._ROWS_A_BUCKET", 3)
    monkeypatch.setattr("pipeline.verify.buckets._HELD", 4)
    lab = busy_lab()
    found = audit(lab.storage, topics_of(lab), scratch=tmp_path)
    assert found.clean
    assert list(tmp_path.iterdir()) == []
