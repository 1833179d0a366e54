"""Workers merge small files of past days by themselves, while they read on."""

from collections.abc import Callable

from pipeline.compaction import FEWEST
from tests.integration.deployment import Deployment, exposure, pair


def test_a_worker_merges_the_files_of_a_past_day(embedded: str, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(embedded, partitions=1, compact_interval="300ms", allowed_lateness="1h")
    day = deployment.settings.lake / "tables" / "facts" / "dt=2026-06-07"
    with deployment.worker() as worker:
        for hour in range(FEWEST):  # each a file: one fact becomes due
            deployment.publish([*pair(f"u{hour}", hour), exposure(f"v{hour}", hour + 25.1)])
            worker.until(lambda: len(deployment.rows("facts")) > hour, "a fact")  # noqa: B023
        before = deployment.facts()
        deployment.publish([exposure("w", 24 + 25.1)])  # the day is decided, and closes go on afterwards
        worker.says(f"{2 * FEWEST} files became 2")
        assert len([*day.iterdir()]) == 1
        assert deployment.facts()[:FEWEST] == before
        deployment.publish([exposure("x", 80)])
        worker.until(lambda: len(deployment.rows("facts")) == 2 * FEWEST + 1, "the facts of the next day")
        worker.process.terminate()
        assert worker.ends() == 0
    assert deployment.told() == sorted(set(deployment.told()))
    assert deployment.evidence("verify").returncode == 0
