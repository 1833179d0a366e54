"""Comments that ignore a rule: `# evidence: ignore[rule, rule] reason`, on the line of a finding or above it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from contracts.checklist import RULES, Finding

__all__ = ["apply_ignores"]

_COMMENT: Final = re.compile(r"(?:^|\s)#\s*evidence:\s*ignore\b\s*(?:\[([^\]]*)\])?[ \t]*(.*)$")
_NEVER: Final = frozenset({"readable", "one-file", "ignored"})
"""What no comment can wave through: the worker refuses such files."""


@dataclass(frozen=True, slots=True)
class _Ignore:
    line: int  # of the comment
    covers: frozenset[int]  # lines whose findings it ignores
    rules: tuple[str, ...]
    reason: str


def apply_ignores(text: str, file: str, findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings of one file, those marked that its comments ignore, and what is wrong with the comments."""
    ignores = list(_ignores(text))
    used: set[tuple[int, str]] = set()
    result = []
    for finding in findings:
        ignore = next((each for each in ignores if _covers(each, finding)), None)
        if ignore is not None:
            used.add((ignore.line, finding.rule))
            finding = replace(finding, ignored=ignore.reason)  # noqa: PLW2901 - the same finding, with its reason
        result.append(finding)
    return result + [problem for ignore in ignores for problem in _problems(ignore, used, file)]


def _covers(ignore: _Ignore, finding: Finding) -> bool:
    sound = bool(ignore.reason) and finding.rule not in _NEVER
    return sound and finding.line in ignore.covers and finding.rule in ignore.rules


def _ignores(text: str) -> Iterator[_Ignore]:
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if (match := _COMMENT.search(line)) is None:
            continue
        alone = line.lstrip().startswith("#")
        rules = tuple(filter(None, (rule.strip() for rule in (match[1] or "").split(","))))
        covered = (number, _next_content(lines, number)) if alone else (number,)
        yield _Ignore(number, frozenset(covered), rules, match[2].strip())


def _next_content(lines: list[str], number: int) -> int:
    """Return the first line after a comment that holds more than one."""
    for following, line in enumerate(lines[number:], number + 1):
        if line.strip() and not line.lstrip().startswith("#"):
            return following
    return number


def _problems(ignore: _Ignore, used: set[tuple[int, str]], file: str) -> Iterator[Finding]:
    def problem(message: str) -> Finding:
        rule = RULES["ignored"]
        return Finding("ignored", rule.severity, file, ignore.line, "", message, rule.remedy)

    if not ignore.rules:
        yield problem("a comment ignores no rule by name")
    elif not ignore.reason:
        yield problem(f"the comment that ignores {', '.join(ignore.rules)} gives no reason, so nothing is ignored")
    else:
        for rule in ignore.rules:
            if rule not in RULES:
                yield problem(f"a comment ignores {rule!r}, which is no rule")
            elif rule in _NEVER:
                yield problem(f"a comment ignores {rule!r}, which cannot be ignored")
            elif (ignore.line, rule) not in used:
                yield problem(f"a comment ignores {rule!r}, and there is no such finding on its line")
