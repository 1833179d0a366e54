"""A replay from letters to records, over a lake on disk and topics in memory; killed anywhere, it sends each once."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.dead_letters import ORIGIN_HEADER, REPLAY_COUNT_HEADER, REPLAYED_HEADER, TIMESTAMP_HEADER, replay_count
from contracts.errors import DamagedFile, EvidenceError, KafkaUnavailable, TopicsUnfit
from contracts.placement import murmur2_partition
from pipeline.dlq.decisions import Policy
from pipeline.dlq.filters import Filter
from pipeline.dlq.judging import judge, replay_headers
from pipeline.dlq.ledger import Ledger
from pipeline.dlq.letters import read_letter
from pipeline.dlq.places import Place, Span
from pipeline.dlq.planning import Plan, Targets, make_plan
from pipeline.dlq.reading import MemoryPost, MemoryReader
from pipeline.dlq.replay import Done, Replay, find_replayed
from pipeline.verify.topics import Record
from sinks.storage import LocalStorage, MemoryStorage
from tests.pipeline.dlq import letters
from tests.pipeline.dlq.lakes import cluster, decoder, lab_on_disk, state
from tests.pipeline.dlq.letters import letter
from tests.pipeline.lab import FLAG, NOON, TOPICS, Lab, contract, exposure, outcome

OTHER_FLAG = FLAG.replace("route\n", "other\n").replace("route_test", "other_test")
POLICY = Policy()


@dataclass
class Nowhere:
    """A lake that has read nothing."""

    topics: frozenset[str] = frozenset()

    def partitions(self, topic: str) -> int:
        raise AssertionError(topic)

    def fates(self, _origins: object) -> Mapping[Place, Any]:
        return {}

    def pasts(self, _units: object) -> Mapping[tuple[str, str], Any]:
        return {}


@dataclass
class Desk:
    """Who is on call: topics and a lake, and replays over them."""

    reader: MemoryReader
    lab: Lab = field(default_factory=Lab)
    storage: Any = field(default_factory=MemoryStorage)
    lake: Any = field(default_factory=Nowhere)
    to: Mapping[str, str] = field(default_factory=dict)
    naps: list[float] = field(default_factory=list)

    def plan(self, ledger: Ledger | None = None, **more: Any) -> Plan:  # noqa: ANN401 - arguments of make_plan
        ledger = ledger or Ledger(self.storage)
        given: dict[str, Any] = {
            "chosen": Filter(),
            "targets": Targets(tuple(TOPICS), self.to),
            "decoder": decoder(self.lab),
            "lake": self.lake,
            "sent": ledger.open(lambda ends: find_replayed(self.reader, ends, POLICY), settle=True),
            "policy": POLICY,
            "most": None,
            "now": NOON,
        }
        spans = {("outcomes.dlq", number): each for number, each in self.reader.bounds("outcomes.dlq").items()}
        return make_plan(self.reader, spans, **(given | more))

    def replay(self, lives: int | None = None, rate: float | None = None, **more: Any) -> Done:  # noqa: ANN401
        ledger = Ledger(self.storage)
        plan = self.plan(ledger, **more)
        post = MemoryPost(self.reader, lives)
        replay = Replay(self.reader, post, ledger, POLICY, rate, self.naps.append, lambda: 0.0, lambda: NOON)
        return replay.run(plan)

    def sent(self, topic: str) -> list[Record]:
        return [record for log in self.reader.logs[topic].values() for record in log]


def desk(count: int, value: bytes | None = None, partitions: int = 1, **more: Any) -> Desk:  # noqa: ANN401 - fields of a dead letter
    """Return a desk with so many letters of outcomes, and empty topics."""
    made = [
        letter_record(value or outcome(f"u{number}", 1), Place("outcomes", 0, number), number, **more)
        for number in range(count)
    ]
    empty: dict[str, dict[int, list[Record]]] = {topic: {p: [] for p in range(partitions)} for topic in TOPICS}
    return Desk(MemoryReader({**empty, "outcomes.dlq": {0: made}, "outcomes.dlq.parked": {0: []}}, batch=3))


def letter_record(
    value: bytes | None, at: Place, offset: int, own: letters.Headers | None = None, **more: object
) -> Record:
    return letters.record(letters.evidence(at, own or (), **more), value, offset)  # type: ignore[arg-type]


def identities(records: list[Record]) -> list[str]:
    return sorted(dict(record.headers)[REPLAYED_HEADER].decode() for record in records)  # type: ignore[union-attr]


def test_key_value_and_own_headers_come_again_as_they_were() -> None:
    value = (
        json.dumps({**json.loads(outcome("u1", 1)), "timestamp": None}).encode().replace(b', "timestamp": null', b"")
    )
    at = desk(0)
    at.reader.logs["outcomes.dlq"][0].append(
        letter_record(value, Place("outcomes", 0, 5), 0, own=[("trace", b"1"), ("trace", None)], replay_count=1)
    )
    assert at.replay() == Done(sent=1)
    [again] = at.sent("outcomes")
    assert (again.key, again.value, again.timestamp) == (b"k", value, NOON // 1000)
    assert again.headers == (
        ("trace", b"1"),
        ("trace", None),
        (TIMESTAMP_HEADER, b"2026-06-07T12:00:00.000Z"),
        (REPLAY_COUNT_HEADER, b"2"),
        (REPLAYED_HEADER, b"outcomes/0/5"),
    )


def test_an_event_time_that_was_marked_stays() -> None:
    own: letters.Headers = [(TIMESTAMP_HEADER, b"2026-06-01T00:00:00Z"), (ORIGIN_HEADER, b"outcomes/3/1")]
    headers = dict(replay_headers(letter(b"{", own=own)))
    assert headers[TIMESTAMP_HEADER] == b"2026-06-01T00:00:00Z"
    assert ORIGIN_HEADER not in headers


@pytest.mark.parametrize("appended", [False, True], ids=["its own time", "the broker's time"])
def test_the_time_of_a_letter_is_that_of_its_record_unless_the_broker_made_it(appended: bool) -> None:  # noqa: FBT001
    timeless = outcome("u1", 1).replace(b'"timestamp"', b'"at"')
    at = desk(0)
    record = letters.record(letters.connect(Place("outcomes", 0, 1)), timeless)._replace(appended=appended)
    at.reader.logs["outcomes.dlq"][0].append(record)
    assert at.plan(policy=replace(POLICY, anyway=True)).counts == {"no_time" if appended else "send": 1}


def test_a_record_goes_to_the_partition_of_its_unit() -> None:
    at = desk(8, partitions=4)
    at.replay()
    for number, log in at.reader.logs["outcomes"].items():
        units = [json.loads(record.value or b"")["unitId"] for record in log]
        assert murmur2_partition(units, 4).tolist() == [number] * len(units)
    assert len(at.sent("outcomes")) == 8


def test_what_is_no_event_goes_by_its_key() -> None:
    at = desk(2, value=b"[]", partitions=4)
    assert at.replay() == Done()
    assert at.replay(policy=replace(POLICY, anyway=True)) == Done(sent=2)
    assert len(at.reader.logs["outcomes"][int(murmur2_partition(["k"], 4)[0])]) == 2


def test_what_would_be_refused_again_stays_and_says_why() -> None:
    body = {**json.loads(outcome("u1", 1)), "flagKey": "other"}
    at = desk(2, value=json.dumps(body).encode())
    plan = at.plan()
    assert (plan.counts, plan.refused) == ({"refused_again": 2}, True)
    assert plan.examples("refused_again")[0][1].startswith("unknown_flag: flagKey: ")
    at.lab.contracts = (contract(), contract(OTHER_FLAG))
    assert at.replay() == Done(sent=2)


@pytest.mark.parametrize("value", [None, b"{", b'{"flagKey": 1}'], ids=["tombstone", "not JSON", "schema"])
def test_what_no_mending_of_flags_helps_is_never_sent_round(value: bytes | None) -> None:
    at = desk(0)
    at.reader.logs["outcomes.dlq"][0].append(letter_record(value, Place("outcomes", 0, 0), 0))
    assert at.plan().counts == {"refused_again": 1}


def test_a_copy_of_a_letter_is_sent_once() -> None:
    at = desk(0)
    twice = [letter_record(outcome("u1", 1), Place("outcomes", 0, 5), offset) for offset in range(2)]
    at.reader.logs["outcomes.dlq"][0].extend(twice)
    assert at.plan().counts == {"send": 1, "repeated": 1}
    assert at.replay() == Done(sent=1)
    assert at.plan().counts == {"replayed": 1, "repeated": 1}


def test_a_whole_copy_stands_in_for_one_that_was_cut() -> None:
    at = desk(0)
    cut = letter_record(b'{"fl', Place("outcomes", 0, 5), 0, cut=(99, "ab"))
    at.reader.logs["outcomes.dlq"][0].extend([cut, letter_record(outcome("u1", 1), Place("outcomes", 0, 5), 1)])
    assert at.plan().counts == {"truncated": 1, "send": 1}


def test_it_sends_no_more_than_it_may_and_goes_on_from_there() -> None:
    at = desk(7)
    assert at.replay(most=5) == Done(sent=5)
    assert at.plan(most=1).counts == {"replayed": 5, "send": 1, "over_max": 1}
    assert at.replay() == Done(sent=2)
    assert identities(at.sent("outcomes")) == [f"outcomes/0/{number}" for number in range(7)]


def test_it_keeps_to_a_rate() -> None:
    at = desk(7)
    at.replay(rate=2)
    assert at.naps == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]


def test_only_what_is_chosen_is_sent() -> None:
    at = desk(7)
    assert at.replay(chosen=Filter(spans=[Span("outcomes", 0, 2, 4)])) == Done(sent=3)
    assert at.replay(chosen=Filter(reasons=frozenset({"late"}))) == Done()
    assert at.replay(chosen=Filter(flags=frozenset({"other"}))) == Done()


def test_a_record_that_is_replayed_too_often_is_parked_once_with_all_its_headers() -> None:
    at = desk(2, replay_count=3)
    assert at.replay() == Done(parked=2)
    assert at.plan().counts == {"parked": 2}
    parked = at.sent("outcomes.dlq.parked")
    assert [record.headers for record in parked] == [tuple(record.headers) for record in at.sent("outcomes.dlq")]
    assert at.sent("outcomes") == []


def test_the_count_goes_up_with_every_round_until_the_record_is_parked() -> None:
    """The worker refuses the record each time: its dead letter comes back with the count of the replay."""
    at = desk(1)
    for number in range(5):
        at.replay(policy=replace(POLICY, anyway=True))
        sent = at.sent("outcomes")
        if len(sent) == number + 1:
            again = letter_record(
                sent[-1].value,
                Place("outcomes", 0, 100 + number),
                number + 1,
                own=list(sent[-1].headers),
                replay_count=replay_count(sent[-1].headers),
            )
            at.reader.logs["outcomes.dlq"][0].append(again)
    assert [replay_count(record.headers) for record in at.sent("outcomes")] == [1, 2, 3]
    assert len(at.sent("outcomes.dlq.parked")) == 1


@given(deaths=st.lists(st.integers(1, 8), max_size=6), rate=st.none() | st.sampled_from([0.1, 0.3]))
@settings(max_examples=25)
def test_a_replay_that_is_killed_at_any_points_sends_each_once(deaths: list[int], rate: float | None) -> None:
    at = desk(7)
    at.reader.logs["outcomes.dlq"][0].extend(
        letter_record(outcome("p", 1), Place("outcomes", 0, number), number, replay_count=9) for number in (7, 8)
    )
    for lives in deaths:
        try:
            at.replay(lives, rate=rate)
        except KafkaUnavailable:
            continue
    at.replay(rate=rate)
    assert identities(at.sent("outcomes")) == [f"outcomes/0/{number}" for number in range(7)]
    parked = [str(read_letter(Place("", 0, 0), record).identity) for record in at.sent("outcomes.dlq.parked")]
    assert sorted(parked) == ["outcomes/0/7", "outcomes/0/8"]


def test_a_dry_run_settles_nothing() -> None:
    at = desk(3)
    with pytest.raises(KafkaUnavailable):
        at.replay(lives=2)
    before = at.storage.list("replays")
    sent = Ledger(at.storage).open(lambda ends: find_replayed(at.reader, ends, POLICY), settle=False)
    assert sent == {("outcomes/0/0", "outcomes"), ("outcomes/0/1", "outcomes")}
    assert at.storage.list("replays") == before == ["replays/000000001.begun.json"]


def test_of_two_replays_at_a_time_one_gives_way() -> None:
    storage = MemoryStorage()
    first, second = Ledger(storage), Ledger(storage)
    for ledger in (first, second):
        ledger.open(lambda _: frozenset(), settle=True)
    batch = first.begin([("a", "t")], {})
    with pytest.raises(EvidenceError, match="another replay is under way"):
        second.begin([("a", "t")], {})
    third = Ledger(storage)
    assert third.open(lambda _: frozenset({("a", "t")}), settle=True) == {("a", "t")}
    with pytest.raises(EvidenceError, match="another replay is under way"):
        first.finish(batch)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"letters": 1}', b'{"letters": [], "ends": []}'])
def test_a_damaged_ledger_is_named(content: bytes) -> None:
    storage = MemoryStorage()
    storage.create_once("replays/000000001.begun.json", content)
    with pytest.raises(DamagedFile, match=r"replays/000000001\.begun\.json"):
        Ledger(storage).open(lambda _: frozenset(), settle=True)


def test_a_damaged_end_of_a_batch_is_named() -> None:
    storage = MemoryStorage()
    ledger = Ledger(storage)
    ledger.open(lambda _: frozenset(), settle=True)
    ledger.begin([("a", "t")], {"t": {0: 1}})
    storage.create_once("replays/000000001.done.json", b'{"sent": [1]}')
    with pytest.raises(DamagedFile, match=r"done\.json"):
        Ledger(storage).open(lambda _: frozenset(), settle=True)


def test_a_topic_that_does_not_exist_is_named() -> None:
    at = desk(1)
    at.to = {"": "elsewhere"}
    with pytest.raises(TopicsUnfit, match="elsewhere"):
        at.replay()


# what a lake knows


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Give a lab with a fact, a late outcome, one without exposure, an open one, and one of an unknown flag."""
    lab = lab_on_disk(tmp_path_factory.mktemp("busy") / "lake")
    writer = lab.writer()
    lab.publish("exposures", exposure("u1", 0), exposure("u2", 70))
    lab.publish("outcomes", outcome("u1", 2), outcome("nobody", 3), outcome("u2", 71))
    lab.publish("outcomes", outcome("u2", 72, flagKey="other"))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    lab.publish("outcomes", outcome("u1", 4))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True)
    return lab


