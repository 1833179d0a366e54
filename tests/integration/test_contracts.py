"""A flag file that changes while a worker runs: the new version is used; a broken one is said, and changes nothing.

Facts of a version that means something else are of another epoch.
"""

import signal

from contracts.flags import load_contract
from sinks.views import connect
from tests.integration.deployment import Deployment, RunningWorker, exposure
from tests.pipeline import lab


def test_a_changed_flag_file_is_used_from_the_next_checkpoint_on(deployment: Deployment) -> None:
    deployment = deployment.but(close_interval="1h")  # a checkpoint is made for news alone, or at once
    file = deployment.settings.flags / "route.yaml"
    changed = lab.FLAG.replace("window: 24h", "window: 12h")
    with deployment.worker() as worker:
        _pass(deployment, worker, "before")

        seqs = {number: manifest.seq for number, manifest in deployment.manifests().items()}
        file.write_text(changed)
        worker.says("contracts read again")
        worker.until(lambda: all(deployment.manifests()[n].seq > seq for n, seq in seqs.items()), "checkpoints")
        _pass(deployment, worker, "after", hour=1)

        file.write_text(changed.replace("window: 12h", "window: soon"))
        worker.says(f"{file}:12: experiment.metrics.resolved.window")
        worker.says("the contracts read before stay in force")
        _pass(deployment, worker, "meanwhile", hour=1)
        _end(worker)

    old, new = (load_contract(text, "route.yaml").version for text in (lab.FLAG, changed))
    connection = connect(deployment.settings.lake)
    try:
        rows = connection.sql("SELECT unit_id, contract_version FROM exposures_open").fetchall()
    finally:
        connection.close()
    assert dict(rows) == {"before": old, "after": new, "meanwhile": new}
    assert {path.stem for path in (deployment.settings.lake / "contracts").iterdir()} == {old, new}

    file.write_text(changed)
    deployment.read_to_end("--close-windows")
    connection = connect(deployment.settings.lake)
    try:
        versions = connection.sql("SELECT epoch, contract_version, facts FROM contracts").fetchall()
        counted = connection.sql("SELECT epoch, variation, facts FROM facts_by_variation").fetchall()
    finally:
        connection.close()
    assert versions == [(1, old, 1), (2, new, 2)]
    assert counted == [(1, "control", 1), (2, "control", 2)]


def _pass(deployment: Deployment, worker: RunningWorker, unit: str, hour: float = 0) -> None:
    """Publish an exposure of the unit, and wait until a checkpoint holds it and none is under way."""
    before = deployment.passed()
    deployment.publish([exposure(unit, hour)])
    worker.until(lambda: deployment.passed() > before, unit)
    for number, manifest in deployment.manifests().items():
        worker.says(f"partition {number}: checkpoint {manifest.seq},")


def _end(worker: RunningWorker) -> None:
    worker.process.send_signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.said()
