"""The fast reader never accepts what the model would not, nor reads another value."""

import json
from math import isnan
from typing import Annotated, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, StringConstraints

from contracts.events import MODELS, Event, Exposure, Kind, Outcome
from contracts.structs import FastReader, Struct, _fast
from contracts.times import EARLIEST, parse_times
from tests.contracts.records import VALID, value_of


def _taught(kind: Kind, *values: bytes) -> FastReader:
    """Return a reader that has seen these values."""
    reader = FastReader(kind)
    for value in values:
        reader.learn(MODELS[kind].model_validate_json(value))
    return reader


_TAUGHT = {kind: _taught(kind, value_of(kind)) for kind in MODELS}


def _read(reader: FastReader, value: bytes) -> Struct | None:
    """Return the struct, or None where the reader leaves the value to the model."""
    try:
        return reader.decode(value)
    except Exception:  # noqa: BLE001 -- whatever it raises means this
        return None


def _plain(event: Event) -> dict[str, Any]:
    fields = {name: getattr(event, name) for name in type(event).model_fields}
    return fields | {"metrics": event.metrics if isinstance(event, Outcome) else {}}


def _plain_struct(reader: FastReader, kind: Kind, struct: Struct) -> dict[str, Any]:
    fields = {name: getattr(struct, name) for name in MODELS[kind].model_fields}
    fields["event_id"] = fields["event_id"] or None
    fields["segments"] = None if fields["segments"] is None else tuple(fields["segments"])
    if fields["timestamp"] is not None:
        times, read = parse_times(pa.array([fields["timestamp"]]))
        fields["timestamp"] = int(times[0]) if read[0] and times[0] >= EARLIEST else None
    numbers = [getattr(struct, f"metric_{place}") for place in range(len(reader.metrics))]
    given_numbers = {name: number for name, number in zip(reader.metrics, numbers, strict=True) if not isnan(number)}
    return fields | {"metrics": given_numbers}


_NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
_STRINGS = st.from_regex(r'"([a-zé😀 ]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}){0,6}"', fullmatch=True)
_TIMES = st.from_regex(
    r'"(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,9})?'
    r'([Zz]|[+-][0-2][0-9]:[0-5][0-9])"',
    fullmatch=True,
)
_SCALARS = st.one_of(
    _NUMBERS,
    _STRINGS,
    _TIMES,
    st.sampled_from(["true", "false", "null", "NaN", "Infinity", "-", "01", "1.", ".5", '"candidate"', '"severe"', ""]),
)
_TOKENS = st.one_of(
    _SCALARS,
    st.lists(_SCALARS, max_size=2).map(lambda items: f"[{','.join(items)}]"),
    st.lists(st.tuples(_STRINGS, _SCALARS), max_size=2).map(
        lambda pairs: "{" + ",".join(f"{name}:{token}" for name, token in pairs) + "}"
    ),
)


@st.composite
def _near_events(draw: st.DrawFn, kind: Kind) -> bytes:
    """Draw a valid event with some fields changed, removed, added or given twice, and perhaps a byte changed."""
    pairs = [(json.dumps(name), json.dumps(value)) for name, value in VALID[kind].items()]
    aliases = [json.dumps(field.alias) for field in MODELS[kind].model_fields.values()]
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(pairs)))
        name = draw(st.sampled_from(aliases) | _STRINGS | st.just('"latencyMs"'))
        pairs[place : place + draw(st.integers(0, 1))] = [(name, draw(_TOKENS))] * draw(st.integers(0, 2))
    space = draw(st.sampled_from(["", " ", "\n\t", "\f"]))
    value = ("{" + ",".join(f"{space}{name}{space}:{token}" for name, token in pairs) + "}" + space).encode()
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(value)))
        value = value[:place] + draw(st.binary(max_size=2)) + value[place + draw(st.integers(0, 2)) :]
    return value


