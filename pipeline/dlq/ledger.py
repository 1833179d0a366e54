"""The ledger of replays: which letters have been sent where, kept in the lake, so that nothing is sent twice.

Records are sent in batches:

1. *begin*: the file `replays/<n>.begun.json` names the letters of batch `n`, and where their target topics end now;
2. *send*: the records, each acknowledged by the brokers;
3. *finish*: the file `replays/<n>.done.json` says so.

Who finds a batch begun and not done looks in the target topics, from where they ended then, which of its records are
there: each carries its letter's identity in a header. So a replay that is killed at any point goes on with what is
missing. Both files are created once, and whoever comes second stops: of two replays at a time one gives way.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.errors import DamagedFile, EvidenceError
from pipeline.dlq.decisions import Sent
from sinks.storage import Storage

__all__ = ["Batch", "Ends", "Ledger"]

_DIRECTORY: Final = "replays"
_FILE: Final = re.compile(rf"{_DIRECTORY}/(\d{{9}})\.(begun|done)\.json")

Ends = Mapping[str, Mapping[int, int]]
"""By topic and partition: the next offset."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was begun."""

    number: int
    letters: Sequence[Sent]
    ends: Ends


@dataclass(slots=True)
class Ledger:
    """The ledger of one lake; for one replay at a time."""

    storage: Storage
    _sent: set[Sent] = field(default_factory=set)
    _next: int = 1

    def open(self, find: Callable[[Ends], AbstractSet[Sent]], *, settle: bool) -> AbstractSet[Sent]:
        """Read it, look after what a killed replay left, and return all that was ever sent.

        `find` looks in topics, from the offsets given on, for records that were replayed; `settle` writes down what it
        found. `DamagedFile` for a file that is not as written.
        """
        found = [match for name in self.storage.list(_DIRECTORY) if (match := _FILE.fullmatch(name))]
        done = {int(match[1]) for match in found if match[2] == "done"}
        begun = sorted(int(match[1]) for match in found if match[2] == "begun")
        for number in begun:
            batch = self._read(number)
            self._next = number + 1
            if number not in done:
                sent = find(batch.ends) & set(batch.letters)
                if settle:
                    self.finish(batch, sent)
                self._sent |= sent
            else:
                told = self._done(number)
                self._sent |= set(batch.letters if told is None else told)
        return frozenset(self._sent)

    def begin(self, letters: Sequence[Sent], ends: Ends) -> Batch:
        """Say that these are about to be sent; EvidenceError where another replay is at it."""
        batch = Batch(self._next, tuple(letters), ends)
        body = {"letters": batch.letters, "ends": {topic: list(each.items()) for topic, each in ends.items()}}
        if not self.storage.create_once(_name(batch.number, "begun"), json.dumps(body).encode()):
            raise _overtaken()
        self._next += 1
        return batch

    def finish(self, batch: Batch, sent: AbstractSet[Sent] | None = None) -> None:
        """Say that the batch has been sent, or this part of it; EvidenceError where another replay took it over."""
        body = None if sent is None else sorted(sent)
        if not self.storage.create_once(_name(batch.number, "done"), json.dumps({"sent": body}).encode()):
            raise _overtaken()
        self._sent |= set(batch.letters) if sent is None else sent

    def _read(self, number: int) -> Batch:
        body = self._json(_name(number, "begun"))
        try:
            ends = {str(topic): {int(p): int(end) for p, end in each} for topic, each in body["ends"].items()}
            return Batch(number, [(str(letter), str(target)) for letter, target in body["letters"]], ends)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _damaged(_name(number, "begun")) from None

    def _done(self, number: int) -> list[Sent] | None:
        sent = self._json(_name(number, "done")).get("sent")
        try:
            return None if sent is None else [(str(letter), str(target)) for letter, target in sent]
        except (TypeError, ValueError):
            raise _damaged(_name(number, "done")) from None

    def _json(self, name: str) -> dict[str, Any]:
        try:
            body = json.loads(self.storage.read(name))
        except ValueError:
            raise _damaged(name) from None
        if not isinstance(body, dict):
            raise _damaged(name)
        return body


def _name(number: int, step: str) -> str:
    return f"{_DIRECTORY}/{number:09d}.{step}.json"


def _damaged(name: str) -> DamagedFile:
    return DamagedFile(f"{name} is not as it was written; restore it, or delete it and let its batch be sent again")


def _overtaken() -> EvidenceError:
    return EvidenceError("another replay is under way in this lake; wait for its end, and run this again")