@pytest.fixture
def told(busy: Lab, tmp_path: Path) -> Desk:
    """Give a desk over a lake of one's own like that, and its dead letters."""
    shutil.copytree(cast("LocalStorage", busy.storage).root, tmp_path / "lake")
    lab = lab_on_disk(tmp_path / "lake")
    lab.logs = {topic: list(log) for topic, log in busy.logs.items()}
    at = Desk(cluster(busy), lab, lab.storage, state(lab))
    assert Counter(each.reason for each in map(read, at.sent("outcomes.dlq"))) == {
        "no_exposure": 1,
        "late": 1,
        "unknown_flag": 1,
    }
    return at


def read(record: Record) -> Any:  # noqa: ANN401
    return read_letter(Place("outcomes.dlq", 0, record.offset), record)


def test_a_record_that_can_only_be_late_again_is_refused_with_the_reason(told: Desk) -> None:
    plan = told.plan()
    assert plan.counts == {"late": 2, "refused_again": 1}
    assert [why.startswith("all up to 2026-06-0") for _, why in plan.examples("late")] == [True, True]
    told.lab.contracts = (contract(), contract(OTHER_FLAG))
    assert told.plan().counts == {"late": 2, "send": 1}


def test_late_records_go_to_the_topics_of_a_new_lake(told: Desk) -> None:
    told.reader.logs |= {"outcomes-v2": {0: []}}
    told.to = {"outcomes": "outcomes-v2"}
    assert told.replay() == Done(sent=2)
    assert told.plan().counts == {"replayed": 2, "refused_again": 1}


