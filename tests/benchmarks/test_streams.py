"""The streams of the benchmarks, and what they are compared with, on few events and without a broker."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.on_paper import Costs, Load, needs
from benchmarks.shapes import batch
from benchmarks.shapes.streams import LATENESS, SHAPES, Stream, Writer, flag_file
from benchmarks.soak.facts import faults
from benchmarks.soak.samples import Measure, judge, manifests
from benchmarks.soak.traffic import INVERSE, SPREADING, Traffic, unit_names
from contracts.flags import load_contract
from pipeline.traffic import Message
from sinks.storage import LocalStorage
from tests.pipeline.lab import HOUR, NOON, Lab

EVENTS = 3_000
TRAFFIC = Traffic(NOON, units_an_hour=10)


def lake(directory: Path, flags: Iterable[str], messages: Iterable[tuple[str, bytes | None]]) -> Path:
    """Have a worker's core read the messages and close what is due."""
    lab = Lab(contracts=tuple(load_contract(text, "f.yaml") for text in flags), lateness=LATENESS * 1_000)
    for kind, value in messages:
        lab.publish(f"{kind}s", value)
    directory.mkdir()
    writer = lab.writer(LocalStorage(directory))
    for topic in lab.logs:
        lab.read(writer, topic, most=100_000, at_end=True)
    lab.checkpoint(writer, close=True)
    return directory


def written(home: Path, prefix: str, messages: Iterable[Message]) -> list[tuple[str, bytes | None]]:
    """Write the files that the batch reads, and return the messages."""
    told = [(message.kind, message.value) for message in messages]
    for kind in ("exposure", "outcome", "guardrail"):
        lines = [value + b"\n" for each, value in told if each == kind and value is not None]
        (home / f"{prefix}{kind}s.ndjson").write_bytes(b"".join(lines))
    return told


@pytest.mark.parametrize("name", ["plain", "all"])
def test_the_worker_and_the_batch_have_equal_facts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(replace(SHAPES[name], text=min(SHAPES[name].text, 40)), EVENTS)
    (tmp_path / "flags").mkdir()
    for file, text in stream.flags.items():
        (tmp_path / "flags" / file).write_text(text)
    made = lake(tmp_path / "lake", stream.flags.values(), written(tmp_path, "few-", stream.messages(NOON // 1_000)))
    facts = tmp_path / "facts.parquet"
    monkeypatch.setattr(sys, "argv", ["batch", str(tmp_path / "flags"), str(tmp_path), "few-", str(facts)])
    batch.main()
    count, differences = batch.differences(made, facts)
    assert differences == []
    assert count > stream.units // 20


def test_a_shape_has_the_share_of_one_unit_and_the_bytes_that_it_says() -> None:
    stream = Stream(SHAPES["all"], EVENTS)
    messages = list(stream.messages(0))
    assert len(messages) == stream.count
    keys = [message.key for message in messages]
    assert max(map(keys.count, set(keys))) > len(keys) * 0.1
    assert np.mean([len(message.value or b"") for message in messages]) > 1_500


def test_traffic_in_slices_is_the_traffic_as_a_whole() -> None:
    whole = TRAFFIC.between(NOON, NOON + 30 * HOUR)
    slices = [TRAFFIC.between(NOON + part * HOUR, NOON + (part + 1) * HOUR) for part in range(30)]
    for place, (kind, numbers, times) in enumerate(whole):
        assert [part[place][0] for part in slices] == [kind] * 30
        assert np.concatenate([part[place][1] for part in slices]).tolist() == numbers.tolist()
        assert np.concatenate([part[place][2] for part in slices]).tolist() == times.tolist()
    (_, exposed, when), (_, done, then), (_, guarded, _) = whole
    assert exposed.tolist() == list(range(300))
    delays = dict(zip(done.tolist(), then.tolist(), strict=True))
    assert all(0 < delays[number] - at < HOUR // 2 for number, at in zip(exposed[:280], when[:280], strict=True))
    assert sorted(guarded.tolist())[:50] == list(range(0, 250, 5))


def test_the_number_of_a_unit_can_be_told_from_its_name() -> None:
    numbers = np.array([0, 1, 99_999_999])
    assert [int(name[5:], 16) * INVERSE % 2**32 for name in unit_names(numbers)] == numbers.tolist()
    assert SPREADING * INVERSE % 2**32 == 1


def test_before_counts_units() -> None:
    assert [TRAFFIC.before(NOON + minutes * HOUR // 60) for minutes in (0, 1, 6, 7, 60)] == [0, 1, 1, 2, 10]


def test_facts_of_the_soak_are_compared_with_what_was_published(tmp_path: Path) -> None:
    write = Writer(SHAPES["plain"]).value
    messages = [
        (kind, write(place, 0, unit, int(number) % 2, str(np.datetime64(int(time), "us"))[:23] + "Z", int(number)))
        for place, (kind, numbers, times) in enumerate(TRAFFIC.between(NOON, NOON + 40 * HOUR))
        for unit, number, time in zip(unit_names(numbers), numbers, times, strict=True)
    ]
    made = lake(tmp_path / "lake", [flag_file(SHAPES["plain"], 0)], messages)
    newest = manifests(made)
    assert newest[0].totals["facts"] > 100
    assert faults(made, newest, TRAFFIC) == []
    next((made / "tables" / "facts").rglob("*.parquet")).unlink()
    assert "units are due" in faults(made, newest, TRAFFIC)[0]


def test_needs_are_unit_costs_times_how_often() -> None:
    costs = Costs(
        event=10,
        checkpoint=20_000,
        close=300_000,
        due_unit=20,
        open_event=0.1,
        segment_bytes=60,
        fact_bytes=35,
        joined_bytes=25,
        buffered_bytes=500,
        manifest_bytes=90_000,
    )
    load = Load(units=86_400_000, events_a_unit=2, partitions=100, open_hours=24, checkpoint_s=60, close_s=300)
    figures = {name: figure for name, _, figure, _ in needs(costs, load)}
    assert figures["units due at a close"] == 3_000
    assert figures["a close"] == pytest.approx(0.3 + 0.06 + 0.1728)
    assert figures["events"] == pytest.approx(0.02)
    assert figures["closes"] == pytest.approx(100 / 300 * figures["a close"])
    assert figures["workers"] == 1
    assert figures["segments"] == pytest.approx(2 * 86.4e6 * 60 / 1e9)
    assert figures["table files"] == 2 * 288 * 100


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        pytest.param([10, 11, 9, 10, 11, 9], True, id="noise"),
        pytest.param([10, 10, 10, 11.5, 11.9, 11.8], True, id="a fifth more"),
        pytest.param([10, 10, 10, 13, 13, 13], False, id="a third more"),
        pytest.param([0.1, 0.1, 0.1, 1.0, 1.0, 1.0], True, id="little, and within the slack"),
        pytest.param([10, 20], None, id="too few"),
    ],
)
def test_flat_is_a_second_half_like_the_first(values: list[float], flat: bool | None) -> None:  # noqa: FBT001
    measure = Measure("x", "x", "", 1, slack=1.0, since=10)
    warm = [{"hour": float(hour), "x": 1_000.0} for hour in range(10)]
    assert judge([*warm, *({"hour": 10.0 + place, "x": x} for place, x in enumerate(values))], measure).flat is flat
