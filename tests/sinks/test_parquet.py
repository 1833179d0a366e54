"""A reader notices a file that is not what was written."""

from collections.abc import Callable

import pytest

from contracts.errors import DamagedFile
from sinks.manifest import FileRef, StoredFile
from sinks.parquet import read_parquet, require, verify
from sinks.storage import MemoryStorage, Storage
from sinks.tables import stage_table
from tests.sinks.rows import stamp, table


def staged(storage: Storage) -> StoredFile:
    (file,) = stage_table(storage, "refused", table("refused", {}), stamp())
    return FileRef.model_validate({**file.model_dump(), "name": file.staged})


def test_a_shorter_file_is_noticed_without_reading_it() -> None:
    storage = MemoryStorage()
    file = staged(storage)
    with pytest.raises(DamagedFile, match=r"staging/.* has \d+ bytes instead of \d+; restore it from a backup"):
        require(storage, file.model_copy(update={"size": file.size + 1}))


@pytest.mark.parametrize("check", [verify, read_parquet])
def test_a_changed_byte_is_noticed_by_reading_it(check: Callable[[Storage, StoredFile], object]) -> None:
    storage = MemoryStorage()
    file = staged(storage)
    changed = bytearray(storage.read(file.name))
    changed[40] ^= 1
    storage.delete(file.name)
    storage.create_once(file.name, bytes(changed))
    with pytest.raises(DamagedFile, match="was changed after it was written; restore it from a backup"):
        check(storage, file)


def test_an_absent_file_is_a_file_not_found() -> None:
    storage = MemoryStorage()
    file = staged(storage)
    storage.delete(file.name)
    with pytest.raises(FileNotFoundError):
        require(storage, file)


def test_a_whole_file_passes() -> None:
    storage = MemoryStorage()
    file = staged(storage)
    verify(storage, file)
    assert read_parquet(storage, file) == table("refused", {})
