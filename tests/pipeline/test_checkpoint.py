"""The checkpoint: what it makes durable, what a crash leaves, who is fenced."""

from io import BytesIO

import pyarrow.parquet as pq
import pytest

from contracts.errors import DamagedFile, Fenced
from pipeline.checkpoint import LINGER, STEPS
from sinks.archives import CLOSES_LISTED, archived
from sinks.lineage import Lineage
from sinks.manifest import Close
from tests.pipeline.lab import HOUR, Lab, exposure, outcome
from tests.sinks.rows import stamp


class Died(Exception):
    """A process ends at this point."""


def lab_with_a_day() -> Lab:
    lab = Lab()
    lab.publish("exposures", exposure("u1", 0), exposure("u2", 1), exposure("u3", 40))
    lab.publish("outcomes", outcome("u1", 2), outcome("u2", 3), outcome("nobody", 4))
    return lab


def test_a_checkpoint_without_close_keeps_events_in_a_segment() -> None:
    lab = lab_with_a_day()
    writer = lab.writer()
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    (segment,) = writer.base.segments
    assert segment.rows == 6
    assert not lab.storage.list("tables")
    assert {topic.next_offset for topic in writer.base.topics.values()} == {3, 0}


def test_a_close_publishes_facts_and_keeps_what_is_open() -> None:
    lab = lab_with_a_day()
    writer = lab.writer()
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    assert sorted(row["unit_id"] for row in lab.rows("facts")) == ["u1", "u2"]
    assert [row["reason"] for row in lab.rows("unjoined")] == ["no_exposure"]
    (segment,) = writer.base.segments
    assert segment.rows == 1
    assert writer.base.totals == {"facts": 2, "joined": 4, "unjoined.no_exposure": 1}


def test_a_close_keeps_new_segments_and_writes_anew_what_is_left_of_those_that_are_mostly_decided() -> None:
    lab = Lab()
    writer = lab.writer()
    for hours in ((0, 0, 20), (0, 20), (0,)):
        lab.publish("exposures", *(exposure(f"u{place}-{len(hours)}", hour) for place, hour in enumerate(hours)))
        lab.read_all(writer)
        lab.checkpoint(writer, close=False)
    lab.publish("exposures", exposure("last", 26))
    lab.read_all(writer)
    before = [segment.name for segment in writer.base.segments]
    lab.checkpoint(writer, close=True)
    assert len(lab.rows("facts")) == 4
    kept, rest = writer.base.segments
    assert (kept.name, kept.rows) == (before[1], 2)
    assert rest.rows == 2
    lab.checkpoint(writer, close=True, everything=True)
    assert len(lab.rows("facts")) == 7
    assert writer.base.segments == ()


def test_recovery_goes_on_where_the_newest_manifest_ends() -> None:
    lab = lab_with_a_day()
    first = lab.writer()
    lab.read(first, "exposures", 2)
    lab.checkpoint(first, close=False)
    lab.read_all(first)  # read, not committed: lost with the worker
    second = lab.writer()
    assert second.partition.next_offsets == {"exposures": 2, "outcomes": 0, "guardrails": 0}
    lab.read_all(second)
    lab.checkpoint(second, close=True, everything=True)
    assert {fate: reasons for fate, reasons in lab.fates().items() if len(reasons) != 1} == {}
    assert len(lab.fates()) == 6


@pytest.mark.parametrize("power_lost", [False, True], ids=["process", "power"])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_before_a_step_loses_and_doubles_nothing(step: str, *, power_lost: bool) -> None:
    lab = lab_with_a_day()
    writer = lab.writer()

    def die(reached: str) -> None:
        if reached == step:
            raise Died

    writer.checkpointer._on_step = die  # noqa: SLF001 - where a real process dies
    lab.read_all(writer)
    with pytest.raises(Died):
        lab.checkpoint(writer, close=True)
    if power_lost:
        lab.storage.crash()
    again = lab.writer()
    lab.read_all(again)
    lab.checkpoint(again, close=True, everything=True)
    assert len(lab.fates()) == 6
    assert all(len(reasons) == 1 for reasons in lab.fates().values())
    assert sorted(row["unit_id"] for row in lab.rows("facts")) == ["u1", "u2", "u3"]


