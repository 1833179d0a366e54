"""What can go wrong, as a tree.

    EvidenceError                   every fault this software names; one line, says what to do next
    ├── ContractError               a flag file breaks the contract (file, line, field)
    ├── SettingsError               a setting is unknown or has a wrong value
    ├── LakeError                   the lake on disk is not what a manifest says
    │   ├── DamagedFile             a file is missing, truncated or changed
    │   ├── WrongLake               the group, the topics or the lake do not belong together
    │   └── Fenced                  another writer owns the partition; drop it and recover
    ├── StorageUnavailable          the storage cannot be read or written (disk full, no rights)
    └── KafkaError                  the cluster refuses or cannot be reached
        ├── KafkaUnavailable        no broker answers
        ├── OffsetsLost             next offsets are below the topic's first or above its end
        └── TopicsUnfit             topics are missing, unequal or were made again

Each message is one line that names the state of the world and what to do about it.
"""

__all__ = [
    "ContractError",
    "DamagedFile",
    "EvidenceError",
    "Fenced",
    "KafkaError",
    "KafkaUnavailable",
    "LakeError",
    "OffsetsLost",
    "SettingsError",
    "StorageUnavailable",
    "TopicsUnfit",
    "WrongLake",
]


class EvidenceError(Exception):
    """The root of every fault this software names."""


class ContractError(EvidenceError):
    """A flag file breaks the contract.

    `file` is the path as given, `line` is 1-based (0 where unknown), `field` the dotted path of the field.
    """

    def __init__(self, file: str, line: int, field: str, problem: str) -> None:
        """Keep the place beside the message."""
        self.file, self.line, self.field, self.problem = file, line, field, problem
        super().__init__(f"{file}:{line}: {field}: {problem}")


class SettingsError(EvidenceError):
    """A setting is unknown or has a wrong value."""


class LakeError(EvidenceError):
    """The lake is not what its manifests say."""


class DamagedFile(LakeError):
    """A file of the lake is missing, truncated or changed."""


class WrongLake(LakeError):
    """The group, the topics or the lake do not belong together."""


class Fenced(LakeError):
    """Another writer committed to this partition's chain; this one publishes nothing more."""


class StorageUnavailable(EvidenceError):
    """The storage cannot be read or written."""


class KafkaError(EvidenceError):
    """The cluster refuses, or cannot be reached."""


class KafkaUnavailable(KafkaError):
    """No broker answers."""


class OffsetsLost(KafkaError):
    """The next offsets of a chain are no longer in the topic."""


class TopicsUnfit(KafkaError):
    """Topics are missing, have unequal partition counts, were made again, or hold what cannot be unpacked."""
