"""The manifest: all that is true of one partition after a checkpoint, as one small JSON file.

Times are µs since the epoch; ranges of offsets are half-open `[first, next)` unless a field says otherwise. The file
carries the SHA-256 of its own canonical form, so that a changed byte is noticed before anything in it is believed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from contracts.errors import DamagedFile, LakeError

__all__ = [
    "SCHEMA_VERSION",
    "WAY_OUT",
    "ArchiveRef",
    "Close",
    "ContractUse",
    "FileRef",
    "HorizonState",
    "Manifest",
    "Range",
    "ResidueRef",
    "Retired",
    "SegmentRef",
    "Stopped",
    "StoredFile",
    "TopicState",
    "merged",
]

SCHEMA_VERSION: Final = 1
"""The version of the manifests and tables that this software writes; it refuses later ones."""

WAY_OUT: Final = "restore it from a backup of the lake, or begin a new lake and replay the topics"
"""What to do about a damaged file of the lake."""

Range = tuple[NonNegativeInt, NonNegativeInt]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, revalidate_instances="always")


class TopicState(_Part):
    """How far the partition has come in one of its topics, and which topic that was."""

    name: str
    topic_id: str
    partitions: int = Field(gt=0)
    first_offset: NonNegativeInt
    """Where the chain began: the account covers `[first_offset, next_offset)`."""
    next_offset: NonNegativeInt
    closed_offset: NonNegativeInt
    """The next offset at the freeze of the last close: below it, every event has been judged once."""
    undelivered: tuple[Range, ...] = ()
    """Offsets that hold no record for us (control records, aborted, compacted away), but for the archived ones."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.first_offset <= self.next_offset:
            raise ValueError(f"topic {self.name}: next_offset is below first_offset")
        if self.undelivered != merged(self.undelivered):
            raise ValueError(f"topic {self.name}: undelivered ranges are not sorted and apart")
        if (
            self.undelivered
            and not self.first_offset <= self.undelivered[0][0] <= self.undelivered[-1][1] <= self.next_offset
        ):
            raise ValueError(f"topic {self.name}: undelivered ranges leave [first_offset, next_offset)")
        return self


class StoredFile(_Part):
    """A file with what a reader needs to notice that it was changed."""

    name: str
    rows: NonNegativeInt
    size: NonNegativeInt
    """Bytes."""
    crc32: NonNegativeInt


class SegmentRef(StoredFile):
    """A segment: an immutable file of events of this partition that were open when it was written."""

    min_event_time: int
    max_event_time: int
    flags: dict[str, int]
    """The greatest event time of each flag key."""
    offsets: dict[str, Range]
    """The least and the greatest offset of each topic, both included."""


class ResidueRef(StoredFile):
    """A file of closed windows."""

    flags: dict[str, int]
    """The greatest window end of each flag key."""


class FileRef(StoredFile):
    """A file of a table."""

    table: str
    staged: str | None = None
    """Where the file lies until it is published as `name`; none once a later checkpoint has seen to that."""


class ArchiveRef(StoredFile):
    """A file of older `files`, `undelivered` ranges or `closes`, so that manifests stay small."""

    holds: Literal["files", "undelivered", "closes"]


class Close(_Part):
    """One close of the chain: with the topics and the contracts, all that its results depend on.

    An audit cannot find it out otherwise: what is late depends on which close first saw it.
    """

    seq: NonNegativeInt
    """The checkpoint that it was part of."""
    closed_through: int
    """The watermark that it decided everything up to."""
    allowed_lateness: int
    """µs."""
    next_offsets: dict[str, NonNegativeInt]
    """By topic: what lies below was read when it ran."""


class Retired(_Part):
    """A file that no later manifest names, and when it was let go; whoever has an older one may still read it."""

    name: str
    at: int


class ContractUse(_Part):
    """Where one contract version was in force."""

    flag_key: str
    offsets: dict[str, Range]
    """The first and the last offset of each topic that it validated, both included."""


