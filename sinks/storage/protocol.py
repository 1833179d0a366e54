"""What a storage promises, and the file that it hands out to be written."""

import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Sink", "Storage", "checked"]


class Sink:
    """A file being written: takes bytes, counts them and keeps their CRC-32, so that a reader can notice a change.

    It has what pyarrow asks of a Python file. `write` raises `StorageUnavailable`.
    """

    closed = False

    def __init__(self, put: Callable[[memoryview], None]) -> None:
        """Hand all bytes to `put`, which takes a piece whole or raises."""
        self._put = put
        self.size = 0
        self.crc32 = 0

    def write(self, data: "Buffer") -> int:
        """Append the bytes and return how many there were."""
        piece = memoryview(data).cast("B")
        self._put(piece)
        self.size += len(piece)
        self.crc32 = zlib.crc32(piece, self.crc32)
        return len(piece)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.size

    def flush(self) -> None:
        """Do nothing: no byte is held back."""

    def close(self) -> None:
        """Do nothing: the file is finished where `Storage.write` ends."""


class Storage(Protocol):
    """The files of one lake, for any number of workers and readers at once."""

    def create_once(self, name: str, data: bytes) -> bool:
        """Create the file with this content if no file has the name; return whether this call did.

        Of any number of concurrent calls with one name exactly one returns True. No reader sees part of the content.
        Whatever is returned, the name and its content are durable.
        """

    def write(self, name: str) -> AbstractContextManager[Sink]:
        """Open a new file to write; durable when the block ends, removed when it raises.

        A name is written once: `FileExistsError` if there is one. Until the block has ended, readers may see part of
        the content, so nobody may be told the name before.
        """

    def read(self, name: str) -> bytes:
        """Return the content; `FileNotFoundError` if there is no such file."""

    def checksum(self, name: str) -> int:
        """Return the CRC-32 of the content, in little memory; `FileNotFoundError` if there is no such file."""

    def exists(self, name: str) -> bool:
        """Return whether there is a file with this name."""

    def size(self, name: str) -> int:
        """Return the number of bytes; `FileNotFoundError` if there is no such file."""

    def age(self, name: str, now: int) -> int:
        """Return how long before `now` the file was written, both in µs; `FileNotFoundError` if there is none."""

    def list(self, directory: str) -> list[str]:
        """Return the names of all files below the directory, sorted; none if there is no such directory."""

    def rename(self, source: str, target: str) -> None:
        """Move the file at once, over one that has the target's name; `FileNotFoundError` if there is no source."""

    def swap(self, directory: str, gone: Collection[str], come: Mapping[str, str], aside: str) -> None:
        """Let the files `gone` leave the directory as those of `come` (source to target in it) move in; durable.

        Whoever lists the directory sees the ones or the others; files that others rename into it meanwhile stay. Doing
        it again does what a crash cut off, and once it is done nothing. What is left of it lies in the directory
        `aside`, its own, which the caller clears. `FileNotFoundError` if a file to come is at neither place.
        """

    def sync(self, directory: str) -> None:
        """Make the renames and deletions directly in this directory durable; an absent one is fine."""

    def delete(self, name: str) -> None:
        """Delete the file; an absent one is fine."""

    def clear(self, directory: str) -> None:
        """Delete all below the directory and itself; an absent one is fine. Not atomic.

        What others write there meanwhile may stay, and the directory with it.
        """

    def source(self, name: str) -> str | pa.Table:
        """Return what DuckDB can read in place of the Parquet file: a path or a table.

        `FileNotFoundError` if there is no such file. A file that is no Parquet is a `DamagedFile` here or for DuckDB.
        """


def checked(name: str) -> str:
    """Return the name if it stays inside the lake and is not hidden."""
    parts = name.split("/")
    if not all(parts) or any(part.startswith(".") for part in parts):
        raise ValueError(f"{name!r} is no name in a lake")
    return name
