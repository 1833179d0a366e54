"""YAML that knows the line of every field, and that reads the same to everybody.

Plain scalars are read as YAML 1.2's core schema does, and less: `true`, `false`, `null`, decimal integers and decimal
numbers. All else is text, also what YAML 1.1 takes for a boolean (`on`, `no`), for base 60 (`1:30`) or for a time: a
time is read by the field that wants one, which then can insist on its zone. Keys are always text. Refused: keys given
twice, merge keys, tags of other types, recursive aliases, several documents.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import yaml

from contracts.errors import ContractError
from contracts.lookalikes import revealed

__all__ = ["MarkedYaml", "load_yaml"]

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

_MOST_NODES: Final = 100_000  # an alias can stand for a list of aliases; no flag file has so many nodes

_TAG: Final = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """A loader that takes only the plain scalars below for anything but text."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"(?:~|null|)\Z"), ["~", "n", ""])
_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|false)\Z"), ["t", "f"])
_Loader.add_implicit_resolver(_TAG + "int", re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(r"[-+]?(?:\.[0-9]{1,30}|(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,2})?\Z"),
    list("-+.0123456789"),
)


@dataclass(frozen=True, slots=True)
class MarkedYaml:
    """One YAML document: its value, and where each part of it stands."""

    file: str
    value: Value
    root: yaml.Node

    def steps(self, path: Sequence[str | int]) -> tuple[str | int, ...]:
        """Return pydantic's path without the steps it takes inside itself, such as `[key]`."""
        node, steps = self.root, list[str | int]()
        for part in path:
            if (found := _step(node, part)) is not None:
                node = found[1]
            elif isinstance(part, str) and part.startswith("["):
                continue
            steps.append(part)
        return tuple(steps)

    def line(self, path: Sequence[str | int]) -> int:
        """Return the 1-based line of the field at the path, or of the nearest one around it that exists."""
        node, at = self.root, self.root
        for part in path:
            if (found := _step(node, part)) is None:
                break
            at, node = found
        return _line(at)

    def wrong(self, path: Sequence[str | int], problem: str) -> ContractError:
        """Return the error to raise for what stands at the path."""
        return ContractError(self.file, self.line(path), _dotted(path), problem)


def load_yaml(text: str, file: str) -> MarkedYaml:
    """Read one document; raises ContractError, and nothing else, where the text is none."""
    with _only_contract_errors(text, file):
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
        if root is None:
            raise ContractError(file, 1, "file", "is empty; write a flag: block")
        return MarkedYaml(file, _Builder(file).build(root, (), ()), root)


@contextmanager
def _only_contract_errors(text: str, file: str) -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"is not YAML: {' '.join(str(error.problem or error.context).split())}"
        raise ContractError(file, mark.line + 1 if mark else 0, "file", problem) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ContractError(file, line, "file", f"is not YAML: {error.reason}") from None
    except RecursionError:
        raise ContractError(file, 0, "file", "is nested too deeply") from None
    except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
        # The loader lets some of these out: \U00110000 in quotes is one.
        raise ContractError(file, 0, "file", f"is not YAML: {type(error).__name__}") from None


class _Builder:
    """Turns nodes into values."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._nodes = 0

    def build(self, node: yaml.Node, path: tuple[str, ...], inside: tuple[yaml.Node, ...]) -> Value:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise self._wrong(node, path, f"has more than {_MOST_NODES:,} values once its aliases are written out")
        if any(node is outer for outer in inside):
            raise self._wrong(node, path, "contains itself through an alias")
        inside = (*inside, node)
        match node:
            case yaml.ScalarNode():
                return self._scalar(node, path)
            case yaml.SequenceNode() if node.tag == _TAG + "seq":
                return [self.build(item, (*path, str(index)), inside) for index, item in enumerate(node.value)]
            case yaml.MappingNode() if node.tag == _TAG + "map":
                return self._mapping(node, path, inside)
        raise self._wrong(node, path, f"has the tag {node.tag!r}, which is not read; remove it")

    def _mapping(self, node: yaml.MappingNode, path: tuple[str, ...], inside: tuple[yaml.Node, ...]) -> Value:
        built: dict[str, Value] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._wrong(key, path, "has a key that is no text")
            name = self._text(key, path)
            if name == "<<":
                raise self._wrong(key, path, "has a merge key (<<), which is not read; write the fields out")
            if name in built:
                raise self._wrong(key, (*path, name), "is given twice; remove one")
            built[name] = self.build(value, (*path, name), inside)
        return built

    def _scalar(self, node: yaml.ScalarNode, path: tuple[str, ...]) -> Value:
        text = self._text(node, path)
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text == "true"
            case "int":
                return int(text)
            case "float":
                return float(text)
        raise self._wrong(node, path, f"has the tag {node.tag!r}, which is not read; remove it")

    def _text(self, node: yaml.ScalarNode, path: tuple[str, ...]) -> str:
        text: str = node.value
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._wrong(node, path, "has half a surrogate pair; write the character itself") from None
        return text

    def _wrong(self, node: yaml.Node, path: tuple[str, ...], problem: str) -> ContractError:
        return ContractError(self._file, _line(node), _dotted(path), problem)


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(revealed(str(part)) for part in path) or "file"


def _step(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Return where the part of a node stands, and the part itself."""
    match node:
        case yaml.MappingNode():
            return next(((key, value) for key, value in node.value if key.value == part), None)
        case yaml.SequenceNode() if isinstance(part, int) and part < len(node.value):
            return node.value[part], node.value[part]
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