def test_a_spurious_letter_of_a_record_in_a_fact_changes_nothing(told: Desk) -> None:
    """As a close whose commit never happened leaves it."""
    spurious = [
        letter_record(outcome("u1", 2), Place("outcomes", 0, 0), 3, reason="late"),
        letter_record(outcome("u2", 71), Place("outcomes", 0, 2), 4, reason="no_exposure"),
        letter_record(outcome("u2", 73), Place("outcomes", 0, 5), 5, reason="no_exposure"),
        letters.record(letters.connect(Place("outcomes", 0, 0)), outcome("u1", 2), 6),
    ]
    told.reader.logs["outcomes.dlq"][0].extend(spurious)
    counts = told.plan(chosen=Filter(spans=[Span("outcomes.dlq", 0, 3, 6)]), policy=replace(POLICY, anyway=True)).counts
    assert counts == {"joined": 1, "undecided": 2, "repeated": 1}


def test_letters_of_other_software_are_replayed_where_the_lake_has_not_joined_them(told: Desk) -> None:
    made = [
        letters.record(letters.connect(Place("outcomes", 0, 0)), outcome("u1", 2), 10),
        letters.record(letters.streams(Place("outcomes-repartition", 0, 9)), outcome("u2", 74), 11),
        letters.record(letters.spring(Place("outcomes-retry-0", 0, 4)), outcome("u2", 75), 12),
        letters.record([], outcome("u2", 76), 13),
        letters.record(
            letters.share_group(Place("other", 0, 1)), outcome("u2", 77).replace(b'"timestamp"', b'"t"'), 14
        ),
    ]
    told.reader.logs["outcomes.dlq"][0].extend(made)
    chosen = Filter(spans=[Span("outcomes.dlq", 0, 10, 14)])
    assert told.plan(chosen=chosen).counts == {"joined": 1, "no_origin": 4}
    told.to = {"": "outcomes"}
    counts = told.plan(chosen=chosen, policy=replace(POLICY, anyway=True)).counts
    assert counts == {"joined": 1, "send": 3, "no_time": 1}
    before = len(told.sent("outcomes"))
    assert told.replay(chosen=chosen) == Done(sent=3)
    [_, spring, _] = told.sent("outcomes")[before:]
    assert dict(spring.headers)[TIMESTAMP_HEADER] == b"2026-06-07T12:00:00.000Z"
    assert identities(told.sent("outcomes")[before:]) == [
        "outcomes-repartition/0/9",
        "outcomes-retry-0/0/4",
        "outcomes.dlq/0/13",
    ]


