"""The storage in a directory."""

import errno
import os
import secrets
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contracts.errors import StorageUnavailable
from sinks.storage.protocol import Sink, checked
from sinks.storage.swapping import exclusive, shared, swap_directory

if TYPE_CHECKING:
    from io import FileIO
    from types import TracebackType

__all__ = ["LocalStorage"]

_REMEDIES: Final = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space or raise the quota of its user",
    errno.EACCES: "give this user the right to it",
    errno.EPERM: "give this user the right to it",
    errno.EROFS: "mount its disk for writing",
    errno.EFBIG: "raise the limit on file size (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit on open files",
    errno.EEXIST: "a file stands where a directory is needed; move it away or set another lake",
    errno.ENOTDIR: "a file stands where a directory is needed; move it away or set another lake",
    errno.EISDIR: "a directory stands where a file is needed; move it away",
    errno.ENAMETOOLONG: "set a lake with a shorter path",
    errno.EIO: "check its disk",
    errno.ENOLCK: "put the lake on a file system that has locks (flock)",
}
"""What to do about an error of the operating system."""

_PIECE_BYTES: Final = 2**18
"""Of a file whose checksum is asked for: as much as stays in the cache."""

_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})
"""What `link` says on a file system without hard links."""


class LocalStorage:
    """A directory that all workers share, on a POSIX file system with hard links and locks (`flock`).

    It is made on first writing. Names that begin with a dot are the storage's own and never listed.
    """

    def __init__(self, root: Path) -> None:
        """Keep the directory's path; touch nothing."""
        self.root = root.absolute()

    def create_once(self, name: str, data: bytes) -> bool:
        """See `Storage.create_once`: a synced temporary file gets the name as a hard link."""
        path = self._path(name)
        self._make(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with _faults("write", temporary):
                file = temporary.open("xb", buffering=0)
            with file:
                _put(file, temporary, memoryview(data))
                _fsync(file.fileno(), temporary)
            created = _link(temporary, path)
            self._sync(path.parent)
            return created
        finally:
            with suppress(OSError):
                temporary.unlink()

    @contextmanager
    def write(self, name: str) -> Iterator[Sink]:
        """See `Storage.write`."""
        path = self._path(name)
        self._make(path.parent)
        with _faults("write", path, FileExistsError):
            file = path.open("xb", buffering=0)
        try:
            with file:
                yield Sink(lambda piece: _put(file, path, piece))
                _fsync(file.fileno(), path)
            self._sync(path.parent)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise

    def read(self, name: str) -> bytes:
        """See `Storage.read`."""
        path = self._path(name)
        with _faults("read", path, FileNotFoundError):
            return path.read_bytes()

    def checksum(self, name: str) -> int:
        """See `Storage.checksum`."""
        path, crc32, piece = self._path(name), 0, memoryview(bytearray(_PIECE_BYTES))
        with _faults("read", path, FileNotFoundError), path.open("rb", buffering=0) as file:
            while count := file.readinto(piece):
                crc32 = zlib.crc32(piece[:count], crc32)
        return crc32

    def exists(self, name: str) -> bool:
        """See `Storage.exists`."""
        path = self._path(name)
        with _faults("read", path), suppress(FileNotFoundError):
            path.stat()
            return True
        return False

    def size(self, name: str) -> int:
        """See `Storage.size`."""
        return self._stat(name).st_size

    def age(self, name: str, now: int) -> int:
        """See `Storage.age`; the time is the file system's."""
        return now - self._stat(name).st_mtime_ns // 1_000

    def list(self, directory: str) -> list[str]:
        """See `Storage.list`."""
        names = []
        top = self._path(directory)

        def stop(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        with _faults("list", top):
            for place, directories, files in os.walk(top, onerror=stop):
                directories[:] = [each for each in directories if not each.startswith(".")]
                below = Path(place).relative_to(self.root)
                names += [(below / each).as_posix() for each in files if not each.startswith(".")]
        return sorted(names)

    def rename(self, source: str, target: str) -> None:
        """See `Storage.rename`."""
        path, goal = self._path(source), self._path(target)
        with _faults("rename", path, FileNotFoundError), shared(self._lock(goal.parent)):
            self._make(goal.parent)
            path.rename(goal)

    def swap(self, directory: str, gone: Collection[str], come: Mapping[str, str], aside: str) -> None:
        """See `Storage.swap`; how is told in `swapping`."""
        place, beside = self._path(directory), self._path(aside)
        leaving = {self._path(name).name for name in gone}
        arriving = {self._path(target).name: self._path(source) for source, target in come.items()}
        self._make(place.parent)
        with _faults("swap", place, FileNotFoundError), exclusive(self._lock(place)):
            swap_directory(place, beside, leaving, arriving)
            for path in arriving.values():
                path.unlink(missing_ok=True)
        for path in {path.parent for path in arriving.values()}:
            with suppress(FileNotFoundError):
                self._sync(path, FileNotFoundError)

    def sync(self, directory: str) -> None:
        """See `Storage.sync`."""
        with suppress(FileNotFoundError):
            self._sync(self._path(directory), FileNotFoundError)

    def delete(self, name: str) -> None:
        """See `Storage.delete`."""
        path = self._path(name)
        with _faults("delete", path):
            path.unlink(missing_ok=True)

    def clear(self, directory: str) -> None:
        """See `Storage.clear`."""
        path = self._path(directory)
        with _faults("delete", path):
            shutil.rmtree(path, onerror=_unless_others_work_there)

    def source(self, name: str) -> str:
        """See `Storage.source`: the path."""
        self._stat(name)
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self.root / checked(name)

    def _lock(self, directory: Path) -> Path:
        """Return the file whose lock keeps renames into the directory and its swap apart."""
        return self.root / ".locks" / ".".join(directory.relative_to(self.root).parts)

    def _stat(self, name: str) -> os.stat_result:
        path = self._path(name)
        with _faults("read", path, FileNotFoundError):
            return path.stat()

    def _make(self, directory: Path) -> None:
        """Make the directory and those above it, each durable."""
        with _faults("make", directory):
            if directory.is_dir():
                return
            self._make(directory.parent)
            directory.mkdir(exist_ok=True)
        self._sync(directory.parent)

    def _sync(self, directory: Path, *passing: type[OSError]) -> None:
        with _faults("sync", directory, *passing):
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _fsync(handle, directory)
        finally:
            os.close(handle)


@contextmanager
def _faults(verb: str, path: Path, *passing: type[OSError]) -> Iterator[None]:
    """Turn errors of the operating system into `StorageUnavailable`, all but those whose kind is `passing`."""
    try:
        yield
    except passing:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "mend it and start again")
        raise StorageUnavailable(f"cannot {verb} {path}: {error.strerror or error}; {remedy}") from error


def _unless_others_work_there(
    _function: object, _path: str, fault: tuple[type[BaseException], BaseException, "TracebackType"]
) -> None:
    """Raise the error, but not what comes of others who clear the same directory, or still write there."""
    error = fault[1]
    if not isinstance(error, OSError) or error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
        raise error


def _put(file: "FileIO", path: Path, piece: memoryview) -> None:
    """Write all of the piece; the file is not buffered, so a call may take a part of it only."""
    with _faults("write", path):
        while piece:
            piece = piece[file.write(piece) :]


def _fsync(handle: int, path: Path) -> None:
    with _faults("sync", path):
        os.fsync(handle)


def _link(temporary: Path, path: Path) -> bool:
    """Give the file its name unless it is taken; return whether it has it.

    A network file system may report its own lost answer as a taken name; the count of links tells.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        with _faults("read", temporary):
            return temporary.stat().st_nlink > 1
    except OSError as error:
        if error.errno in _NO_HARD_LINKS:
            raise StorageUnavailable(
                f"cannot link {path}: {error.strerror}; put the lake on a file system that has hard links"
            ) from error
        with _faults("link", path):
            raise
    return True
