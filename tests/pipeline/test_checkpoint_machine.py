"""A state machine of reading, checkpoint, close, crash and recovery, with two writers of one partition.

A crash comes at any call to the storage; it may take the power with it. After every step the published tables are what
the newest manifest says; at the end every record has one fate, and the facts are those of a run in which nothing died.
Event times ascend over all topics, so that nothing is ever late and facts are a function of the events alone.
"""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.errors import Fenced
from tests.pipeline.compacting import assert_published
from tests.pipeline.lab import TOPICS, Lab, Writer, exposure, outcome

UNITS = st.sampled_from(["u1", "u2", "u3"])
VARIATIONS = st.sampled_from(["control", "candidate"])
WRITERS = st.sampled_from(["first", "second"])


class Died(Exception):
    """The process ends at this call."""


class Checkpoints(RuleBasedStateMachine):
    """Two writers hold one partition, each believing to be its owner."""

    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab()
        self.writers: dict[str, Writer] = {}
        self.hour = 0.0

    @initialize()
    def begin(self) -> None:
        self.writers = {"first": self.lab.writer(), "second": self.lab.writer()}

    @rule(unit=UNITS, variation=VARIATIONS, step=st.sampled_from([0.0, 0.5, 5.0, 30.0]))
    def publish_exposure(self, unit: str, variation: str, step: float) -> None:
        self.hour = min(self.hour + step, 400)
        self.lab.publish("exposures", exposure(unit, self.hour, variation))

    @rule(unit=UNITS, variation=VARIATIONS, step=st.sampled_from([0.0, 0.5, 5.0]))
    def publish_outcome(self, unit: str, variation: str, step: float) -> None:
        self.hour = min(self.hour + step, 400)
        self.lab.publish("outcomes", outcome(unit, self.hour, variation))

    @rule()
    def publish_garbage(self) -> None:
        self.lab.publish("guardrails", b"{")

    @rule(who=WRITERS, topic=st.sampled_from([*TOPICS]), most=st.integers(1, 3))
    def read(self, who: str, topic: str, most: int) -> None:
        self.lab.read(self.writers[who], topic, most, at_end=True)

    @rule(who=WRITERS, close=st.booleans())
    def checkpoint(self, who: str, *, close: bool) -> None:
        try:
            self.lab.checkpoint(self.writers[who], close=close)
        except Fenced:
            self.writers[who] = self.lab.writer()

    @rule(who=WRITERS, close=st.booleans(), calls=st.integers(1, 40), power=st.booleans())
    def crash_in_a_checkpoint(self, who: str, calls: int, *, close: bool, power: bool) -> None:
        left = calls

        def die(_operation: str, _name: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Died

        self.lab.storage.on_call = die
        try:
            self.lab.checkpoint(self.writers[who], close=close)
        except (Died, Fenced):
            pass
        finally:
            self.lab.storage.on_call = lambda _operation, _name: None
        if power:  # the other writer's machine shares the disk, and goes down with it
            self.lab.storage.crash()
            self.writers = {name: self.lab.writer() for name in self.writers}
        else:
            self.writers[who] = self.lab.writer()

    @rule(who=WRITERS)
    def crash_while_idle(self, who: str) -> None:
        self.writers[who] = self.lab.writer()

    @precondition(lambda self: self.writers)
    @invariant()
    def published_tables_are_what_the_manifest_says(self) -> None:
        assert_published(self.lab)

    @precondition(lambda self: self.writers)
    @invariant()
    def no_record_has_two_fates(self) -> None:
        assert [fate for fate, told in self.lab.fates().items() if len(told) > 1] == []

    def teardown(self) -> None:
        if not self.writers:
            return
        last = self.lab.writer()
        self.lab.read_all(last)
        self.lab.checkpoint(last, close=True, everything=True)
        everything = {(topic, offset) for topic, log in self.lab.logs.items() for offset in range(len(log))}
        assert set(self.lab.fates()) == everything
        assert sorted_rows(self.lab) == sorted_rows(undisturbed(self.lab))


def undisturbed(lab: Lab) -> Lab:
    """Return a lab with the same logs, read at once and closed once."""
    other = Lab(logs=lab.logs)
    writer = other.writer()
    other.read_all(writer)
    other.checkpoint(writer, close=True, everything=True)
    return other


def sorted_rows(lab: Lab) -> list[dict[str, Any]]:
    rows = [{**row, "table": table} for table in ("facts", "events", "unjoined") for row in lab.rows(table)]
    return sorted(rows, key=repr)


TestCheckpoints = Checkpoints.TestCase
TestCheckpoints.settings = settings(
    max_examples=settings.get_profile(settings.get_current_profile_name()).max_examples
    // 5,  # a run of 20 steps takes a second
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow],
)
