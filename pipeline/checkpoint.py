"""The checkpoint: how offsets, open events and output of one partition become durable together.

The lake is the only truth. Between checkpoints a worker holds what arrived since the last one, so that a crash at any
point loses time and nothing else. The steps, and what holds once each is done:

1. *freeze* (`Partition.freeze`): the events, next offsets and watermark of one instant are set aside.
2. *stage*: everything the checkpoint adds lies on disk, synced: segments and residue under their final names, which
   are unique to this checkpoint and writer; table files in a staging directory of the same. Nothing refers to any of
   it. A crash leaves litter that a later prune removes.
3. *flush*: every dead letter and rerouted copy of a record before the frozen offsets, and every dead letter that the
   close made, is acknowledged by a broker. A crash leaves dead letters that the retry sends again; their origin names
   them.
4. *commit*: the manifest exists. This is the instant at which the checkpoint is true; it is created once, so of two
   writers one is fenced and publishes nothing.
5. *publish*: the table files are renamed into place. The manifest names source and target of each, so that whoever
   owns the partition next finishes what a crash cut off, and doing it twice changes nothing. Files that stand for
   smaller ones take their place in one step (see `compaction`).
6. *prune*: what no manifest needs is deleted: segments let go ten minutes ago or earlier (queries may still read them),
   what writers left behind that can no longer commit, all manifests but the newest two.
7. *tell*: Kafka is told the offsets, for lag tooling (the worker does that).

Recovery is the newest manifest, with steps 5 and 6 done once more. There is nothing to load.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, starmap
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from contracts.errors import ContractError, DamagedFile, Fenced
from contracts.flags import Contract, load_contract
from pipeline.close import Closed, Decided, Due, Horizon, close, close_through
from pipeline.letters import Sender
from pipeline.outbox import Letter
from pipeline.partition import Frozen, Refused
from pipeline.segments import (
    has_aged,
    is_new,
    may_leave,
    may_stay,
    merge_plan,
    merge_residue,
    remaining,
    undecided,
)
from pipeline.sources import pieces
from sinks.archives import archived
from sinks.lineage import Lineage
from sinks.manifest import (
    WAY_OUT,
    Close,
    ContractUse,
    FileRef,
    HorizonState,
    Manifest,
    ResidueRef,
    Retired,
    SegmentRef,
    StoredFile,
    TopicState,
    merged,
)
from sinks.parquet import Stamp, require, verify
from sinks.segments import write_merged, write_residue
from sinks.storage import Storage
from sinks.swaps import swap_tables
from sinks.tables import REFUSED, stage_table

if TYPE_CHECKING:
    from pipeline.sources import Source

__all__ = ["LINGER", "STEPS", "Checkpointer", "genesis", "reading", "settle"]

LINGER: Final = 600_000_000
"""How long a file that no manifest lists any more stays for running queries, in µs."""

STEPS: Final = ("stage", "flush", "commit", "publish", "prune")
"""The steps that `Checkpointer.checkpoint` goes through, as `on_step` hears them."""


def genesis(*, partition: int, lake_id: str, group: str, version: str, topics: Mapping[str, TopicState]) -> Manifest:
    """Return the manifest number 0 that stands before a partition's first checkpoint; it is never stored."""
    return Manifest(
        seq=0,
        lake_id=lake_id,
        partition=partition,
        pipeline_version=version,
        group=group,
        writer="",
        committed_at=0,
        topics=dict(topics),
    )


def settle(storage: Storage, manifest: Manifest, on_step: Callable[[str], None] = lambda _: None) -> None:
    """Do steps 5 and 6 of the newest manifest, whether or not they were begun; `on_step` is told each.

    Raises Fenced where a newer manifest exists and took its files on, DamagedFile where one is gone without that.
    """
    on_step("publish")
    _publish(storage, manifest)
    on_step("prune")
    _prune(storage, manifest)


@dataclass(slots=True)
class _Staged:
    """What step 2 wrote, to be named by the manifest."""

    segments: list[SegmentRef]
    residue: list[ResidueRef]
    files: list[FileRef]
    horizons: Mapping[str, Horizon]
    closed: Closed | None = None


