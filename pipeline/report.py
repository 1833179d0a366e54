"""What the demo found, beside what was planted: as values, as JSON and as tables for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

__all__ = ["Answer", "Check", "Report", "as_json", "render"]

MEANINGS: Mapping[str, str] = {
    # facts
    "facts": "one a unit and metric window",
    "clean": "without a flag: what a readout may use",
    "fallback_contaminated": "another route answered instead",
    "variation_mismatch": "an outcome names another variation",
    "route_drift": "what ran is not what the contract says",
    "crossover": "the unit saw both variations",
    "assignment_unit_mismatch": "assigned by another unit",
    "excluded_unit": "should not have been in the test",
    # fates
    "exposure": "what really ran",
    "outcome": "what came of it",
    "guardrail": "what went wrong",
    "duplicate": "published twice, counted once",
    "late": "arrived when its window was closed",
    "outside_window": "happened after its window's end",
    "no_exposure": "of a unit that was never exposed",
    "rerouted": "copied to its right partition",
    "tombstone": "a key without a value",
    "not_json": "cut off or garbled",
    "bad_framing": "an envelope around something broken",
    "schema_violation": "a field is missing or of a wrong type",
    "unknown_flag": "no contract for this flag",
    "unknown_variation": "the flag has no such variation",
    "future_timestamp": "from a clock that runs ahead",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One number of the report; `group` is facts, dead letters, joined, unjoined, refused or account."""

    group: str
    name: str
    found: int
    planted: int
    variation: str | None = None  # of facts and their flags

    @property
    def matches(self) -> bool:
        """Whether what was found is what was planted."""
        return self.found == self.planted

    def __str__(self) -> str:
        """Return the difference in words."""
        where = f" of {self.variation}" if self.variation else ""
        return f"{self.group}, {self.name}{where}: {self.found:,} found, {self.planted:,} planted"


@dataclass(frozen=True, slots=True)
class Answer:
    """A query over the lake and its result."""

    sql: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Report:
    """All that the demo shows."""

    flag: str
    lake: Path
    published: int
    faults: Mapping[str, int]
    seconds: Mapping[str, float]  # by step
    checks: Sequence[Check]
    answer: Answer
    files: int  # Parquet files of the tables
    size: int  # their bytes
    next: Sequence[tuple[str, str]]  # what for, and the command

    @property
    def wrong(self) -> list[Check]:
        """The numbers that are not what was planted."""
        return [check for check in self.checks if not check.matches]

    def group(self, name: str) -> list[Check]:
        """Return the numbers of one group."""
        return [check for check in self.checks if check.group == name]


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON values; `matches` says whether everything is as planted."""
    return {
        "matches": not report.wrong,
        "flag": report.flag,
        "lake": str(report.lake),
        "published": report.published,
        "faults": dict(report.faults),
        "seconds": {step: round(seconds, 2) for step, seconds in report.seconds.items()},
        "checks": [
            {"group": check.group, "name": check.name}
            | ({"variation": check.variation} if check.variation else {})
            | {"found": check.found, "planted": check.planted}
            for check in report.checks
        ],
        "query": {
            "sql": report.answer.sql,
            "rows": [dict(zip(report.answer.columns, row, strict=True)) for row in report.answer.rows],
        },
        "next": [command for _, command in report.next],
    }


def render(report: Report, console: Console) -> None:
    """Print the report in at most 100 columns; coloured on a terminal, plain text without trailing blanks elsewhere."""
    if console.is_terminal:
        _print(report, console)
        return
    with console.capture() as captured:
        _print(report, console)
    lines = (line.rstrip() for line in captured.get().splitlines())
    console.print(Text("\n".join(lines)), soft_wrap=True)


def _print(report: Report, console: Console) -> None:
    console.print(
        f"An A/B test of {report.flag}: three days, {report.published:,} events, {len(report.faults)} kinds of trouble",
        "planted. The worker read it all back from Kafka, and this is what it made of it.\n",
    )
    for title, note, table in _sections(report):
        console.print(Text.assemble((title, "bold"), f" {note}"))
        console.print(Padding(table, (0, 0, 1, 2), expand=False))
    console.print(Text("The same lake, asked in SQL", style="bold"))
    sql = Syntax(report.answer.sql, "sql", background_color="default") if console.is_terminal else report.answer.sql
    console.print(Padding(sql, (0, 0, 1, 2), expand=False))
    console.print(Padding(_answer(report.answer), (0, 0, 1, 2), expand=False))
    size = f"{report.files} Parquet files, {report.size / 1_000_000:.1f} MB; keep it or delete it."
    console.print(Text.assemble(("The lake", "bold"), f" is {report.lake}: {size}\n"), soft_wrap=True)
    console.print(Text("Next", style="bold"))
    for purpose, command in report.next:
        console.print(Text.assemble("  ", (f"# {purpose}", "dim"), f"\n  {command}"), soft_wrap=True)
    took = f"({sum(report.seconds.values()):.0f} s)"
    if report.wrong:
        console.print(Text(f"\n✗ {len(report.wrong)} numbers are not what was planted {took}.", style="bold red"))
    else:
        total = sum(check.found for check in report.group("account"))
        sure = f"\n✓ All {total:,} records have exactly one fate, the one that was planted {took}."
        console.print(Text(sure, style="bold green"))


def _sections(report: Report) -> Iterator[tuple[str, str, Table]]:
    yield "Facts", "per variation, and what is not clean about them", _facts(report.group("facts"))
    yield "Dead letters", "in the .dlq topics, where on-call looks", _counts(report.group("dead letters"), "reason")
    fates = [(name, report.group(name)) for name in ("joined", "unjoined", "refused")]
    yield "The account", "of every record in the three topics", _account(fates, report.group("account"))


def _table(*columns: tuple[str, str]) -> Table:
    """Make a table of columns (header, kind); only notes give way where the terminal is narrow."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for header, kind in columns:
        justify: Literal["left", "right"] = "right" if kind == "number" else "left"
        note = kind == "note"
        table.add_column(header, justify=justify, style="dim" if note else "", no_wrap=not note)
    return table


