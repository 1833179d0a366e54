"""The small measures that the rules rest on."""

import random
from dataclasses import replace

import pytest

from pipeline.doctor.findings import share
from pipeline.doctor.joining import unlikely_few
from pipeline.doctor.keys import kind_of_key
from pipeline.doctor.placing import SURE, explain
from pipeline.doctor.reading import Producer, read
from pipeline.doctor.refusals import looks_like_route
from pipeline.doctor.report import as_json, lines
from pipeline.doctor.sample import Batch, Record, Topic
from pipeline.doctor.splits import chi_square_tail
from tests.contracts.records import BOOK, CONTRACT
from tests.contracts.wire.envelopes import GUID
from tests.pipeline.doctor.samples import LIMITS, Sent, healthy, looked_at, sample_of

UNIT = "conv_Ü1"


@pytest.mark.parametrize(
    ("x", "degrees", "p"),
    [(3.841459, 1, 0.05), (5.991465, 2, 0.05), (11.344867, 3, 0.01), (13.276704, 4, 0.01), (24.995790, 15, 0.05)],
)
def test_chi_square_is_that_of_the_tables(x: float, degrees: int, p: float) -> None:
    assert chi_square_tail(x, degrees) == pytest.approx(p, rel=1e-5)


def test_few_are_unlikely_by_the_binomial() -> None:
    assert 0.9**132 < 1e-6 < 0.9**131
    assert unlikely_few(0, 132, 0.1)
    assert not unlikely_few(0, 131, 0.1)
    assert not unlikely_few(7, 100, 0.1)


@pytest.mark.parametrize(
    ("count", "of", "told"),
    [
        (0, 0, "0 of 0 (0 %)"),
        (12, 1_000, "12 of 1,000 (1.2 %)"),
        (1, 3, "1 of 3 (33 %)"),
        (1, 20_000, "1 of 20,000 (under 0.1 %)"),
        (19_999, 20_000, "19,999 of 20,000 (over 99 %)"),
        (5, 5, "5 of 5 (100 %)"),
    ],
)
def test_shares_never_read_as_none_or_all(count: int, of: int, told: str) -> None:
    assert share(count, of) == told


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        (UNIT.encode(), None),
        (None, "null_keys"),
        (b"", "null_keys"),
        (f'"{UNIT}"'.encode(), "quoted_keys"),
        (b'"conv_\\u00dc1"', "quoted_keys"),
        (f'{{"unitId":"{UNIT}"}}'.encode(), "quoted_keys"),
        (b"\0\0\0\0\x01" + UNIT.encode(), "framed_keys"),
        (b"\1" + GUID + UNIT.encode(), "framed_keys"),
        (b"\0\0\0\0\x01\x10" + UNIT.encode(), "framed_keys"),
        (UNIT.encode("utf-16-be"), "utf16_keys"),
        (b"\xfe\xff" + UNIT.encode("utf-16-be"), "utf16_keys"),
        (UNIT.encode() + b"\r\n", "padded_keys"),
        (UNIT.lower().encode(), "padded_keys"),
        (UNIT.encode("latin-1"), "foreign_keys"),
        (b'"', "foreign_keys"),
        (b"{", "foreign_keys"),
        (b"e1", "foreign_keys"),
    ],
)
def test_keys_are_told_apart(key: bytes | None, fault: str | None) -> None:
    assert kind_of_key(key, UNIT, {"eventId": "e1"})[0] == fault


def test_a_foreign_key_is_looked_for_among_the_fields() -> None:
    body = {"eventId": "e1", "attributes": {"account": "a1"}}
    assert kind_of_key(b"e1", UNIT, body)[1] == "eventId"
    assert kind_of_key(b"a1", UNIT, body)[1] == "attributes.account"
    assert kind_of_key(b"x", UNIT, body)[1] == "no field of the event"


@pytest.mark.parametrize(
    ("name", "is_route"),
    [
        ("support_model_a", True),
        ("support_model_c", True),
        ("Support_Model_B", True),
        ("gpt-5-mini", True),
        ("claude-sonnet-4", True),
        ("Candidate", False),
        ("candidates", False),
        ("blue", False),
        ("treatment", False),
    ],
)
def test_names_of_routes_are_told_from_variations(*, name: str, is_route: bool) -> None:
    assert looks_like_route(name, CONTRACT, BOOK) is is_route


