"""A stopped partition goes on once its mark is cleared in the lake."""

from pathlib import Path

import pytest

from contracts.errors import Fenced, LakeError
from pipeline.resume import resume_all
from sinks.lineage import open_lake
from sinks.storage import LocalStorage
from tests.pipeline.lab import Lab, Writer, exposure


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path)
    open_lake(storage, lambda: "lake")
    return storage


def stopped(lab: Lab, storage: LocalStorage) -> Writer:
    """Return a writer whose breaker stopped it after a hundred broken records."""
    lab.publish("exposures", exposure("u1", 0), *[b"{"] * 100)
    writer = lab.writer(storage)
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    return writer


def test_the_mark_is_cleared_and_told(storage: LocalStorage, tmp_path: Path) -> None:
    lab = Lab()
    stopped(lab, storage)
    [resumed] = resume_all(tmp_path)
    assert (resumed.partition, resumed.topic, resumed.reason) == (0, "exposures", "100 records in a row were refused")
    assert resume_all(tmp_path) == []


def test_nothing_else_changes(storage: LocalStorage, tmp_path: Path) -> None:
    lab = Lab()
    before = stopped(lab, storage).base
    resume_all(tmp_path)
    after = lab.writer(storage).base
    changed = {"seq", "writer", "committed_at", "stopped", "files"}
    assert after.model_dump(exclude=changed) == before.model_dump(exclude=changed)
    assert [file.name for file in after.files] == [file.name for file in before.files]
    assert after.seq == before.seq + 1


def test_the_worker_that_holds_the_partition_is_fenced(storage: LocalStorage, tmp_path: Path) -> None:
    """It notices by that, at the latest, and reads on from the new manifest."""
    lab = Lab()
    writer = stopped(lab, storage)
    resume_all(tmp_path)
    with pytest.raises(Fenced):
        lab.checkpoint(writer, close=False)
    assert lab.writer(storage).partition.stopped is None


def test_a_directory_without_lake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake here"):
        resume_all(tmp_path)
