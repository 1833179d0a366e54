"""The headers of six kinds of software, read alike."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.dead_letters import REPLAY_COUNT_HEADER
from pipeline.dlq.origins import FAMILIES, Origin, trace
from pipeline.dlq.places import Place
from tests.pipeline.dlq import letters
from tests.pipeline.lab import NOON

Write = Callable[[Place], letters.Headers]

FAMILY: dict[str, tuple[Write, str, str, str, int | None, bool]] = {
    "evidence": (letters.evidence, "not_json", "not JSON", "evidence", NOON, False),
    "share group": (letters.share_group, "share group", "Offset rejected by client.", "g", None, False),
    "connect": (
        letters.connect,
        "DataException",
        "Converting byte[] to Kafka Connect data failed",
        "warehouse",
        None,
        True,
    ),
    "streams": (letters.streams, "SerializationException", "bad", "", None, True),
    "spring": (letters.spring, "IllegalStateException", "Listener failed", "scoring", NOON, False),
    "spring retry": (letters.spring_retry, "IllegalStateException", "Listener failed", "scoring", NOON, False),
}
"""By family: who writes it, then reason, message, group, time and whether the letter's own time is the record's."""

places = st.builds(
    Place,
    st.text(st.characters(codec="ascii", categories=["L", "Nd"]), min_size=1, max_size=30),
    st.integers(0, 2**31 - 1),
    st.integers(0, 10**18 - 1),
)
own_headers = st.lists(
    st.tuples(
        st.text(max_size=8).filter(lambda name: not name.startswith(("__", "kafka_", "evidence.", "retry_"))),
        st.none() | st.binary(max_size=8),
    ),
    max_size=4,
)
any_headers = st.lists(
    st.tuples(
        st.sampled_from([name for each in FAMILIES for name in (each.topic, each.partition, each.offset)])
        | st.sampled_from([name for each in FAMILIES for name in (*each.reasons, each.message, each.timestamp)])
        | st.text(max_size=8),
        st.none() | st.binary(max_size=12),
    ),
    max_size=12,
)


def test_every_family_is_tried() -> None:
    assert set(FAMILY) == {family.name for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILY)
@given(place=places, own=own_headers)
def test_an_origin_comes_back_as_it_was_written(family: str, place: Place, own: letters.Headers) -> None:
    write, *_ = FAMILY[family]
    found = trace([*own, *write(place)])
    assert (found.family, found.origin, found.own) == (family, Origin(place.topic, place), tuple(own))


@pytest.mark.parametrize("family", FAMILY)
def test_reason_message_group_and_time_are_told(family: str) -> None:
    write, *expected = FAMILY[family]
    found = trace(write(Place("outcomes", 3, 17)))
    assert [found.reason, found.message, found.group, found.timestamp, found.keeps_time] == expected


@pytest.mark.parametrize("earlier", FAMILY)
@pytest.mark.parametrize("later", FAMILY)
def test_the_last_to_write_is_the_one_that_made_the_letter(earlier: str, later: str) -> None:
    first, second = Place("exposures", 1, 1), Place("outcomes", 2, 2)
    headers = FAMILY[later][0](second)
    if {earlier, later} != {"evidence", "share group"}:  # they share names: ours drops what was there before
        headers = [*FAMILY[earlier][0](first), *headers]
    assert trace(headers).origin == Origin("outcomes", second)


def test_of_several_headers_with_a_name_the_last_counts() -> None:
    twice = [*letters.spring(Place("outcomes", 0, 1)), *letters.spring(Place("outcomes-retry", 1, 2))]
    assert trace(twice).origin == Origin("outcomes-retry", Place("outcomes-retry", 1, 2))


def test_what_an_earlier_replay_added_is_not_the_records_own() -> None:
    own: letters.Headers = [("trace", b"1"), (REPLAY_COUNT_HEADER, b"2")]
    assert trace([*own, *letters.connect(Place("outcomes", 0, 1))]).own == (("trace", b"1"),)
    assert trace(own).own == (("trace", b"1"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("partition", b"\x00\x00\x00", id="three bytes"),
        pytest.param("partition", b"\xff\xff\xff\xff", id="negative"),
        pytest.param("offset", b"17", id="text where numbers are binary"),
        pytest.param("offset", None, id="null"),
    ],
)
def test_a_broken_number_leaves_the_topic(name: str, value: bytes | None) -> None:
    headers = dict(letters.spring(Place("outcomes", 0, 1))) | {f"kafka_dlt-original-{name}": value}
    assert trace(list(headers.items())).origin == Origin("outcomes", None)


def test_a_time_that_is_none_is_lost() -> None:
    headers = dict(letters.evidence(Place("outcomes", 0, 1))) | {"evidence.dlq.timestamp": b"noon"}
    assert trace(list(headers.items())).timestamp is None
    headers = dict(letters.spring(Place("outcomes", 0, 1))) | {"kafka_dlt-original-timestamp": b"\xff" * 8}
    assert trace(list(headers.items())).timestamp is None


@given(headers=any_headers)
def test_no_headers_are_too_broken_to_be_read(headers: letters.Headers) -> None:
    found = trace(headers)
    place = found.origin.place if found.origin else None
    assert place is None or (0 <= place.partition < 2**31 and 0 <= place.offset < 2**63)