class HorizonState(_Part):
    """What a close must know of one flag's past."""

    longest_window: int
    """µs, over every contract version that the chain has used."""
    decided_through: int | None
    """Event time up to which every event is decided."""


class Stopped(_Part):
    """Why a partition was stopped, until someone resumes it."""

    reason: str
    topic: str
    at: int
    details: str


class Manifest(_Part):
    """What one checkpoint made true of one partition."""

    seq: NonNegativeInt
    """The checkpoint's number in the partition's lineage."""
    lake_id: str
    partition: NonNegativeInt
    schema_version: int = SCHEMA_VERSION
    pipeline_version: str
    group: str
    writer: str
    committed_at: int
    topics: dict[str, TopicState]
    """By kind of event."""
    watermark: int | None = None
    closed_through: int | None = None
    segments: tuple[SegmentRef, ...] = ()
    residue: tuple[ResidueRef, ...] = ()
    files: tuple[FileRef, ...] = ()
    """The table files of the whole chain, but for the archived ones, oldest first."""
    replaced: tuple[str, ...] = ()
    """Table files that those staged in their directories stand for: they leave the tables as those are published."""
    archives: tuple[ArchiveRef, ...] = ()
    closes: tuple[Close, ...] = ()
    """All closes of the chain, but for the archived ones, oldest first."""
    retired: tuple[Retired, ...] = ()
    contracts: dict[str, ContractUse] = {}
    """By contract version."""
    horizons: dict[str, HorizonState] = {}
    """By flag key."""
    totals: dict[str, NonNegativeInt] = {}
    """How many offsets have had each fate since the chain began."""
    stopped: Stopped | None = None

    @property
    def open_events(self) -> int:
        """How many of the offsets read have no fate yet; segments may hold decided events beside them."""
        read = sum(topic.next_offset - topic.first_offset for topic in self.topics.values())
        return read - sum(count for fate, count in self.totals.items() if fate != "facts")

    def live(self) -> frozenset[str]:
        """Return the names of the segments and residue that the next close reads."""
        return frozenset(file.name for file in (*self.segments, *self.residue))

    def unpublished(self) -> tuple[FileRef, ...]:
        """Return the table files that this checkpoint staged: those its writer, or the next owner, must publish."""
        return tuple(file for file in self.files if file.staged is not None)

    def published(self) -> tuple[FileRef, ...]:
        """Return the table files as the next manifest names them: all under their final names."""
        return tuple(file.model_copy(update={"staged": None}) for file in self.files)

    def to_bytes(self) -> bytes:
        """Return the manifest as its JSON file, with its checksum."""
        body = self.model_dump(mode="json")
        return _canonical({**body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()})

    @classmethod
    def from_bytes(cls, data: bytes, file: str) -> Self:
        """Read a manifest's JSON file; `file` names it in errors.

        `DamagedFile` if it is not what `to_bytes` wrote, `LakeError` if a later version of this software wrote it.
        """
        try:
            body = json.loads(data)
            claimed = body.pop("sha256")
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise DamagedFile(f"{file} is no manifest: {WAY_OUT}") from error
        text = _canonical(body)
        if hashlib.sha256(text).hexdigest() != claimed:
            raise DamagedFile(f"{file} was changed after it was written: {WAY_OUT}")
        version = body.get("schema_version", 0)
        if version > SCHEMA_VERSION:
            raise LakeError(
                f"{file} has schema version {version}, this software reads up to {SCHEMA_VERSION}; upgrade it"
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DamagedFile(f"{file} has a wrong {place or 'content'} ({first['msg']}): {WAY_OUT}") from error


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Return the half-open ranges that hold the same offsets, sorted and apart; empty ones vanish."""
    result: list[Range] = []
    for first, following in sorted(ranges):
        if first >= following:
            continue
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], following))
        else:
            result.append((first, following))
    return tuple(result)


def _canonical(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
