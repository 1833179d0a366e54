"""Workers killed at every step of a checkpoint, three at a time, under load."""

import random
from collections.abc import Callable

from tests.brokers import ApacheKafka
from tests.chaos.fleet import fleet_of
from tests.chaos.load import Load
from tests.chaos.points import BETWEEN_FILES, STEP_ENDS, Plan
from tests.chaos.verdict import judge
from tests.integration.deployment import Deployment

WORKERS = 3
SEED = 1


def test_killed_at_every_point(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(apache.bootstrap)
    points = [*STEP_ENDS, *BETWEEN_FILES]
    random.Random(SEED).shuffle(points)  # noqa: S311
    with fleet_of(deployment) as fleet:
        with Load(deployment, SEED) as load:
            while points:
                together = [fleet.start(Plan(points.pop())) for _ in range(min(WORKERS, len(points)))]
                for member in together:
                    member.dies()
        deployment.read_to_end("--close-windows")
    judge(deployment, load.expected)
