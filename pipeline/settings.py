"""What can be set from outside: `EVIDENCE_*` variables, their defaults and what they mean.

`load()` is the only way in for programs. It reads the environment once and refuses a name nobody knows, a value nobody
can use, and values that do not go together, each in one line. Durations are `90s`, `10m`, `24h`, `7d` or ISO 8601 and
become int microseconds; sizes are `65536`, `64KiB` or `1MB` and become int bytes. An empty variable counts as unset.
"""

import difflib
import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.durations import Duration, parse_duration
from contracts.errors import SettingsError

__all__ = ["PREFIX", "Row", "Security", "Settings", "describe", "load"]

PREFIX: Final = "EVIDENCE_"

_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE: Final = re.compile(r"(\d+)\s*([KMG]i?B|B)?", re.IGNORECASE | re.ASCII)
_MEMORY: Final = re.compile(r"\d+(\.\d+)?\s*([KMGT]i?B)", re.IGNORECASE | re.ASCII)
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,245}", re.ASCII)  # Kafka's 249 less ".dlq"
_BROKER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", re.ASCII)
_GREATEST_PORT: Final = 65_535


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("not a size; write bytes, or 64KiB, 1MiB, 512MB")
    return int(match[1]) * _UNITS[(match[2] or "").upper()]


def _memory(value: str) -> str:
    if _MEMORY.fullmatch(value) is None:
        raise ValueError("not an amount of memory; write 512MB, 1GB or 1.5GiB")
    return value


def _topic(value: str) -> str:
    if _TOPIC.fullmatch(value) is None or value in {".", ".."}:
        raise ValueError("not a topic name; use at most 245 letters, digits, dots, underscores and hyphens")
    return value


def _brokers(value: str) -> str:
    brokers = [part.strip() for part in value.split(",")]
    for broker in brokers:
        match = _BROKER.fullmatch(broker)
        if match is None or not 0 < int(match[2]) <= _GREATEST_PORT:
            raise ValueError("not a list of brokers; write host:port, or host:port,host:port")
    return ",".join(brokers)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Topic = Annotated[str, AfterValidator(_topic)]