@pytest.mark.parametrize("partitions", [2, 3, 12])
def test_a_mixture_is_weighed_as_it_was_made(partitions: int) -> None:
    rng = random.Random(1)  # noqa: S311
    made = (0.5, 0.3, 0.0, 0.2)
    fits: dict[tuple[bool, bool, bool], int] = {}
    for _ in range(5_000):
        cause = rng.choices(range(4), made)[0]
        fit = [rng.randrange(partitions) == 0 for _ in range(3)]
        if cause < 3:
            fit[cause] = True
        key = (fit[0], fit[1], fit[2])
        fits[key] = fits.get(key, 0) + 1
    told = explain(fits, partitions)
    assert told.weights == pytest.approx(made, abs=0.05)
    assert [gain >= SURE for gain in told.gains] == [True, True, False, True]


def test_chance_is_no_cause() -> None:
    """Keys that murmur2 has placed fit the others as often as chance has it."""
    told = explain({(True, True, True): 250, (True, True, False): 250, (True, False, False): 500}, 2)
    assert told.weights == pytest.approx((1, 0, 0, 0), abs=0.01)
    assert told.gains[0] > 10 * SURE
    assert max(told.gains[1:]) < 1e-3


def test_batches_tell_who_sent_what_is_in_them() -> None:
    log = [Record(offset, 0, 0, b"k", b"v") for offset in (3, 4, 5, 9, 12)]
    sent = Topic("exposures", 1, {0: log}).sent_by({0: [Batch(4, 6, 70), Batch(6, 12, 71)]})
    assert [record.producer_id for record in sent.records[0]] == [-1, 70, 70, 71, -1]


@pytest.mark.parametrize(
    ("headers", "value", "producer_id", "told"),
    [
        ((("Service", b"answers"),), b"{}", -1, Producer("header service", "answers")),
        ((("ce_source", b"/svc/a"),), b"{}", -1, Producer("CloudEvents source", "/svc/a")),
        ((), b'{"specversion":"1.0","source":"/svc/b"}', -1, Producer("CloudEvents source", "/svc/b")),
        ((), b'{"specversion":"1.0","source":7,"event":"e"}', -1, Producer("event", "e")),
        ((), b'\0\0\0\0\7{"specversion":"1.0","source":"/svc/c"}', -1, Producer("CloudEvents source", "/svc/c")),
        ((), b'{"specversion":"1.0"', -1, Producer("event", "(unreadable)")),
        ((), b'{"specversion":"1.0","source":"gr\xfc\xdfe"}', -1, Producer("event", "(unreadable)")),
        ((), b'{"event":"gr\xfc\xdfe"}', -1, Producer("event", "(unreadable)")),
        ((("service", b"answers"),), b"{}", 4_001, Producer("producer ID", "4001 (answers)")),
        ((), b"[]", 4_001, Producer("producer ID", "4001")),
    ],
)
def test_producers_are_known_by_the_best_sign_there_is(
    headers: tuple[tuple[str, bytes], ...], value: bytes, producer_id: int, told: Producer
) -> None:
    log = [Record(0, 0, 0, b"k", value, headers, producer_id)]
    sample = replace(sample_of([]), exposures=Topic("exposures", 1, {0: log}))
    assert read(sample, BOOK, LIMITS).rows[0].producer() == told


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (b'{"flagKey":"f"}', "f"),
        (b'\0\0\0\0{{"flagKey":"f"}', "f"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"flagKey":"f"}}', "f"),
        (b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":[]}', None),
        (b'{"specversion":"1.0","flagKey":"g"}', "g"),
        (b"\0\0", None),
        (b"[1]", None),
    ],
)
def test_envelopes_are_looked_through(value: bytes, flag: str | None) -> None:
    sample = replace(sample_of([]), exposures=Topic("exposures", 1, {0: [Record(0, 0, 0, b"k", value)]}))
    assert read(sample, BOOK, LIMITS).rows[0].body().get("flagKey") == flag


def test_refusals_are_counted_under_the_flag_of_their_experiment() -> None:
    def wrong(one: Sent) -> Sent:
        return one.saying(flagKey=..., experimentKey="support_answer_model_route_2026_06", variation=7)

    examined = looked_at(sample_of(map(wrong, healthy())))
    assert [(counts.flag, sum(counts.refused.values())) for counts in examined.flags] == [(CONTRACT.flag_key, 758)]


def test_the_report_says_what_was_looked_at() -> None:
    examined = looked_at(sample_of(healthy(), newest=10))
    text = list(lines(examined))
    assert text[0].startswith("exposures: 120 records, of 2026-06-0")
    assert text[0].endswith(", the newest; 12 partitions")
    counts = [topic.count for topic in examined.sample]
    assert [*map(str, counts), "-"] in [line.split()[1:] for line in text]
    report = as_json(examined)
    assert report["fine"] is True
    assert [topic["records"] for topic in report["topics"]] == counts
    assert report["in_order"]
    assert report["not_judged"]
