"""Epochs: the stretches of a flag's evidence whose facts may be read together.

Versions of a contract that differ in nothing but what is additive share an epoch (see `contracts.impacts`). A contract
that comes back gets its old epoch again.
"""

from collections.abc import Iterable, Mapping

from contracts.changes import epoch_key
from contracts.flags import Contract

__all__ = ["epochs", "undecided"]


def undecided(contracts: Iterable[Contract]) -> list[str]:
    """Return the versions of the flags that have several epochs: their numbers depend on which was used first."""
    return [
        each.version for keys in _by_flag(contracts).values() if len(keys) > 1 for key in keys for each in keys[key]
    ]


def epochs(contracts: Iterable[Contract], first_used: Mapping[str, int]) -> dict[str, int]:
    """Return the epoch of each version, from 1 on for each flag, in the order in which they were first used.

    `first_used` is when the first fact of a version begins (any unit of time); epochs without a fact come last.
    """
    numbers: dict[str, int] = {}
    for keys in _by_flag(contracts).values():
        began = {
            key: min(((0, first_used[each.version]) for each in group if each.version in first_used), default=(1, 0))
            for key, group in keys.items()
        }
        for number, key in enumerate(sorted(keys, key=lambda key: (began[key], key)), 1):
            numbers.update((each.version, number) for each in keys[key])
    return numbers


def _by_flag(contracts: Iterable[Contract]) -> dict[str, dict[str, list[Contract]]]:
    flags: dict[str, dict[str, list[Contract]]] = {}
    for contract in contracts:
        flags.setdefault(contract.flag_key, {}).setdefault(epoch_key(contract), []).append(contract)
    return flags
