"""What is read at once is what is read step by step: an envelope opened, and its event judged by the model."""

import base64
import json
from typing import Any, Final

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.decode import Decoded, Decoder
from contracts.events import MODELS, Kind
from contracts.structs import FastReader
from contracts.wire import opened, read_at_once
from tests.contracts.records import BOOK, NOON, VALID, PlainRecord, value_of
from tests.contracts.test_decode import MAX_FUTURE, check
from tests.contracts.wire.envelopes import FORMS, Headers, evaluation, insight, log_record, record_of

MOST: Final = 1 << 16


class Deaf(FastReader):
    """A reader that reads nothing: each record is opened step by step, and judged by the model."""

    def _make(self) -> None:
        super()._make()
        self.decode = self.decode_around = self._refuse

    def _refuse(self, value: bytes) -> Any:  # noqa: ANN401 -- never returns
        raise ValueError(value)


class StepByStep(Decoder):
    """A decoder with such readers."""

    def __init__(self) -> None:
        super().__init__(BOOK, MOST, MAX_FUTURE)
        self._readers = {kind: Deaf(kind) for kind in MODELS}


def taught(kind: Kind) -> FastReader:
    """Return a reader that has seen a usual event."""
    reader = FastReader(kind)
    reader.learn(MODELS[kind].model_validate_json(value_of(kind)))
    return reader


READERS: Final = {kind: taught(kind) for kind in MODELS}
AT_ONCE, SLOWLY = Decoder(BOOK, MOST, MAX_FUTURE), StepByStep()


# ── Records of every sort, token by token: names may come twice, and texts may be none ────────────────────────────────

_ODD: Final = (
    "null",
    "true",
    '""',
    '" "',
    "0",
    "-0",
    "-0.0",
    "1e400",
    "NaN",
    "-Infinity",
    "1" * 40,
    "9" * 4_400,
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    '"\\u0000"',
    '"\xff"',
    '"\x01"',
    '"é"',
    '"candidate"',
    '"' + "i" * 300 + '"',
    "[]",
    "{}",
    "[" * 190 + "]" * 190,
    "[" * 250 + "]" * 250,
    '{"a": {"eventId": "inner"}}',
)
_TIMES: Final = (
    '"2026-06-07T11:30:00.25Z"',
    '"2026-06-07t11:30:00.123456789+02:00"',
    '"2026-02-29T11:30:00Z"',
    '"2024-02-29T11:30:00Z"',
    '"2026-04-31T11:30:00Z"',
    '"2026-12-31T23:59:59Z"',
    '"2026-06-07T24:30:00Z"',
    '"2026-06-07T11:30:00"',
    '"2026-06-07T11:30:00,5Z"',
    '"2026-06-07T11:30:00Z\\n"',
    '"1999-12-31T23:59:59Z"',
    '"2000-01-01T00:30:00+01:00"',
    '"\uff12026-06-07T11:30:00Z"',
    '"yesterday"',
)
_ATTRIBUTES: Final = {
    "specversion": '"1.0"',
    "type": '"com.example"',
    "source": '"/support"',
    "id": '"A-1"',
    "time": '"2026-06-07T11:30:00Z"',
}
_odd = st.sampled_from(_ODD)
_times = st.sampled_from(_TIMES)
_spaces = st.sampled_from(("", "", "", " ", "\n\t\r", "\f", "\ufeff"))


def token(text: str) -> bytes:
    """Return the text in UTF-8, but for `ÿ`, which stands for a byte that is none."""
    return text.encode().replace("\xff".encode(), b"\xff")


@st.composite
def objects(draw: st.DrawFn, fields: dict[str, str], odd: dict[str, st.SearchStrategy[str]]) -> str:
    """Return a JSON object with these fields, some of them changed, left out, added or given twice, in any order."""
    pairs = draw(st.permutations(list(fields.items()))) if draw(st.booleans()) else list(fields.items())
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2, 3)))):
        place = draw(st.integers(0, len(pairs)))
        name = draw(st.sampled_from(sorted(odd)))
        pairs[place : place + draw(st.integers(0, 1))] = [(name, draw(odd[name]))] * draw(st.integers(0, 2))
    space = draw(_spaces)
    return "{" + ",".join(f'"{name}"{space}:{text}{space}' for name, text in pairs) + "}" + space


@st.composite
def events(draw: st.DrawFn, kind: Kind) -> str:
    """Return an event of the kind, or nearly one."""
    fields = {name: json.dumps(value) for name, value in VALID[kind].items()}
    if draw(st.booleans()):
        fields.pop("timestamp", None)
    names = (*fields, "flagKey", "latencyMs", "more", "reason", "attributes", *_ATTRIBUTES, "data", "\\u0065vent")
    odd = {name: _odd | st.just('"x"') for name in names}
    odd |= {"eventId": _odd | st.just('"own"'), "timestamp": _times | _odd}
    return draw(objects(fields, odd))


@st.composite
def envelopes(draw: st.DrawFn, data: str) -> str:
    """Return an envelope of CloudEvents around the text, or nearly one."""
    inner = {"data": data}
    if draw(st.integers(0, 3)) == 0:
        inner = {"data_base64": json.dumps(base64.b64encode(token(data)).decode())}
    odd = {name: _odd | st.just('"1.0"') for name in (*_ATTRIBUTES, "data", "data_base64", "extension", "", "\\u0069d")}
    odd |= {"data": st.just(data) | _odd, "extension": st.just(data) | _odd, "time": _times | _odd}
    return draw(objects(_ATTRIBUTES | inner, odd))


_VENDORS: Final = st.sampled_from([json.dumps(insight()), json.dumps(evaluation(log_record())), "[]", "7", '"text"'])


