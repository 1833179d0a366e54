"""The guarantees, each with the tests that show it; and the record of when these last passed."""

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

__all__ = ["GUARANTEES", "RECORD", "ROOT", "Guarantee", "Passed", "Proof", "faults", "read_record", "write_record"]

ROOT: Final = Path(__file__).resolve().parents[2]
RECORD: Final = ROOT / "tests" / "guarantees" / "record.json"


@dataclass(frozen=True, slots=True)
class Proof:
    """A test, and what it shows in a few words."""

    what: str
    file: str
    test: str

    @property
    def id(self) -> str:
        """Name the test as pytest does; its cases and methods begin with that."""
        return f"{self.file}::{self.test}"

    def exists(self, root: Path) -> bool:
        """Tell whether the file below `root` has a test or a class of tests of that name."""
        try:
            module = ast.parse((root / self.file).read_text())
        except FileNotFoundError:
            return False
        return self.test in _names(module)


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A promise, and what shows that it is kept."""

    name: str
    promise: str
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class Passed:
    """The last run of a test in which all its cases passed."""

    date: str
    """The day, as 2026-11-27, in UTC."""
    cases: int


def faults(guarantees: Iterable[Guarantee], record: Mapping[str, Passed], root: Path = ROOT) -> Iterator[str]:
    """Yield what a guarantee lacks, a line each: it has no test, one that does not exist, or one that never passed."""
    for guarantee in guarantees:
        if not guarantee.proofs:
            yield f"{guarantee.name}: no test shows it; name one"
        for proof in guarantee.proofs:
            if not proof.exists(root):
                yield f"{guarantee.name}: there is no test {proof.id}"
            elif proof.id not in record:
                yield f"{guarantee.name}: no run is known in which {proof.id} passed; run: make guarantees"


def read_record(file: Path = RECORD) -> dict[str, Passed]:
    """Return the last good run of each test by its ID; nothing if there is no file."""
    if not file.exists():
        return {}
    return {test: Passed(**run) for test, run in json.loads(file.read_text()).items()}


def write_record(record: Mapping[str, Passed], file: Path = RECORD) -> None:
    """Write what `read_record` reads."""
    file.write_text(json.dumps({test: asdict(record[test]) for test in sorted(record)}, indent=1) + "\n")


def _names(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


GUARANTEES: Final = (
    Guarantee(
        "Loss",
        "Every offset that was read has exactly one fate: in a fact, unjoined, refused, or still open. A crash between "
        "any two steps, or a power cut, loses none. What worker and client count as acknowledged, a broker has.",
        (
            Proof("workers killed at every point", "tests/chaos/test_killed.py", "test_killed_at_every_point"),
            Proof(
                "a crash before each step",
                "tests/pipeline/test_checkpoint.py",
                "test_a_crash_before_a_step_loses_and_doubles_nothing",
            ),
            Proof("crashes in any order", "tests/pipeline/test_checkpoint_machine.py", "TestCheckpoints"),
            Proof("power loss", "tests/sinks/test_lineage.py", "test_a_committed_manifest_survives_a_power_loss"),
            Proof("one fate an event", "tests/properties/test_close.py", "test_every_event_has_exactly_one_fate"),
            Proof(
                "the demo's account",
                "tests/integration/test_demo.py",
                "test_every_record_has_the_fate_that_was_planted",
            ),
            Proof(
                "a broker that refuses the first batch",
                "tests/test_acknowledged.py",
                "test_what_is_acknowledged_is_there",
            ),
        ),
    ),
    Guarantee(
        "Duplicates",
        "A fact is published once, whoever crashes or wakes up late. An event that was published twice counts once. "
        "Dead letters are sent at least once; their origin names them.",
        (
            Proof(
                "two writers",
                "tests/pipeline/test_checkpoint.py",
                "test_the_slower_of_two_writers_is_fenced_and_publishes_nothing",
            ),
            Proof("workers that hung", "tests/chaos/test_hung.py", "test_whoever_wakes_behind_the_chain_is_fenced"),
            Proof(
                "a zombie",
                "tests/pipeline/test_checkpoint.py",
                "test_a_zombie_is_fenced_even_where_its_number_was_pruned",
            ),
            Proof(
                "a cut-off publish",
                "tests/pipeline/test_checkpoint.py",
                "test_a_cut_off_publish_is_finished_by_whoever_comes_next",
            ),
            Proof(
                "files merged, a crash at any call",
                "tests/pipeline/test_compaction.py",
                "test_a_crash_at_any_call_leaves_every_row_once",
            ),
            Proof(
                "event IDs",
                "tests/pipeline/test_close.py",
                "test_the_first_event_of_an_id_counts_within_window_and_topic",
            ),
            Proof(
                "equal bytes",
                "tests/pipeline/test_close.py",
                "test_equal_bytes_at_one_time_without_an_id_are_duplicates_and_the_lower_offset_counts",
            ),
        ),
    ),
    Guarantee(
        "Order",
        "Facts depend on the set of events, not on the order they arrive in, nor on when windows are closed, as long "
        "as none is late.",
        (
            Proof(
                "any order",
                "tests/properties/test_oracle.py",
                "test_facts_do_not_depend_on_the_order_of_arrival_or_on_when_closes_ran",
            ),
            Proof("any number of closes", "tests/properties/test_close.py", "test_many_closes_publish_what_one_does"),
            Proof("an independent model", "tests/properties/test_close.py", "test_the_close_equals_the_oracle"),
            Proof(
                "an outcome before its exposure",
                "tests/pipeline/test_close.py",
                "test_an_outcome_that_comes_before_its_exposure_joins",
            ),
        ),
    ),
    Guarantee(
        "Lateness",
        "A window accepts events until the watermark passes its end by the allowed lateness. What comes later changes "
        "no published fact: it becomes a row of `unjoined` and a dead letter.",
        (
            Proof("late events", "tests/properties/test_close.py", "test_late_events_change_no_fact"),
            Proof(
                "when a window closes",
                "tests/pipeline/test_close.py",
                "test_a_window_closes_when_the_watermark_reaches_its_end_and_the_lateness",
            ),
            Proof(
                "the dead letter",
                "tests/pipeline/test_close.py",
                "test_late_and_no_exposure_leave_a_dead_letter_with_the_record_as_it_came",
            ),
            Proof(
                "a silent topic holds the watermark",
                "tests/pipeline/test_watermark.py",
                "test_an_unreachable_topic_holds_the_watermark_for_as_long_as_it_takes",
            ),
        ),
    ),
    Guarantee(
        "Damage",
        "A file that was cut or changed is named before anything is made of it. A disk that is full, a topic that "
        "takes no dead letters or is not the one it was, stop what they must: nothing passes them.",
        (
            Proof("files cut or changed", "tests/chaos/test_damaged.py", "test_whoever_needs_a_damaged_file_names_it"),
            Proof(
                "files that may not grow",
                "tests/chaos/test_full.py",
                "test_a_worker_whose_files_may_not_grow_ends_with_a_remedy",
            ),
            Proof(
                "no dead-letter topic",
                "tests/integration/test_outages.py",
                "test_nothing_passes_a_missing_dead_letter_topic",
            ),
            Proof(
                "topics cut short or made again",
                "tests/integration/test_continuity.py",
                "test_topics_that_do_not_go_on_where_the_lake_ends",
            ),
        ),
    ),
    Guarantee(
        "Audit",
        "`evidence verify` computes all of it anew from the topics, another way, at any time. It finds what is lost, "
        "doubled or changed, and finds nothing where nothing is.",
        (
            Proof("any history", "tests/pipeline/test_verify_machine.py", "test_the_audit_of_any_history_is_clean"),
            Proof("any changed column", "tests/pipeline/test_verify.py", "test_any_changed_column_is_found"),
            Proof("a lost event", "tests/pipeline/test_verify.py", "test_a_lost_event_is_found_without_kafka_too"),
            Proof("a missing dead letter", "tests/pipeline/test_verify.py", "test_a_missing_dead_letter_is_found"),
            Proof(
                "while a worker writes",
                "tests/integration/test_verify.py",
                "test_a_lake_is_audited_while_a_worker_writes_it",
            ),
        ),
    ),
)
"""What is promised, in the order in which it is shown."""
