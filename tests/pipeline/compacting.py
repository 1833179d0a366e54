"""A lab whose lake has small files of past days, and what must hold of its tables at any time."""

import itertools
from functools import cache

from sinks.lineage import Lineage, open_lake
from sinks.storage import MemoryStorage, Storage
from tests.pipeline.lab import Lab, exposure, outcome

__all__ = ["all_rows", "assert_published", "copy_lake", "lab_with_small_files"]

_DIRECTORIES = ("contracts", "manifests", "segments", "tables")


def lab_with_small_files() -> Lab:
    """Return a lab whose first day, 2026-06-07, is decided: four files of facts and of events, two of the rest."""
    made = _made()
    storage = MemoryStorage()
    copy_lake(made.storage, storage)
    logs = {topic: [*log] for topic, log in made.logs.items()}
    return Lab(storage=storage, logs=logs, sent=[*made.sent], _ids=itertools.count(1_000))


def copy_lake(source: Storage, target: Storage) -> None:
    """Make a lake of the same files in a storage without one."""
    open_lake(target, lambda: "lake")
    for name in itertools.chain.from_iterable(map(source.list, _DIRECTORIES)):
        target.create_once(name, source.read(name))


@cache
def _made() -> Lab:
    lab = Lab()
    writer = lab.writer()
    for hour in (0, 4, 8, 12, 26, 29.5, 33.5, 37.5, 70):
        lab.publish("exposures", exposure(f"u{hour}", hour, attributes={"plan": "pro"}))
        lab.publish("outcomes", outcome(f"u{hour}", hour + 1))
        if hour < 8:
            lab.publish("outcomes", outcome("nobody", hour + 1.5))
            lab.publish("guardrails", None)
        lab.read_all(writer)
        lab.checkpoint(writer, close=True)
    return lab


def all_rows(lab: Lab) -> list[str]:
    """Return what plain globs find, in an order of its own."""
    return sorted(repr((table, row)) for table in ("facts", "events", "unjoined", "refused") for row in lab.rows(table))


def assert_published(lab: Lab) -> None:
    """Assert that the tables hold what the newest manifest says, replaced files or those that replace them."""
    newest = Lineage(lab.storage, 0).newest()
    there = set(lab.storage.list("tables"))
    if newest is None:
        assert not there
        return
    staged = {file.name for file in newest.unpublished()}
    named = {file.name for file in newest.files}
    assert named - staged <= there <= named | {*newest.replaced}
    for directory in {_directory(name) for name in newest.replaced}:
        small = {name for name in newest.replaced if _directory(name) == directory}
        large = {name for name in staged if _directory(name) == directory}
        assert there & (small | large) in (small, large)


def _directory(name: str) -> str:
    return name.rpartition("/")[0]
