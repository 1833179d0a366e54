"""A producer that is broken stops its partition: in the lake, until somebody says that it may go on."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace

from contracts.placement import murmur2_partition
from tests.integration.deployment import Deployment, exposure, pair

TOO_MANY = 20
[STOPPED], [OTHER] = ([f"u{n}" for n in range(9) if murmur2_partition([f"u{n}"], 2)[0] == p][:1] for p in (0, 1))


def test_a_stopped_partition_waits_for_resume(bootstrap: str, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(bootstrap, breaker_in_a_row=TOO_MANY, breaker_minimum=TOO_MANY)
    broken = [replace(exposure(STOPPED, 0), value=b"{") for _ in range(TOO_MANY)]
    deployment.publish([*broken, *pair(OTHER, 0)])

    ended = deployment.evidence("worker", "--stop-at-end")
    assert ended.returncode == 4
    assert ended.stderr.splitlines()[-1].startswith("evidence: partition 0 is stopped; ")
    assert ended.stderr.endswith("run: evidence resume\n")
    manifests = deployment.manifests()
    stopped = manifests[0].stopped
    assert stopped is not None
    assert (stopped.topic, stopped.reason) == (deployment.topic("exposure"), "20 records in a row were refused")
    assert manifests[1].stopped is None
    assert [letter.reason for letter in deployment.letters()] == ["not_json"] * TOO_MANY

    deployment.publish([*pair(STOPPED, 0), *pair(OTHER, 1)])
    with deployment.with_new_group().worker() as worker:
        worker.says("partition 0: stopped at")
        worker.until(lambda: deployment.manifests()[1].seq > manifests[1].seq, "the other partition")
        assert deployment.manifests()[0].seq == manifests[0].seq

        resumed = deployment.evidence("resume", "--json")
        assert json.loads(resumed.stdout) == [
            {"partition": 0, "topic": stopped.topic, "reason": stopped.reason},
        ]
        worker.says("partition 0: resumed")
        worker.until(lambda: deployment.passed() == TOO_MANY + 6, "the rest")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 0, worker.said()
    assert deployment.evidence("resume").stdout == "no partition is stopped\n"
    assert deployment.fates()["not_json"] == TOO_MANY
