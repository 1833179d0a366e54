"""Whether a lake holds what its load had to become: by reading tables and topics alone, and by `evidence verify`."""

from collections import Counter
from typing import Any, Final

from sinks.archives import table_files
from sinks.storage import LocalStorage
from tests.chaos.load import Expected, Fact
from tests.integration.deployment import Deployment, Place

__all__ = ["judge"]

COPIES: Final = ("late", "duplicate", "rerouted")  # how often a copy was sent depends on who died


def judge(deployment: Deployment, expected: Expected) -> None:
    """Raise AssertionError unless every record has exactly one fate and every fact is as expected.

    The deployment must have been read to its end, all windows closed.
    """
    _every_record_has_one_fate(deployment)
    came_late = {row["unit_id"] for row in deployment.rows("unjoined") if row["reason"] == "late"}
    assert came_late <= expected.without.keys(), f"late: {sorted(came_late - expected.without.keys())[:5]}"
    joined = {row["unit_id"] for row in deployment.rows("events") if row["kind"] == "outcome"}
    lacking = expected.without.keys() - joined  # all copies of theirs were late
    assert lacking <= came_late
    wanted = Counter(expected.without[fact.unit] if fact.unit in lacking else fact for fact in expected.facts)
    found = Counter(_fact(row) for row in deployment.rows("facts"))
    assert found == wanted, f"extra: {sorted(found - wanted)[:5]}; missing: {sorted(wanted - found)[:5]}"
    fates = Counter(expected.fates)
    fates["joined"] -= len(lacking)
    told = deployment.fates()
    assert _without_copies(told) == _without_copies(fates)
    assert told["rerouted"] == fates["rerouted"]
    assert told["duplicate"] >= fates["duplicate"]
    _dead_letters_are_there(deployment)
    _tables_are_what_manifests_name(deployment)
    audit = deployment.evidence("verify")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def _every_record_has_one_fate(deployment: Deployment) -> None:
    told, there = Counter(deployment.told()), Counter(deployment.places())
    assert told == there, f"lost: {sorted(there - told)[:5]}; doubled: {sorted(told - there)[:5]}"


def _without_copies(fates: Counter[str]) -> dict[str, int]:
    return {fate: count for fate, count in fates.items() if count and fate not in COPIES}


def _fact(row: dict[str, Any]) -> Fact:
    return Fact(
        unit=row["unit_id"],
        variation=row["variation"],
        window_start=round(row["window_start"].timestamp() * 1_000) * 1_000,
        exposures=row["exposures"],
        outcomes=row["outcomes"],
        guardrails=row["guardrails"],
        metrics=tuple(sorted(dict(row["metrics"]).items())),
        flags=tuple(row["flags"]),
    )


def _dead_letters_are_there(deployment: Deployment) -> None:
    """See that each dead letter the lake speaks of was sent; those of closes that died may be there besides."""
    wanted = {
        (_place(row), row["reason"])
        for table in ("refused", "unjoined")
        for row in deployment.rows(table)
        if row["reason"] not in {"rerouted", "duplicate", "outside_window"}
    }
    sent = {(letter.origin, letter.reason) for letter in deployment.letters()}
    assert wanted <= sent, f"never sent: {sorted(wanted - sent)[:5]}"
    assert {reason for _, reason in sent - wanted} <= {"late", "no_exposure"}


def _place(row: dict[str, Any]) -> Place:
    return Place(row["topic"], row["partition"], row["offset"])


def _tables_are_what_manifests_name(deployment: Deployment) -> None:
    storage = LocalStorage(deployment.settings.lake)
    manifests = deployment.manifests().values()
    named = Counter(file.name for manifest in manifests for file in table_files(storage, manifest))
    assert named == Counter(storage.list("tables"))
    assert storage.list("staging") == []
    live = {name for manifest in manifests for name in manifest.live()}
    kept = live | {file.name for manifest in manifests for file in manifest.retired}
    assert live <= set(storage.list("segments")) <= kept