def test_a_replayed_record_joins_and_a_second_copy_of_it_is_a_duplicate(told: Desk) -> None:
    """Whatever the lake and the ledger would not tell, the join does: twice the same record is one."""
    lab = told.lab
    lab.contracts = (contract(), contract(OTHER_FLAG))
    lab.publish("exposures", exposure("u3", 80, flagKey="other"))
    writer = lab.writer()
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    value = outcome("u3", 81, flagKey="other")
    for offset in (10, 11):
        told.reader.logs["outcomes.dlq"][0].append(
            letter_record(value, Place("outcomes", 0, 1000 + offset), offset, reason="unknown_flag")
        )
    told.lake = state(lab)
    chosen = Filter(spans=[Span("outcomes.dlq", 0, 10, 11)])
    # the lake has not come to the origins: they count only elsewhere
    assert told.plan(chosen=chosen).counts == {"undecided": 2}
    told.lake = Nowhere()
    assert told.replay(chosen=chosen) == Done(sent=2)
    lab.publish("outcomes", *[record.value for record in told.sent("outcomes")[-2:]])
    lab.publish("exposures", exposure("clock", 150))
    lab.read_all(writer)
    lab.checkpoint(writer, close=True, everything=True)
    [fact] = [row for row in lab.rows("facts") if row["unit_id"] == "u3"]
    assert fact["outcomes"] == 1
    assert Counter(row["reason"] for row in lab.rows("unjoined") if row["unit_id"] == "u3") == {"duplicate": 1}


