"""What changed between two states of the flag files, and what that does to their evidence.

Effects and their meaning are in `contracts.impacts`, by field. Comments, layout, the order of names, the name of the
file and the short form of a route are no change.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from contracts.flags import Contract, ContractBook
from contracts.impacts import EFFECTS, FIELDS, Effect, Impact
from contracts.marked_yaml import MarkedYaml, load_yaml

__all__ = ["Change", "changes", "epoch_key", "pattern", "rewritten", "unit_name"]

Path = tuple[str, ...]

_LONGEST_VALUE: Final = 60  # characters of a value in a message
_NAMED: Final = frozenset(
    {("flag", "variations"), ("experiment", "allocation"), ("experiment", "metrics"), ("experiment", "rollbackWhen")}
)
"""Blocks whose fields the file names itself."""
_LIVE: Final = frozenset({"internal", "canary", "ab", "decision"})


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one field; `file` and `line` (1-based) are the new file's, or the old one's for what is gone."""

    effect: Effect
    flag_key: str
    file: str
    line: int
    field: str  # dotted
    what: str
    means: str
    remedy: str

    def as_json(self) -> dict[str, str | int]:
        """Return it for machines."""
        return {name: getattr(self, name) for name in self.__slots__}


_EARLY: Final = Impact("additive", "the experiment has not begun: there are no clean facts yet")
_OVER: Final = Impact(
    "additive",
    "the flag is in cleanup; records that still come are refused as unknown_flag",
    "see that no service publishes the key any more",
)

_SETS: Final = frozenset({"flag.assignment.exclusions", "experiment.attributes", "experiment.guardrailMetrics"})
"""Lists whose order means nothing."""


def changes(old: ContractBook, new: ContractBook, now_us: int | None = None) -> list[Change]:
    """Return what changed from the old contracts to the new ones, worst first, then by file and line.

    Until an experiment has begun at `now_us` (by the old contract's states) no clean fact is there to be parted: what
    would be an epoch is additive. The end of a flag in cleanup is additive too. Without `now_us`, and for a flag
    without states, the experiment counts as running.
    """
    found: list[Change] = []
    gone = [contract for contract in old if contract.flag_key not in new.flags]
    come = [contract for contract in new if contract.flag_key not in old.flags]
    found += [_gone(contract, come, now_us) for contract in gone]
    found += [_of_flag(each, FIELDS["flag.key"].added, f"the flag {each.flag_key!r} is new") for each in come]
    for before in old:
        if (after := new.flags.get(before.flag_key)) is not None:
            found += _changed(before, after, begun=_begun(before, now_us))
    return sorted(found, key=lambda each: (-EFFECTS.index(each.effect), each.file, each.line, each.field))


def rewritten(old: ContractBook, new: ContractBook) -> list[str]:
    """Return the flags whose text changed and whose contract says what it said: versions differ, epochs do not."""
    return sorted(
        key
        for key, before in old.flags.items()
        if key in new.flags and new.flags[key].version != before.version and _fields(before) == _fields(new.flags[key])
    )


def epoch_key(contract: Contract) -> str:
    """Return a key that two contracts of a flag share if and only if their facts may be read together."""
    kept = [(path, value) for path, value in sorted(_fields(contract).items()) if FIELDS[pattern(path)].parts_epochs]
    return hashlib.sha256(json.dumps(kept, default=str).encode()).hexdigest()


def unit_name(unit: str) -> str:
    """Return what kind of thing a unit is, however it is written: `conversation_id`, `conversationId`."""
    return re.sub(r"(_id|Id)$", "", unit).lower()


def pattern(path: Path) -> str:
    """Return the pattern of a field's path: names that the file gives become `*`."""
    return ".".join((*path[:2], "*", *path[3:]) if path[:2] in _NAMED else path)


def _gone(contract: Contract, come: Sequence[Contract], now_us: int | None) -> Change:
    mine = _fields(contract, but_key=True)
    heirs = [each for each in come if _fields(each, but_key=True) == mine or _name(each) == _name(contract)]
    what = f"the flag {contract.flag_key!r} is gone"
    if heirs:
        what += f"; a rename to {heirs[0].flag_key!r}?"
    over = now_us is not None and contract.state_at(now_us) == "cleanup"
    return _of_flag(contract, _OVER if over else FIELDS["flag.key"].removed, what)


def _name(contract: Contract) -> str:
    return contract.file.rpartition("/")[2]


def _of_flag(contract: Contract, impact: Impact, what: str) -> Change:
    path = ("flag", "key")
    line = load_yaml(contract.text, contract.file).line(path)
    return _change(contract, contract.file, line, path, what, impact)