def _number(check: Check | None) -> Text:
    if check is None:
        return Text("-", style="dim")
    return Text(f"{check.found:,}", style="" if check.matches else "bold red")


def _facts(checks: Sequence[Check]) -> Table:
    variations = sorted({check.variation for check in checks if check.variation}, reverse=True)
    table = _table(("", "name"), *((name, "number") for name in variations), ("planted", "number"), ("", "note"))
    for name in dict.fromkeys(check.name for check in checks):
        here = {check.variation: check for check in checks if check.name == name}
        planted = sum(check.planted for check in here.values())
        table.add_row(name, *(_number(here.get(v)) for v in variations), f"{planted:,}", MEANINGS.get(name, ""))
    return table


def _counts(checks: Sequence[Check], what: str) -> Table:
    table = _table((what, "name"), ("found", "number"), ("planted", "number"), ("", "note"))
    for check in checks:
        table.add_row(check.name, _number(check), f"{check.planted:,}", MEANINGS.get(check.name, ""))
    return table


def _account(fates: Sequence[tuple[str, Sequence[Check]]], totals: Sequence[Check]) -> Table:
    table = _table(("fate", "name"), ("", "name"), ("found", "number"), ("planted", "number"), ("", "note"))
    for fate, checks in fates:
        for number, check in enumerate(checks):
            meaning = MEANINGS.get(check.name, "")
            table.add_row(fate if number == 0 else "", check.name, _number(check), f"{check.planted:,}", meaning)
    for check in totals:
        table.add_row(Text(check.name, style="bold"), "", _number(check), f"{check.planted:,}", "")
    return table


def _answer(answer: Answer) -> Table:
    numeric = [all(isinstance(row[i], int | float) for row in answer.rows) for i in range(len(answer.columns))]
    table = _table(
        *((name, "number" if right else "name") for name, right in zip(answer.columns, numeric, strict=True))
    )
    for row in answer.rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int | float) else str(value) for value in row))
    return table
