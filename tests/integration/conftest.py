"""Deployments for the tests, on either broker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import ApacheKafka
from tests.integration.deployment import Deployment


@pytest.fixture
def deploy(tmp_path: Path) -> Callable[..., Deployment]:
    """Give what makes a deployment on a broker; keyword arguments are those of `Deployment.make`."""

    def make(bootstrap: str, **more: Any) -> Deployment:  # noqa: ANN401  # any field of Settings
        return Deployment.make(bootstrap, tmp_path / "home", **more)

    return make


@pytest.fixture
def deployment(bootstrap: str, deploy: Callable[..., Deployment]) -> Deployment:
    """Give a deployment on either broker: the test runs once with each."""
    return deploy(bootstrap)


@pytest.fixture
def on_apache(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> Deployment:
    """Give a deployment on Apache Kafka."""
    return deploy(apache.bootstrap)
