"""The audit of a lake, one partition after the other: its files, then its topics, then each unit joined anew.

A running lake goes on meanwhile: of each partition the newest manifest is taken once, and what is of a later checkpoint
is not looked at. If a later one has deleted a file before it was read, the partition begins again.

Memory is bounded: rows are set aside on disk by unit and compared some ten thousand at a time. Beside them stand some
twenty bytes for each refused record, and two bytes an offset in files that are mapped into memory.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from contracts.errors import ContractError, LakeError, OffsetsLost
from contracts.flags import Contract, load_contract
from pipeline.memory import without_collector
from pipeline.verify.account import Account
from pipeline.verify.buckets import Buckets
from pipeline.verify.comparing import compare
from pipeline.verify.files import Moved, PartitionFiles, find_foreign, find_strays
from pipeline.verify.history import History
from pipeline.verify.holdings import Stock
from pipeline.verify.letters import Refusals
from pipeline.verify.replay import Copies, Replay
from pipeline.verify.report import Check, CheckName, Findings
from pipeline.verify.topics import Topics
from sinks.archives import closes, table_files, undelivered
from sinks.lineage import Lineage, lineages, read_lake
from sinks.manifest import Close, FileRef, Manifest, Range, merged
from sinks.storage import Storage
from sinks.tables import EXPORTED

__all__ = ["Audited", "audit"]

_TRIES: Final = 5  # of a partition whose chain moves on
_JOINED: Final[tuple[CheckName, ...]] = ("facts", "events", "unjoined", "open")
_OF_TOPICS: Final[tuple[CheckName, ...]] = ("input", "refused", *_JOINED, "dead letters", "copies")
_OF_FILES: Final[tuple[CheckName, ...]] = ("files", "footers", "strays", "account", "totals", "closes")
_DECIDED_BY_CLOSES: Final = frozenset({"facts", "events", "unjoined"})


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit found, check by check."""

    lake_id: str
    partitions: tuple[int, ...]
    checks: tuple[Check, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong, as far as could be looked."""
        return not any(check.wrong for check in self.checks)

    def lines(self) -> Iterator[str]:
        """Yield one line a check, and the verdict."""
        for check in self.checks:
            yield from check.lines()
        wrong = [check.name for check in self.checks if check.wrong]
        undone = [check.name for check in self.checks if check.undone]
        verdict = f"wrong: {', '.join(wrong)}" if wrong else "the lake is what its input makes of it"
        if undone:
            yield from dict.fromkeys(f"not done: {why}" for check in self.checks for why in check.undone)
            verdict = f"{verdict if wrong else 'nothing wrong'}; not (fully) checked: {', '.join(undone)}"
        yield f"verdict: {verdict}"

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "lake_id": self.lake_id,
            "partitions": list(self.partitions),
            "clean": self.clean,
            "checks": [check.as_json() for check in self.checks],
        }


def audit(
    storage: Storage,
    topics: Topics | None,
    *,
    partitions: Collection[int] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    scratch: Path | None = None,
) -> Audited:
    """Audit the lake, or some partitions of it; without topics, as far as its own files tell.

    Where a topic cannot be read from where the lake has read it, nothing is told of units with earlier records, and the
    checks say so. `progress` hears how many offsets are done, of how many; `scratch` is where rows are set aside (the
    system's temporary directory if None).

    Raises LakeError if there is no lake, KafkaUnavailable and StorageUnavailable.
    """
    with without_collector():
        return _audit(storage, topics, partitions, progress, scratch)


def _audit(
    storage: Storage,
    topics: Topics | None,
    partitions: Collection[int] | None,
    progress: Callable[[int, int], None],
    scratch: Path | None,
) -> Audited:
    lake_id = read_lake(storage)
    exported = tuple(f"tables/{table}/" for table in EXPORTED)
    tables = [name for name in storage.list("tables") if not name.startswith(exported)]
    chains = {lineage.partition: lineage for lineage in lineages(storage)}
    chosen = sorted(chains if partitions is None else set(partitions))
    findings, copies = Findings(), Copies()
    done = _Progress(progress)
    for partition in chosen:
        if partition not in chains:
            findings.wrong("manifests", "missing", f"partition {partition} has none")
            continue
        _audit_partition(storage, topics, lake_id, chains[partition], tables, done, scratch, findings, copies)
    if partitions is None:
        find_foreign(tables, chains.keys(), findings)
        if topics is not None:
            _compare_copies(topics, chains.values(), copies, findings)
    elif topics is not None:
        findings.undone("copies lie in other partitions than the ones audited", "copies")
    if topics is None:
        findings.undone("the topics were not read", *_OF_TOPICS)
    return Audited(lake_id, tuple(chosen), findings.checks())


@dataclass(slots=True)
class _Progress:
    tell: Callable[[int, int], None]
    done: int = 0
    all: int = 0

    def begin(self, manifest: Manifest) -> None:
        self.all += sum(topic.next_offset - topic.first_offset for topic in manifest.topics.values())

    def add(self, offsets: int) -> None:
        self.done += offsets
        self.tell(self.done, self.all)


def _audit_partition(  # noqa: PLR0913, PLR0917 - what is audited, and where it is told
    storage: Storage,
    topics: Topics | None,
    lake_id: str,
    lineage: Lineage,
    tables: Sequence[str],
    progress: _Progress,
    scratch: Path | None,
    findings: Findings,
    copies: Copies,
) -> None:
    """Audit one partition; nothing is told of a try that the chain has overtaken."""
    for _ in range(_TRIES):
        told = Findings()
        try:
            manifest = _newest(lineage, lake_id, told)
            if manifest is not None:
                progress.begin(manifest)
                with TemporaryDirectory(prefix="evidence-verify-", dir=scratch) as directory:
                    one = _Partition(storage, topics, manifest, Path(directory), progress, told)
                    one.audit(tables)
                copies.add(one.copies)
        except Moved:
            continue
        findings.add(told)
        return
    why = f"partition {lineage.partition} moved on {_TRIES} times while it was audited"
    findings.undone(why, *_OF_FILES, *(_OF_TOPICS if topics is not None else ()))


def _newest(lineage: Lineage, lake_id: str, findings: Findings) -> Manifest | None:
    """Return the newest manifest, if that and those before it are what they should be."""
    before: Manifest | None = None
    for seq in lineage.seqs():
        try:
            manifest = lineage.at(seq)
        except FileNotFoundError:
            continue  # pruned since
        except LakeError as error:
            findings.wrong("manifests", "damaged", str(error))
            before = None
            continue
        findings.did("manifests", "manifests")
        if manifest.lake_id != lake_id:
            findings.wrong("manifests", "of another lake", f"{lineage.name(seq)} is of lake {manifest.lake_id}")
        if before is not None and not _goes_on(before, manifest):
            findings.wrong("manifests", "that do not go on", f"{lineage.name(seq)} is behind the one before")
        before = manifest
    if before is None:
        checks = (*_OF_FILES, *_OF_TOPICS)
        findings.undone(f"the newest manifest of partition {lineage.partition} cannot be read", *checks)
    return before


def _goes_on(before: Manifest, after: Manifest) -> bool:
    offsets = all(
        kind in after.topics
        and topic.first_offset == after.topics[kind].first_offset
        and topic.next_offset <= after.topics[kind].next_offset
        and topic.closed_offset <= after.topics[kind].closed_offset
        for kind, topic in before.topics.items()
    )
    times = (before.closed_through or 0) <= (after.closed_through or 0)
    return offsets and times and all(after.totals.get(fate, 0) >= count for fate, count in before.totals.items())


@dataclass(slots=True)
class _Partition:
    storage: Storage
    topics: Topics | None
    manifest: Manifest
    scratch: Path
    progress: _Progress
    findings: Findings
    copies: Copies = field(default_factory=Copies)

    def audit(self, tables: Sequence[str]) -> None:
        """Do every check that can be done."""
        partition = self.manifest.partition
        listed = self._listed()
        if listed is None:
            self.findings.undone(f"an archive of partition {partition} is damaged", *_OF_FILES, *_OF_TOPICS)
            return
        files, ranges, history = listed
        find_strays(self.storage, self.manifest, tables, {file.name for file in files}, self.findings)
        contracts = self._contracts()
        past = self._past(history, files, contracts)
        refusals = Refusals(partition)
        replay = None
        if self.topics is not None:
            replay = Replay(self.topics, self.manifest, refusals, self.findings, self.progress.add)
        buckets = self._buckets(replay, past)
        reader = PartitionFiles(self.storage, self.manifest, self.findings)
        Stock(reader, Account(self.manifest, self.scratch), refusals, buckets).take(files, ranges)
        if replay is None:
            return
        try:
            replay.read(contracts, ranges, buckets, self.copies)
            if buckets is not None and past is not None:
                compare(buckets, past, partition, replay.starts(), self.findings)
            replay.read_letters()
        except OffsetsLost as error:
            self.findings.undone(f"retention went on meanwhile: {error}", *_OF_TOPICS)

    def _buckets(self, replay: Replay | None, past: History | None) -> Buckets | None:
        """Return where to set rows aside, if facts can be computed anew."""
        if replay is None:
            return None
        missing = replay.missing()
        if missing is not None:
            self.findings.undone(missing, "input", "refused", *_JOINED, "copies")
        else:
            partition, topics = self.manifest.partition, {each.name: each for each in self.manifest.topics.values()}
            for topic, start in replay.starts().items():
                self.findings.undone(
                    f"{topic} [{partition}] is read from offset {start} on, asked for or because retention was faster; "
                    f"the lake has read from {topics[topic].first_offset}: units with earlier records are left out",
                    "input",
                    "refused",
                    *_JOINED,
                    "copies",
                )
        if past is None:
            self.findings.undone(f"the past of partition {self.manifest.partition} is not known", *_JOINED)
        if missing is not None or past is None:
            return None
        offsets = sum(topic.next_offset - topic.first_offset for topic in self.manifest.topics.values())
        return Buckets(self.scratch, offsets)

    def _listed(self) -> tuple[list[FileRef], dict[str, tuple[Range, ...]], list[Close]] | None:
        try:
            ranges: dict[str, list[Range]] = {topic.name: [] for topic in self.manifest.topics.values()}
            for row in undelivered(self.storage, self.manifest).to_pylist():
                ranges.setdefault(row["topic"], []).append((row["first_offset"], row["next_offset"]))
            return (
                list(table_files(self.storage, self.manifest)),
                {topic: merged(each) for topic, each in ranges.items()},
                list(closes(self.storage, self.manifest)),
            )
        except (LakeError, FileNotFoundError) as error:
            self.findings.wrong("files", "damaged archives", str(error))
            return None

    def _contracts(self) -> dict[str, Contract]:
        contracts = {}
        for version, use in self.manifest.contracts.items():
            name = f"contracts/{version}.yaml"
            self.findings.did("contracts", "contracts")
            try:
                contract = load_contract(self.storage.read(name).decode(), name)
            except (ContractError, FileNotFoundError, UnicodeError) as error:
                self.findings.wrong("contracts", "unreadable", f"{name}: {error}")
                continue
            if (contract.version, contract.flag_key) != (version, use.flag_key):
                self.findings.wrong("contracts", "changed", name)
            else:
                contracts[version] = contract
        return contracts

    def _past(
        self, history: Sequence[Close], files: Sequence[FileRef], contracts: Mapping[str, Contract]
    ) -> History | None:
        """Return the past of the chain, if it is known in full and contradicts nothing."""
        manifest, findings = self.manifest, self.findings
        findings.did("closes", "closes", len(history))
        seqs = {close.seq for close in history}
        stamped = {int(file.name.rsplit("-", 2)[1]) for file in files if file.table in _DECIDED_BY_CLOSES}
        if unknown := sorted(stamped - seqs):
            findings.undone(f"partition {manifest.partition} has no record of its close {unknown[0]}", "closes")
            return None
        wrong = list(_contradictions(manifest, history))
        if len(contracts) < len(manifest.contracts):
            return None
        past = History(manifest, history, contracts)
        if history and past.horizons() != manifest.horizons:
            wrong.append("the horizons of flags are not what the closes make of them")
        for told in wrong:
            findings.wrong("closes", "that contradict", f"partition {manifest.partition}: {told}")
        return past


def _contradictions(manifest: Manifest, history: Sequence[Close]) -> Iterator[str]:
    for before, after in pairwise(history):
        backwards = any(after.next_offsets.get(topic, 0) < offset for topic, offset in before.next_offsets.items())
        if after.seq <= before.seq or after.closed_through < before.closed_through or backwards:
            yield f"close {after.seq} is behind close {before.seq}"
    last = history[-1] if history else None
    if manifest.closed_through != (last.closed_through if last else None):
        yield "closed_through is not that of the last close"
    for topic in manifest.topics.values():
        if topic.closed_offset != (last.next_offsets.get(topic.name) if last else topic.first_offset):
            yield f"closed_offset of {topic.name} is not that of the last close"


def _compare_copies(topics: Topics, chains: Collection[Lineage], copies: Copies, findings: Findings) -> None:
    """Tell which rerouted records have no copy; a copy may not have been read yet."""
    for topic, numbers in copies.expected.items():
        expected = np.unique(np.array(numbers, np.int64))
        findings.did("copies", "rerouted", len(expected))
        missing = expected[~np.isin(expected, np.array(copies.found.get(topic, ()), np.int64))]
        if len(missing):
            ahead = Copies()
            for manifest in filter(None, (lineage.newest() for lineage in chains)):
                marks = [mark.next_offset for mark in manifest.topics.values() if mark.name == topic]
                for records in topics.read(topic, manifest.partition, marks[0], None):
                    ahead.find(records)
            missing = missing[~np.isin(missing, np.array(ahead.found.get(topic, ()), np.int64))]
        if len(missing) and topic not in copies.cut:
            partition, offset = divmod(int(missing[0]), 1 << 44)
            findings.wrong("copies", "missing", f"{topic} [{partition}] offset {offset}", len(missing))
