"""What breaches the checklist in the texts of a flag file, whatever they are for: prompts, policies, odd names."""

import re
from collections.abc import Iterator
from typing import Final

from contracts.lookalikes import oddity
from contracts.marked_yaml import MarkedYaml
from contracts.secrets import is_prompt

__all__ = ["Breach", "Path", "lack", "text_breaches"]

Path = tuple[str | int, ...]
Breach = tuple[str, Path, str]  # the rule, the field, and what is so

_LONGEST_NAME: Final = 120  # characters of a value that selects something
_LONGEST_TEXT: Final = 1_000  # characters of a description
_PROSE: Final = frozenset({"description", "hypothesis", "cleanup", "immediate", "scoped", "aftercare", "owner"})
_PLACEHOLDER: Final = re.compile(r"\W*(?:tbd|tba|todo|fixme|n/?a|none|nobody|unknown|x+)?\W*", re.IGNORECASE)
"""Texts that stand where one should be."""


def text_breaches(source: MarkedYaml) -> Iterator[Breach]:
    """Yield what does not belong into a flag file, or is not what it looks like; secrets have a module of their own."""
    for path, text in _strings(source.value, ()):
        most = _LONGEST_TEXT if path and path[-1] in _PROSE else _LONGEST_NAME
        if is_prompt(text):
            yield "prompt", path, "reads like an instruction to a model"
        elif len(text) > most or (most == _LONGEST_NAME and "\n" in text):
            yield "large-value", path, f"has {len(text):,} characters"
        elif most == _LONGEST_NAME and (odd := oddity(text)):
            yield "plain-name", path, odd


def _strings(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    match value:
        case str():
            yield path, value
        case list():
            for index, item in enumerate(value):
                yield from _strings(item, (*path, index))
        case dict():
            for key, item in value.items():
                yield (*path, key), key
                yield from _strings(item, (*path, key))


def lack(text: str | None) -> str | None:
    """Return what is wrong with a text that should say something; None where it may say it."""
    if text is None:
        return "is missing"
    return f"is only {text!r}" if len(text) <= _LONGEST_NAME and _PLACEHOLDER.fullmatch(text) else None
