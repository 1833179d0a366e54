"""What letters look like: harmless for a terminal, and counted right."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dlq import showing
from pipeline.dlq.letters import Fault, read_letter
from pipeline.dlq.listing import Listing
from pipeline.dlq.places import Place
from pipeline.dlq.planning import Plan
from pipeline.terminal import safe, safe_bytes
from tests.pipeline.dlq import letters
from tests.pipeline.dlq.letters import LATER, letter, record
from tests.pipeline.lab import outcome

MINUTE = 60_000_000
DETAILS = [
    {"type": "missing", "loc": ["variation"], "msg": "Field required"},
    {"type": "extra_forbidden", "loc": ["a", 0, "\x1b[31m"], "msg": "Extra inputs are not permitted"},
]

texts = st.text(max_size=12) | st.sampled_from(["\x1b[2J", "\x9b31m", "\u202eevil", "\r\n", "\x07", "\u2028"])
values = st.none() | st.binary(max_size=40) | texts.map(str.encode)
hostile = st.lists(
    st.tuples(
        texts | st.sampled_from([name for name, _ in letters.evidence(Place("t", 0, 0))]),
        values | texts.map(lambda text: json.dumps([{"type": text, "loc": [text], "msg": text}]).encode()),
    ),
    max_size=16,
)


def harmless(text: str) -> bool:
    """Return whether nothing in it is for the terminal rather than for people."""
    return not any(unicodedata.category(each).startswith(("C", "Zl", "Zp")) for each in text)


@given(text=st.text())
def test_safe_text_has_no_control_character_and_keeps_the_rest(text: str) -> None:
    assert harmless(safe(text))
    if harmless(text):
        assert safe(text) == text


@given(data=st.binary())
def test_any_bytes_become_safe_text(data: bytes) -> None:
    assert harmless(safe_bytes(data))


def test_escape_codes_are_shown_as_escapes() -> None:
    assert safe("\x1b]0;pwned\x07 \u202etxt\n") == r"\x1b]0;pwned\x07 \u202etxt\n"
    assert safe_bytes(b"\xff\x1b[31mr\xc3\xa9d") == r"\xff\x1b[31mréd"
    assert safe_bytes(None) == "(none)"


@given(headers=hostile, key=values, value=values)
def test_whatever_is_in_a_record_what_is_printed_has_no_control_characters(
    headers: letters.Headers, key: bytes | None, value: bytes | None
) -> None:
    read = read_letter(Place("outcomes.dlq", 0, 1), record(headers, value)._replace(key=key))
    listing = Listing(LATER)
    listing.add(read)
    printed = [*showing.lines(read), *listing.lines(), json.dumps(showing.as_json(read)), json.dumps(listing.as_json())]
    assert [line for line in printed if not harmless(line)] == []


def test_a_letter_is_shown_field_by_field() -> None:
    shown = letter(
        b'{"flagKey": "\x1b[31mroute"}',
        own=[("trace", b"7\x07")],
        reason="schema_violation",
        stage="validate",
        message="variation: Field required (and 1 more)",
        details=json.dumps(DETAILS),
    )
    assert list(showing.lines(shown)) == [
        "outcomes/0/7, in outcomes.dlq/0/3",
        "  reason       schema_violation (validate)",
        "  message      variation: Field required (and 1 more)",
        "  failed at    2026-06-07T12:01:00.000Z",
        "  failed in    evidence 1, group evidence",
        "  record time  2026-06-07T12:00:00.000Z",
        "  replays      0",
        "  key          k",
        "  value        25 bytes",
        "errors",
        "  variation     Field required (missing)",
        r"  a.0.\x1b[31m  Extra inputs are not permitted (extra_forbidden)",
        "headers",
        r"  trace: 7\x07",
        "value",
        r'  {"flagKey": "\x1b[31mroute"}',
    ]


def test_a_cut_letter_says_so() -> None:
    shown = list(showing.lines(letter(b"12345", cut=(10**6, "ab"))))
    assert "  value        5 bytes, the rest is cut off" in shown


@pytest.mark.parametrize(
    "details",
    ["", "{", "[1]", '{"a": 1}', '[{"loc": [], "msg": "m"}]', "[" * 100_000],
    ids=["none", "broken", "numbers", "object", "incomplete", "deep"],
)
def test_details_of_another_form_are_no_faults(details: str) -> None:
    assert letter(b"{", details=details).faults() == []


def test_a_fault_of_the_whole_value_has_a_name() -> None:
    details = json.dumps([{"type": "json_invalid", "loc": [], "msg": "Invalid JSON"}])
    assert letter(b"{", details=details).faults() == [Fault("(value)", "Invalid JSON", "json_invalid")]


def test_values_that_are_not_text_are_base64_in_json() -> None:
    told = showing.as_json(letter(b"\xff", at=Place("outcomes", 0, 9)))
    assert (told["value"], told["key"], told["origin"]) == ({"base64": "/w=="}, "k", "outcomes/0/9")


def test_letters_are_counted_by_topic_reason_and_flag_each_origin_once() -> None:
    listing = Listing(LATER + 5 * MINUTE)
    for offset, (unit, variation, reason, ago) in enumerate(
        [
            ("u1", "control", "late", 0),
            ("u2", "candidate", "late", 0),
            ("u3", "control", "late", 7),
            ("u4", "control", "no_exposure", 0),
        ]
    ):
        at = Place("outcomes", 0, offset)
        made = letter(outcome(unit, 1, variation), at, reason=reason, failed_at_us=LATER - ago * MINUTE, message=unit)
        listing.add(made)
        listing.add(made)
    listing.add(letter(b"{", Place("exposures", 0, 1), reason="not_json"))

    assert listing.repeated == 4
    first, *_ = listing.groups()
    assert (first.topic, first.reason, first.flag, first.count) == ("outcomes", "late", "route", 3)
    assert (first.recent, first.a_minute) == (2, 0.2)
    assert (first.first, first.last) == (LATER - 7 * MINUTE, LATER)
    assert (first.example, first.message) == (Place("outcomes", 0, 1), "u2")
    assert first.shares() == [("control", 2 / 3), ("candidate", 1 / 3)]
    assert [(each.reason, each.flag, each.count) for each in listing.groups()[1:]] == [
        ("not_json", None, 1),
        ("no_exposure", "route", 1),
    ]
    head, row, *_ = listing.lines()
    assert head.split()[:4] == ["topic", "reason", "flag", "count"]
    assert "control 67%, candidate 33%" in row
    assert listing.lines()[-1].startswith("4 more are copies")
    assert listing.as_json()[0]["latest"] == "outcomes/0/1"


def test_no_letters_are_told_in_a_line() -> None:
    assert Listing(0).lines() == ["no dead letters"]
    assert list(Plan().lines()) == ["0 dead letters chosen"]


def test_where_none_was_asked_for_the_reasons_that_there_are_are_told() -> None:
    listing = Listing(LATER)
    for offset, reason in enumerate(("late", "late", "no\x1b_exposure", *(f"r{number:02}" for number in range(21)))):
        listing.pass_by(letter(b"{", Place("outcomes", 0, offset), reason=reason))
    (line,) = listing.lines()
    assert line.startswith("none of 24 dead letters is what was asked for; by reason they are (others) (3), late (2), ")
    assert "\x1b" not in line


def test_strangers_cannot_fill_the_memory_with_names() -> None:
    listing = Listing(LATER)
    for number in range(1_100):
        body = json.dumps({"flagKey": f"flag-{number}", "variation": "v"}).encode()
        listing.add(letter(body, Place("outcomes", 0, number)))
    for number in range(30):
        body = json.dumps({"flagKey": "flag-0", "variation": f"v{number}"}).encode()
        listing.add(letter(body, Place("outcomes", 1, number)))
    groups = listing.groups()
    assert (len(groups), groups[0].flag, groups[0].count) == (1_001, "(others)", 100)
    assert groups[1].variations["(others)"] == 30 - 19
