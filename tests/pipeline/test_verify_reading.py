"""The audit reads records as the decoder does, though the two share no code: what one accepts, so does the other."""

from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.decode import Decoder
from contracts.events import MODELS, Kind
from contracts.flags import load_contract
from pipeline.verify.reading import InForce, Reader
from pipeline.verify.rows import Event
from pipeline.verify.times import time_of
from pipeline.verify.topics import Record
from sinks.manifest import ContractUse
from tests.contracts.records import BOOK, CONTRACT, EXAMPLE, NOON, PlainRecord, value_of

EVER: Final = 2**40
LATE: Final = 2**58  # a clock that finds nothing to be in the future but times after the year 9999
USES: Final = {
    CONTRACT.version: ContractUse(flag_key=CONTRACT.flag_key, offsets=dict.fromkeys(MODELS, (0, EVER))),
}
CONTRACTS: Final = {CONTRACT.version: CONTRACT}
DECODER: Final = Decoder(BOOK, 1 << 20, EVER)
SAME: Final = (
    *("kind", "topic", "offset", "flag_key", "unit_id", "variation", "event", "event_id", "contract_version"),
    *("assignment_unit", "model_route", "prompt_version", "retrieval_profile", "fallback_used"),
    *("guardrail", "severity", "confirmed"),
)

ANY: Final = st.sampled_from(
    (
        *(None, "", "x", "y" * 256, "y" * 257, "y" * 1025, 0, 1, -1.5, 10**400, True, False, float("nan"), ...),
        *([], ["a"], [""], [1], {}, {"a": "b"}, {"": "b"}, {"a": 1}, "\u0000", "\U0001f600"),
        *("candidate", "info", "support_answer_model_route"),
        *("2026-06-07T10:15:30Z", "2026-06-07 10:15:30.123456789+02:00", "2026-06-07t10:15:30z"),
        *("1999-12-31T23:59:59Z", "2026-06-07T24:00:00Z", "2026-02-30T10:15:30Z", "2026-06-07T10:15Z"),
        *("2026-06-07T10:15:30", "9999-12-31T23:59:59-01:00"),
    )
)
NAMES: Final = (
    *("event", "flagKey", "experimentKey", "unitId", "variation", "timestamp", "eventId", "attributes", "segments"),
    *("assignmentUnit", "modelRoute", "promptVersion", "fallbackUsed", "reason", "guardrail", "value", "severity"),
    *("confirmed", "latencyMs", "flag_key", "", "z" * 257),
)
KINDS: Final = st.sampled_from(list(MODELS))
BODIES: Final = st.builds(
    lambda kind, changes: value_of(kind, **changes), KINDS, st.dictionaries(st.sampled_from(NAMES), ANY, max_size=3)
)
CUT: Final = st.tuples(KINDS, st.integers(0, 200), st.binary(max_size=3)).map(
    lambda cut: value_of(cut[0])[: cut[1]] + cut[2] + value_of(cut[0])[cut[1] :]
)
VALUES: Final = st.one_of(st.none(), st.binary(max_size=20), BODIES, BODIES, CUT)


