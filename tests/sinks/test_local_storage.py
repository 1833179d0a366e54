"""What the storage in a directory adds: hidden names, file modes, the faults of an operating system."""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.errors import StorageUnavailable
from sinks.storage import LocalStorage


@contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def test_files_follow_the_umask_as_any_other(tmp_path: Path) -> None:
    """Readers need not be the worker's user."""
    storage = LocalStorage(tmp_path)
    storage.create_once("a", b"")
    with storage.write("b"):
        pass
    plain = tmp_path / "c"
    plain.touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b", "c")}
    assert modes == {stat.S_IMODE(plain.stat().st_mode)}


def test_create_once_leaves_nothing_else(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for _ in range(2):
        storage.create_once("d/a", b"")
    assert os.listdir(tmp_path / "d") == ["a"]  # noqa: PTH208 - hidden files too


def test_list_leaves_out_what_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "d" / ".git").mkdir(parents=True)
    (tmp_path / "d" / ".git" / "a").touch()
    (tmp_path / "d" / ".a.json.1f").touch()
    assert LocalStorage(tmp_path).list("d") == []


def test_a_lost_answer_of_a_network_file_system_is_no_defeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS may make the link, lose the reply, try again, and find the name taken by itself."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert LocalStorage(tmp_path).create_once("a", b"")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        pytest.param(errno.EPERM, "put the lake on a file system that has hard links", id="no hard links"),
        pytest.param(errno.ENOSPC, "free space on its disk", id="full"),
    ],
)
def test_a_link_that_fails_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    def fail(_source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code), str(target))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(StorageUnavailable, match=f"cannot link {tmp_path}/a: .*; {remedy}"):
        LocalStorage(tmp_path).create_once("a", b"")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_lake_should_be(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.touch()
    with pytest.raises(StorageUnavailable, match="a file stands where a directory is needed"):
        LocalStorage(lake).create_once("a/b", b"")


def test_no_right_to_write(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageUnavailable, match=r"cannot make .*; give this user the right to it"):
        LocalStorage(tmp_path).create_once("a/b", b"")


def test_a_full_disk_names_the_file_and_leaves_none(tmp_path: Path) -> None:
    """A limit on file size stands in for the disk; the writer here is pyarrow, which must hand the error on."""
    storage = LocalStorage(tmp_path)
    with (
        limited(resource.RLIMIT_FSIZE, 10_000),
        pytest.raises(StorageUnavailable, match=r"cannot write .*/big: .*; raise the limit on file size"),
        storage.write("d/big") as sink,
    ):
        pq.write_table(pa.table({"a": [os.urandom(1_000) for _ in range(100)]}), sink)
    assert storage.list("d") == []


def test_a_fault_in_reading(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StorageUnavailable, match="a directory stands where a file is needed"):
        LocalStorage(tmp_path).read("a")


def test_a_fault_in_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(place: Path) -> Iterator[os.DirEntry[str]]:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(place))

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(StorageUnavailable, match=r"cannot list .*; check its disk"):
        LocalStorage(tmp_path).list("a")


def test_a_fault_without_a_known_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_handle: int) -> None:
        raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageUnavailable, match=r"cannot sync .*; mend it and start again"):
        LocalStorage(tmp_path).create_once("a", b"")
