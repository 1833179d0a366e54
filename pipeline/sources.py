"""Events where they lie: in files of segments or in tables in memory, and told apart by their place among them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contracts.columns import EVENT, coded

__all__ = ["PLACES", "Places", "Source", "pieces", "rows_at", "rows_in", "rows_of"]

Source: TypeAlias = str | pa.Table
"""Rows of a table: the path of a local Parquet file, or a table in memory (text columns plain or dictionary-coded)."""

Places: TypeAlias = npt.NDArray[np.int64]
"""Places of rows: `PLACES` times the number of their source, plus their number within it."""

PLACES: Final = 2**40
"""More than the rows of any source."""

_ROWS_A_PIECE: Final = 16_384  # without values: a quarter less time than with 4,096
_VALUES_A_PIECE: Final = 4_096  # with values, as many as stay in the cache: a fifth less time than with 16,384
_CODED: Final = [field.name for field in EVENT if pa.types.is_dictionary(field.type)]


def pieces(source: Source, columns: Sequence[str] = EVENT.names) -> Iterator[pa.Table]:
    """Yield all events of a source in their order: of a file some thousands at a time, of a table as they lie there."""
    if isinstance(source, str):
        with _opened(source) as file:
            yield from (_fitted(piece, columns) for piece in _read(file, columns, range(file.num_row_groups)))
    else:
        yield from (_fitted(piece, columns) for piece in _tables(source.to_batches()))


def rows_at(sources: Sequence[Source], places: Places, columns: Sequence[str]) -> pa.Table:
    """Return the named columns of the events at these places, which ascend; texts are coded as `EVENT` has them."""
    found = [EVENT.empty_table().select(columns)]
    for number, source in enumerate(sources):
        first, end = np.searchsorted(places, (number * PLACES, (number + 1) * PLACES))
        if first < end:
            found.extend(rows_of(source, places[first:end] - number * PLACES, columns))
    return pa.concat_tables(found).unify_dictionaries()


def rows_of(source: Source, rows: Places, columns: Sequence[str] = EVENT.names) -> Iterator[pa.Table]:
    """Yield the rows of a source with these numbers, which ascend; of a file, row groups without any are not read."""
    if not isinstance(source, str):
        yield from _picked(_tables(source.select(columns).to_batches()), columns, rows, 0)
        return
    with _opened(source) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            first, last = np.searchsorted(rows, (start, end))
            if first < last:
                yield from _picked(_read(file, columns, [group]), columns, rows[first:last], start)
            start = end


def rows_in(source: Source) -> int:
    """Return the number of rows of a source."""
    if not isinstance(source, str):
        return len(source)
    with _opened(source) as file:
        return int(file.metadata.num_rows)


def _picked(pieces: Iterator[pa.Table], columns: Sequence[str], rows: Places, start: int) -> Iterator[pa.Table]:
    """Yield the rows with these numbers of pieces, the first of which begins at number `start`; all at once, if any.

    Nothing is read beyond the last of them: a close wants the oldest events of a source, and seldom all.
    """
    found = []
    for piece in pieces:
        first, end = np.searchsorted(rows, (start, start + len(piece)))
        if first < end:
            found.append(piece.take(pa.array(rows[first:end] - start)))
        start += len(piece)
        if end == len(rows):
            break
    if found:
        yield _fitted(pa.concat_tables(found), columns)


def _opened(path: str) -> pq.ParquetFile:
    return pq.ParquetFile(path, read_dictionary=_CODED)


def _read(file: pq.ParquetFile, columns: Sequence[str], groups: Sequence[int]) -> Iterator[pa.Table]:
    rows = _VALUES_A_PIECE if "value" in columns else _ROWS_A_PIECE
    return _tables(file.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False))


def _tables(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    return (pa.Table.from_batches([batch]) for batch in batches)


def _fitted(events: pa.Table, columns: Sequence[str]) -> pa.Table:
    return coded(events.select(columns), pa.schema([EVENT.field(name) for name in columns]))
