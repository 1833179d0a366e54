"""Files of a directory give way to others at once: what a reader sees, what a crash leaves, who waits for whom."""

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from contracts.errors import StorageUnavailable
from sinks.storage import LocalStorage, MemoryStorage, Storage, swapping

DAY = "tables/facts/dt=2026-06-07"
GONE = (f"{DAY}/1", f"{DAY}/2")
COME = {"staging/9/big": f"{DAY}/12"}
ASIDE = "staging/9/swapped"


class Died(Exception):
    """A process ends at this point."""


def filled(storage: Storage) -> Storage:
    """Return the storage with two files to be replaced, one to stay, and one to come."""
    for name in (*GONE, f"{DAY}/3", *COME):
        storage.create_once(name, name.encode())
    return storage


def swap(storage: Storage) -> None:
    storage.swap(DAY, GONE, COME, ASIDE)


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return filled(LocalStorage(tmp_path / "lake") if request.param == "local" else MemoryStorage())


@pytest.fixture(params=["exchange", "two renames"])
def local(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStorage:
    """Give a storage in a directory, of which the file system can exchange directories or cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(swapping, "_exchanged", lambda _one, _other: False)
    elif not can_exchange(tmp_path):
        pytest.skip("this file system cannot exchange directories")
    storage = LocalStorage(tmp_path / "lake")
    filled(storage)
    return storage


def can_exchange(directory: Path) -> bool:
    (directory / "one").mkdir()
    (directory / "other").mkdir()
    return swapping._exchanged(directory / "one", directory / "other")  # noqa: SLF001


# of every storage


def test_files_give_way_and_the_rest_stays(storage: Storage) -> None:
    swap(storage)
    assert storage.list("tables") == [f"{DAY}/12", f"{DAY}/3"]
    assert storage.read(f"{DAY}/12") == b"staging/9/big"
    assert not storage.exists("staging/9/big")


def test_doing_it_again_changes_nothing(storage: Storage) -> None:
    swap(storage)
    storage.clear(ASIDE)
    swap(storage)
    assert storage.list("tables") == [f"{DAY}/12", f"{DAY}/3"]


def test_a_file_that_is_neither_staged_nor_in_place_is_not_found(storage: Storage) -> None:
    """A later swap has taken it on: a zombie must not bring anything back."""
    swap(storage)
    storage.delete(f"{DAY}/12")
    with pytest.raises(FileNotFoundError):
        swap(storage)
    assert storage.list("tables") == [f"{DAY}/3"]


def test_it_survives_a_power_loss() -> None:
    storage = MemoryStorage()
    filled(storage)
    swap(storage)
    storage.crash()
    assert storage.list("tables") == [f"{DAY}/12", f"{DAY}/3"]


@pytest.mark.parametrize("power_lost", [False, True], ids=["process", "power"])
@pytest.mark.parametrize("operation", ["swap", "swapped"])
def test_a_crash_leaves_the_one_or_the_other(operation: str, *, power_lost: bool) -> None:
    def die(called: str, _name: str) -> None:
        if called == operation:
            raise Died

    storage = MemoryStorage()
    filled(storage)
    storage.on_call = die
    with pytest.raises(Died):
        swap(storage)
    storage.on_call = lambda _operation, _name: None
    if power_lost:
        storage.crash()
    done = operation == "swapped" and not power_lost
    assert storage.list("tables") == ([f"{DAY}/12", f"{DAY}/3"] if done else [*GONE, f"{DAY}/3"])
    swap(storage)
    assert storage.list("tables") == [f"{DAY}/12", f"{DAY}/3"]


# of a directory


def test_the_directory_keeps_its_mode(local: LocalStorage) -> None:
    day = local.root / DAY
    day.chmod(0o2750)
    swap(local)
    assert stat.S_IMODE(day.stat().st_mode) == 0o2750


def test_who_lists_meanwhile_sees_the_one_or_the_other(tmp_path: Path) -> None:
    if not can_exchange(tmp_path):
        pytest.skip("this file system cannot exchange directories")
    storage = LocalStorage(tmp_path / "lake")
    filled(storage)
    seen: set[tuple[str, ...]] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.add(tuple(sorted(os.listdir(storage.root / DAY))))  # noqa: PTH208 - as a glob does

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for number in range(40):
            storage.create_once(f"staging/{number}/n", b"")
            before = storage.list(DAY)
            storage.swap(DAY, [before[0]], {f"staging/{number}/n": f"{DAY}/n{number}"}, f"staging/{number}/swapped")
    finally:
        ended.set()
        reader.join()
    assert len(seen) > 1
    assert {len(names) for names in seen} == {3}


CALLS = ["mkdir", "link", "copymode", "fsync", "rename", "unlink"]


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("call", CALLS)
def test_a_death_at_any_call_is_made_good(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
) -> None:
    """Others may have put a file into the directory before that, or made it anew where it was away."""
    with monkeypatch.context() as patched:
        die_at(patched, call, nth)
        with suppress(Died):
            swap(local)
    assert local.list("tables") in ([*GONE, f"{DAY}/3"], [f"{DAY}/12", f"{DAY}/3"], [])
    local.create_once("staging/8/4", b"")
    local.rename("staging/8/4", f"{DAY}/4")
    swap(local)
    assert local.list("tables") == [f"{DAY}/12", f"{DAY}/3", f"{DAY}/4"]
    assert local.read(f"{DAY}/3") == f"{DAY}/3".encode()


def die_at(patched: pytest.MonkeyPatch, call: str, nth: int) -> None:
    owner = {"mkdir": Path, "link": os, "copymode": shutil, "fsync": os, "rename": Path, "unlink": Path}[call]
    real = getattr(owner, call)
    times = iter(range(1, 1_000))

    def dying(*arguments: object, **options: object) -> object:
        if next(times) == nth:
            raise Died
        return real(*arguments, **options)

    patched.setattr(owner, call, dying)


def test_a_day_that_is_away_is_not_swapped_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without exchange a worker died between two renames: only it, or its successor, can bring the files back."""
    storage = LocalStorage(tmp_path / "lake")
    filled(storage)
    monkeypatch.setattr(swapping, "_exchanged", lambda _one, _other: False)
    with monkeypatch.context() as patched:
        die_at(patched, "rename", 2)
        with pytest.raises(Died):
            swap(storage)
    storage.create_once("staging/7/big", b"")
    with pytest.raises(StorageUnavailable, match="a worker died while it replaced them"):
        storage.swap(DAY, [f"{DAY}/3"], {"staging/7/big": f"{DAY}/33"}, "staging/7/swapped")
    swap(storage)
    storage.swap(DAY, [f"{DAY}/3"], {"staging/7/big": f"{DAY}/33"}, "staging/7/swapped")
    assert storage.list("tables") == [f"{DAY}/12", f"{DAY}/33"]


def test_a_file_that_may_not_be_linked_is_copied(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux forbids links to files of others that one may not write."""
    link = os.link

    def forbid(source: Path, target: Path, **options: bool) -> None:
        if source.name == "3":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        link(source, target, **options)

    monkeypatch.setattr(os, "link", forbid)
    swap(local)
    assert local.read(f"{DAY}/3") == f"{DAY}/3".encode()


def test_a_directory_among_the_files_is_named(local: LocalStorage) -> None:
    (local.root / DAY / "mine").mkdir()
    with pytest.raises(StorageUnavailable, match=r"dt=2026-06-07/mine is a directory among table files; move it away"):
        swap(local)


def test_a_fault_of_the_system_call_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __init__(self, *_: object, **__: object) -> None: ...

        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(errno.EACCES)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Refusing)
    storage = LocalStorage(tmp_path / "lake")
    filled(storage)
    with pytest.raises(StorageUnavailable, match=r"cannot swap .*: Permission denied; give this user the right to it"):
        swap(storage)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, None])
def test_a_system_without_the_call_takes_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    class Without:
        def __init__(self, *_: object, **__: object) -> None:
            if code is not None:
                self.renameat2 = self.refuse

        @staticmethod
        def refuse(*_: object) -> int:
            ctypes.set_errno(code or 0)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Without)
    storage = LocalStorage(tmp_path / "lake")
    filled(storage)
    swap(storage)
    assert storage.list("tables") == [f"{DAY}/12", f"{DAY}/3"]


# locks


@pytest.fixture
def held(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Give what holds the lock of the day as another process would, in the way given."""
    monkeypatch.setattr(swapping, "PATIENCE_S", 0.05)
    handles: list[int] = []

    def hold(how: int) -> None:
        handle = os.open(local._lock(local.root / DAY), os.O_RDWR | os.O_CREAT)  # noqa: SLF001
        fcntl.flock(handle, how)
        handles.append(handle)

    (local.root / ".locks").mkdir(exist_ok=True)
    yield hold
    for handle in handles:
        os.close(handle)


def test_a_swap_waits_for_renames_and_says_so(local: LocalStorage, held: Callable[[int], None]) -> None:
    held(fcntl.LOCK_SH)
    with pytest.raises(StorageUnavailable, match=r"locked for .* by a process that hangs; find it with lslocks"):
        swap(local)
    assert local.list("tables") == [*GONE, f"{DAY}/3"]


def test_the_lock_of_another_user_will_do(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def of_another(path: Path, flags: int, mode: int = 0o777) -> int:
        if ".locks" in str(path) and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, flags, mode)

    swap(local)
    monkeypatch.setattr(os, "open", of_another)
    local.create_once("staging/8/4", b"")
    local.rename("staging/8/4", f"{DAY}/4")
    swap(local)
    assert local.list("tables") == [f"{DAY}/12", f"{DAY}/3", f"{DAY}/4"]


def test_renames_do_not_wait_for_each_other(local: LocalStorage, held: Callable[[int], None]) -> None:
    held(fcntl.LOCK_SH)
    local.create_once("staging/8/4", b"")
    local.rename("staging/8/4", f"{DAY}/4")
    assert local.exists(f"{DAY}/4")


def test_a_rename_into_a_directory_waits_for_its_swap_and_no_other(
    local: LocalStorage, held: Callable[[int], None]
) -> None:
    held(fcntl.LOCK_EX)
    local.create_once("staging/8/4", b"")
    with pytest.raises(StorageUnavailable, match="locked"):
        local.rename("staging/8/4", f"{DAY}/4")
    local.rename("staging/8/4", "tables/facts/dt=2026-06-08/4")
    assert local.exists("tables/facts/dt=2026-06-08/4")
