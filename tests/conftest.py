"""What all tests share: the brokers, a clean environment, the profiles of hypothesis."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from contracts.errors import KafkaUnavailable
from pipeline.embedded import embedded_broker
from pipeline.settings import PREFIX, Settings
from tests.brokers import ApacheKafka, BrokerMissing, kafka_jars

CI = os.environ.get("CI", "").lower() in {"1", "true"}

hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if CI else "dev"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests by the brokers that they ask for, and put those with brokers first.

    They wait most of the time: run beside each other (make test), they leave the processors to each other.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "apache" in fixtures or "own_apache" in fixtures:
            item.add_marker(pytest.mark.kafka)
        if "embedded" in fixtures:
            item.add_marker(pytest.mark.embedded)
    items.sort(key=lambda item: not {"kafka", "embedded"} & {mark.name for mark in item.iter_markers()})


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own EVIDENCE_* variables out of the tests."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of the embedded broker, one for the whole run."""
    try:
        broker = embedded_broker(tmp_path_factory.mktemp("embedded") / "broker.log")
        with broker as bootstrap:
            yield bootstrap
    except KafkaUnavailable as absent:
        missing(str(absent))


@pytest.fixture(scope="session")
def apache(start_apache: Callable[[], ApacheKafka]) -> ApacheKafka:
    """Give Apache Kafka, one for the whole run: leave it running."""
    return start_apache()


@pytest.fixture
def own_apache(start_apache: Callable[[], ApacheKafka]) -> Iterator[ApacheKafka]:
    """Give an Apache Kafka of the test's own, to be stopped, killed and frozen at will."""
    broker = start_apache()
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def start_apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], ApacheKafka]]:
    """Give what starts an Apache Kafka; whatever still runs is killed when the run ends."""
    brokers: list[ApacheKafka] = []

    def start() -> ApacheKafka:
        try:
            jars = kafka_jars()
        except BrokerMissing as absent:
            missing(str(absent))
        broker = ApacheKafka(tmp_path_factory.mktemp("apache"), jars)
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.kill()


@pytest.fixture(
    params=[pytest.param("embedded", marks=pytest.mark.embedded), pytest.param("apache", marks=pytest.mark.kafka)]
)
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Give the address of either broker: the test runs once with each."""
    if request.param == "embedded":
        return str(request.getfixturevalue("embedded"))
    broker: ApacheKafka = request.getfixturevalue("apache")
    return broker.bootstrap


@pytest.fixture
def settings_for(tmp_path: Path) -> Callable[..., Settings]:
    """Give what makes settings for a broker's address: new topics, a new group, a lake in the test's directory.

    Keyword arguments are further settings by field name.
    """
    corner = uuid.uuid4().hex[:12]

    def make(bootstrap: str, **more: Any) -> Settings:  # noqa: ANN401  # any field of Settings
        fields: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "lake": tmp_path / "lake",
            "flags": tmp_path / "flags",
            "group": f"evidence-{corner}",
            "exposures_topic": f"exposures-{corner}",
            "outcomes_topic": f"outcomes-{corner}",
            "guardrails_topic": f"guardrails-{corner}",
        }
        return Settings(**(fields | more))

    return make


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Give the root of the checkout."""
    return Path(__file__).resolve().parent.parent


def missing(reason: str) -> NoReturn:
    """Skip on a laptop; fail where the brokers have to be there."""
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)
