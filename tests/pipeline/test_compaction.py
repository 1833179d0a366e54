"""Compaction: what it merges, what readers see meanwhile, and what a crash, a rival or a zombie leaves."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from io import BytesIO
from itertools import count

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import DamagedFile, Fenced
from pipeline.checkpoint import LINGER
from pipeline.compaction import COMPACTION_STEPS, FEWEST, TARGET, decided_through, plan
from sinks.archives import FILES_LISTED, table_files
from sinks.lineage import Lineage
from sinks.manifest import FileRef, HorizonState
from sinks.storage import MemoryStorage
from sinks.tables import ORDERS, TABLES
from tests.pipeline.auditing import audited, replace_manifest
from tests.pipeline.compacting import all_rows, assert_published, lab_with_small_files
from tests.pipeline.lab import Lab, Writer
from tests.sinks.rows import DAY, manifest

MONTH = 30 * DAY
DIRECTORY = "tables/facts/dt=1970-01-03"
KIB = 1 << 10


class Died(Exception):
    """A process ends at this point."""


def files(*sizes: int, day: str = "1970-01-03", table: str = "facts") -> list[FileRef]:
    return [
        FileRef(table=table, name=f"tables/{table}/dt={day}/{number}.parquet", rows=1, size=size, crc32=0)
        for number, size in enumerate(sizes)
    ]


def calls_of_a_compaction() -> list[str]:
    """Return the calls to the storage that it makes."""
    lab = lab_with_small_files()
    writer = lab.writer()
    calls: list[str] = []
    lab.storage.on_call = lambda operation, _name: calls.append(operation)
    assert lab.compact(writer, FEWEST) == 2 * FEWEST
    return calls


def points(first: str = "read") -> list[int]:
    """Return the calls at which a compaction is cut off: those for its first file, and from the last one on.

    Calls before the first one of that name are left out.
    """
    calls = calls_of_a_compaction()
    merged, commit = calls.index("finish"), calls.index("create_once")
    return [call for call in (*range(merged + 1), *range(commit - 1, len(calls))) if call >= calls.index(first)]


# the plan


def test_files_of_a_decided_day_are_merged_by_table() -> None:
    facts, events = files(*[KIB] * FEWEST), files(*[KIB] * FEWEST, table="events")
    groups = plan([*facts, *events], MONTH)
    assert [(group.table, group.day) for group in groups] == [
        ("events", date(1970, 1, 3)),
        ("facts", date(1970, 1, 3)),
    ]
    assert [group.files for group in groups] == [tuple(events), tuple(facts)]


def test_a_day_that_has_not_ended_in_decided_time_stays() -> None:
    small = files(*[KIB] * FEWEST)
    assert plan(small, 3 * DAY - 1) == []
    assert len(plan(small, 3 * DAY)) == 1


def test_few_files_stay() -> None:
    assert plan(files(*[KIB] * (FEWEST - 1)), MONTH) == []


def test_large_files_stay() -> None:
    assert plan(files(*[TARGET // 2] * FEWEST), MONTH) == []


def test_a_merged_file_has_about_the_target_size() -> None:
    (group,) = plan(files(*[TARGET // 10] * 25), MONTH)
    assert TARGET * 0.9 <= group.size <= TARGET


def test_a_few_late_rows_do_not_have_a_large_file_rewritten() -> None:
    late = files(*[KIB] * FEWEST)
    large = FileRef(table="facts", name=f"{DIRECTORY}/large", rows=1, size=TARGET // 4, crc32=0)
    (group,) = plan([large, *late], MONTH)
    assert group.files == tuple(late)


def rounds(left: list[FileRef], names: Iterator[int]) -> tuple[list[FileRef], int]:
    """Return what is left when there is nothing to merge any more, sizes adding up, and the bytes that were merged."""
    moved = 0
    while groups := plan(left, MONTH):
        merged = {*groups[0].files}
        moved += groups[0].size
        new = FileRef(table="facts", name=f"{DIRECTORY}/{next(names)}", rows=1, size=groups[0].size, crc32=0)
        left = [*(file for file in left if file not in merged), new]
    return left, moved


@given(st.lists(st.integers(1, TARGET), max_size=200))
def test_few_small_files_remain(sizes: list[int]) -> None:
    """Each of those that wait is much larger than all before it."""
    left, _ = rounds(files(*sizes), count(1_000))
    assert sum(file.size for file in left) == sum(sizes)
    assert sum(file.size * 2 < TARGET for file in left) < FEWEST + 9


def test_rows_that_come_one_file_after_the_other_are_rewritten_a_few_times() -> None:
    left: list[FileRef] = []
    moved, names = 0, count(1_000)
    for file in files(*[KIB] * 500):
        left, more = rounds([*left, file], names)
        moved += more
    assert moved <= 10 * 500 * KIB
    assert len(left) < 10


def test_the_decided_time_is_that_of_the_slowest_flag() -> None:
    def horizons(*times: int | None) -> dict[str, HorizonState]:
        return {str(place): HorizonState(longest_window=1, decided_through=time) for place, time in enumerate(times)}

    assert decided_through(manifest(horizons=horizons(7, 5, 9))) == 5
    assert decided_through(manifest(horizons=horizons(7, None))) is None
    assert decided_through(manifest()) is None


# what it does


def test_files_become_one_a_table_and_day_and_no_row_changes() -> None:
    lab = lab_with_small_files()
    writer = lab.writer()
    before, totals, there = all_rows(lab), writer.base.totals, lab.storage.list("tables")
    assert lab.compact(writer) == 12
    after = lab.storage.list("tables")
    assert len(after) == len(there) - 8
    assert (all_rows(lab), writer.base.totals) == (before, totals)
    assert [name for name in after if "dt=2026-06-07" not in name] == [n for n in there if "dt=2026-06-07" not in n]
    assert audited(lab).clean, [*audited(lab).lines()]
    assert lab.storage.list("staging") == []


def test_the_new_files_are_sorted_and_of_the_schema() -> None:
    lab = lab_with_small_files()
    writer = lab.writer()
    lab.compact(writer)
    for table, schema in TABLES.items():
        (name,) = lab.storage.list(f"tables/{table}/dt=2026-06-07")
        rows = pq.read_table(BytesIO(lab.storage.read(name)))
        assert rows.schema.equals(schema)
        keys = [(row.get("flag_key"), row[ORDERS[table].time]) for row in rows.to_pylist()]
        assert keys == sorted(keys)


def test_a_new_file_tells_the_newest_checkpoint_and_the_offsets_of_all() -> None:
    lab = lab_with_small_files()
    writer = lab.writer()
    (first, *_, last) = lab.storage.list("tables/facts/dt=2026-06-07")
    lab.compact(writer)
    (name,) = lab.storage.list("tables/facts/dt=2026-06-07")
    told = pq.read_metadata(BytesIO(lab.storage.read(name))).metadata
    assert name.rsplit("-", 1)[0] == last.rsplit("-", 1)[0] != first.rsplit("-", 1)[0]
    assert told[b"evidence.offsets"] == b'{"exposures": [4, 8], "guardrails": [2, 2], "outcomes": [6, 10]}'


def test_the_steps_are_told_in_order() -> None:
    lab = lab_with_small_files()
    steps: list[str] = []
    lab.compactor(on_step=steps.append).compact(lab.writer().base)
    assert tuple(steps) == COMPACTION_STEPS


def test_nothing_to_merge_commits_nothing() -> None:
    lab = lab_with_small_files()
    writer = lab.writer()
    lab.compact(writer)
    assert lab.compactor().compact(writer.base) is None
    assert Lineage(lab.storage, 0).newest() == writer.base


def test_days_that_ended_too_recently_stay() -> None:
    lab = lab_with_small_files()
    day_end = plan_day_end(lab)
    assert lab.compactor().plan(lab.writer().base, before=day_end - 1) == []
    assert len(lab.compactor().plan(lab.writer().base, before=day_end)) == 4


def plan_day_end(lab: Lab) -> int:
    group = lab.compactor().plan(lab.writer().base)[0]
    return (group.day.toordinal() + 1 - date(1970, 1, 1).toordinal()) * DAY


def test_late_rows_are_taken_up_by_a_later_compaction() -> None:
    lab = lab_with_small_files()
    writer = lab.writer()
    lab.compact(writer)
    lab.publish("guardrails", None)
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    assert len(lab.storage.list("tables/refused")) == 2
    assert lab.compact(writer) == 2
    assert len(lab.rows("refused")) == 3
    assert audited(lab).clean


def test_files_in_archives_are_merged_too_and_their_archive_lingers() -> None:
    lab = lab_with_small_files()
    writer = lab.writer()
    archive_all(lab.storage, writer)
    (old,) = lab.storage.list("archives")
    before = all_rows(lab)
    lab.compact(writer)
    assert old not in [archive.name for archive in writer.base.archives]
    assert {file.name for file in table_files(lab.storage, writer.base)} == {*lab.storage.list("tables")}
    assert all_rows(lab) == before
    assert audited(lab).clean, [*audited(lab).lines()]
    assert lab.storage.exists(old)
    for _ in range(2):
        lab.now += LINGER
        lab.checkpoint(writer, close=False)
    assert not lab.storage.exists(old)
    assert audited(lab).clean


def archive_all(storage: MemoryStorage, writer: Writer) -> None:
    """Have the manifest's files in an archive, as those of a chain that goes on for long are."""
    from sinks import archives  # noqa: PLC0415

    stamp = writer.checkpointer._stamp(writer.base, writer.partition.freeze(0))  # noqa: SLF001
    archive = archives._archive(storage, "files", archives._file_rows(writer.base.published()), stamp)  # noqa: SLF001
    assert len(writer.base.files) < FILES_LISTED
    writer.base = writer.base.model_copy(update={"files": (), "archives": (archive,)})
    replace_manifest(storage, writer.base)


