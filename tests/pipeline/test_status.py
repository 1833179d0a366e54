"""How the partitions stand, judged from manifests and end offsets, and how that is shown."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console

from pipeline.checkpoint import genesis
from pipeline.settings import Settings
from pipeline.status.command import watch
from pipeline.status.screen import screen, span
from pipeline.status.state import Letters, PartitionStatus, Status, partition_status, totals_of
from sinks.lineage import Lineage, open_lake
from sinks.manifest import Manifest, Stopped
from sinks.storage import LocalStorage
from tests.pipeline.lab import HOUR, NOON, TOPICS, Lab, exposure
from tests.pipeline.looks import MINUTE, SECOND

STOPPED: Final = Stopped(reason="120 records in a row were refused", topic="outcomes", at=NOON, details="")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """Give the manifest of a partition that read three records, one of them refused, at noon."""
    lab = Lab()
    lab.publish("exposures", exposure("u1", 0), exposure("u2", 1))
    lab.publish("outcomes", b"{")
    writer = lab.writer()
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    return writer.base


def ends(**end: int) -> dict[str, tuple[int, int]]:
    return {topic: (0, end.get(topic, 0)) for topic in TOPICS}


READ: Final = ends(exposures=2, outcomes=1)


def stands(
    manifest: Manifest | None, end: Mapping[str, tuple[int, int]] | None = READ, now: int = NOON + SECOND
) -> PartitionStatus:
    return partition_status(0, manifest, end, now, MINUTE)


def test_a_partition_that_is_read_to_its_end_moves_however_old_its_checkpoint(manifest: Manifest) -> None:
    found = stands(manifest, now=NOON + 100 * HOUR)
    assert (found.state, found.advice) == ("moves", "")
    assert found.lag == {"exposures": 0, "outcomes": 0, "guardrails": 0}


def test_the_lag_is_what_is_not_in_the_lake(manifest: Manifest) -> None:
    found = stands(manifest, ends(exposures=5, outcomes=1, guardrails=4))
    assert found.lag == {"exposures": 3, "outcomes": 0, "guardrails": 4}
    assert found.state == "moves", "a checkpoint came a second ago"


def test_records_that_wait_longer_than_a_checkpoint_may_take_are_a_fault(manifest: Manifest) -> None:
    behind = ends(exposures=5, outcomes=1)
    assert stands(manifest, behind, NOON + 5 * MINUTE).state == "moves"
    found = stands(manifest, behind, NOON + 5 * MINUTE + SECOND)
    assert found.state == "waits"
    assert found.advice == "3 records wait, no checkpoint for 301 s; see the worker's /readyz"


def test_a_tripped_breaker_is_told_with_what_to_type(manifest: Manifest) -> None:
    found = stands(manifest.model_copy(update={"stopped": STOPPED}))
    assert found.state == "stopped"
    assert found.advice.endswith("120 records in a row were refused; evidence dlq ls, then evidence resume")


def test_the_numbers_are_those_of_the_manifest(manifest: Manifest) -> None:
    found = stands(manifest)
    assert (found.checkpoint, found.committed_at, found.open_events) == (1, NOON, 2)
    assert found.state_bytes == sum(segment.size for segment in manifest.segments) > 0
    assert (found.watermark, found.closed_through) == (manifest.watermark, None)


def test_decided_events_are_not_open_wherever_they_lie() -> None:
    lab = Lab()
    lab.publish("exposures", *(exposure(f"u{number}", 0) for number in range(2)), exposure("u9", 30), b"{")
    lab.publish("exposures", *(exposure(f"v{number}", 30) for number in range(3)))
    writer = lab.writer()
    lab.read_all(writer)
    lab.checkpoint(writer, close=False)
    lab.checkpoint(writer, close=True)
    assert [segment.rows for segment in writer.base.segments] == [6], "two of them decided"
    assert stands(writer.base).open_events == 4


def test_a_partition_without_a_checkpoint_is_new() -> None:
    found = stands(None, ends(exposures=5))
    assert (found.state, found.checkpoint, found.lag) == ("new", None, {"exposures": 5, "outcomes": 0, "guardrails": 0})


def test_without_brokers_the_lag_is_not_known(manifest: Manifest) -> None:
    found = stands(manifest, None, NOON + HOUR)
    assert (found.lag, found.state) == (None, "moves")


def status(*partitions: PartitionStatus, **changes: Any) -> Status:  # noqa: ANN401  # any of its fields
    fields: dict[str, Any] = {
        "now": NOON + MINUTE,
        "lake": "lake",
        "lake_id": "1",
        "group": "evidence",
        "brokers": "localhost:9092",
        "partitions": partitions,
        "letters": [Letters("outcomes.dlq", 1_200, 30, 20)],
        "totals": {},
    }
    return Status(**(fields | changes))


def shown(one: Status, height: int | None = None, width: int = 160) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(screen(one, width, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_screen_tells_partitions_dead_letters_and_fates(manifest: Manifest) -> None:
    lines = shown(status(stands(manifest, ends(exposures=1_002, outcomes=1)), totals=totals_of([manifest])))
    assert lines[0] == "2026-06-07T12:01:00Z  lake lake, group evidence, localhost:9092"
    assert lines[1] == "1 move"
    assert lines[3].split()[:5] == ["checkpoint", "exposures", "outcomes", "guardrails", "watermark"]
    assert lines[5].split()[:7] == ["0", "moves", "1", "min", "1,000", "0", "0"]
    assert [line.split() for line in lines if line.startswith("outcomes.dlq")] == [
        ["outcomes.dlq", "1,200", "30", "20", "2.0"]
    ]
    assert lines[-1] == "since the lake began  0 facts of 0 records; unjoined: none; refused: not_json 1"


def test_what_needs_somebody_comes_first(manifest: Manifest) -> None:
    fine = stands(manifest)
    bad = partition_status(7, manifest.model_copy(update={"stopped": STOPPED}), READ, NOON, MINUTE)
    one = status(fine, bad)
    assert not one.fine
    lines = shown(one)
    assert lines[1] == "1 stopped, 1 move"
    assert [line.split()[:2] for line in lines[5:7]] == [["7", "stopped"], ["0", "moves"]]
    assert lines[7].startswith("partition 7: stopped at outcomes: 120 records in a row were refused; ")


def test_a_missing_dead_letter_topic_is_told(manifest: Manifest) -> None:
    one = status(stands(manifest), missing=("outcomes.dlq",))
    assert not one.fine
    assert "outcomes.dlq does not exist; run: evidence topics create" in shown(one)


def test_it_fits_on_one_screen(manifest: Manifest) -> None:
    stopped = manifest.model_copy(update={"stopped": STOPPED})
    many = [partition_status(n, stopped if n % 9 == 0 else manifest, READ, NOON, MINUTE) for n in range(100)]
    lines = shown(status(*many), 40)
    assert len(lines) <= 40
    assert any(line.startswith("and ") and line.endswith(" more that are moving") for line in lines)


def test_a_narrow_terminal_loses_no_word(manifest: Manifest) -> None:
    """And names of topics that are long do not push out what is to be seen."""
    lag = {f"{topic}-of-a-company": 1_234_567 for topic in TOPICS}
    one = status(replace(stands(manifest), lag=lag, watermark=NOON - 200 * HOUR))
    for width in (80, 120):
        [row] = [line for line in shown(one, width=width) if "moves" in line]
        assert row.split()[:9] == ["0", "moves", "1", "min", *["1,234,567"] * 3, "8", "d"]
        assert "…" not in row


def test_brokers_that_do_not_answer_are_told(manifest: Manifest) -> None:
    lines = shown(status(stands(manifest, None), letters=None, unreachable="no Kafka broker answers at localhost:9092"))
    assert "no Kafka broker answers at localhost:9092" in lines
    assert lines[1] == "1 move; no broker answers", "what the lake says is not all that there is"
    assert lines[5].split()[:2] == ["0", "moves"]


def test_watching_looks_again_until_it_is_told_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lake begins while it is watched, without a broker."""
    storage = LocalStorage(tmp_path)
    open_lake(storage, lambda: "lake")
    monkeypatch.setattr("pipeline.status.look.TIMEOUT_S", 0.1)
    looks = iter((True, True, False))

    def goes_on() -> bool:
        if Lineage(storage, 0).newest() is None:
            Lineage(storage, 0).commit(genesis(partition=0, lake_id="lake", group="g", version="1", topics={}))
        return next(looks)

    console = Console(file=io.StringIO(), force_terminal=True, width=160, height=40)
    found = watch(Settings(bootstrap_servers="127.0.0.1:1", lake=tmp_path), console, 0, goes_on)
    assert [partition.state for partition in found.partitions] == ["moves"]
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert told.index("no partition yet") < told.index("1 move")


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        pytest.param(0, "0 s", id="nothing"),
        pytest.param(-SECOND, "0 s", id="a clock that was set back"),
        pytest.param(45 * SECOND, "45 s", id="seconds"),
        pytest.param(61 * SECOND, "1 min 1 s", id="minutes"),
        pytest.param(2 * HOUR, "2 h", id="hours"),
        pytest.param(26 * HOUR + MINUTE, "1 d 2 h", id="days"),
    ],
)
def test_spans_are_told_in_two_units(microseconds: int, text: str) -> None:
    assert span(microseconds) == text
