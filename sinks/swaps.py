"""Table files that take the place of others: what a manifest says of them, done to the directories of the tables."""

from sinks.manifest import Manifest
from sinks.storage import Storage

__all__ = ["swap_tables"]


def swap_tables(storage: Storage, manifest: Manifest) -> set[str]:
    """Publish the files that stand for those `replaced`, one swap a directory; return the directories.

    Readers that list a directory find the rows of both kinds of files once, at any time. Doing it again is harmless.
    `FileNotFoundError` if a file is neither staged nor in place: a later manifest has taken it on, or it is lost.
    """
    gone: dict[str, list[str]] = {}
    for name in manifest.replaced:
        gone.setdefault(name.rpartition("/")[0], []).append(name)
    for directory, names in gone.items():
        come = {str(file.staged): file.name for file in manifest.unpublished() if _lies_in(file.name, directory)}
        aside = f"staging/p{manifest.partition:05d}/{manifest.seq:012d}-{manifest.writer}/swapped/{directory}"
        storage.swap(directory, names, come, aside)
        storage.clear(aside)
    return {*gone}


def _lies_in(name: str, directory: str) -> bool:
    return name.rpartition("/")[0] == directory
