"""The audit opens envelopes as the decoder does, though the two share no code."""

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import Kind
from tests.contracts.records import value_of
from tests.contracts.wire.envelopes import FORMS, METRIC, evaluation, insight, log_record
from tests.pipeline.test_verify_reading import BODIES, CUT, KINDS, agree

SCALARS: Final[st.SearchStrategy[Any]] = st.sampled_from(
    (
        *(None, "", "x", "y" * 300, 0, 1, -1, 1.5, 2**70, True, False, float("nan"), float("inf"), [], {}, ["a"], "0"),
        *(
            "1.0",
            "0.3",
            "true",
            "FALSE",
            "candidate",
            "2026-06-07T10:15:30Z",
            "1999-01-01T00:00:00Z",
            "1780827330250000000",
        ),
        *("00", "1" * 25, "\u0661", "\ud83d\ude00", '\x7f\x08\x1f"\\', "aGk=", "e30=", 1_780_827_330_250, -5, 2**62),
    )
)


def paths(body: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401 -- as JSON
    """Return the way to everything in a JSON text."""
    inside = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    return [at, *(path for name, value in inside for path in paths(value, (*at, name)))]


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401 -- as JSON
    """Return a JSON text with another value in a place; `...` takes it away."""
    if not path:
        return {} if value is ... else value
    copy = dict(body) if isinstance(body, dict) else list(body)
    if len(path) == 1 and value is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(body[path[0]], path[1:], value)
    return copy


@st.composite
def mangled(draw: st.DrawFn, value: bytes) -> bytes:
    """Return the bytes cut, with a bit flipped or with something put in; sometimes untouched."""
    how = draw(st.sampled_from(("as it is", "cut", "flip", "put in")))
    place = draw(st.integers(0, max(0, len(value) - 1)))
    if how == "cut":
        return value[:place]
    if how == "flip" and value:
        return value[:place] + bytes([value[place] ^ 1 << draw(st.integers(0, 7))]) + value[place + 1 :]
    return value[:place] + draw(st.binary(max_size=3)) + value[place:] if how == "put in" else value


@st.composite
def wrapped(draw: st.DrawFn) -> tuple[Kind, bytes, tuple[tuple[str, bytes | None], ...]]:
    """Return what may be an event in an envelope, after an accident or two."""
    kind = draw(KINDS)
    value, headers = FORMS[draw(st.sampled_from(list(FORMS)))](draw(st.one_of(BODIES, CUT)))
    value = draw(mangled(value))
    changes = draw(st.lists(st.sampled_from(("drop", "mangle", "null", "again")), max_size=2))
    for change in changes:
        if headers:
            place = draw(st.integers(0, len(headers) - 1))
            name, text = headers[place]
            other: tuple[tuple[str, bytes | None], ...] = {
                "drop": (),
                "mangle": ((name, draw(mangled(text or b""))),),
                "null": ((name, None),),
                "again": ((name, text), (name, draw(mangled(text or b"")))),
            }[change]
            headers = (*headers[:place], *other, *headers[place + 1 :])
    return kind, value, headers


@given(wrapped())
@settings(max_examples=400)
def test_broken_envelopes_are_opened_alike(record: tuple[Kind, bytes, tuple[tuple[str, bytes | None], ...]]) -> None:
    agree(*record)


BASES: Final = (
    insight(),
    insight(variations=[], metrics=[METRIC]),
    insight(
        variations=...,
        metrics=[METRIC],
        user={
            "customizedProperties": [
                {"name": "flagKey", "value": "support_answer_model_route"},
                {"name": "variation", "value": "control"},
            ]
        },
    )[0],
    evaluation(log_record()),
    json.loads(FORMS["CloudEvent without content type"](value_of("exposure"))[0]),
    json.loads(FORMS["CloudEvent with data in base64"](value_of("outcome"))[0]),
)


PARTS: Final = [part for body in BASES for part in (body, [body], [[body]], *body)]
"""What may stand in a wrong place: whole bodies, in lists, and their parts."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("depth", [90, 150, 250, 1_500])
def test_deep_data_are_refused_alike(depth: int, form: str) -> None:
    deep = ('{"a":' * depth + "1" + "}" * depth).encode()
    assert not agree("outcome", *FORMS[form](deep))
    assert not agree("outcome", *FORMS[form](value_of("outcome")[:-1] + b', "deep": ' + deep + b"}"))
    assert not agree("outcome", deep)


@given(KINDS, st.sampled_from(BASES), st.data())
@settings(max_examples=400)
def test_bodies_with_other_parts_are_read_alike(kind: Kind, body: Any, data: st.DataObject) -> None:  # noqa: ANN401
    for _ in range(data.draw(st.integers(0, 3))):
        path = data.draw(st.sampled_from(paths(body)))
        body = changed(body, path, data.draw(st.one_of(st.just(...), SCALARS, st.sampled_from(PARTS))))
    value = json.dumps(body).encode()
    agree(kind, value, data.draw(st.sampled_from(((), (("content-type", b"application/cloudevents+json"),)))))
