"""Archives keep manifests small and lose nothing."""

import pytest

from contracts.errors import DamagedFile
from sinks.archives import CLOSES_LISTED, FILES_LISTED, RANGES_LISTED, archived, closes, table_files, undelivered
from sinks.manifest import Close, FileRef, Manifest, Range
from sinks.storage import MemoryStorage
from tests.sinks.rows import manifest, stamp, topic


def files(count: int, staged: str | None = None) -> tuple[FileRef, ...]:
    kind = "new" if staged else "old"
    return tuple(
        FileRef(table="facts", name=f"tables/facts/{kind}{number}", rows=1, size=2, crc32=3, staged=staged)
        for number in range(count)
    )


def gaps(count: int) -> tuple[Range, ...]:
    return tuple((3 * number, 3 * number + 1) for number in range(count))


def some_closes(count: int, first: int = 1) -> tuple[Close, ...]:
    return tuple(
        Close(seq=seq, closed_through=10 * seq, allowed_lateness=1, next_offsets={"exposures": seq, "outcomes": 0})
        for seq in range(first, first + count)
    )


def topics(count: int) -> Manifest:
    return manifest(
        topics={"exposure": topic(next_offset=1_000_000, undelivered=gaps(count)), "outcome": topic("outcomes")}
    )


def ranges(storage: MemoryStorage, of: Manifest) -> list[tuple[str, int, int]]:
    return [tuple(row.values()) for row in undelivered(storage, of).to_pylist()]


@pytest.mark.parametrize(
    "small",
    [
        pytest.param(manifest(files=files(FILES_LISTED)), id="files"),
        pytest.param(topics(RANGES_LISTED), id="ranges"),
        pytest.param(manifest(closes=some_closes(CLOSES_LISTED)), id="closes"),
    ],
)
def test_what_a_manifest_can_list_stays_in_it(small: Manifest) -> None:
    storage = MemoryStorage()
    assert archived(storage, small, stamp()) == small
    assert storage.list("archives") == []


def test_older_files_move_and_those_to_publish_stay() -> None:
    storage = MemoryStorage()
    full = manifest(seq=9, files=(*files(FILES_LISTED + 1), *files(2, staged="staging/x")))
    small = archived(storage, full, stamp(9))
    assert small.files == full.unpublished()
    assert storage.list("archives") == ["archives/p00003/000000000009-a.files.parquet"]
    assert tuple(table_files(storage, small)) == full.files


def test_ranges_move_and_are_still_accounted_for() -> None:
    storage = MemoryStorage()
    small = archived(storage, topics(RANGES_LISTED + 1), stamp())
    assert small.topics["exposure"].undelivered == ()
    assert ranges(storage, small) == [("exposures", first, end) for first, end in gaps(RANGES_LISTED + 1)]


def test_closes_move_and_are_still_told_in_order() -> None:
    storage = MemoryStorage()
    small = archived(storage, manifest(closes=some_closes(CLOSES_LISTED + 1)), stamp())
    assert small.closes == ()
    later = some_closes(1, first=CLOSES_LISTED + 2)
    told = tuple(closes(storage, small.model_copy(update={"closes": later})))
    assert told == some_closes(CLOSES_LISTED + 2)


def test_archives_add_up_over_checkpoints() -> None:
    storage = MemoryStorage()
    first = archived(storage, topics(RANGES_LISTED + 1), stamp(1))
    late = {"exposure": first.topics["exposure"].model_copy(update={"undelivered": ((900_000, 900_007),)})}
    second = archived(storage, first.model_copy(update={"topics": late, "files": files(FILES_LISTED + 1)}), stamp(2))
    assert [archive.holds for archive in second.archives] == ["undelivered", "files"]
    assert len(ranges(storage, second)) == RANGES_LISTED + 2
    assert ranges(storage, second)[-1] == ("exposures", 900_000, 900_007)
    assert len(list(table_files(storage, second))) == FILES_LISTED + 1
    assert list(closes(storage, second)) == []


def test_a_changed_archive_is_noticed() -> None:
    storage = MemoryStorage()
    small = archived(storage, manifest(files=files(FILES_LISTED + 1)), stamp())
    (name,) = storage.list("archives")
    storage.delete(name)
    storage.create_once(name, b"PAR1")
    with pytest.raises(DamagedFile, match=r"archives/.* was changed"):
        list(table_files(storage, small))
