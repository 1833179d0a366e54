"""The headers of a dead letter."""

import hashlib
import json
from dataclasses import replace

import pytest

from contracts.dead_letters import REASONS, STAGES, DeadLetter, replay_count, without_ours

LETTER = DeadLetter(
    topic="outcomes",
    partition=3,
    offset=41,
    reason="schema_violation",
    stage="validate",
    message="latencyMs: Input should be a boolean or a number that fits a double",
    details=json.dumps([{"type": "number_type", "loc": ["latencyMs"], "msg": "Input should be…"}]),
    group="evidence",
    failed_at_us=1_780_833_600_123_456,
    timestamp_us=1_780_833_600_000_000,
    version="0.1.0",
    replay_count=0,
    key=b"conv_1",
    value=b'{"latencyMs": "1840"}',
    original_headers=(("traceparent", b"00-abc"), ("empty", None), ("traceparent", b"00-def")),
)


def test_headers_of_the_record_come_first_and_untouched() -> None:
    assert LETTER.headers()[:3] == [("traceparent", b"00-abc"), ("empty", None), ("traceparent", b"00-def")]


def test_added_headers_say_what_is_wrong_and_where_it_came_from() -> None:
    assert dict(LETTER.headers()[3:]) == {
        "__dlq.errors.topic": b"outcomes",
        "__dlq.errors.partition": b"3",
        "__dlq.errors.offset": b"41",
        "__dlq.errors.group": b"evidence",
        "__dlq.errors.message": LETTER.message.encode(),
        "evidence.dlq.reason": b"schema_violation",
        "evidence.dlq.stage": b"validate",
        "evidence.dlq.details": LETTER.details.encode(),
        "evidence.dlq.failed_at": b"2026-06-07T12:00:00.123Z",
        "evidence.dlq.timestamp": b"2026-06-07T12:00:00.000Z",
        "evidence.dlq.pipeline_version": b"0.1.0",
        "evidence.dlq.replay_count": b"0",
    }


def test_headers_of_an_earlier_dead_letter_are_replaced() -> None:
    again = replace(LETTER, original_headers=LETTER.headers(), replay_count=1)
    assert again.headers()[:3] == LETTER.headers()[:3]
    assert [value for name, value in again.headers() if name == "evidence.dlq.replay_count"] == [b"1"]
    assert len(again.headers()) == len(LETTER.headers())


def test_the_headers_a_record_had_before_can_be_had_back() -> None:
    marks = (*LETTER.original_headers, ("evidence.timestamp", b"2026-06-07T12:00:00Z"))
    assert without_ours(replace(LETTER, original_headers=marks).headers()) == list(marks)


def test_a_truncated_letter_tells_of_the_whole_value() -> None:
    cut = LETTER.truncated(5)
    added = dict(cut.headers())
    assert cut.value == b'{"lat'
    assert added["evidence.dlq.truncated"] == b"true"
    assert added["evidence.dlq.size"] == b"21"
    assert added["evidence.dlq.sha256"] == hashlib.sha256(LETTER.value or b"").hexdigest().encode()


def test_a_letter_truncated_twice_still_tells_of_the_whole_value() -> None:
    assert LETTER.truncated(15).truncated(5) == LETTER.truncated(5)


def test_a_truncated_letter_keeps_key_and_headers_if_they_are_short() -> None:
    cut = LETTER.truncated(100)
    assert (cut.key, cut.value, cut.headers()[:3]) == (LETTER.key, LETTER.value, LETTER.headers()[:3])


def test_a_truncated_letter_gives_up_a_long_key_and_long_headers() -> None:
    cut = replace(LETTER, key=b"k" * 50, original_headers=(("big", b"x" * 50),)).truncated(20)
    assert cut.key == b"k" * 20
    assert cut.headers()[0][0] == "__dlq.errors.topic"


def test_a_letter_without_value_can_be_truncated() -> None:
    cut = replace(LETTER, key=None, value=None).truncated(5)
    assert (cut.key, cut.value) == (None, None)


@pytest.mark.parametrize(
    ("value", "count"),
    [(b"2", 2), (b"", 0), (None, 0), (b"-1", 0), (b"two", 0), (b"9" * 5000, 0)],
    ids=["count", "empty", "null", "negative", "word", "huge"],
)
def test_a_replay_count_is_a_number_or_zero(value: bytes | None, count: int) -> None:
    assert replay_count([("evidence.dlq.replay_count", b"1"), ("evidence.dlq.replay_count", value)]) == count


def test_a_record_never_replayed_has_count_zero() -> None:
    assert replay_count([]) == 0


def test_reasons_and_stages_are_closed_sets() -> None:
    assert {
        "tombstone",
        "not_json",
        "bad_framing",
        "too_large",
        "schema_violation",
        "unknown_flag",
        "unknown_variation",
        "future_timestamp",
        "late",
        "no_exposure",
        "misplaced",
        "internal",
    } == REASONS
    assert {"decode", "validate", "placement", "close"} == STAGES
