"""What every storage promises, proved for each one there is."""

import os
import threading
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sinks.storage import LocalStorage, MemoryStorage, Storage


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "lake")
    return MemoryStorage(clock=lambda: time.time_ns() // 1_000)


def put(storage: Storage, name: str, data: bytes = b"x") -> None:
    with storage.write(name) as sink:
        sink.write(data)


def test_create_once_creates_and_says_so(storage: Storage) -> None:
    assert storage.create_once("a/b.json", b"{}")
    assert storage.read("a/b.json") == b"{}"


def test_create_once_keeps_what_is_there(storage: Storage) -> None:
    storage.create_once("a", b"first")
    assert not storage.create_once("a", b"second")
    assert storage.read("a") == b"first"


def test_create_once_is_won_by_one_of_many_threads(storage: Storage) -> None:
    won: list[int] = []
    gate = threading.Barrier(8)

    def race(number: int) -> None:
        gate.wait()
        if storage.create_once("manifests/1", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in won] == [storage.read("manifests/1")]
    assert storage.list("manifests") == ["manifests/1"]


def test_write_counts_bytes_and_keeps_their_crc(storage: Storage) -> None:
    with storage.write("a/b") as sink:
        assert sink.write(b"1234") == 4
        sink.write(memoryview(b"56789"))
        assert sink.tell() == 9
    assert storage.read("a/b") == b"123456789"
    assert (sink.size, sink.crc32) == (9, 0xCBF43926)  # the check value of CRC-32


def test_write_takes_arrow_buffers(storage: Storage) -> None:
    table = pa.table({"a": range(1000)})
    with storage.write("a.parquet") as sink:
        pq.write_table(table, sink)
    assert pq.read_table(BytesIO(storage.read("a.parquet"))) == table


def test_write_removes_the_file_when_its_block_raises(storage: Storage) -> None:
    def write_half() -> None:
        with storage.write("a/b") as sink:
            sink.write(b"1")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert not storage.exists("a/b")


def test_write_refuses_a_name_in_use(storage: Storage) -> None:
    put(storage, "a", b"first")
    with pytest.raises(FileExistsError), storage.write("a"):
        pass
    assert storage.read("a") == b"first"


def test_rename_moves_across_directories(storage: Storage) -> None:
    put(storage, "staging/1/a", b"x")
    storage.rename("staging/1/a", "tables/facts/a")
    storage.sync("tables/facts")
    storage.sync("staging/1")
    assert not storage.exists("staging/1/a")
    assert storage.read("tables/facts/a") == b"x"


def test_sync_of_an_absent_directory_is_fine(storage: Storage) -> None:
    """Whoever deleted it has seen to that: another worker may clear a staging directory at any time."""
    storage.sync("staging/p00000")


def test_delete_of_an_absent_file_is_fine(storage: Storage) -> None:
    put(storage, "a")
    storage.delete("a")
    storage.delete("a")
    assert not storage.exists("a")


def test_clear_deletes_a_directory_and_nothing_beside_it(storage: Storage) -> None:
    for name in ("staging/1/a", "staging/1/b/c", "staging/10"):
        put(storage, name)
    storage.clear("staging/1")
    storage.clear("staging/1")
    assert storage.list("staging") == ["staging/10"]


def test_a_writer_and_another_who_clears_may_be_in_a_directory_that_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was fenced still writes where its successor clears, and both may clear what a third one left."""
    storage = LocalStorage(tmp_path)
    for name in ("staging/1/a", "staging/1/b", "staging/1/c/d"):
        put(storage, name)
    unlink = os.unlink

    def unlink_in_company(path: str, **options: int) -> None:
        (tmp_path / "staging/1/late").write_bytes(b"")
        if path == "a":
            unlink(path, **options)
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", unlink_in_company)
    storage.clear("staging/1")
    assert storage.list("staging") == ["staging/1/late"]


def test_list_is_sorted_whole_and_of_one_directory(storage: Storage) -> None:
    for name in ("p1/b", "p1/a/z", "p10/a", "p1/a0"):
        put(storage, name)
    assert storage.list("p1") == ["p1/a/z", "p1/a0", "p1/b"]


def test_list_of_an_absent_directory_is_empty(storage: Storage) -> None:
    assert storage.list("nowhere") == []


def test_size_and_age(storage: Storage) -> None:
    before = time.time_ns() // 1_000 - 1_000_000  # file systems' clocks may lag
    put(storage, "a", b"123")
    assert storage.size("a") == 3
    assert 0 <= storage.age("a", now=before + 100_000_000) <= 101_000_000


@pytest.mark.parametrize("size", [0, 9, 2**18, 2**18 + 1])
def test_checksum_is_that_of_the_whole_content(storage: Storage, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    put(storage, "a", data)
    assert storage.checksum("a") == zlib.crc32(data)


def test_source_is_what_duckdb_reads(storage: Storage) -> None:
    table = pa.table({"a": [1, 2]})
    with storage.write("a.parquet") as sink:
        pq.write_table(table, sink)
    source = storage.source("a.parquet")
    assert (pq.read_table(source) if isinstance(source, str) else source) == table


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda s: s.read("a"), id="read"),
        pytest.param(lambda s: s.checksum("a"), id="checksum"),
        pytest.param(lambda s: s.size("a"), id="size"),
        pytest.param(lambda s: s.age("a", 0), id="age"),
        pytest.param(lambda s: s.source("a"), id="source"),
        pytest.param(lambda s: s.rename("a", "b"), id="rename"),
    ],
)
def test_an_absent_file_is_a_file_not_found(storage: Storage, read: Callable[[Storage], object]) -> None:
    with pytest.raises(FileNotFoundError):
        read(storage)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../../b", "a/.hidden"])
def test_a_name_outside_the_lake_or_hidden_is_refused(storage: Storage, name: str) -> None:
    with pytest.raises(ValueError, match="no name in a lake"):
        storage.exists(name)