@st.composite
def headers(draw: st.DrawFn) -> Headers:
    """Return headers of CloudEvents or others, some of them changed, left out or given twice."""
    binary = [(f"ce_{name}", token(json.loads(text))) for name, text in _ATTRIBUTES.items()]
    media = [
        b"application/cloudevents+json",
        b"Application/CloudEvents+JSON ; charset=utf-8",
        b"application/json",
        b"application/cloudevents-batch+json",
        b"application/cloudevents",
        b"text/cloudevents",
        b"\xff",
        b"",
        None,
    ]
    content_type = ("content-type", draw(st.sampled_from(media)))
    given: list[tuple[str, bytes | None]] = list(
        draw(st.sampled_from(((), (), [content_type], binary, [*binary, content_type])))
    )
    values = st.none() | st.sampled_from([token(text.strip('"')) for text in (*_ODD, *_TIMES)] + media[:3])
    others = ["content-type", "ce_specversion", "ce_id", "ce_time", "traceparent", "__value_schema_id"]
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        place = draw(st.integers(0, len(given)))
        more = draw(st.lists(st.tuples(st.sampled_from(others), values), max_size=2))
        given[place : place + draw(st.integers(0, 1))] = more
    if draw(st.integers(0, 5)) == 0:
        given.append(("evidence.timestamp", b"2026-06-07T08:00:00Z"))
    return tuple(given)


@st.composite
def records(draw: st.DrawFn, kind: Kind) -> PlainRecord:
    """Return a record: plain or in envelopes, even in several of one kind, whole or broken; or a tombstone."""
    text = draw(
        st.one_of(events(kind), events(kind), events(kind), events(draw(st.sampled_from(list(MODELS)))), _VENDORS)
    )
    for _ in range(draw(st.sampled_from((0, 0, 1, 1, 1, 2)))):
        text = draw(envelopes(text))
    value = token(text)
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        value = draw(st.sampled_from((b"\0\0\0\0\7", b"\1" + b"g" * 16, b"\0\0", b"\2"))) + value
    if draw(st.integers(0, 7)) == 0:
        place = draw(st.integers(0, len(value)))
        value = value[:place] + draw(st.binary(max_size=2)) + value[place + draw(st.integers(0, 2)) :]
    return PlainRecord(
        draw(st.sampled_from((value,) * 20 + (None, b"", b"{", b"null"))),
        timestamp=draw(st.sampled_from((NOON // 1000, NOON // 1000, NOON // 1000, -1))),
        headers=draw(headers()),
    )


# ── The same outcome ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.data(), st.sampled_from(list(MODELS)))
def test_what_is_read_at_once_is_what_is_read_step_by_step(data: st.DataObject, kind: Kind) -> None:
    record, reader = data.draw(records(kind)), READERS[kind]
    try:
        found = read_at_once(reader, record.value or b"", record.headers)
    except Exception:  # noqa: BLE001 -- whatever it raises says: step by step
        return
    event = opened(kind, record.value or b"", record.headers)
    assert found == reader.decode((record.value or b"") if event is None else event)


def told(decoded: Decoded) -> tuple[Any, ...]:
    """Return all that a batch says, with maps as dicts, for the order of metrics is free, and times in µs."""
    events = decoded.events
    columns = {name: events[name].to_pylist() for name in events.schema.names}
    columns |= {name: events[name].view(pa.int64()).to_pylist() for name in ("record_time", "event_time")}
    for name in ("values", "attributes"):
        columns[name] = [None if each is None else dict(each) for each in columns[name]]
    return columns, decoded.refused, decoded.versions


@given(st.data(), st.sampled_from(list(MODELS)))
def test_a_batch_of_any_records_has_the_same_columns_and_refusals(data: st.DataObject, kind: Kind) -> None:
    """A new decoder learns on the way; the one for all batches has learned."""
    drawn = data.draw(st.lists(records(kind), max_size=6))
    usual = data.draw(st.sampled_from(list(FORMS)))
    drawn += [record_of(usual, value_of(kind))] * data.draw(st.integers(0, 3))
    batch = [
        PlainRecord(each.value, offset, timestamp=each.timestamp, headers=each.headers)
        for offset, each in enumerate(data.draw(st.permutations(drawn)))
    ]
    expected = SLOWLY.decode(kind, kind, batch, NOON)
    check(expected, batch)
    for decoder in (AT_ONCE, Decoder(BOOK, MOST, MAX_FUTURE)):
        decoded = decoder.decode(kind, kind, batch, NOON)
        check(decoded, batch)
        assert told(decoded) == told(expected)
    assert "internal" not in {each.reason for each in expected.refused}


# ── What is usual ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_usual_event_in_any_envelope_is_read_at_once(kind: Kind, form: str) -> None:
    record = record_of(form, value_of(kind, unitId="another"))
    value = record.value or b""
    found = read_at_once(READERS[kind], value, record.headers)
    assert found == READERS[kind].decode(opened(kind, value, record.headers) or value)


def test_an_envelope_may_have_other_attributes() -> None:
    data = value_of("outcome").decode()
    text = json.dumps({name: json.loads(each) for name, each in _ATTRIBUTES.items()} | {"partitionkey": "u", "n": 7})
    value = (text[:-1] + f', "data": {data}, "flag": true}}').encode()
    assert read_at_once(READERS["outcome"], value, ()).event_id == '["/support","A-1"]'


def test_an_event_without_its_envelope_is_not_read_at_once_where_headers_say_that_it_has_one() -> None:
    binary = FORMS["CloudEvent in binary mode"](b"")[1]
    broken = tuple((name, None if name == "ce_id" else value) for name, value in binary)
    with pytest.raises(Exception, match="bad_framing"):
        read_at_once(READERS["outcome"], value_of("outcome"), broken)
