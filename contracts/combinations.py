"""Codes for the few distinct combinations of names that events hold.

Flag, variation, event and route repeat from event to event. Each distinct combination of them is resolved against the
contracts once, and gets a number; what it says in each column is then looked up by number, a whole batch at a time.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.dead_letters import Reason
from contracts.events import FLAG_MISSING, Kind
from contracts.flags import Contract, ContractBook
from contracts.refusals import Problem, problem

__all__ = ["Combinations", "Unresolved", "resolve"]

Unresolved = tuple[Reason, Problem]

_COLUMNS: Final[dict[Kind, tuple[str, ...]]] = {
    "exposure": ("assignment_unit", "model_route", "prompt_version", "retrieval_profile"),
    "outcome": (),
    "guardrail": ("guardrail", "severity"),
}

# Written out, because an attribute of a known name is read three times as fast (0.1 µs an event).
_NUMBERS: Final[dict[Kind, Callable[[dict[tuple[Any, ...], int], Iterable[Any]], list[int]]]] = {
    "exposure": lambda number, structs: [
        number[
            s.flag_key,
            s.experiment_key,
            s.variation,
            s.event,
            s.assignment_unit,
            s.model_route,
            s.prompt_version,
            s.retrieval_profile,
        ]
        for s in structs
    ],
    "outcome": lambda number, structs: [number[s.flag_key, s.experiment_key, s.variation, s.event] for s in structs],
    "guardrail": lambda number, structs: [
        number[s.flag_key, s.experiment_key, s.variation, s.event, s.guardrail, s.severity] for s in structs
    ],
}

_MOST: Final = 4096  # combinations kept from batch to batch; more come from names that are really identifiers


def resolve(
    book: ContractBook, flag_key: str | None, experiment_key: str | None, variation: str
) -> Contract | Unresolved:
    """Return the contract under which an event falls, or why there is none."""
    if experiment_key is not None:
        contract = book.experiments.get(experiment_key)
        if contract is None:
            return _unresolved("unknown_flag", "experimentKey", f"no contract has the experiment {experiment_key!r}")
        if flag_key is not None and flag_key != contract.flag_key:
            text = "Input should be an experiment on the flag that flagKey names"
            return _unresolved("schema_violation", "experimentKey", text)
    elif flag_key is not None:
        contract = book.flags.get(flag_key)
        if contract is None:
            return _unresolved("unknown_flag", "flagKey", f"no contract has the flag {flag_key!r}")
    else:
        return "schema_violation", problem(*FLAG_MISSING)
    if variation not in contract.variations:
        text = f"the flag {contract.flag_key!r} has no variation {variation!r}"
        return _unresolved("unknown_variation", "variation", text)
    return contract


def _unresolved(reason: Reason, field: str, text: str) -> Unresolved:
    return reason, problem(reason, (field,), text)


class Combinations(dict[tuple[Any, ...], int]):
    """The combinations of one kind of event, each with its number. Not for use by several threads."""

    def __init__(self, kind: Kind, book: ContractBook) -> None:
        """Begin with none."""
        super().__init__()
        self.columns = ("flag_key", "variation", "event", "contract_version", *_COLUMNS[kind])
        self._book = book
        self._kind = kind
        self._reset()

    def numbers(self, structs: Iterable[Any]) -> npt.NDArray[np.int32]:
        """Return the number of each struct's combination. Numbers hold until the next call."""
        if len(self) > _MOST:
            self._reset()
        return np.fromiter(_NUMBERS[self._kind](self, structs), np.int32)

    def column(self, name: str, numbers: npt.NDArray[np.int32]) -> pa.DictionaryArray:
        """Return what the combinations say in a column."""
        if not self._arrays:
            for column, codes, words in zip(self.columns, self._codes, self._words, strict=True):
                self._arrays[column] = np.array(codes, dtype=np.int32), pa.array(list(words), pa.string())
        numbered, texts = self._arrays[name]
        return pa.DictionaryArray.from_arrays(numbered[numbers], texts)

    def versions(self, numbers: npt.NDArray[np.int32]) -> frozenset[str]:
        """Return the contract versions of these combinations."""
        position = self.columns.index("contract_version")
        codes, words = self._codes[position], list(self._words[position])
        return frozenset(words[codes[number]] for number in np.flatnonzero(np.bincount(numbers)))

    def __missing__(self, combination: tuple[Any, ...]) -> int:
        """Give a new combination its number."""
        number = self[combination] = len(self)
        self._arrays.clear()
        flag_key, experiment_key, variation, event, *others = combination
        found = resolve(self._book, flag_key, experiment_key, variation)
        version = ""
        if isinstance(found, Contract):
            flag_key, version = found.flag_key, found.version
        else:
            self.unresolved[number] = found
        texts = (flag_key or "", variation, event, version, *others)
        for codes, words, text in zip(self._codes, self._words, texts, strict=True):
            codes.append(words.setdefault(text, len(words)))
        return number

    def _reset(self) -> None:
        self.clear()
        self.unresolved: dict[int, Unresolved] = {}  # by number: the combinations that fall under no contract
        self._codes: list[list[int]] = [[] for _ in self.columns]
        self._words: list[dict[str, int]] = [{} for _ in self.columns]
        # Both as arrays, kept from batch to batch.
        self._arrays: dict[str, tuple[npt.NDArray[np.int32], pa.StringArray]] = {}
