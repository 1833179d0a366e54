"""`evidence contracts` on the command line: options to calls, results to text."""

import json
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from contracts.errors import KafkaError, SettingsError

__all__ = ["contracts_app"]

contracts_app = typer.Typer(help="Check flag files, compare them, write them for other tools.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="Flag files, or directories of them; EVIDENCE_FLAGS if not given.", show_default=False),
]
AsOf = Annotated[str | None, typer.Option("--as-of", metavar="DATE", help="Judge as on this day, 2026-06-07; today.")]

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1)


class _Effect(StrEnum):
    BREAKING = "breaking"
    EPOCH = "epoch"


class _Standard(StrEnum):
    JSONSCHEMA = "jsonschema"
    ASYNCAPI = "asyncapi"
    ODCS = "odcs"


class _Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class _Report(StrEnum):
    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    JUNIT = "junit"


@contracts_app.command("check")
def check(  # noqa: PLR0913, PLR0917 - the options of one command
    paths: Paths = None,
    as_of: AsOf = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="Ask the brokers about the topics as well.")] = False,  # noqa: FBT002
    fail_on: Annotated[_Severity, typer.Option(help="Exit 1 if a finding is this bad, or worse.")] = _Severity.ERROR,
    report: Annotated[_Report, typer.Option("--format", help="How to write it.")] = _Report.TEXT,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Hold flag files against the checklist before traffic; docs/checklist.md has every rule and its reason."""
    from pipeline.cli import Exit  # noqa: PLC0415 - each command loads what it needs
    from pipeline.contracts.check import check as run  # noqa: PLC0415
    from pipeline.contracts.check import with_topics  # noqa: PLC0415
    from pipeline.contracts.reports import FORMATS  # noqa: PLC0415
    from pipeline.settings import load  # noqa: PLC0415

    checked = run(paths or [load().flags], _day(as_of))
    silent: KafkaError | None = None
    if kafka:
        try:
            checked = with_topics(checked, load())
        except KafkaError as error:
            silent = error  # the files are told of all the same
    written = FORMATS["json" if as_json else report.value](checked, fail_on.value)
    _say(written if isinstance(written, str) else json.dumps(written, indent=None if as_json else 2))
    if silent is not None:
        raise silent
    if checked.failing(fail_on.value):
        raise typer.Exit(Exit.WRONG)


@contracts_app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(help="A flag file or a directory of them, as it was; main:flags is git's.")],
    new: Annotated[str, typer.Argument(help="As it is now.")],
    fail_on: Annotated[_Effect | None, typer.Option(help="Exit 1 if a change is this bad, or worse.")] = None,
    as_of: AsOf = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Say of each change whether it is breaking, begins a new epoch of facts, or only adds."""
    from pipeline.cli import Exit  # noqa: PLC0415 - each command loads what it needs
    from pipeline.contracts.diff import compare  # noqa: PLC0415

    found = compare(old, new, ((_day(as_of) - _EPOCH).days + 1) * _DAY_US - 1)
    _say(json.dumps(found.as_json()) if as_json else "\n".join(found.lines()))
    if found.fails(fail_on.value if fail_on else None):
        raise typer.Exit(Exit.WRONG)


@contracts_app.command("export")
def export(
    paths: Paths = None,
    standard: Annotated[_Standard, typer.Option("--format", help="The standard.")] = _Standard.JSONSCHEMA,
    output: Annotated[
        Path | None, typer.Option(help="A file (.json, .yaml) or a directory to write to; printed if not given.")
    ] = None,
    any_flag: Annotated[bool, typer.Option("--any-flag", help="Of any flag: ask no flag file.")] = False,  # noqa: FBT002
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic, for asyncapi.")] = 12,
) -> None:
    """Write the contracts as JSON Schema 2020-12, AsyncAPI 3.1 or ODCS 3.2, of these flag files and settings."""
    from pipeline.contracts.export import documents, written  # noqa: PLC0415 - each command loads what it needs
    from pipeline.contracts.files import book, find_some, read  # noqa: PLC0415
    from pipeline.settings import load  # noqa: PLC0415

    settings = load()
    contracts = None if any_flag else book(read(find_some(paths or [settings.flags])))
    shown, files = written(documents(standard.value, settings, contracts, partitions), output)
    _say(shown.removesuffix("\n") if output is None else "\n".join(map(str, files)))


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--as-of {text[:64]}: is not a day; write it as 2026-06-07") from None


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the result
