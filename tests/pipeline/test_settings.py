"""Settings: the names and defaults that people script against, and what is said when one is wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.durations import parse_duration
from contracts.errors import SettingsError
from pipeline.settings import Settings, describe, load
from tests.certificates import KEY_PASSWORD, make_certificates

SASL = {
    "EVIDENCE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "EVIDENCE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
    "EVIDENCE_KAFKA_SASL_USERNAME": "evidence",
    "EVIDENCE_KAFKA_SASL_PASSWORD": "correct horse",
}


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("field", "default"),
    [
        ("bootstrap_servers", "localhost:9092"),
        ("lake", Path("lake")),
        ("flags", Path("flags")),
        ("group", "evidence"),
        ("exposures_topic", "exposures"),
        ("outcomes_topic", "outcomes"),
        ("guardrails_topic", "guardrails"),
        ("session_timeout", parse_duration("15s")),
        ("checkpoint_interval", parse_duration("60s")),
        ("close_interval", parse_duration("5m")),
        ("out_of_orderness", parse_duration("1m")),
        ("allowed_lateness", parse_duration("1h")),
        ("idle_timeout", parse_duration("5m")),
        ("max_future", parse_duration("10m")),
        ("max_value_bytes", 1_048_576),
        ("breaker_share", 0.5),
        ("breaker_minimum", 100),
        ("breaker_in_a_row", 100),
        ("reroute", True),
        ("web_host", "127.0.0.1"),
        ("web_port", 6066),
    ],
)
def test_defaults_run(field: str, default: object) -> None:
    """These names and defaults are fixed, because people script against them."""
    assert getattr(load(), field) == default


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        pytest.param("CLOSE_INTERVAL", "1h30m", parse_duration("90m"), id="duration"),
        pytest.param("CLOSE_INTERVAL", "PT10M", parse_duration("10m"), id="duration-in-iso-8601"),
        pytest.param("OUT_OF_ORDERNESS", "0s", 0, id="duration-of-nothing"),
        pytest.param("MAX_VALUE_BYTES", "2048", 2048, id="size-in-bytes"),
        pytest.param("MAX_VALUE_BYTES", "64KiB", 65_536, id="size-with-a-binary-unit"),
        pytest.param("MAX_BUFFERED_BYTES", "3 MB", 3_000_000, id="size-with-a-decimal-unit"),
        pytest.param("REROUTE", "false", False, id="boolean"),
        pytest.param("LAKE", "/srv/lake", Path("/srv/lake"), id="path"),
        pytest.param("BOOTSTRAP_SERVERS", "a:1, [::1]:2", "a:1,[::1]:2", id="brokers"),
        pytest.param("LOG_LEVEL", "debug", "DEBUG", id="log-level-in-lower-case"),
        pytest.param("KAFKA_SECURITY_PROTOCOL", "ssl", "SSL", id="protocol-in-lower-case"),
        pytest.param("GROUP", "", "evidence", id="empty-is-unset"),
    ],
)
def test_environment_sets(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"EVIDENCE_{name}", text)
    assert getattr(load(), name.lower()) == value


def test_arguments_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIDENCE_LAKE", "/from/outside")
    assert load(lake="/given").lake == Path("/given")
    assert load(lake=None).lake == Path("/from/outside")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        pytest.param("CLOSE_INTERVAL", "soon", "write it as 90s", id="no-duration"),
        pytest.param("SESSION_TIMEOUT", "0s", "greater than 0", id="no-time-at-all"),
        pytest.param("MAX_VALUE_BYTES", "a lot", "not a size", id="no-size"),
        pytest.param("MAX_VALUE_BYTES", "0", "greater than 0", id="no-bytes-at-all"),
        pytest.param("MEMORY_LIMIT", "1 elephant", "not an amount of memory", id="no-memory"),
        pytest.param("WEB_PORT", "66000", "65535", id="no-port"),
        pytest.param("BREAKER_SHARE", "1.5", "less than or equal to 1", id="no-share"),
        pytest.param("BOOTSTRAP_SERVERS", "kafka://a:1", "host:port", id="no-broker"),
        pytest.param("BOOTSTRAP_SERVERS", "a:1,,b:2", "host:port", id="a-broker-missing"),
        pytest.param("BOOTSTRAP_SERVERS", "a:70000", "host:port", id="no-port-of-a-broker"),
        pytest.param("OUTCOMES_TOPIC", "out comes", "not a topic name", id="no-topic"),
        pytest.param("OUTCOMES_TOPIC", "o" * 246, "not a topic name", id="no-room-for-the-dlq"),
        pytest.param("REROUTE", "perhaps", "boolean", id="no-boolean"),
        pytest.param("LOG_FORMAT", "xml", "'text' or 'json'", id="no-format"),
    ],
)
def test_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str, told: str) -> None:
    """One line has the name, the value and what would be right."""
    monkeypatch.setenv(f"EVIDENCE_{name}", text)
    with pytest.raises(SettingsError) as error:
        load()
    message = str(error.value)
    assert message.startswith(f"EVIDENCE_{name}={text}: ")
    assert told in message
    assert "\n" not in message


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"EVIDENCE_WEB_PORT": "x", "EVIDENCE_MAX_FUTURE": "y"})
    with pytest.raises(SettingsError, match=r"EVIDENCE_MAX_FUTURE=y.*; EVIDENCE_WEB_PORT=x"):
        load()


def test_wrong_argument_is_named_like_its_variable() -> None:
    with pytest.raises(SettingsError, match="EVIDENCE_WEB_PORT=-1: "):
        load(web_port=-1)


def test_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt name must not leave the default in force silently."""
    monkeypatch.setenv("EVIDENCE_CLOSE_INTERVALL", "1m")
    with pytest.raises(
        SettingsError, match=r"EVIDENCE_CLOSE_INTERVALL is not a setting; did you mean EVIDENCE_CLOSE_INTERVAL\?"
    ):
        load()


