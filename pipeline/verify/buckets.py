"""Rows set aside on disk by unit, so that a partition of any size is compared a few thousand units at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from pipeline.verify.rows import ROWS, Row

__all__ = ["Buckets"]

_ROWS_A_BUCKET: Final = 40_000  # some 50 MB as Python objects
_MOST: Final = 1_000
_HELD: Final = 100_000  # rows in memory before they are written


class Buckets:
    """Files of rows, each for some of the units; all rows of one unit are in one bucket."""

    def __init__(self, directory: Path, rows: int) -> None:
        """Make as many as suit that number of rows, below the directory; they are deleted as they are read."""
        self.count = min(max(1, rows // _ROWS_A_BUCKET), _MOST)
        self._directory = directory
        self._held: dict[str, list[list[Row]]] = {name: [[] for _ in range(self.count)] for name in ROWS}
        self._rows = 0
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoders = {name: msgspec.msgpack.Decoder(list[kind]) for name, kind in ROWS.items()}  # type: ignore[valid-type]

    def add(self, name: str, rows: Iterable[Row]) -> None:
        """Set rows aside; `name` is one of ROWS."""
        rows, held, count = [*rows], self._held[name], self.count
        for row in rows:
            held[hash((row.flag_key, row.unit_id)) % count].append(row)
        self._rows += len(rows)
        if self._rows >= _HELD and count > 1:  # one alone is taken whole anyway
            self._write()

    def take(self, number: int) -> dict[str, list[Row]]:
        """Return the rows of a bucket, by name; it is empty afterwards."""
        return {name: [*self._written(number, name), *self._unwritten(number, name)] for name in ROWS}

    def _written(self, number: int, name: str) -> Iterator[Row]:
        file = self._file(number, name)
        if file.exists():
            with file.open("rb") as parts:
                while size := parts.read(8):
                    yield from self._decoders[name].decode(parts.read(int.from_bytes(size)))
            file.unlink()

    def _unwritten(self, number: int, name: str) -> list[Row]:
        rows, self._held[name][number] = self._held[name][number], []
        return rows

    def _write(self) -> None:
        for name in ROWS:
            for number in range(self.count):
                if rows := self._unwritten(number, name):
                    data = self._encode(rows)
                    with self._file(number, name).open("ab") as file:
                        file.write(len(data).to_bytes(8))
                        file.write(data)
        self._rows = 0

    def _file(self, number: int, name: str) -> Path:
        return self._directory / f"{number}.{name}"
