"""Workers that hang in the middle of a checkpoint, past the session timeout, and wake when others own their work."""

from collections.abc import Callable
from signal import SIGSTOP

from tests.brokers import ApacheKafka
from tests.chaos.fleet import fleet_of
from tests.chaos.load import Load
from tests.chaos.points import Plan
from tests.chaos.verdict import judge
from tests.integration.deployment import Deployment

HANGING = ("before flush", "before commit", "after commit")


def test_whoever_wakes_behind_the_chain_is_fenced(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    """They publish nothing of what they held, although the chain was pruned past it; then they work on."""
    deployment = deploy(apache.bootstrap)
    with fleet_of(deployment) as fleet:
        with Load(deployment, 2) as load:
            hanging = [fleet.start(Plan(point, nth=3, signal=SIGSTOP)) for point in HANGING]
            for member in hanging:
                member.says("chaos: SIGSTOP")
            fleet.start()
            for _ in range(4):  # manifests: the newest two are kept
                fleet.moves()
            for member in hanging:
                member.go_on()
            for member in hanging[:2]:
                member.says("another writer has committed")
            fleet.moves()
        fleet.end()
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)