def test_name_like_no_other_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIDENCE_ZZZZZZZZZZZZZZZ", "1")
    with pytest.raises(SettingsError, match="the known ones are EVIDENCE_BOOTSTRAP_SERVERS, EVIDENCE_LAKE"):
        load()


def test_topics_are_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIDENCE_OUTCOMES_TOPIC", "exposures")
    with pytest.raises(SettingsError, match="must be three topics"):
        load()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load().group = "another"  # type: ignore[misc]


# security


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(
            {"KAFKA_SASL_PASSWORD": ""}, "SASL_SSL needs EVIDENCE_KAFKA_SASL_PASSWORD", id="sasl-without-password"
        ),
        pytest.param(
            {"KAFKA_SECURITY_PROTOCOL": "SSL"}, "SSL does not use EVIDENCE_KAFKA_SASL_", id="password-without-sasl"
        ),
        pytest.param(
            {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SSL_CA": "ca.pem"},
            "SASL_PLAINTEXT does not use EVIDENCE_KAFKA_SSL_CA",
            id="authority-without-tls",
        ),
        pytest.param({"KAFKA_SSL_CERT": "cert.pem"}, "go together", id="certificate-without-key"),
    ],
)
def test_security_settings_go_together(monkeypatch: pytest.MonkeyPatch, change: dict[str, str], told: str) -> None:
    set_all(monkeypatch, SASL | {f"EVIDENCE_{name}": value for name, value in change.items()})
    with pytest.raises(SettingsError, match=told):
        load()


def test_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings as text nor an error about them tell it."""
    set_all(monkeypatch, SASL)
    assert "correct horse" not in repr(load())
    assert "correct horse" not in repr(load().security)
    monkeypatch.setenv("EVIDENCE_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    with pytest.raises(SettingsError) as error:
        load()
    assert "correct horse" not in str(error.value)


def test_librdkafka_is_told_how_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is set is handed on, under the names of that client."""
    assert load().librdkafka() == {"bootstrap.servers": "localhost:9092", "security.protocol": "PLAINTEXT"}
    set_all(monkeypatch, SASL | {"EVIDENCE_KAFKA_SSL_CA": "/ca.pem"})
    assert load().librdkafka() == {
        "bootstrap.servers": "localhost:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "SCRAM-SHA-256",
        "sasl.username": "evidence",
        "sasl.password": "correct horse",
        "ssl.ca.location": "/ca.pem",
    }


def test_plain_connection_has_no_tls_context() -> None:
    assert load().security.ssl_context() is None


def test_tls_context_has_the_authority_and_the_client(tmp_path: Path) -> None:
    """It trusts the named authority alone, and still checks the broker's name."""
    files = make_certificates(tmp_path)
    settings = Settings(
        kafka_security_protocol="SSL",
        kafka_ssl_ca=files.ca,
        kafka_ssl_cert=files.client,
        kafka_ssl_key=files.client_key,
        kafka_ssl_key_password=KEY_PASSWORD,
    )
    context = settings.security.ssl_context()
    assert context is not None
    assert len(context.get_ca_certs()) == 1
    assert context.check_hostname


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        pytest.param({"kafka_ssl_ca": "missing.pem"}, "EVIDENCE_KAFKA_SSL_CA=missing.pem", id="no-authority"),
        pytest.param({"kafka_ssl_cert": "missing.pem"}, "EVIDENCE_KAFKA_SSL_CERT=missing.pem", id="no-certificate"),
        pytest.param({"kafka_ssl_key_password": "wrong"}, "EVIDENCE_KAFKA_SSL_KEY=", id="wrong-password-of-the-key"),
        pytest.param({"kafka_ssl_key_password": None}, "EVIDENCE_KAFKA_SSL_KEY=", id="no-password-of-the-key"),
    ],
)
def test_unreadable_certificates_are_named(tmp_path: Path, broken: dict[str, str], told: str) -> None:
    files = make_certificates(tmp_path)
    fields = {
        "kafka_security_protocol": "SSL",
        "kafka_ssl_ca": files.ca,
        "kafka_ssl_cert": files.client,
        "kafka_ssl_key": files.client_key,
        "kafka_ssl_key_password": KEY_PASSWORD,
    }
    with pytest.raises(SettingsError, match=told) as error:
        load(**(fields | broken)).security.ssl_context()
    assert KEY_PASSWORD not in str(error.value)


# the table


def test_every_setting_is_described() -> None:
    """Each has a meaning of one line, and its default as one would write it."""
    rows = list(describe())
    assert [row.name for row in rows] == [f"EVIDENCE_{field.upper()}" for field in Settings.model_fields]
    assert all(row.meaning and "\n" not in row.meaning for row in rows)
    shown = {row.name: row.default for row in rows}
    assert shown["EVIDENCE_LAKE"] == "./lake"
    assert shown["EVIDENCE_CLOSE_INTERVAL"] == "5m"
    assert shown["EVIDENCE_REROUTE"] == "true"
    assert shown["EVIDENCE_KAFKA_SASL_PASSWORD"] == ""


def test_described_defaults_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting every variable to its described default changes nothing."""
    plain = load()
    set_all(monkeypatch, {row.name: row.default for row in describe()})
    assert load() == plain
