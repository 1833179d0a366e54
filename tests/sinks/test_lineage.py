"""The chain of a partition: who is first, who is fenced, and what a reader sees meanwhile."""

from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.errors import DamagedFile, Fenced, LakeError
from sinks.lineage import LAKE_FILE, Lineage, lineages, open_lake, read_lake
from sinks.segments import write_segment
from sinks.storage import LocalStorage, MemoryStorage, Storage
from tests.sinks.rows import events, manifest, stamp


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return LocalStorage(tmp_path) if request.param == "local" else MemoryStorage()


def committed(storage: Storage, *seqs: int) -> Lineage:
    lineage = Lineage(storage, 3)
    for seq in seqs:
        lineage.commit(manifest(seq))
    return lineage


def test_a_partition_that_was_never_committed_has_no_newest(storage: Storage) -> None:
    assert Lineage(storage, 3).newest() is None


def test_newest_is_the_highest_number(storage: Storage) -> None:
    lineage = committed(storage, 9, 10, 11)
    assert lineage.newest() == manifest(11)
    assert lineage.seqs() == [9, 10, 11]
    assert lineage.at(10) == manifest(10)


def test_names_sort_as_numbers_do(storage: Storage) -> None:
    assert Lineage(storage, 3).name(12) == "manifests/p00003/000000000012.json"


def test_other_files_in_the_directory_are_not_manifests(storage: Storage) -> None:
    lineage = committed(storage, 1)
    storage.create_once("manifests/p00003/000000000002.json.bak", b"")
    storage.create_once("manifests/p00003/sub/000000000003.json", b"")
    assert lineage.seqs() == [1]


def test_a_taken_number_fences_and_changes_nothing(storage: Storage) -> None:
    lineage = committed(storage, 1)
    with pytest.raises(
        Fenced, match="partition 3: checkpoint 1 comes too late, another writer has committed 1; recover"
    ):
        lineage.commit(manifest(1, writer="b"))
    assert lineage.at(1).writer == "a"


def test_a_number_that_was_pruned_meanwhile_fences(storage: Storage) -> None:
    """A writer that slept while others committed to 40 and pruned to 39 finds number 11 free, and must not use it."""
    lineage = committed(storage, 39, 40)
    with pytest.raises(Fenced, match="checkpoint 11 comes too late, another writer has committed 40"):
        lineage.commit(manifest(11, writer="b"))
    assert lineage.seqs() == [39, 40]


def test_a_committed_manifest_survives_a_power_loss() -> None:
    storage = MemoryStorage()
    lineage = committed(storage, 1)
    storage.crash()
    assert lineage.newest() == manifest(1)


def test_delete_prunes_one_manifest(storage: Storage) -> None:
    lineage = committed(storage, 1, 2, 3)
    lineage.delete(1)
    lineage.delete(1)
    assert lineage.seqs() == [2, 3]


def reading(then: Callable[[MemoryStorage], None]) -> MemoryStorage:
    """Return a storage in which `then` happens once, between the first listing of manifests and what is read next."""
    pending = [then]

    def on_call(operation: str, _name: str) -> None:
        if operation == "read" and pending:
            pending.pop()(memory)

    memory = MemoryStorage(on_call)
    return memory


def test_a_manifest_pruned_while_it_is_read_means_there_is_a_newer_one() -> None:
    def others_go_on(storage: MemoryStorage) -> None:
        committed(storage, 2, 3).delete(1)

    lineage = committed(reading(others_go_on), 1)
    assert lineage.newest() == manifest(3)


def test_a_manifest_that_stays_listed_but_cannot_be_opened_is_damage() -> None:
    def gone(operation: str, name: str) -> None:
        if operation == "read":
            raise FileNotFoundError(name)

    storage = MemoryStorage()
    lineage = committed(storage, 1)
    storage.on_call = gone
    with pytest.raises(DamagedFile, match=r"manifests/p00003/000000000001\.json is listed but cannot be opened"):
        lineage.newest()


