"""A map that remembers for a while, and not more than so many."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from evidence_client.recent import Recent

KEYS = st.integers(0, 5)
MOST, TTL = 3, 10


class RecentMachine(RuleBasedStateMachine):
    """Compares it with a list of (time, key, value), the least recently used first."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.recent: Recent[int, str] = Recent(MOST, TTL, clock=lambda: self.now)
        self.model: list[tuple[float, int, str]] = []

    def find(self, key: int) -> tuple[float, int, str] | None:
        return next((each for each in self.model if each[1] == key and self.now - each[0] < TTL), None)

    def drop(self, key: int) -> None:
        self.model = [each for each in self.model if each[1] != key]

    @rule(seconds=st.integers(0, 11))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(key=KEYS)
    def get(self, key: int) -> None:
        found = self.find(key)
        assert self.recent.get(key) == (found[2] if found else None)
        self.drop(key)
        if found:
            self.model.append(found)

    @rule(key=KEYS, value=st.sampled_from("ab"))
    def put(self, key: int, value: str) -> None:
        self.recent.put(key, value)
        self.drop(key)
        self.model = [*self.model, (self.now, key, value)][-MOST:]

    @rule(key=KEYS)
    def put_new(self, key: int) -> None:
        found = self.find(key)
        assert self.recent.put_new(key, "new") == (found is None)
        self.drop(key)
        self.model = [*self.model, found or (self.now, key, "new")][-MOST:]

    @rule(key=KEYS)
    def forget(self, key: int) -> None:
        self.recent.forget(key)
        self.drop(key)

    @invariant()
    def bounded(self) -> None:
        assert len(self.recent) == len(self.model) <= MOST


TestRecent = RecentMachine.TestCase