def agree(kind: Kind, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = ()) -> bool:
    """Assert that decoder and audit say the same of the value; return whether they accept it."""
    decoded = DECODER.decode(kind, kind, [PlainRecord(value, headers=headers)], LATE)
    reader = Reader(kind, kind, 0, 1, InForce(kind, USES, CONTRACTS))
    (read,) = reader.read([Record(0, NOON // 1000, False, None, value, headers)])  # noqa: FBT003
    if decoded.refused and decoded.refused[0].reason == "future_timestamp":
        return False  # that is the clock's word
    if decoded.refused:
        assert not isinstance(read, Event), decoded.refused
        assert decoded.refused[0].reason in read
        return False
    assert isinstance(read, Event), read
    (row,) = decoded.events.to_pylist()
    assert {name: getattr(read, name) for name in SAME} == {name: row[name] for name in SAME}
    assert read.event_time == decoded.events["event_time"].view(pa.int64())[0].as_py()
    assert read.values == dict(row["values"] or ())
    if kind == "exposure":  # those of other kinds come into no fact
        assert read.segments == row["segments"]
        assert (read.attributes is None) == (row["attributes"] is None)
        assert (read.attributes or {}) == dict(row["attributes"] or ())
    return True


@given(KINDS, VALUES)
@settings(max_examples=500)
def test_what_the_decoder_accepts_the_audit_accepts_and_nothing_else(kind: Kind, value: bytes | None) -> None:
    agree(kind, value)


OUTCOME: Final = value_of("outcome")[:-1].decode()  # without its last brace


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        pytest.param(f'{OUTCOME}, "cost": NaN}}', False, id="NaN"),
        pytest.param(f'{OUTCOME}, "cost": -Infinity}}', False, id="Infinity"),
        pytest.param(f'{OUTCOME}, "cost": 1e400}}', False, id="a number beyond doubles"),
        pytest.param(f'{OUTCOME}, "cost": {"9" * 5_000}}}', False, id="more digits than Python reads"),
        pytest.param(f'{OUTCOME}, "cost": 01}}', False, id="a leading zero"),
        pytest.param(f'{OUTCOME}, "cost": 1.}}', False, id="a bare point"),
        pytest.param(f'{OUTCOME}, "cost": -0.0}}', True, id="minus zero"),
        pytest.param(f'{OUTCOME}, "cost": "1", "cost": 1}}', True, id="the last of two"),
        pytest.param(f'{OUTCOME}, "cost": 1, "cost": "1"}}', False, id="the last of two is wrong"),
        pytest.param(f'{OUTCOME}, "cost": {"[" * 5_000}{"]" * 5_000}}}', False, id="deep"),
        pytest.param(f'{OUTCOME}, "eventId": "\\ud83d\\ude00"}}', True, id="a pair of surrogates"),
        pytest.param(f'{OUTCOME}, "eventId": "\\ud83d"}}', False, id="half a pair"),
        pytest.param(f'{OUTCOME}, "eventId": "\\udE00"}}', False, id="the other half"),
        pytest.param(f'{OUTCOME}, "eventId": "a\tb"}}', False, id="a bare control character"),
        pytest.param(f"\ufeff{OUTCOME}}}", False, id="a byte order mark"),
        pytest.param(f" \n\t\r{OUTCOME}}} \n", True, id="white space around"),
        pytest.param(f"\u00a0{OUTCOME}}}", False, id="white space of other kinds"),
        pytest.param(f"{OUTCOME}}}x", False, id="something behind"),
        pytest.param("[]", False, id="a list"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_odd_json_is_read_alike(value: str, accepted: bool) -> None:  # noqa: FBT001
    assert agree("outcome", value.encode()) is accepted


def test_other_encodings_are_not_json() -> None:
    assert not agree("outcome", f"{OUTCOME}}}".encode("utf-16"))


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        pytest.param(((b"2026-06-07T10:15:30Z"),), True, id="a time"),
        pytest.param((b"noon", b"2026-06-07T10:15:30Z"), True, id="the last of two"),
        pytest.param((b"2026-06-07T10:15:30Z", b"noon"), False, id="the last of two is none"),
        pytest.param((b"1999-06-07T10:15:30Z",), False, id="too early"),
        pytest.param((None,), False, id="empty"),
        pytest.param((b"\xff",), False, id="no text"),
        pytest.param((), True, id="no header"),
    ],
)
def test_a_time_beside_the_body_is_read_alike(headers: tuple[bytes | None, ...], accepted: bool) -> None:  # noqa: FBT001
    value = value_of("outcome", timestamp=...)
    assert agree("outcome", value, tuple(("evidence.timestamp", text) for text in headers)) is accepted


@given(st.datetimes(), st.sampled_from(["Z", "z", "+00:00", "-11:30", "+23:59"]), st.sampled_from("Tt "))
def test_times_are_read_alike(at: Any, zone: str, between: str) -> None:  # noqa: ANN401
    text = at.isoformat(sep=between, timespec="microseconds") + zone
    agree("outcome", value_of("outcome", timestamp=text))
    assert time_of(text) is not None


def test_a_misplaced_record_may_be_rerouted_unless_it_is_a_copy() -> None:
    reader = Reader("outcome", "outcome", 0, 12, InForce("outcome", USES, CONTRACTS))
    units = [f"conv_{number}" for number in range(12)]
    values = [value_of("outcome", unitId=unit, timestamp="2026-06-07T10:15:30Z") for unit in units]
    records = [Record(place, 0, False, None, value) for place, value in enumerate(values)]  # noqa: FBT003
    misplaced = [
        record for record, read in zip(records, reader.read(records), strict=True) if not isinstance(read, Event)
    ]
    assert misplaced
    copies = [record._replace(headers=(("evidence.origin", b"outcome/1/2"),)) for record in misplaced]
    assert {*reader.read(misplaced)} == {frozenset({"misplaced", "rerouted"})}
    assert {*reader.read(copies)} == {frozenset({"misplaced"})}


def test_a_record_falls_under_the_version_that_was_in_force_at_its_offset() -> None:
    changed = load_contract(EXAMPLE + "# changed\n", "f.yaml")
    uses = {
        CONTRACT.version: ContractUse(flag_key=CONTRACT.flag_key, offsets={"outcome": (0, 4)}),
        changed.version: ContractUse(flag_key=CONTRACT.flag_key, offsets={"outcome": (4, 9)}),
    }
    reader = Reader("outcome", "outcome", 0, 1, InForce("outcome", uses, {**CONTRACTS, changed.version: changed}))
    value = value_of("outcome", timestamp="2026-06-07T10:15:30Z")
    read = reader.read([Record(offset, 0, False, None, value) for offset in (3, 4, 5, 10)])  # noqa: FBT003
    versions = [each.versions if isinstance(each, Event) else each for each in read]
    assert versions == [
        [CONTRACT.version],
        [CONTRACT.version, changed.version],
        [changed.version],
        {"unknown_flag", "unknown_variation"},
    ]