class Checkpointer:
    """Runs the steps for any partition; each call may block for as long as disks and brokers take.

    Use one partition from one thread at a time; different partitions may run at once.
    """

    def __init__(  # noqa: PLR0913 - what the shell provides, one argument each
        self,
        storage: Storage,
        *,
        send: Callable[[Letter], None],
        flush: Callable[[], None],
        clock: Callable[[], int],
        new_id: Callable[[], str],
        allowed_lateness: int,
        memory_limit: str = "1GB",
        temp_directory: str | None = None,
        on_step: Callable[[str], None] = lambda _: None,
        on_close: Callable[[pa.Table], None] = lambda _: None,
    ) -> None:
        """`clock` gives wall-clock µs, `new_id` a hexadecimal name for an attempt.

        A close takes up to `memory_limit` and spills to `temp_directory`. `on_step` is told each of STEPS as it begins,
        `on_close` the facts of a close once they are committed.
        """
        self._storage = storage
        self._send = send
        self._flush = flush
        self._clock = clock
        self._new_id = new_id
        self._allowed_lateness = allowed_lateness
        self._memory_limit = memory_limit
        self._temp_directory = temp_directory
        self._on_step = on_step
        self._on_close = on_close
        self._contracts: dict[str, Contract] = {}
        self._touched: dict[str, int] = {}  # when the files that were found sound were last written to, in µs

    def keep_contract(self, contract: Contract) -> None:
        """Store the text of a contract version in the lake, so that its events can be closed whatever becomes of it."""
        if contract.version not in self._contracts:
            self._storage.create_once(_contract_name(contract.version), contract.text.encode())
            self._contracts[contract.version] = contract

    def recover(self, partition: int) -> Manifest | None:
        """Return the newest manifest, settled; None where the partition has none."""
        manifest = Lineage(self._storage, partition).newest()
        if manifest is not None:
            settle(self._storage, manifest)
        return manifest

    def deadline(self, base: Manifest, frozen: Frozen) -> int | None:
        """Return the watermark that decides every open event, in µs; None where nothing is open."""
        with reading(self._storage, base):
            return close_through(self._due(base, frozen, through=0))

    def checkpoint(self, base: Manifest, frozen: Frozen, through: int | None) -> Manifest:
        """Make `frozen` durable on top of `base`, closing up to the watermark `through` unless that is None.

        Returns the new manifest. Raises Fenced where another writer committed first: then nothing of `frozen` is in the
        lake, and the partition must be recovered. StorageUnavailable: it may be committed; if `recover` returns nothing
        newer than `base`, call it again with the same arguments. KafkaUnavailable: `flush` gave up, nothing committed.
        """
        stamp = self._stamp(base, frozen)
        self._on_step("stage")
        with reading(self._storage, base):
            staged = self._stage(base, frozen, through, stamp)
        self._on_step("flush")
        for letter in self._letters(base, staged.closed):
            self._send(letter)
        self._flush()
        self._on_step("commit")
        manifest = archived(self._storage, self._manifest(base, frozen, staged, through, stamp), stamp)
        Lineage(self._storage, base.partition).commit(manifest)
        if staged.closed is not None:
            self._on_close(staged.closed.facts)
        self._on_step("publish")
        _publish(self._storage, manifest)
        for name in base.live() - manifest.live():
            self._touched.pop(name, None)
        self._on_step("prune")
        _prune(self._storage, manifest)
        return manifest

    def _stamp(self, base: Manifest, frozen: Frozen) -> Stamp:
        return Stamp(
            lake_id=base.lake_id,
            partition=base.partition,
            seq=base.seq + 1,
            writer=self._new_id(),
            pipeline_version=base.pipeline_version,
            offsets={
                topic.name: (topic.next_offset, frozen.next_offsets[topic.name]) for topic in base.topics.values()
            },
        )

    # step 2: stage

    def _stage(self, base: Manifest, frozen: Frozen, through: int | None, stamp: Stamp) -> _Staged:
        if through is None:
            events = chain.from_iterable(map(pieces, _buffered(frozen)))
            segments = self._with_segment([*base.segments], events, stamp)
            staged = _Staged(segments, [*base.residue], [], self._horizons(base, frozen))
        else:
            due = self._due(base, frozen, through)
            closed = close(due, memory_limit=self._memory_limit, temp_directory=self._temp_directory)
            staged = self._stage_closed(base, closed, due, stamp)
        staged.files += stage_table(self._storage, "refused", _refused(frozen.refused, base.partition), stamp)
        return staged

    def _with_segment(
        self, segments: list[SegmentRef], pieces: Iterable[pa.Table], stamp: Stamp, part: int = 0
    ) -> list[SegmentRef]:
        segment = write_merged(self._storage, pieces, stamp, part)
        return segments if segment is None else [*segments, segment]

    def _stage_closed(self, base: Manifest, closed: Closed, due: Due, stamp: Stamp) -> _Staged:
        files: list[FileRef] = []
        for table, rows in (("facts", closed.facts), ("events", closed.events), ("unjoined", closed.unjoined)):
            files += stage_table(self._storage, table, rows, stamp)
        segments = self._segments_after(base, closed, due, stamp)
        residue = [each for each in base.residue if not has_aged(each, closed.horizons, due)]
        residue = self._merged_residue(residue, closed.horizons, due, stamp)
        if closed.residue.num_rows:
            residue.append(write_residue(self._storage, closed.residue, stamp))
        return _Staged(segments, residue, files, closed.horizons, closed)

    def _segments_after(self, base: Manifest, closed: Closed, due: Due, stamp: Stamp) -> list[SegmentRef]:
        """Return the segments that later closes need, all of them old now; what is written anew is one more."""
        rest: list[tuple[Source, Decided]] = []
        old, new = _judged(base)
        stay = [segment for segment in old if not may_leave(segment, closed.horizons)]
        for place, (source, decided) in enumerate(zip(due.new, closed.decided, strict=True)):
            segment = new[place] if place < len(new) else None
            if segment is not None and may_stay(segment.rows, decided):
                stay.append(segment)
            elif segment is None or len(decided.rows) < segment.rows:  # else there is nothing to read it for
                rest.append((source, decided))
        for part, group in enumerate(merge_plan(stay), start=1):
            kept = [segment for segment in stay if segment not in group]
            sources = [self._storage.source(segment.name) for segment in group]
            stay = self._with_segment(kept, undecided(sources, closed.horizons), stamp, part)
        return self._with_segment(stay, chain.from_iterable(starmap(remaining, rest)), stamp)

    def _merged_residue(
        self, residue: list[ResidueRef], horizons: Mapping[str, Horizon], due: Due, stamp: Stamp
    ) -> list[ResidueRef]:
        for part, group in enumerate(merge_plan(residue), start=1):
            rows = merge_residue([self._storage.source(each.name) for each in group], horizons, due)
            kept = [each for each in residue if each not in group]
            residue = [*kept, write_residue(self._storage, rows, stamp, part)] if rows.num_rows else kept
        return residue

    def _due(self, base: Manifest, frozen: Frozen, through: int) -> Due:
        versions = {*base.contracts, *frozen.versions}
        old, new = _judged(base)
        return Due(
            partition=base.partition,
            closed_through=base.closed_through,
            watermark=through if base.closed_through is None else max(through, base.closed_through),
            allowed_lateness=self._allowed_lateness,
            horizons=self._horizons(base, frozen),
            contracts={version: self._contract(version) for version in sorted(versions)},
            old=[self._sound(segment) for segment in old],
            new=[*(self._sound(segment) for segment in new), *_buffered(frozen)],
            residue=[self._sound(residue) for residue in base.residue],
        )

    def _sound(self, file: StoredFile) -> str | pa.Table:
        """Return what DuckDB reads in place of the file, which is as it was written.

        Neither Parquet nor DuckDB notices each changed byte, and a close would make a wrong fact of it. All bytes are
        looked at the first time, and again once the file was touched: 20 ns an event.
        """
        touched = -self._storage.age(file.name, 0)
        if self._touched.get(file.name) != touched:
            verify(self._storage, file)
            self._touched[file.name] = touched
        return require(self._storage, file)

    def _horizons(self, base: Manifest, frozen: Frozen) -> dict[str, Horizon]:
        horizons = {flag: Horizon(state.longest_window, state.decided_through) for flag, state in base.horizons.items()}
        for contract in map(self._contract, frozen.versions):
            known = horizons.get(contract.flag_key, Horizon(0, None))
            longest = max(known.longest_window, contract.window_us)
            horizons[contract.flag_key] = Horizon(longest, known.decided_through)
        return horizons

    def _contract(self, version: str) -> Contract:
        if version not in self._contracts:
            name = _contract_name(version)
            try:
                contract = load_contract(self._storage.read(name).decode(), name)
            except (ContractError, UnicodeDecodeError):
                contract = None
            if contract is None or contract.version != version:
                raise DamagedFile(f"{name} was changed after it was written; {WAY_OUT}")
            self._contracts[version] = contract
        return self._contracts[version]

    # step 3: flush

    def _letters(self, base: Manifest, closed: Closed | None) -> Iterator[Letter]:
        sender = Sender(base.group, base.pipeline_version)
        for row in _rows(closed.dead_letters) if closed is not None else ():
            yield sender.closed(row, base.partition, self._clock())

    # step 4: commit

    def _manifest(self, base: Manifest, frozen: Frozen, staged: _Staged, through: int | None, stamp: Stamp) -> Manifest:
        now = self._clock()
        live = {file.name for file in (*staged.segments, *staged.residue)}
        closed = staged.closed is not None
        changes = {
            "seq": stamp.seq,
            "writer": stamp.writer,
            "committed_at": now,
            "topics": {kind: _moved(topic, frozen, closed=closed) for kind, topic in base.topics.items()},
            "watermark": _latest(base.watermark, frozen.watermark, through),
            "closed_through": _latest(base.closed_through, through),
            "closes": (*base.closes, *self._closes(base, frozen, through)),
            "segments": tuple(staged.segments),
            "residue": tuple(staged.residue),
            "files": (*base.published(), *staged.files),
            "replaced": (),
            "retired": (
                *(file for file in base.retired if not _lingered(file, base.committed_at)),
                *(Retired(name=name, at=now) for name in sorted(base.live() - live)),
            ),
            "contracts": self._uses(base, frozen),
            "horizons": {
                flag: HorizonState(longest_window=each.longest_window, decided_through=each.decided_through)
                for flag, each in staged.horizons.items()
            },
            "totals": _totals(base, frozen, staged.closed),
            "stopped": frozen.stopped,
        }
        return base.model_copy(update=changes)

    def _closes(self, base: Manifest, frozen: Frozen, through: int | None) -> Iterator[Close]:
        if through is not None:
            yield Close(
                seq=base.seq + 1,
                closed_through=through if base.closed_through is None else max(through, base.closed_through),
                allowed_lateness=self._allowed_lateness,
                next_offsets=dict(frozen.next_offsets),
            )

    def _uses(self, base: Manifest, frozen: Frozen) -> dict[str, ContractUse]:
        uses = dict(base.contracts)
        for version, spans in frozen.versions.items():
            offsets = dict(uses[version].offsets) if version in uses else {}
            for topic, (first, last) in spans.items():
                offsets[topic] = (offsets.get(topic, (first, last))[0], last)
            uses[version] = ContractUse(flag_key=self._contract(version).flag_key, offsets=offsets)
        return uses