def _changed(before: Contract, after: Contract, *, begun: bool) -> Iterator[Change]:
    old, new = _fields(before), _fields(after)
    if old == new:
        return
    old_source, new_source = load_yaml(before.text, before.file), load_yaml(after.text, after.file)
    for path in sorted({*old, *new}):
        if old.get(path, _ABSENT) == new.get(path, _ABSENT) or _inside_another(path, old, new):
            continue
        impact = _impact(path, old, new)
        source = new_source if path in new else old_source
        what = _what(path, old, new, old_source, new_source)
        early = impact.effect == "epoch" and not begun
        yield _change(after, source.file, source.line(path), path, what, _EARLY if early else impact)


def _change(contract: Contract, file: str, line: int, path: Path, what: str, impact: Impact) -> Change:  # noqa: PLR0913, PLR0917 - what a change says
    return Change(impact.effect, contract.flag_key, file, line, ".".join(path), what, impact.means, impact.remedy)


class _Absent:
    """No value at all, where None is one."""


_ABSENT: Final = _Absent()


def _impact(path: Path, old: Mapping[Path, Any], new: Mapping[Path, Any]) -> Impact:
    field = FIELDS[pattern(path)]
    if path not in old:
        return field.added
    widened = path == ("experiment", "attributes") and set(old[path]) <= set(new.get(path, ()))
    return field.removed if path not in new or widened else field.changed


def _inside_another(path: Path, old: Mapping[Path, Any], new: Mapping[Path, Any]) -> bool:
    """Return whether the field came or went with a block that is told of as a whole."""
    return any((path[:end] in old) != (path[:end] in new) for end in range(3, len(path)))


def _what(
    path: Path, old: Mapping[Path, Any], new: Mapping[Path, Any], old_source: MarkedYaml, new_source: MarkedYaml
) -> str:
    before, after = _shown(old_source, path), _shown(new_source, path)
    if path not in old:
        return f"added: {after}" + _twin(path, new, old)
    if path not in new:
        return f"removed: {before}" + _twin(path, old, new)
    return f"{before} became {after}"


def _twin(path: Path, here: Mapping[Path, Any], there: Mapping[Path, Any]) -> str:
    """Name the block that only the other contract has and that holds the same: a rename."""
    mine = _below(path, here) if path[:2] in _NAMED else {}
    for other in there:
        if mine and other[:-1] == path[:-1] and other not in here and _below(other, there) == mine:
            return f"; a rename, as {other[-1]!r} holds the same?"
    return ""


def _below(path: Path, fields: Mapping[Path, Any]) -> dict[Path, Any]:
    return {each[len(path) :]: value for each, value in fields.items() if each[: len(path)] == path and each != path}


def _shown(source: MarkedYaml, path: Path) -> str:
    value: Any = source.value
    for step in path:
        if not isinstance(value, dict) or step not in value:
            break
        value = value[step]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _begun(contract: Contract, now_us: int | None) -> bool:
    if now_us is None or not contract.states:
        return True
    return any(state in _LIVE and since <= now_us for state, since in contract.states)


def _fields(contract: Contract, *, but_key: bool = False) -> dict[Path, Any]:
    """Return what a contract says, by path: only what is given, each in one form. A named block is there as itself."""
    fields = dict(_walk(contract.document, ()))
    if contract.document.flag.type == "string":
        for name, route in contract.variations.items():
            fields["flag", "variations", name] = True
            fields["flag", "variations", name, "modelRoute"] = route.model_route
    if contract.assignment_unit is not None:
        fields["flag", "assignment", "unit"] = unit_name(contract.assignment_unit)
    if but_key:
        del fields["flag", "key"]
    return fields


def _walk(block: BaseModel, path: Path) -> Iterator[tuple[Path, Any]]:
    for name, info in type(block).model_fields.items():
        here, value = (*path, str(info.alias)), getattr(block, name)
        match value:
            case BaseModel():
                yield from _walk(value, here)
            case dict():
                for key, item in value.items():
                    if here == ("experiment", "allocation") and not item:
                        continue  # a share of nothing is none
                    yield (*here, key), True if isinstance(item, BaseModel) else item
                    if isinstance(item, BaseModel):
                        yield from _walk(item, (*here, key))
            case tuple() if value or info.default is None:
                plain = [each.model_dump() if isinstance(each, BaseModel) else each for each in value]
                yield here, sorted(plain) if ".".join(here) in _SETS else plain
            case tuple() | None:
                pass
            case _:
                yield here, value