Span = Annotated[Duration, Field(gt=0)]
Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class Security:
    """How to reach the brokers, as the two clients need it."""

    protocol: Protocol
    mechanism: Mechanism | None
    username: str | None
    password: SecretStr | None
    ca: Path | None
    cert: Path | None
    key: Path | None
    key_password: SecretStr | None

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def authenticated(self) -> bool:
        """Whether the client names itself by SASL."""
        return self.protocol.startswith("SASL_")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context of an encrypted connection, else None.

        Reads the certificate files. The broker's name is checked against its certificate. Raises SettingsError for a
        file that cannot be read or does not hold what its setting says.
        """
        if not self.encrypted:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise SettingsError(
                f"{PREFIX}KAFKA_SSL_CA={self.ca}: cannot read certificates ({_why(error)}); name a PEM file",
            ) from error
        if self.cert is not None:
            password = self.key_password.get_secret_value() if self.key_password else ""
            try:
                # a callable, or OpenSSL would ask for the password of an encrypted key on the terminal
                context.load_cert_chain(self.cert, self.key, lambda: password)
            except OSError as error:
                raise SettingsError(
                    f"{PREFIX}KAFKA_SSL_CERT={self.cert}, {PREFIX}KAFKA_SSL_KEY={self.key}: cannot read the client's "
                    f"certificate and key ({_why(error)}); name PEM files that belong together",
                ) from error
        return context


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _span(default: str, meaning: str) -> Any:  # noqa: ANN401  # stands where a field's default does, like Field itself
    return Field(default=parse_duration(default), description=meaning, json_schema_extra={"shown": default})


def _bytes(default: str, meaning: str) -> Any:  # noqa: ANN401  # see _span
    return Field(default=_size(default), description=meaning, json_schema_extra={"shown": default})


class Settings(BaseSettings):
    """All settings of one process, read once at start and unchanging.

    Keyword arguments go before the environment. Programs call `load()`, which has the better errors.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        validate_default=False,
        hide_input_in_errors=True,
    )

    bootstrap_servers: Annotated[str, AfterValidator(_brokers)] = Field(
        default="localhost:9092", description="Brokers to start from, as host:port,host:port"
    )
    lake: Path = Field(default=Path("./lake"), description="Directory of the lake, shared by all workers")
    flags: Path = Field(default=Path("./flags"), description="Directory of flag files (*.yaml, *.yml)")
    group: str = Field(default="evidence", min_length=1, max_length=249, description="Consumer group of the workers")
    exposures_topic: Topic = Field(default="exposures", description="Topic of what really ran")
    outcomes_topic: Topic = Field(default="outcomes", description="Topic of what came of it")
    guardrails_topic: Topic = Field(default="guardrails", description="Topic of what went wrong")

    session_timeout: Span = _span("15s", "How long a silent worker keeps its partitions")
    checkpoint_interval: Span = _span("60s", "Greatest age of events read but not yet committed to the lake")
    close_interval: Span = _span("5m", "How often windows that are due are closed")
    compact_interval: Duration = _span(
        "1h", "How often small files of past days are looked for and merged; 0s for never"
    )
    out_of_orderness: Duration = _span("1m", "How far the watermark stays behind the newest event time")
    allowed_lateness: Duration = _span("1h", "How long after its end a window still accepts events")
    idle_timeout: Span = _span("5m", "How long all topics must be at their end before the clock moves the watermark")
    max_future: Duration = _span("10m", "How far an event time may lie in the future")
    max_value_bytes: Size = _bytes("1MiB", "Greatest size of a record's value")
    max_buffered_rows: int = Field(
        default=1_000_000, gt=0, description="Events held in memory before fetching waits for a checkpoint"
    )
    max_buffered_bytes: Size = _bytes(
        "1GiB",
        "Bytes of events held in memory before fetching waits for a checkpoint; 48 MiB a partition if that is less",
    )
    close_rows: int = Field(default=500_000, gt=0, description="Events of due windows that make a close due at once")
    memory_limit: Annotated[str, AfterValidator(_memory)] = Field(
        default="1GB", description="Memory that DuckDB may use before it spills to disk"
    )

    breaker_share: float = Field(
        default=0.5, gt=0, le=1, description="Share of refused records in a partition that stops it"
    )
    breaker_minimum: int = Field(default=100, gt=0, description="Records read before that share is judged")
    breaker_in_a_row: int = Field(default=100, gt=0, description="Refused records in a row that stop a partition")
    reroute: bool = Field(
        default=True, description="Copy misplaced records to their right partition; if false, they are dead letters"
    )

    web_host: str = Field(default="127.0.0.1", min_length=1, description="Address of the worker's web server")
    web_port: int = Field(
        default=6066, ge=0, le=_GREATEST_PORT, description="Port of the worker's web server; 0 for none"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = Field(
        default="INFO", description="Least severe log line that is written"
    )
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = Field(
        default="text", description="Log lines for people (text) or machines (json)"
    )

    kafka_security_protocol: Annotated[Protocol, BeforeValidator(_upper)] = Field(
        default="PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: Annotated[Mechanism | None, BeforeValidator(_upper)] = Field(
        default=None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    kafka_sasl_username: str | None = Field(default=None, description="Name to authenticate with")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="Password to authenticate with")
    kafka_ssl_ca: Path | None = Field(
        default=None, description="PEM file of the authorities to trust, instead of the system's"
    )
    kafka_ssl_cert: Path | None = Field(default=None, description="PEM file of the client's certificate")
    kafka_ssl_key: Path | None = Field(default=None, description="PEM file of the client's private key")
    kafka_ssl_key_password: SecretStr | None = Field(default=None, description="Password of that key")

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if len(set(self.topics)) < len(self.topics):
            raise ValueError(f"{PREFIX}EXPOSURES_TOPIC, _OUTCOMES_TOPIC and _GUARDRAILS_TOPIC must be three topics")
        security = self.security
        protocol = f"{PREFIX}KAFKA_SECURITY_PROTOCOL={security.protocol}"
        for name in ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password"):
            if getattr(self, name) is None and security.authenticated:
                raise ValueError(f"{protocol} needs {PREFIX}{name.upper()}; set it")
            if getattr(self, name) is not None and not security.authenticated:
                raise ValueError(f"{protocol} does not use {PREFIX}{name.upper()}; set SASL_SSL or remove it")
        for name in ("kafka_ssl_ca", "kafka_ssl_cert", "kafka_ssl_key", "kafka_ssl_key_password"):
            if getattr(self, name) is not None and not security.encrypted:
                raise ValueError(f"{protocol} does not use {PREFIX}{name.upper()}; set SSL or SASL_SSL, or remove it")
        if (self.kafka_ssl_cert is None) != (self.kafka_ssl_key is None):
            raise ValueError(f"{PREFIX}KAFKA_SSL_CERT and {PREFIX}KAFKA_SSL_KEY go together; set both or neither")
        return self

    @property
    def topics(self) -> tuple[str, str, str]:
        """The three copartitioned topics: exposures, outcomes, guardrails."""
        return self.exposures_topic, self.outcomes_topic, self.guardrails_topic

    @property
    def security(self) -> Security:
        """How to reach the brokers."""
        return Security(
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_sasl_username,
            password=self.kafka_sasl_password,
            ca=self.kafka_ssl_ca,
            cert=self.kafka_ssl_cert,
            key=self.kafka_ssl_key,
            key_password=self.kafka_ssl_key_password,
        )

    def librdkafka(self) -> dict[str, str | int]:
        """Return the connection part of a confluent-kafka configuration; passwords stand in it in clear text."""
        security = self.security
        named = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": security.protocol,
            "sasl.mechanisms": security.mechanism,
            "sasl.username": security.username,
            "sasl.password": security.password,
            "ssl.ca.location": security.ca,
            "ssl.certificate.location": security.cert,
            "ssl.key.location": security.key,
            "ssl.key.password": security.key_password,
        }
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in named.items()
            if value is not None
        }


