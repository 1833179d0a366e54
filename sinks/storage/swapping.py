"""How files of a directory give way to others at once, on a local file system.

A directory is never changed in steps: a new one is built beside it, of hard links to what stays and to what comes, and
the two change places. On Linux that is one call, `renameat2` with RENAME_EXCHANGE, so whoever lists the directory sees
the one or the other. Where the file system does not have it (NFS, other systems), the old directory is renamed away and
the new one into its place: between the two renames there is no directory, and after a death just there not until the
swap is done again.

Others rename files into the directory meanwhile. Whoever does so holds a shared lock of it, the swap an exclusive one
(`flock`, which ends with the process), so no file goes into a directory that is about to leave.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from contracts.errors import StorageUnavailable

__all__ = ["exclusive", "shared", "swap_directory"]

PATIENCE_S: Final = 30.0
"""How long a lock is waited for; a swap takes some ms, so what holds one longer hangs."""

_POLL_S: Final = 0.005
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_NO_LINK: Final = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV})
"""What `link` says of a file of another user (fs.protected_hardlinks), or of one that has too many names."""


@contextmanager
def shared(lock: Path) -> Iterator[None]:
    """Hold the lock together with others; `StorageUnavailable` if it cannot be had for long."""
    with _held(lock, fcntl.LOCK_SH):
        yield


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the lock alone; `StorageUnavailable` if it cannot be had for long."""
    with _held(lock, fcntl.LOCK_EX):
        yield


def swap_directory(place: Path, beside: Path, gone: Collection[str], come: Mapping[str, Path]) -> None:
    """Let `gone`, names in `place`, give way to the files of `come`, by their names there; durable on return.

    The caller holds the lock of `place`, and clears `beside`, on the same file system, where the new directory is built
    and the old one lies afterwards. Whatever died at whatever point, doing it again does the rest, and once it is done
    nothing. `FileNotFoundError` if a file to come is neither in place nor where it comes from.
    """
    here = _files(place)
    for name, source in come.items():
        if name not in here and not source.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place / name))
    if not come.keys() <= here.keys() or here.keys() & set(gone):
        _build(beside / "new", _staying(place, here, beside, gone), come)
        if place.exists():
            shutil.copymode(place, beside / "new")
        _exchange(place, beside / "new", beside / f"old{_tries(beside)}")
    _fsync(place.parent)
    with suppress(FileNotFoundError):  # there is none, or whoever did the same has cleared it
        _fsync(beside)


def _staying(place: Path, here: Mapping[str, Path], beside: Path, gone: Collection[str]) -> dict[str, Path]:
    """Return what stays: what lies in place, and what a try that died between two renames had taken from there."""
    away = [_files(beside / f"old{number}") for number in range(_tries(beside))]
    there = {name: path for files in (*away, here) for name, path in files.items()}
    if there.keys().isdisjoint(gone):
        raise StorageUnavailable(
            f"{place} is without its files: a worker died while it replaced them; start that worker again"
        )
    return {name: path for name, path in there.items() if name not in gone}


def _build(new: Path, stay: Mapping[str, Path], come: Mapping[str, Path]) -> None:
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(parents=True)
    for name, path in {**come, **stay}.items():
        _link(path, new / name)
    _fsync(new)


def _exchange(place: Path, new: Path, old: Path) -> None:
    if place.exists():
        if _exchanged(place, new):
            return
        place.rename(old)
    new.rename(place)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two directories change places in one step; return whether the system can do it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if (code := ctypes.get_errno()) in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
        return False
    raise OSError(code, os.strerror(code), str(one))


def _files(directory: Path) -> dict[str, Path]:
    """Return what lies in the directory, by name; nothing if there is no directory."""
    try:
        with os.scandir(directory) as entries:
            found = [*entries]
    except FileNotFoundError:
        return {}
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            raise StorageUnavailable(f"{entry.path} is a directory among table files; move it away")
    return {entry.name: Path(entry.path) for entry in found}


def _tries(beside: Path) -> int:
    """Return how often a directory was renamed away, by tries of which no later one was finished."""
    number = 0
    while (beside / f"old{number}").exists():
        number += 1
    return number


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copy2(source, target, follow_symlinks=False)
        _fsync(target)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _held(lock: Path, how: int) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = _opened(lock)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _taken(handle, how):
            if time.monotonic() > deadline:
                raise StorageUnavailable(
                    f"{lock} is locked for {PATIENCE_S:g} s by a process that hangs; find it with lslocks and end it"
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(handle)


def _opened(lock: Path) -> int:
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)  # NFS locks alone only what is open for writing
    except PermissionError:  # another user made it
        return os.open(lock, os.O_RDONLY)


def _taken(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