def _judged(base: Manifest) -> tuple[list[SegmentRef], list[SegmentRef]]:
    """Return the segments that a close has judged, and those of which none has."""
    closed_offsets = {topic.name: topic.closed_offset for topic in base.topics.values()}
    new = [segment for segment in base.segments if is_new(segment, closed_offsets)]
    return [segment for segment in base.segments if segment not in new], new


def _buffered(frozen: Frozen) -> list[pa.Table]:
    return [pa.Table.from_batches(frozen.events)] if frozen.events else []


def _moved(topic: TopicState, frozen: Frozen, *, closed: bool) -> TopicState:
    next_offset = frozen.next_offsets[topic.name]
    changes = {
        "next_offset": next_offset,
        "closed_offset": next_offset if closed else topic.closed_offset,
        "undelivered": merged([*topic.undelivered, *frozen.undelivered.get(topic.name, ())]),
    }
    return topic.model_copy(update=changes)


def _totals(base: Manifest, frozen: Frozen, closed: Closed | None) -> dict[str, int]:
    totals = Counter(base.totals)
    totals.update(f"refused.{refused.reason}" for refused in frozen.refused)
    totals["undelivered"] += sum(end - first for ranges in frozen.undelivered.values() for first, end in ranges)
    if closed is not None:
        totals["facts"] += closed.facts.num_rows
        totals["joined"] += closed.events.num_rows
        reasons = closed.unjoined["reason"].value_counts().to_pylist()
        totals.update({f"unjoined.{each['values']}": each["counts"] for each in reasons})
    return {fate: count for fate, count in sorted(totals.items()) if count}