class Row(NamedTuple):
    """One line of the table of settings; `default` is empty where there is none."""

    name: str
    default: str
    meaning: str


def describe() -> Iterator[Row]:
    """Yield every setting in the order of the class, its default as a user would write it."""
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        shown = extra.get("shown") if isinstance(extra, dict) else None
        yield Row(PREFIX + name.upper(), str(shown) if shown else _shown(field.default), field.description or "")


def _shown(default: object) -> str:
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case Path():
            return f"./{default}"
        case _:
            return str(default)


def load(**overrides: object) -> Settings:
    """Read the settings from the environment; `overrides` (field names) go before it, None among them counts as unset.

    Raises SettingsError, one line, for unknown names and for wrong values.
    """
    known = [row.name for row in describe()]
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the known ones are {', '.join(known)}"
            raise SettingsError(f"{name} is not a setting; {hint}")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic judges them
    except ValidationError as error:
        raise SettingsError("; ".join(_line(fault, given) for fault in error.errors())) from None


def _line(fault: Any, given: dict[str, object]) -> str:  # noqa: ANN401  # pydantic's ErrorDetails
    problem = str(fault["msg"]).removeprefix("Value error, ")
    if not fault["loc"]:
        return problem
    field = str(fault["loc"][0])
    name = PREFIX + field.upper()
    secret = field.endswith("password")
    value = "…" if secret else given.get(field, os.environ.get(name, ""))
    return f"{name}={value}: {problem[0].lower()}{problem[1:]}"