def test_the_slower_of_two_writers_is_fenced_and_publishes_nothing() -> None:
    lab = lab_with_a_day()
    zombie, owner = lab.writer(), lab.writer()
    for writer in (zombie, owner):
        lab.read_all(writer)
    lab.checkpoint(owner, close=True)
    before = lab.storage.list("tables")
    with pytest.raises(Fenced):
        lab.checkpoint(zombie, close=True)
    assert lab.storage.list("tables") == before


def test_a_zombie_is_fenced_even_where_its_number_was_pruned() -> None:
    """It slept while others committed and pruned far beyond its own checkpoint."""
    lab = lab_with_a_day()
    zombie = lab.writer()
    lab.read_all(zombie)
    owner = lab.writer()
    for _ in range(5):
        lab.read(owner, "exposures", 1)
        lab.checkpoint(owner, close=True)
    assert 1 not in Lineage(lab.storage, 0).seqs()
    before = lab.storage.list("tables")
    with pytest.raises(Fenced):
        lab.checkpoint(zombie, close=True)
    assert lab.storage.list("tables") == before
    assert Lineage(lab.storage, 0).newest() == owner.base


def test_a_cut_off_publish_is_finished_by_whoever_comes_next() -> None:
    lab = lab_with_a_day()
    writer = lab.writer()
    renames = 0

    def die_at_the_second_rename(operation: str, _name: str) -> None:
        nonlocal renames
        renames += operation == "rename"
        if renames == 2:
            raise Died

    lab.read_all(writer)
    lab.storage.on_call = die_at_the_second_rename
    with pytest.raises(Died):
        lab.checkpoint(writer, close=True)
    lab.storage.on_call = lambda _operation, _name: None
    assert len(lab.storage.list("tables")) == 1
    lab.writer()
    assert len(lab.rows("facts")) == 2
    assert len(lab.rows("events")) == 4


def test_recovery_leaves_the_staging_of_a_rival_that_may_still_commit() -> None:
    lab = lab_with_a_day()
    rival = lab.writer()
    lab.read_all(rival)

    def recover_meanwhile(step: str) -> None:
        if step == "commit":
            lab.writer()

    rival.checkpointer._on_step = recover_meanwhile  # noqa: SLF001
    lab.checkpoint(rival, close=True)
    assert len(lab.rows("facts")) == 2


def test_litter_of_a_dead_writer_goes_once_its_number_is_taken() -> None:
    lab = lab_with_a_day()
    dead = lab.writer()
    lab.read_all(dead)

    def die(step: str) -> None:
        if step == "commit":
            raise Died

    dead.checkpointer._on_step = die  # noqa: SLF001
    with pytest.raises(Died):
        lab.checkpoint(dead, close=True)
    assert lab.storage.list("staging")
    owner = lab.writer()
    lab.read_all(owner)
    lab.checkpoint(owner, close=True)
    assert not lab.storage.list("staging")
    assert set(lab.storage.list("segments")) == owner.base.live()


def test_archives_stay_if_a_manifest_names_them_or_may_do_so_yet() -> None:
    """One whose number another writer has taken goes."""
    lab = lab_with_a_day()
    writer = lab.writer()
    many = tuple(
        Close(seq=seq, closed_through=0, allowed_lateness=0, next_offsets={}) for seq in range(CLOSES_LISTED + 1)
    )
    writer.base = writer.base.model_copy(update={"closes": many})
    for seq, dead in (1, "dead"), (2, "beef"):
        archived(lab.storage, writer.base, stamp(seq, partition=0, writer=dead))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    [named] = [archive.name for archive in writer.base.archives]
    assert set(lab.storage.list("archives")) == {named, "archives/p00000/000000000002-beef.closes.parquet"}
    lab.checkpoint(writer, close=True)
    assert lab.storage.list("archives") == [named]


def test_a_segment_that_was_let_go_stays_for_running_queries() -> None:
    lab = Lab()
    writer = lab.writer()
    lab.publish("exposures", exposure("u1", 0))
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    (segment,) = writer.base.segments
    lab.checkpoint(writer, close=True, everything=True)
    assert segment.name in lab.storage.list("segments")
    lab.now += LINGER
    lab.checkpoint(writer, close=False)
    assert segment.name not in lab.storage.list("segments")
    lab.checkpoint(writer, close=False)
    assert not writer.base.retired