def _refused(refused: Sequence[Refused], partition: int) -> pa.Table:
    rows = [
        {
            "reason": each.reason,
            "stage": each.stage,
            "topic": each.topic,
            "partition": partition,
            "offset": each.offset,
            "record_time": each.record_time,
        }
        for each in refused
    ]
    return pa.Table.from_pylist(rows, schema=REFUSED)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows with times as µs."""
    plain = table.set_column(
        table.column_names.index("record_time"), "record_time", table["record_time"].cast(pa.int64())
    )
    for batch in plain.to_batches(max_chunksize=1_000):
        yield from batch.to_pylist()


# step 5: publish


def _publish(storage: Storage, manifest: Manifest) -> None:
    sources, targets = set(), set()
    try:
        swapped = swap_tables(storage, manifest)
    except FileNotFoundError as error:
        raise _gone(storage, manifest, str(error.filename)) from None
    for file in manifest.unpublished():
        if _directory(file.name) in swapped:
            continue
        staged = str(file.staged)
        try:
            storage.rename(staged, file.name)
        except FileNotFoundError:
            if not storage.exists(file.name):
                raise _gone(storage, manifest, file.name) from None
        sources.add(_directory(staged))
        targets.add(_directory(file.name))
    for directory in (*sorted(targets), *sorted(sources)):  # targets first: a power loss must not lose both names
        storage.sync(directory)


# step 6: prune


def _prune(storage: Storage, manifest: Manifest) -> None:
    place = f"p{manifest.partition:05d}"
    for file in manifest.retired:
        if _lingered(file, manifest.committed_at):
            storage.delete(file.name)
    named = manifest.live() | {file.name for file in manifest.retired} | {file.name for file in manifest.archives}
    for name in (*storage.list(f"segments/{place}"), *storage.list(f"archives/{place}")):
        if name not in named and _attempt(name)[0] <= manifest.seq:
            storage.delete(name)
    own = (manifest.seq, manifest.writer)
    for seq, writer in {_attempt(name.removeprefix(f"staging/{place}/")) for name in storage.list(f"staging/{place}")}:
        if seq <= manifest.seq and (seq, writer) != own:
            storage.clear(f"staging/{place}/{seq:012d}-{writer}")
    lineage = Lineage(storage, manifest.partition)
    for seq in lineage.seqs():
        if seq < manifest.seq - 1:
            lineage.delete(seq)


def _lingered(file: Retired, committed_at: int) -> bool:
    return file.at + LINGER <= committed_at


def _attempt(name: str) -> tuple[int, str]:
    """Return number and writer of the checkpoint that wrote a file, from the first part of its name that says so."""
    match = _ATTEMPT.search(name)
    if match is None:
        return 2**62, ""  # not ours: leave it
    return int(match[1]), match[2]


_ATTEMPT: Final = re.compile(r"(\d{12})-([0-9a-f]+)")


@contextmanager
def reading(storage: Storage, base: Manifest) -> Iterator[None]:
    """Tell a file of `base` that is gone because another writer went on (Fenced) from one that is damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise _gone(storage, base, str(error.filename or error)) from error


def _gone(storage: Storage, manifest: Manifest, name: str) -> Fenced | DamagedFile:
    newest = Lineage(storage, manifest.partition).newest()
    if newest is not None and newest.seq > manifest.seq:
        return Fenced(f"partition {manifest.partition}: another writer has committed {newest.seq}; going on from there")
    return DamagedFile(
        f"{name} is named by manifest {manifest.seq} of partition {manifest.partition} but is gone; "
        "restore it from a backup of the lake, or begin a new lake and replay the topics"
    )


def _latest(*times: int | None) -> int | None:
    return max((time for time in times if time is not None), default=None)


def _directory(name: str) -> str:
    return name.rpartition("/")[0]


def _contract_name(version: str) -> str:
    return f"contracts/{version}.yaml"
