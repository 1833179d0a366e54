"""`evidence contracts check` without its files: texts of flag files in, breaches of the checklist out.

What looks at one contract is in `contracts.breaches` and `contracts.texts`. Nothing here asks a clock or a cluster.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Final

from contracts.breaches import breaches
from contracts.checklist import RULES, SEVERITIES, Finding
from contracts.errors import ContractError
from contracts.flags import Contract, ContractBook, load_contract
from contracts.ignores import apply_ignores
from contracts.marked_yaml import load_yaml
from contracts.secrets import secrets
from contracts.texts import text_breaches

__all__ = ["judge"]

_LARGEST_FILE: Final = 16 * 1024  # characters


def judge(files: Mapping[str, str | ContractError], as_of: date) -> list[Finding]:
    """Return what is wrong with flag files (texts by name), by file and line.

    What a comment ignores is among it, marked. A file that could not be read stands as the error that says so. `as_of`
    is the day at whose end they are judged.
    """
    findings: list[Finding] = []
    read: list[Contract] = []
    for file, text in files.items():
        if isinstance(text, ContractError):
            findings.append(_broken(text))
            continue
        mine = list(_secrets(text, file))
        try:
            contract = load_contract(text, file)
        except ContractError as error:
            mine.append(_broken(error))
        else:
            mine += _judged(contract, as_of) + _twice(contract, read)
            read.append(contract)
        findings += apply_ignores(text, file, mine)
    return sorted(findings, key=lambda each: (each.file, each.line, -SEVERITIES.index(each.severity), each.rule))


def _broken(error: ContractError, name: str = "readable") -> Finding:
    """Return the finding of a contract's error, whose text mostly ends in what to do."""
    problem, _, remedy = error.problem.partition("; ")
    rule = RULES[name]
    return Finding(name, rule.severity, error.file, error.line, error.field, problem, remedy or rule.remedy)


def _twice(contract: Contract, before: Sequence[Contract]) -> list[Finding]:
    for other in before:
        try:
            ContractBook([other, contract])
        except ContractError as error:
            return [_broken(error, "one-file")]
    return []


def _secrets(text: str, file: str) -> Iterator[Finding]:
    rule = RULES["secret"]
    for line, kind in secrets(text):
        yield Finding("secret", rule.severity, file, line, "", f"looks like {kind}", rule.remedy)


def _judged(contract: Contract, as_of: date) -> list[Finding]:
    source = load_yaml(contract.text, contract.file)
    found = [*breaches(contract, as_of), *text_breaches(source)]
    if len(contract.text) > _LARGEST_FILE:
        found.append(("large-value", (), f"the file has {len(contract.text):,} characters"))
    return [
        Finding(
            name,
            RULES[name].severity,
            contract.file,
            source.line(path),
            ".".join(map(str, path)),
            message,
            RULES[name].remedy,
        )
        for name, path, message in found
    ]