@given(st.data(), st.sampled_from(list(MODELS)))
def test_what_the_reader_accepts_the_model_accepts_with_the_same_values(data: st.DataObject, kind: Kind) -> None:
    """The two rules that a struct cannot state are left to whole columns: the time, and flag or experiment."""
    value = data.draw(_near_events(kind))
    for reader in (FastReader(kind), _TAUGHT[kind]):
        struct = _read(reader, value)
        if struct is None:
            continue
        read = _plain_struct(reader, kind, struct)
        if (struct.timestamp is not None and read["timestamp"] is None) or (
            struct.flag_key is None and struct.experiment_key is None
        ):
            continue
        expected = _plain(MODELS[kind].model_validate_json(value))
        assert read == expected
        assert list(map(type, read["metrics"].values())) == [
            type(expected["metrics"][name]) for name in read["metrics"]
        ]


@pytest.mark.parametrize("kind", MODELS)
def test_a_reader_reads_usual_events_once_it_has_seen_one(kind: Kind) -> None:
    assert _read(FastReader(kind), value_of(kind)) is None
    assert _read(_TAUGHT[kind], value_of(kind, unitId="another", eventId="1")) is not None


def test_a_reader_knows_the_metrics_it_was_given() -> None:
    assert FastReader("outcome", ["latencyMs", "cost", "cost"]).metrics == ("cost", "latencyMs")


def test_a_reader_learns_a_bounded_number_of_metrics() -> None:
    reader = FastReader("outcome", ["known"])
    for number in range(100):
        reader.learn(MODELS["outcome"].model_validate_json(value_of("outcome", **{f"metric{number}": number})))
    assert len(reader.metrics) == 1 + 64
    assert {"known", "latencyMs"} <= set(reader.metrics)


def test_a_reader_learns_a_bounded_number_of_values_and_then_reads_any() -> None:
    reader = FastReader("exposure")
    for number in range(300):
        reader.learn(MODELS["exposure"].model_validate_json(value_of("exposure", promptVersion=f"v{number}")))
    assert reader.decode(value_of("exposure", promptVersion="never seen")).prompt_version == "never seen"
    assert _read(reader, value_of("exposure", promptVersion="")) is None


def test_what_was_read_earlier_is_settled_to_the_metrics_known_now() -> None:
    reader = _taught("outcome", value_of("outcome"))
    value = value_of("outcome")
    earlier = reader.decode(value)
    reader.learn(MODELS["outcome"].model_validate_json(value_of("outcome", tokens=5)))
    assert reader.settle(earlier, value) == reader.decode(value)
    assert reader.settle(reader.decode(value), value) == reader.decode(value)


def test_what_only_the_model_can_read_keeps_its_other_metrics() -> None:
    reader = _taught("outcome", value_of("outcome"))
    value = value_of("outcome", tokens=5, timestamp="2026-06-07T12:00:00.1234569Z")
    struct: Struct = reader.settle(MODELS["outcome"].model_validate_json(value), value)
    assert reader.wide in type(struct).__mro__
    assert struct.others == {"tokens": 5.0}
    assert struct.timestamp == "2026-06-07T12:00:00.123456Z"
    assert {reader.metrics[place]: getattr(struct, f"metric_{place}") for place in range(4)} == {
        "estimatedCost": 0.014,
        "humanCorrection": False,
        "latencyMs": 1840.0,
        "resolvedWithoutEscalation": True,
    }


@pytest.mark.parametrize(
    "hint",
    [
        pytest.param(Annotated[str, StringConstraints(pattern="x")], id="pattern"),
        pytest.param(Annotated[str, Field(min_length=1)], id="other constraint"),
        pytest.param(Annotated[str, StringConstraints(min_length=1), StringConstraints(max_length=2)], id="two"),
        pytest.param(int, id="whole number"),
        pytest.param(tuple[str, str], id="pair"),
    ],
)
def test_a_type_without_an_equal_in_structs_is_refused(hint: Any) -> None:  # noqa: ANN401 -- types are values here
    with pytest.raises(TypeError, match="as its model does"):
        _fast(hint)


def test_every_field_of_every_model_has_an_equal() -> None:
    assert all(FastReader(kind) for kind in MODELS)
    assert Exposure.model_fields.keys() <= set(FastReader("exposure").wide.__struct_fields__)