def test_a_segment_let_go_while_it_is_looked_for_means_there_is_a_newer_manifest() -> None:
    def others_go_on(operation: str, name: str) -> None:
        if operation == "size" and name == first.name:
            memory.on_call = lambda _operation, _name: None
            lineage.commit(manifest(2, segments=(second,)))
            memory.delete(first.name)

    memory = MemoryStorage()
    first, second = (write_segment(memory, events({}), stamp(seq)) for seq in (1, 2))
    lineage = Lineage(memory, 3)
    lineage.commit(manifest(1, segments=(first,)))
    memory.on_call = others_go_on
    assert lineage.readable() == manifest(2, segments=(second,))


def test_a_segment_that_is_gone_for_good_is_damage(storage: Storage) -> None:
    segment = write_segment(storage, events({}), stamp(1))
    lineage = Lineage(storage, 3)
    lineage.commit(manifest(1, segments=(segment,)))
    storage.delete(segment.name)
    with pytest.raises(DamagedFile, match=r"segments/.* is missing, manifests/.*1\.json names it; restore it"):
        lineage.readable()


def test_a_partition_that_was_never_committed_has_nothing_to_read(storage: Storage) -> None:
    assert Lineage(storage, 3).readable() is None


def test_a_damaged_newest_is_reported_not_skipped(storage: Storage) -> None:
    """Going back to the one before would publish twice what the newest has published."""
    lineage = committed(storage, 1)
    storage.create_once(lineage.name(2), manifest(2).to_bytes()[:-100])
    with pytest.raises(DamagedFile, match=r"manifests/p00003/000000000002\.json is no manifest"):
        lineage.newest()


def test_a_manifest_under_another_name_is_damage(storage: Storage) -> None:
    lineage = committed(storage, 1)
    storage.create_once(lineage.name(2), manifest(1).to_bytes())
    with pytest.raises(DamagedFile, match=r"000000000002\.json holds manifest 1 of partition 3"):
        lineage.newest()


def test_an_absent_number_is_a_file_not_found(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        Lineage(storage, 3).at(1)


def test_lineages_are_those_with_a_manifest(storage: Storage) -> None:
    for partition in (11, 2):
        Lineage(storage, partition).commit(manifest(partition=partition))
    storage.create_once("manifests/p00007/notes.txt", b"")
    assert [lineage.partition for lineage in lineages(storage)] == [2, 11]


def test_a_lake_keeps_its_first_id(storage: Storage) -> None:
    ids = iter(["one", "two"])
    assert open_lake(storage, lambda: next(ids)) == "one"
    assert open_lake(storage, lambda: next(ids)) == "one"
    assert read_lake(storage) == "one"


def test_of_two_that_make_a_lake_at_once_both_get_the_same_id(storage: Storage) -> None:
    def new_id() -> str:
        open_lake(storage, lambda: "rival")
        return "mine"

    assert open_lake(storage, new_id) == "rival"


def test_no_lake_says_how_to_get_one(storage: Storage) -> None:
    with pytest.raises(LakeError, match=r"lake\.json is missing; set EVIDENCE_LAKE, or start a worker"):
        read_lake(storage)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"lake_id": "x"}', '{"lake_id": "x", "schema_version": "y"}'])
def test_a_damaged_lake_file_says_where_its_id_can_be_found(storage: Storage, text: str) -> None:
    storage.create_once(LAKE_FILE, text.encode())
    with pytest.raises(DamagedFile, match="any manifest's lake_id tells"):
        read_lake(storage)


def test_a_lake_of_a_later_version_asks_for_an_upgrade(storage: Storage) -> None:
    storage.create_once(LAKE_FILE, b'{"lake_id": "x", "schema_version": 2}')
    with pytest.raises(LakeError, match="schema version 2, this software reads up to 1; upgrade it"):
        read_lake(storage)
