"""What the audit compares: events as it reads them, and rows of the tables. Times are µs since the epoch."""

from typing import Final

from msgspec import Struct

__all__ = ["ROWS", "Event", "Fact", "Joined", "Open", "Unjoined"]


class Event(Struct, array_like=True, eq=False, gc=False):
    """A valid record in its right partition."""

    kind: str
    topic: str
    offset: int
    event_time: int
    flag_key: str
    unit_id: str
    variation: str
    event: str
    event_id: str | None
    versions: list[str]
    """The contract versions that may have been in force; one, once that is settled."""
    value: bytes
    values: dict[str, float]
    attributes: dict[str, str] | None = None
    segments: list[str] | None = None
    assignment_unit: str | None = None
    model_route: str | None = None
    prompt_version: str | None = None
    retrieval_profile: str | None = None
    fallback_used: bool | None = None
    guardrail: str | None = None
    severity: str | None = None
    confirmed: bool | None = None

    @property
    def contract_version(self) -> str:
        """The contract version that it was read under."""
        return self.versions[0]


class Fact(Struct, array_like=True, gc=False):
    """A row of the table facts."""

    flag_key: str
    experiment_key: str | None
    unit_id: str
    assignment_unit: str | None
    variation: str
    state: str | None
    window_start: int
    window_end: int
    last_exposure_at: int
    exposures: int
    fallbacks: int
    model_route: str | None
    prompt_version: str | None
    retrieval_profile: str | None
    outcomes: int
    guardrails: int
    metrics: dict[str, float]
    flags: list[str]
    clean: bool
    attributes: dict[str, str]
    contract_version: str

    def key(self) -> tuple[str, str, str, int]:
        """Return what no two facts share."""
        return self.flag_key, self.unit_id, self.variation, self.window_start


class Joined(Struct, array_like=True, gc=False):
    """A row of the table events."""

    flag_key: str
    unit_id: str
    fact_variation: str
    window_start: int
    kind: str
    topic: str
    partition: int
    offset: int
    event: str
    event_time: int
    variation: str
    mismatched: bool
    values: dict[str, float]
    model_route: str | None
    prompt_version: str | None
    retrieval_profile: str | None
    fallback_used: bool | None
    guardrail: str | None
    severity: str | None
    confirmed: bool | None
    contract_version: str

    def key(self) -> tuple[str, int]:
        """Return the record that it stands for."""
        return self.topic, self.offset


class Unjoined(Struct, array_like=True, gc=False):
    """A row of the table unjoined."""

    reason: str
    topic: str
    partition: int
    offset: int
    event_time: int
    flag_key: str
    unit_id: str
    variation: str
    value: str
    contract_version: str

    def key(self) -> tuple[str, int]:
        """Return the record that it stands for."""
        return self.topic, self.offset


class Open(Struct, array_like=True, gc=False):
    """A row of a segment: an event that may have no fate yet."""

    topic: str
    offset: int
    event_time: int
    flag_key: str
    unit_id: str
    contract_version: str

    def key(self) -> tuple[str, int]:
        """Return the record that it stands for."""
        return self.topic, self.offset


Row = Event | Fact | Joined | Unjoined | Open

ROWS: Final[dict[str, type[Row]]] = {
    "records": Event,
    "facts": Fact,
    "events": Joined,
    "unjoined": Unjoined,
    "open": Open,
}
"""The kind of row by the name of what it is part of."""
