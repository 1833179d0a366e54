"""The benchmarks can be imported, and what they read and draw is right; that they run is for `make bench` to show."""

import importlib
import json
import os
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import benchmarks
from benchmarks.end_to_end.stages import STAGES
from benchmarks.processes import child_of, cpu_seconds, resident_bytes
from benchmarks.soak.plot import PANELS, plot
from benchmarks.watched import blockers, readings

MODULES = [
    module.name
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize(("where", "name"), [pytest.param(*stage, id=label) for label, *stage in STAGES])
def test_every_stage_that_is_timed_is_there(where: ModuleType | type, name: str) -> None:
    assert callable(getattr(where, name))


def test_readings_are_those_of_a_kind_that_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "readings"
    assert list(readings(file, "loop")) == []
    file.write_text('{"what": "loop", "longest": 1}\n{"what": "threads"}\n{"what": "loop", "longest": 2}\n{"what": "lo')
    assert [each["longest"] for each in readings(file, "loop")] == [1, 2]


def test_a_block_is_told_once_with_the_longest_that_was_seen_of_it(tmp_path: Path) -> None:
    seen = [(10.25, 0.25, "early"), (10.30, 0.30, "late"), (20.21, 0.21, "other")]
    lines = [
        {"what": "blocked", "at": at, "loop": "worker", "seconds": seconds, "starved": 0.1, "all_starved": 0.2}
        | {"stacks": {"MainThread": stack}}
        for at, seconds, stack in seen
    ]
    (tmp_path / "readings").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert blockers(tmp_path / "readings") == [
        "300 ms (no core for it 100 ms, for a thread of the process 200 ms): MainThread late",
        "210 ms (no core for it 100 ms, for a thread of the process 200 ms): MainThread other",
    ]
    assert blockers(tmp_path / "readings", "consumer") == []


def test_linux_tells_what_a_process_takes() -> None:
    assert cpu_seconds(os.getpid()) > 0
    assert resident_bytes(os.getpid()) > 10_000_000
    assert child_of(1) != os.getpid()


def test_samples_become_a_picture(tmp_path: Path) -> None:
    samples = [{"hour": float(hour), **{name: 1.0 for _, lines, _ in PANELS for name, _ in lines}} for hour in range(9)]
    plot(samples, "a soak", tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
