"""Encrypted and authenticated: the client that reads and the one that writes use the same settings."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.brokers import PASSWORD, USERNAME, ApacheKafka
from tests.certificates import KEY_PASSWORD
from tests.integration.deployment import Deployment, exposure, pair


def _secure(broker: ApacheKafka, mechanism: str) -> dict[str, Any]:
    return {
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": mechanism,
        "kafka_sasl_username": USERNAME,
        "kafka_sasl_password": PASSWORD,
        "kafka_ssl_ca": broker.certificates.ca,
    }


def _mutual(broker: ApacheKafka) -> dict[str, Any]:
    certificates = broker.certificates
    return {
        "kafka_security_protocol": "SSL",
        "kafka_ssl_ca": certificates.ca,
        "kafka_ssl_cert": certificates.client,
        "kafka_ssl_key": certificates.client_key,
        "kafka_ssl_key_password": KEY_PASSWORD,
    }


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        pytest.param("secure", lambda broker: _secure(broker, "SCRAM-SHA-256"), id="SASL_SSL"),
        pytest.param("mutual", _mutual, id="mutual TLS"),
    ],
)
def test_facts_and_dead_letters_over_tls(
    apache: ApacheKafka,
    deploy: Callable[..., Deployment],
    address: str,
    settings: Callable[[ApacheKafka], dict[str, Any]],
) -> None:
    deployment = deploy(getattr(apache, address), **settings(apache))
    deployment.publish([*pair("u1", 0), exposure("u2", 0, eventId=7)])
    deployment.read_to_end("--close-windows")
    assert [(fact["unit_id"], fact["outcomes"]) for fact in deployment.facts()] == [("u1", 1)]
    assert [letter.reason for letter in deployment.letters()] == ["schema_violation"]


def test_a_wrong_password_ends_the_worker_in_one_line(apache: ApacheKafka, deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(apache.secure, **_secure(apache, "PLAIN"))
    ended = deployment.but(kafka_sasl_password="wrong").evidence("worker")
    assert ended.returncode == 3
    assert ended.stderr.startswith("evidence: ")
    assert "correct EVIDENCE_BOOTSTRAP_SERVERS and EVIDENCE_KAFKA_*" in ended.stderr
    assert "Traceback" not in ended.stderr