def test_a_missing_segment_is_damage_unless_another_writer_went_on() -> None:
    lab = Lab()
    writer = lab.writer()
    lab.publish("exposures", exposure("u1", 0))
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    (segment,) = writer.base.segments
    lab.storage.delete(segment.name)
    with pytest.raises(DamagedFile, match=segment.name):
        lab.checkpoint(writer, close=True)


def test_the_newest_two_manifests_stay() -> None:
    lab = Lab()
    writer = lab.writer()
    for _ in range(5):
        lab.checkpoint(writer, close=False)
    assert Lineage(lab.storage, 0).seqs() == [4, 5]


def test_table_files_name_their_checkpoint() -> None:
    lab = lab_with_a_day()
    writer = lab.writer()
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    (name, *_) = lab.storage.list("tables/facts")
    metadata = pq.read_metadata(BytesIO(lab.storage.read(name))).metadata
    assert metadata[b"evidence.seq"] == b"1"
    assert metadata[b"evidence.lake_id"] == b"lake"


def test_a_late_event_gets_its_fate_in_the_close_after_the_checkpoint_that_passed_it() -> None:
    lab = Lab()
    writer = lab.writer()
    lab.publish("exposures", exposure("u1", 0), exposure("u2", 60))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    lab.publish("outcomes", outcome("u1", 1))
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    assert ("outcomes", 0) not in lab.fates()
    lab.checkpoint(writer, close=True)
    assert lab.fates()["outcomes", 0] == ["late"]
    lab.checkpoint(writer, close=True, everything=True)
    assert lab.fates()["outcomes", 0] == ["late"]


def test_dead_letters_of_a_close_go_out_before_its_commit() -> None:
    lab = lab_with_a_day()
    writer = lab.writer()
    seen: list[tuple[str, int]] = []
    writer.checkpointer._on_step = lambda step: seen.append((step, len(lab.sent)))  # noqa: SLF001
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    assert dict(seen) == {"stage": 0, "flush": 0, "commit": 1, "publish": 1, "prune": 1}
    (letter,) = lab.sent
    headers = dict(letter.headers)
    assert letter.topic == "outcomes.dlq"
    assert letter.value == outcome("nobody", 4)
    assert headers["evidence.dlq.reason"] == b"no_exposure"
    assert headers["__dlq.errors.offset"] == b"2"


def test_refused_records_are_rows_and_dead_letters() -> None:
    lab = Lab()
    writer = lab.writer()
    lab.publish("outcomes", b"{", None, outcome("u", 1, variation="nope"))
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    assert {offset: reasons for (_, offset), reasons in lab.fates().items()} == {
        0: ["not_json"],
        1: ["tombstone"],
        2: ["unknown_variation"],
    }
    assert [letter.topic for letter in lab.sent] == ["outcomes.dlq"] * 3
    assert writer.base.totals == {"refused.not_json": 1, "refused.tombstone": 1, "refused.unknown_variation": 1}


def test_contract_versions_live_on_in_the_lake() -> None:
    """The flag file changes, then a worker that has never seen the old version closes its events."""
    lab = lab_with_a_day()
    first = lab.writer()
    lab.read_all(first)
    lab.checkpoint(first, close=False)
    lab.contracts = ()
    second = lab.writer()
    lab.checkpoint(second, close=True, everything=True)
    assert len(lab.rows("facts")) == 3


def test_less_allowed_lateness_decides_what_was_left_open_before() -> None:
    """A worker starts with a shorter setting: the events that the last close left undecided keep their fate."""
    lab = Lab(lateness=10 * HOUR)
    writer = lab.writer()
    lab.publish("exposures", exposure("u1", 0), exposure("u2", 29))
    lab.publish("outcomes", outcome("nobody", 0))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    assert not lab.fates()
    lab.lateness = 0
    lab.checkpoint(lab.writer(), close=True, everything=True)
    assert [row["unit_id"] for row in lab.rows("facts")] == ["u1", "u2"]
    assert lab.fates()["outcomes", 0] == ["no_exposure"]


def test_the_watermark_survives() -> None:
    lab = lab_with_a_day()
    first = lab.writer()
    lab.read_all(first)
    lab.checkpoint(first, close=True)
    second = lab.writer()
    assert second.partition.advance(0) == first.base.watermark
    assert first.base.closed_through == first.base.watermark
    assert first.base.watermark is not None
    assert first.base.watermark % HOUR == 0
