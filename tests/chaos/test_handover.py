"""Workers that come and go under load, on clocks that jump."""

from collections.abc import Callable

from tests.brokers import ApacheKafka
from tests.chaos.fleet import Fleet, Member, fleet_of
from tests.chaos.forms import long_form
from tests.chaos.load import MINUTE, Load
from tests.chaos.verdict import judge
from tests.integration.deployment import Deployment

LEAVING = (0, -2, 0)  # the oldest, the newest but for who just came, the oldest


@long_form
def test_partitions_go_from_hand_to_hand(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    """Each that joins gets partitions from those that stay; each that leaves ends well."""
    deployment = deploy(apache.bootstrap)
    with fleet_of(deployment) as fleet:
        with Load(deployment, 3) as load:
            _join(fleet, 0)
            for number, leaving in enumerate(LEAVING, start=1):
                _join(fleet, number)
                gone = fleet.alive[leaving]
                assert gone.end() == 0, gone.said()
            fleet.moves()
        fleet.end()
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)


@long_form
def test_a_worker_that_is_asked_to_end_while_it_catches_up(
    apache: ApacheKafka, deploy: Callable[..., Deployment]
) -> None:
    deployment = deploy(apache.bootstrap)
    with fleet_of(deployment) as fleet:
        with Load(deployment, 4, prelude=120 * MINUTE) as load:
            for _ in range(2):
                member = fleet.start()
                member.says(": checkpoint")
                assert member.end() == 0, member.said()
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)


def _join(fleet: Fleet, number: int) -> Member:
    member = fleet.start(clock=number)
    member.says(": checkpoint")
    return member
