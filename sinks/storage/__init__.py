"""Where the lake's files lie: one small protocol, the local directory, and the in-memory double.

Names are relative and use `/`, as in `segments/p00003/12-ab34.parquet`. A file is written once under a name of its own
and never changed; it may be renamed and deleted. Little else is asked of a storage, so that an object store fits too:
there `create_once` is put-if-absent and directories are prefixes. Only `swap` changes several names at once.

What is durable (there after a power loss, not only after the death of the process):

- `create_once` and `write`: on return, content and name.
- `rename` and `delete`: after `sync` of the directories they touched. Sync a rename's target first.
- `swap`: on return.

A file that is not there is a `FileNotFoundError`, because only the caller knows whether that is damage. Every other
fault of the operating system is a `StorageUnavailable` that names the file and the way out.
"""

from sinks.storage.local import LocalStorage
from sinks.storage.memory import MemoryStorage
from sinks.storage.protocol import Sink, Storage

__all__ = ["LocalStorage", "MemoryStorage", "Sink", "Storage"]
