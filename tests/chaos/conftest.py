"""What the scenarios stand on: a deployment under load on Apache Kafka."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.load import FLAG, SETTINGS
from tests.integration.deployment import Deployment

PARTITIONS = 6


@pytest.fixture
def deploy(tmp_path: Path) -> Callable[..., Deployment]:
    """Give what makes the deployment; keywords are those of `Deployment.make`."""

    def make(bootstrap: str, flag: str = FLAG, **more: object) -> Deployment:
        return Deployment.make(bootstrap, tmp_path / "home", partitions=PARTITIONS, flag=flag, **{**SETTINGS, **more})

    return make
