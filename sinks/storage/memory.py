"""The storage in memory, which crashes on demand."""

import errno
import os
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from contracts.errors import DamagedFile, StorageUnavailable
from sinks.manifest import WAY_OUT
from sinks.storage.protocol import Sink, checked

__all__ = ["MemoryStorage"]


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    modified: int
    finished: bool = True


class MemoryStorage:
    """A storage in memory that forgets at `crash` what a disk may forget: the double for tests of crashes.

    `on_call(operation, name)` runs before each operation takes effect and may raise to fail or kill it there. A write
    calls it twice, as `write` when it opens the file and as `finish` before it is made durable; after a fault in
    `finish` the unfinished file stays, as after the death of a process. So does a swap, as `swap` and `swapped`. To die
    with the process but not the disk, raise and go on with the same storage; to lose power, call `crash` too.

    `clock` gives the time of writing in µs. Threads may share it.
    """

    def __init__(
        self, on_call: Callable[[str, str], None] = lambda _operation, _name: None, clock: Callable[[], int] = lambda: 0
    ) -> None:
        """Begin without files."""
        self.on_call = on_call
        self._clock = clock
        self._lock = threading.RLock()
        self._seen: dict[str, _File] = {}  # what readers see
        self._kept: dict[str, _File] = {}  # what a power loss leaves

    def crash(self) -> None:
        """Lose all that is not durable: unfinished files lose their content, renames and deletions come undone."""
        with self._lock:
            self._seen = dict(self._kept)

    def create_once(self, name: str, data: bytes) -> bool:
        """See `Storage.create_once`."""
        with self._calling("create_once", name):
            created = name not in self._seen
            file = self._seen.setdefault(name, _File(bytes(data), self._clock()))
            self._kept[name] = file
            return created

    @contextmanager
    def write(self, name: str) -> Iterator[Sink]:
        """See `Storage.write`."""
        with self._calling("write", name):
            if name in self._seen:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self._seen[name] = _File(b"", self._clock(), finished=False)
        buffer = BytesIO()

        def put(piece: memoryview) -> None:
            buffer.write(piece)
            with self._lock:
                if name in self._seen:  # as on a disk, one may write on where the name is gone
                    self._seen[name] = replace(self._seen[name], data=buffer.getvalue())

        try:
            yield Sink(put)
        except BaseException:
            with self._lock:
                self._seen.pop(name, None)
            raise
        with self._calling("finish", name):
            if name not in self._seen:
                raise StorageUnavailable(f"cannot sync {name}: another process has deleted it; start again")
            self._seen[name] = self._kept[name] = replace(self._seen[name], finished=True)

    def read(self, name: str) -> bytes:
        """See `Storage.read`."""
        with self._calling("read", name):
            return self._file(name).data

    def checksum(self, name: str) -> int:
        """See `Storage.checksum`."""
        with self._calling("read", name):
            return zlib.crc32(self._file(name).data)

    def exists(self, name: str) -> bool:
        """See `Storage.exists`."""
        with self._calling("exists", name):
            return name in self._seen

    def size(self, name: str) -> int:
        """See `Storage.size`."""
        with self._calling("size", name):
            return len(self._file(name).data)

    def age(self, name: str, now: int) -> int:
        """See `Storage.age`; the time is the clock's."""
        with self._calling("age", name):
            return now - self._file(name).modified

    def list(self, directory: str) -> list[str]:
        """See `Storage.list`."""
        with self._calling("list", directory):
            return sorted(name for name in self._seen if name.startswith(f"{directory}/"))

    def rename(self, source: str, target: str) -> None:
        """See `Storage.rename`."""
        with self._calling("rename", source):
            file = self._file(source)
            del self._seen[source]
            self._seen[checked(target)] = file

    def swap(self, directory: str, gone: Collection[str], come: Mapping[str, str], aside: str) -> None:  # noqa: ARG002
        """See `Storage.swap`; `swap` is called before readers see it, `swapped` before it is durable."""
        with self._calling("swap", directory):
            files = {target: self._seen.get(target) or self._file(source) for source, target in come.items()}
            _replace(self._seen, files, (*gone, *come))
        with self._calling("swapped", directory):
            _replace(self._kept, files, (*gone, *come))

    def sync(self, directory: str) -> None:
        """See `Storage.sync`; an unfinished file's name is kept too, without its content."""
        with self._calling("sync", directory):
            outside = {name: file for name, file in self._kept.items() if _directory(name) != directory}
            inside = {name: file for name, file in self._seen.items() if _directory(name) == directory}
            torn = {name: replace(file, data=b"") for name, file in inside.items() if not file.finished}
            self._kept = outside | inside | torn

    def delete(self, name: str) -> None:
        """See `Storage.delete`."""
        with self._calling("delete", name):
            self._seen.pop(name, None)

    def clear(self, directory: str) -> None:
        """See `Storage.clear`."""
        with self._calling("clear", directory):
            for name in [each for each in self._seen if each.startswith(f"{directory}/")]:
                del self._seen[name]

    def source(self, name: str) -> pa.Table:
        """See `Storage.source`: the file's rows."""
        with self._calling("source", name):
            data = self._file(name).data
        try:
            return pq.read_table(BytesIO(data))
        except pa.ArrowInvalid as error:
            raise DamagedFile(f"{name} is damaged: {error}; {WAY_OUT}") from error

    @contextmanager
    def _calling(self, operation: str, name: str) -> Iterator[None]:
        self.on_call(operation, checked(name))
        with self._lock:
            yield

    def _file(self, name: str) -> _File:
        if name not in self._seen:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._seen[name]


def _replace(files: dict[str, _File], come: Mapping[str, _File], gone: Collection[str]) -> None:
    for name in gone:
        files.pop(name, None)
    files.update(come)


def _directory(name: str) -> str:
    return PurePosixPath(name).parent.as_posix()
