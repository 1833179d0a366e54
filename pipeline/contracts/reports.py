"""What `evidence contracts check` found, for people and for CI: lines, JSON, SARIF 2.1.0, JUnit."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as ET

from contracts.checklist import RULES, SEVERITIES, Finding, Severity
from pipeline.contracts.check import TOPIC_RULES, Checked
from pipeline.terminal import safe
from pipeline.version import VERSION

__all__ = ["FORMATS", "as_json", "junit", "lines", "sarif"]

_NAME: Final = "evidence contracts check"
_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def lines(checked: Checked, on: Severity) -> Iterator[str]:  # noqa: ARG001 - one shape for all reports
    """Yield a line a finding, harmless to a terminal, and what they come to."""
    for finding in checked.open:
        yield safe(_line(finding))
    yield _summary(checked)


def as_json(checked: Checked, on: Severity) -> dict[str, Any]:
    """Return it all; `failed` says whether something is as bad as `on`."""
    return {
        "failed": bool(checked.failing(on)),
        "files": list(checked.files),
        "counts": _counts(checked),
        "findings": [finding.as_json() for finding in checked.findings],
        "not_checked": list(checked.not_checked),
    }


def sarif(checked: Checked, on: Severity) -> dict[str, Any]:  # noqa: ARG001
    """Return it as SARIF 2.1.0; files below the working directory have relative addresses."""
    rules = [
        {
            "id": name,
            "shortDescription": {"text": rule.wants},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.remedy},
            "defaultConfiguration": {"level": rule.severity},
        }
        for name, rule in RULES.items()
    ]
    notes = [{"level": "note", "message": {"text": text}} for text in _not_checked(checked)]
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": _NAME, "version": VERSION, "rules": rules}},
                "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
                "artifacts": [{"location": {"uri": _uri(file)}} for file in checked.files],
                "results": [_result(finding) for finding in checked.findings],
            }
        ],
    }


def junit(checked: Checked, on: Severity) -> str:
    """Return it as JUnit's XML: a case a file, and one a finding; what is less bad than `on` is no failure."""
    failing = checked.failing(on)
    suite = ET.Element("testsuite", name=_NAME)
    for place in dict.fromkeys([*checked.files, *(finding.file for finding in checked.findings)]):
        mine = [finding for finding in checked.findings if finding.file == place]
        for finding in mine:
            case = ET.SubElement(suite, "testcase", classname=safe(place), name=f"{finding.rule}:{finding.line}")
            text = safe(_line(finding))
            if finding.ignored is not None:
                ET.SubElement(case, "skipped", message=safe(finding.ignored))
            elif finding in failing:
                ET.SubElement(case, "failure", type=finding.rule, message=safe(finding.message)).text = text
            else:
                ET.SubElement(case, "system-out").text = text
        if not mine:
            ET.SubElement(suite, "testcase", classname=safe(place), name="checklist")
    for rule in checked.not_checked:
        case = ET.SubElement(suite, "testcase", classname="topics", name=rule)
        ET.SubElement(case, "skipped", message="not checked; add --kafka")
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(failing)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in suite)))
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True)


FORMATS: Final[Mapping[str, Callable[[Checked, Severity], Any]]] = {
    "text": lambda checked, on: "\n".join(lines(checked, on)),
    "json": as_json,
    "sarif": sarif,
    "junit": junit,
}
"""By the name of the format: text, or what is to be written as JSON."""


def _line(finding: Finding) -> str:
    place = f"{finding.file}:{finding.line}" if finding.line else finding.file
    said = f"{finding.field}: {finding.message}" if finding.field else finding.message
    remedy = "" if finding.remedy == "none needed" else f"; {finding.remedy}"
    return f"{place}: {finding.severity}[{finding.rule}]: {said}{remedy}"


def _counts(checked: Checked) -> dict[str, int]:
    counts = {f"{level}s": sum(each.severity == level for each in checked.open) for level in reversed(SEVERITIES)}
    return counts | {"ignored": len(checked.findings) - len(checked.open)}


def _summary(checked: Checked) -> str:
    counts = _counts(checked) | {"files": len(checked.files)}
    told = {name: f"{count} {name.removesuffix('s') if count == 1 else name}" for name, count in counts.items()}
    found = ", ".join(text for name, text in told.items() if name != "files")
    return "; ".join([f"{told['files']}: {found}", *_not_checked(checked)])


def _not_checked(checked: Checked) -> list[str]:
    return [f"not checked without --kafka: {', '.join(checked.not_checked)}"] if checked.not_checked else []


def _result(finding: Finding) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": finding.severity,
        "message": {"text": f"{finding.field}: {finding.message}" if finding.field else finding.message},
        "locations": [_location(finding)],
    }
    if finding.ignored is not None:
        result["suppressions"] = [{"kind": "inSource", "status": "accepted", "justification": finding.ignored}]
    return result


def _location(finding: Finding) -> dict[str, Any]:
    if finding.rule in TOPIC_RULES:
        return {"logicalLocations": [{"name": finding.file, "kind": "resource"}]}
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.file)}}
    if finding.line:
        place["region"] = {"startLine": finding.line}
    return {"physicalLocation": place}


def _uri(file: str) -> str:
    path = Path(file).absolute()
    if path.is_relative_to(Path.cwd()):
        return quote(os.fsencode(path.relative_to(Path.cwd()).as_posix()))
    return path.as_uri()
