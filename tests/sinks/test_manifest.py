"""The manifest as a file: what it keeps, and what it refuses to believe."""

import hashlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import DamagedFile, LakeError
from sinks.manifest import (
    SCHEMA_VERSION,
    ArchiveRef,
    Close,
    ContractUse,
    FileRef,
    HorizonState,
    Manifest,
    Range,
    ResidueRef,
    Retired,
    SegmentRef,
    Stopped,
    merged,
)
from tests.sinks.rows import NOON, manifest, topic

FULL = manifest(
    seq=12,
    topics={kind: topic(f"{kind}s", undelivered=((3, 4), (9, 12))) for kind in ("exposure", "outcome", "guardrail")},
    watermark=NOON,
    closed_through=NOON - 1,
    segments=(
        SegmentRef(
            name="segments/p00003/000000000012-a-0.parquet",
            rows=2,
            size=900,
            crc32=4_000_000_000,
            min_event_time=NOON - 5,
            max_event_time=NOON,
            flags={"flag": NOON},
            offsets={"exposures": (5, 6)},
        ),
    ),
    residue=(ResidueRef(name="segments/p00003/r.parquet", rows=1, size=300, crc32=1, flags={"flag": NOON}),),
    files=(
        FileRef(table="facts", name="tables/facts/dt=2026-06-06/old.parquet", rows=1, size=1, crc32=1),
        FileRef(
            table="facts", name="tables/facts/dt=2026-06-07/new.parquet", rows=1, size=1, crc32=1, staged="staging/n"
        ),
    ),
    replaced=("tables/facts/dt=2026-06-07/small.parquet",),
    archives=(ArchiveRef(name="archives/p00003/a.parquet", holds="files", rows=500, size=1, crc32=1),),
    closes=(Close(seq=11, closed_through=NOON - 1, allowed_lateness=0, next_offsets={"exposures": 99}),),
    retired=(Retired(name="segments/p00003/old.parquet", at=NOON),),
    contracts={"0123456789abcdef": ContractUse(flag_key="flag", offsets={"exposures": (0, 99)})},
    horizons={"flag": HorizonState(longest_window=24, decided_through=None)},
    totals={"joined": 7, "late": 1},
    stopped=Stopped(reason="refusals", topic="exposures", at=NOON, details="100 in a row: ünknown_flag"),
)
"""A manifest with something in every field."""


@pytest.mark.parametrize("each", [pytest.param(manifest(), id="least"), pytest.param(FULL, id="full")])
def test_a_manifest_reads_back_as_it_was(each: Manifest) -> None:
    assert Manifest.from_bytes(each.to_bytes(), "m.json") == each


def test_no_field_of_the_full_manifest_is_empty() -> None:
    assert all(value not in (None, {}, ()) for _, value in FULL)


def test_its_file_is_plain_json() -> None:
    body = json.loads(FULL.to_bytes())
    assert (body["seq"], body["topics"]["outcome"]["undelivered"]) == (12, [[3, 4], [9, 12]])


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    whole = FULL.to_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(whole)
    changed[place] ^= 1 << bit
    with pytest.raises(DamagedFile, match=r"m\.json .*restore it from a backup"):
        Manifest.from_bytes(bytes(changed), "m.json")


@given(st.data())
def test_a_cut_file_is_noticed(data: st.DataObject) -> None:
    whole = FULL.to_bytes()
    with pytest.raises(DamagedFile, match=r"m\.json is no manifest"):
        Manifest.from_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))], "m.json")


@pytest.mark.parametrize("text", ["[]", "1", "null", '{"seq": 1}', '""'])
def test_other_json_is_no_manifest(text: str) -> None:
    with pytest.raises(DamagedFile, match="is no manifest"):
        Manifest.from_bytes(text.encode(), "m.json")


def test_a_later_schema_asks_for_an_upgrade() -> None:
    later = manifest(schema_version=SCHEMA_VERSION + 1).to_bytes()
    with pytest.raises(LakeError, match=r"m\.json has schema version 2, this software reads up to 1; upgrade it"):
        Manifest.from_bytes(later, "m.json")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        pytest.param({"seq": -1}, "seq", id="negative"),
        pytest.param({"writer": 5}, "writer", id="wrong type"),
        pytest.param({"unheard_of": 1}, "unheard_of", id="unknown"),
        pytest.param({"stopped": {"reason": "x"}}, r"stopped\.topic", id="incomplete"),
    ],
)
def test_wrong_content_with_a_right_checksum_is_named(change: dict[str, object], place: str) -> None:
    text = _signed({**json.loads(manifest().to_bytes()), **change})
    with pytest.raises(DamagedFile, match=f"m.json has a wrong {place} "):
        Manifest.from_bytes(text, "m.json")


def test_live_files_are_segments_and_residue() -> None:
    assert FULL.live() == {"segments/p00003/000000000012-a-0.parquet", "segments/p00003/r.parquet"}


def test_unpublished_files_are_those_that_lie_in_staging() -> None:
    assert [file.staged for file in FULL.unpublished()] == ["staging/n"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        pytest.param({"first_offset": 101}, "next_offset is below first_offset", id="backwards"),
        pytest.param({"undelivered": ((5, 6), (1, 2))}, "not sorted and apart", id="unsorted"),
        pytest.param({"undelivered": ((1, 2), (2, 3))}, "not sorted and apart", id="touching"),
        pytest.param({"undelivered": ((99, 101),)}, "leave", id="beyond the end"),
        pytest.param({"first_offset": 5, "undelivered": ((4, 6),)}, "leave", id="before the start"),
    ],
)
def test_a_topic_refuses_offsets_that_cannot_be(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        topic(**fields)


def test_a_copy_is_checked_when_it_becomes_part_of_a_manifest() -> None:
    broken = topic().model_copy(update={"next_offset": -1})
    with pytest.raises(ValueError, match="next_offset"):
        manifest(topics={"exposure": broken})


ranges = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)))


@given(ranges)
def test_merged_ranges_hold_the_same_offsets(some: list[Range]) -> None:
    assert {o for a, b in merged(some) for o in range(a, b)} == {o for a, b in some for o in range(a, b)}


@given(ranges)
def test_merged_ranges_are_sorted_and_apart(some: list[Range]) -> None:
    result = merged(some)
    assert all(a < b for a, b in result)
    assert all(left[1] < right[0] for left, right in pairwise(result))


def _signed(body: dict[str, object]) -> bytes:
    """Return a manifest's file of any content, with the checksum it would have."""
    body.pop("sha256")
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return json.dumps({**body, "sha256": hashlib.sha256(canonical).hexdigest()}).encode()