def test_a_plan_is_told_with_reasons_and_bars(told: Desk) -> None:
    told.lab.contracts = (contract(), contract(OTHER_FLAG))
    told.reader.logs["outcomes.dlq"][0].append(
        letter_record(b'{"\x1b": 1}', Place("outcomes", 0, 3), 9, reason="not_json")
    )
    plan = told.plan()
    lines = list(plan.lines())
    assert lines[0] == "4 dead letters chosen"
    assert lines[1].split() == ["send", "1", "to", "be", "sent"]
    assert [line for line in lines if "outcomes/0/1: all up to" in line]
    assert lines[-2:] == ["by event time, what is to be sent", "  2026-06-10T00:00:00Z  1  " + "█" * 40]
    told_json = plan.as_json()
    assert (told_json["chosen"], told_json["decisions"]["late"]) == (4, 2)
    assert [each["records"] for each in told_json["histogram"]] == [1]


def test_verdicts_come_in_the_order_of_the_letters() -> None:
    made = [letter(outcome(f"u{number}", 1) if number % 2 else b"{") for number in range(4)]
    pairs = [("guardrail" if number == 3 else "outcome", each) for number, each in enumerate(made)]
    verdicts = judge(decoder(Lab()), cast("Any", pairs), NOON)
    assert [type(each).__name__ for each in verdicts] == ["Refused", "Event", "Refused", "Refused"]


def test_a_lake_on_disk_is_needed(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="EVIDENCE_LAKE"):
        state(Lab(storage=cast("MemoryStorage", LocalStorage(tmp_path / "none"))))