@pytest.mark.parametrize("table", [*TABLES])
def test_a_changed_input_is_noticed_and_nothing_is_replaced(table: str) -> None:
    lab = lab_with_small_files()
    writer = lab.writer()
    name = lab.storage.list(f"tables/{table}/dt=2026-06-07")[0]
    data = bytearray(lab.storage.read(name))
    data[len(data) // 2] ^= 1
    lab.storage.delete(name)
    lab.storage.create_once(name, bytes(data))
    there = lab.storage.list("tables")
    with pytest.raises(DamagedFile, match="was changed"):
        lab.compact(writer)
    assert lab.storage.list("tables") == there
    assert Lineage(lab.storage, 0).newest() == writer.base


# crashes, rivals, zombies


@pytest.mark.parametrize("power_lost", [False, True], ids=["process", "power"])
def test_a_crash_at_any_call_leaves_every_row_once(*, power_lost: bool) -> None:
    """To a plain glob at once, and with the manifests in order after recovery."""
    before = all_rows(lab_with_small_files())
    for call in points("finish" if power_lost else "read"):  # before, there is nothing that may get lost
        lab = lab_with_small_files()
        writer = lab.writer()
        lab.storage.on_call = dying(call)
        with pytest.raises(Died):
            lab.compact(writer, FEWEST)
        lab.storage.on_call = lambda _operation, _name: None
        if power_lost:
            lab.storage.crash()
        assert all_rows(lab) == before, call
        assert_published(lab)
        again = lab.writer()
        assert again.base.replaced == () or {*again.base.replaced}.isdisjoint(lab.storage.list("tables"))
        assert all_rows(lab) == before, call
        lab.compact(again, FEWEST)
        assert all_rows(lab) == before, call
        assert len(lab.storage.list("tables/facts/dt=2026-06-07")) == 1
        assert_published(lab)


def dying(call: int) -> Callable[[str, str], None]:
    calls = count()

    def die(_operation: str, _name: str) -> None:
        if next(calls) == call:
            raise Died

    return die


@pytest.mark.parametrize("rival_compacts", [False, True], ids=["checkpoint", "compaction"])
def test_a_writer_that_hangs_at_any_call_while_another_goes_on_changes_nothing(*, rival_compacts: bool) -> None:
    before = all_rows(lab_with_small_files())
    for call in points():
        lab = lab_with_small_files()
        zombie = lab.writer()
        calls = count()

        def go_on(_operation: str, _name: str) -> None:
            if next(calls) == call:  # noqa: B023
                lab.storage.on_call = lambda _operation, _name: None  # noqa: B023
                rival = lab.writer()  # noqa: B023
                if rival_compacts:
                    lab.compact(rival, FEWEST)  # noqa: B023
                for _ in range(3):
                    lab.checkpoint(rival, close=False)  # noqa: B023

        lab.storage.on_call = go_on
        with suppress(Fenced):
            lab.compact(zombie, FEWEST)
        assert all_rows(lab) == before, call
        assert_published(lab)
        newest = lab.writer()
        assert {file.name for file in newest.base.files} == {*lab.storage.list("tables")}, call


def test_the_slower_of_two_is_fenced_and_replaces_nothing() -> None:
    lab = lab_with_small_files()
    owner, other = lab.writer(), lab.writer()
    lab.checkpoint(owner, close=False)
    there = lab.storage.list("tables")
    with pytest.raises(Fenced):
        lab.compact(other)
    assert lab.storage.list("tables") == there


# the audit


def test_the_audit_finds_nothing_wrong_at_any_step() -> None:
    lab = lab_with_small_files()
    found: list[bool] = []
    lab.compactor(on_step=lambda _: found.append(audited(lab).clean)).compact(lab.writer().base)
    assert found == [True] * len(COMPACTION_STEPS)


def test_the_audit_finds_nothing_wrong_when_files_are_replaced_under_it() -> None:
    lab = lab_with_small_files()
    for call in range(1_000):
        lab = lab_with_small_files()
        calls = count()

        def replace(_operation: str, _name: str) -> None:
            if next(calls) == call:  # noqa: B023
                lab.storage.on_call = lambda _operation, _name: None  # noqa: B023
                lab.compact(lab.writer(), FEWEST)  # noqa: B023

        lab.storage.on_call = replace
        found = audited(lab)
        assert found.clean, [call, *found.lines()]
        if next(calls) <= call:
            break
