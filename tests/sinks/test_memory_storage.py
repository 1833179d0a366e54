"""What the storage in memory adds: it forgets as disks do, and fails where it is told to."""

import pytest

from contracts.errors import DamagedFile, EvidenceError, StorageUnavailable
from sinks.storage import MemoryStorage


def put(storage: MemoryStorage, name: str, data: bytes = b"x") -> None:
    with storage.write(name) as sink:
        sink.write(data)


class Killed(BaseException):
    """The process dies here."""


def test_what_was_created_or_written_survives_a_power_loss() -> None:
    storage = MemoryStorage()
    storage.create_once("a", b"1")
    put(storage, "b", b"2")
    storage.crash()
    assert (storage.read("a"), storage.read("b")) == (b"1", b"2")


def test_a_rename_comes_undone_without_sync() -> None:
    storage = MemoryStorage()
    put(storage, "d/a")
    storage.rename("d/a", "e/a")
    storage.crash()
    assert storage.list("d") == ["d/a"]
    assert storage.list("e") == []


def test_a_rename_whose_target_was_synced_leaves_both_names() -> None:
    storage = MemoryStorage()
    put(storage, "d/a")
    storage.rename("d/a", "e/a")
    storage.sync("e")
    storage.crash()
    assert storage.list("d") + storage.list("e") == ["d/a", "e/a"]


def test_a_rename_whose_source_alone_was_synced_loses_the_file() -> None:
    storage = MemoryStorage()
    put(storage, "d/a")
    storage.rename("d/a", "e/a")
    storage.sync("d")
    storage.crash()
    assert storage.list("d") + storage.list("e") == []


def test_a_deletion_comes_undone_without_sync() -> None:
    storage = MemoryStorage()
    put(storage, "d/a")
    storage.delete("d/a")
    storage.crash()
    assert storage.exists("d/a")
    storage.delete("d/a")
    storage.sync("d")
    storage.crash()
    assert not storage.exists("d/a")


def test_a_file_that_is_being_written_is_seen_in_part_and_lost_in_a_crash() -> None:
    storage = MemoryStorage()
    with storage.write("d/a") as sink:
        sink.write(b"12")
        assert storage.read("d/a") == b"12"
        storage.sync("d")
        storage.crash()
        assert storage.read("d/a") == b""


def test_a_process_killed_before_it_finishes_leaves_part_of_the_file() -> None:
    def die(operation: str, _name: str) -> None:
        if operation == "finish":
            raise Killed

    storage = MemoryStorage(die)
    with pytest.raises(Killed), storage.write("d/a") as sink:
        sink.write(b"12")
    assert storage.read("d/a") == b"12"
    storage.crash()
    assert not storage.exists("d/a")


def test_a_fault_stands_before_the_call_it_names() -> None:
    calls: list[tuple[str, str]] = []

    def on_call(operation: str, name: str) -> None:
        calls.append((operation, name))
        if len(calls) == 3:
            raise StorageUnavailable("the disk is gone")

    storage = MemoryStorage(on_call)
    put(storage, "a")
    with pytest.raises(EvidenceError, match="the disk is gone"):
        storage.create_once("b", b"")
    assert calls == [("write", "a"), ("finish", "a"), ("create_once", "b")]
    assert not storage.exists("b")


def test_a_file_is_as_old_as_its_clock_says() -> None:
    storage = MemoryStorage(clock=lambda: 40)
    put(storage, "a")
    assert storage.age("a", now=100) == 60


def test_a_source_that_is_no_parquet_is_damaged() -> None:
    storage = MemoryStorage()
    put(storage, "a.parquet", b"PAR1")
    with pytest.raises(DamagedFile, match=r"a\.parquet is damaged"):
        storage.source("a.parquet")
