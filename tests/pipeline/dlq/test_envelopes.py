"""Dead letters whose event is in an envelope: what they are about, and how they come again."""

import json
from collections.abc import Sequence

import pytest

from contracts.times import parse_time
from pipeline.dlq.filters import Filter
from pipeline.dlq.judging import Event, judge, replay_headers
from pipeline.dlq.letters import Named, named
from pipeline.dlq.places import Place
from pipeline.dlq.replay import Done
from tests.contracts.wire.envelopes import CE_TIME, FORMS, METRIC, evaluation, insight, log_record
from tests.pipeline.dlq.lakes import decoder
from tests.pipeline.dlq.letters import letter
from tests.pipeline.dlq.test_replay import desk, letter_record
from tests.pipeline.lab import HOUR, NOON, Lab, outcome

CLOUDS = [form for form in FORMS if "CloudEvent" in form or "mode" in form]
PLAIN = outcome("u1", 1)
TIMELESS = json.dumps({name: value for name, value in json.loads(PLAIN).items() if name != "timestamp"}).encode()


@pytest.mark.parametrize("form", FORMS)
def test_a_letter_is_about_what_the_event_in_it_names(form: str) -> None:
    value, headers = FORMS[form](PLAIN)
    assert named(value, headers) == Named("route", "u1", "control", timed=True)
    assert Filter(flags=frozenset({"route"})).matches(letter(value, own=headers))
    assert not Filter(flags=frozenset({"other"})).matches(letter(value, own=headers))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(insight(), "support_answer_model_route", id="an evaluation"),
        pytest.param(evaluation(log_record()), "support_answer_model_route", id="a log record"),
        pytest.param(insight(variations=[], metrics=[METRIC]), None, id="a metric that names no flag"),
        pytest.param(insight() * 2, None, id="two"),
    ],
)
def test_a_letter_of_a_vendor_is_about_its_flag(body: object, expected: str | None) -> None:
    assert named(json.dumps(body).encode(), ()).flag == expected


@pytest.mark.parametrize("value", [None, b"", b"\0", b"{}", b"[" * 9_999, b"\xff"])
@pytest.mark.parametrize("headers", [(), (("ce_specversion", b"1.0"),)], ids=["bare", "as a CloudEvent"])
def test_a_letter_of_anything_else_is_about_nothing(
    value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> None:
    assert named(value, headers) == Named(None, None, None, timed=False)


@pytest.mark.parametrize("form", CLOUDS)
def test_a_replay_keeps_envelope_and_event_time(form: str) -> None:
    value, headers = FORMS[form](TIMELESS)
    at = desk(0, partitions=12)
    at.reader.logs["outcomes.dlq"][0].append(letter_record(value, Place("outcomes", 0, 5), 0, own=list(headers)))
    assert at.replay() == Done(sent=1)
    [again] = at.sent("outcomes")
    assert (again.value, again.headers[: len(headers)]) == (value, headers)
    [verdict] = judge(decoder(Lab()), [("outcome", letter(value, own=headers))], NOON + HOUR)
    assert isinstance(verdict, Event)
    assert (verdict.unit_id, verdict.event_time) == ("u1", parse_time(CE_TIME))


def test_a_lost_record_time_is_not_needed_where_the_envelope_has_one() -> None:
    """Topics with the broker's times lose those of the records; headers of other software do not keep them either."""
    value, headers = FORMS["CloudEvent in binary mode"](TIMELESS)
    assert (named(value, headers).timed, named(TIMELESS, ()).timed) == (True, False)
    assert "evidence.timestamp" in dict(replay_headers(letter(value, own=headers)))
