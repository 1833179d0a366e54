"""`evidence dlq` on the command line: options to calls, results to text."""

import json
import time
from typing import Annotated, Any

import typer

__all__ = ["dlq_app"]

dlq_app = typer.Typer(help="See what went wrong with records, and replay them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Topics = Annotated[
    list[str] | None,
    typer.Option("--topic", help="Read this dead-letter topic; may be repeated. The three .dlq topics if not given."),
]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only letters with this reason; may be repeated.")]
Flags = Annotated[list[str] | None, typer.Option("--flag", help="Only records of this flag; may be repeated.")]
Offsets = Annotated[
    list[str] | None,
    typer.Option("--offset", help="Only records at outcomes/5/17, or outcomes/5/17-40; may be repeated."),
]
Since = Annotated[str | None, typer.Option(help="Only what failed since: 2026-06-07T10:15:30Z, or 2h ago as 2h.")]
Until = Annotated[str | None, typer.Option(help="Only what failed before; likewise.")]


@dlq_app.command("ls")
def ls(  # noqa: PLR0913, PLR0917 - the options of one command
    topic: Topics = None,
    reason: Reasons = None,
    flag: Flags = None,
    offset: Offsets = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Count dead letters by topic, reason and flag; the rate is that of the last ten minutes."""
    from pipeline.cli import shown_progress  # noqa: PLC0415 - each command loads what it needs
    from pipeline.dlq.command import list_letters  # noqa: PLC0415
    from pipeline.settings import load  # noqa: PLC0415

    with shown_progress("letters") as progress:
        chosen = _filter(reason, flag, offset, since, until)
        listing = list_letters(load(), topic or (), chosen, progress)
    _say(json.dumps(listing.as_json()) if as_json else "\n".join(listing.lines()))


@dlq_app.command("show")
def show(
    at: Annotated[str, typer.Argument(help="Where the record was, or the letter lies: outcomes/5/17.")],
    topic: Topics = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Show one dead letter: what is wrong field by field, headers, value. Control characters are made harmless."""
    from pipeline.dlq.command import show_letter  # noqa: PLC0415
    from pipeline.dlq.showing import as_json as values  # noqa: PLC0415
    from pipeline.dlq.showing import lines  # noqa: PLC0415
    from pipeline.settings import load  # noqa: PLC0415

    letter = show_letter(load(), topic or (), at)
    _say(json.dumps(values(letter)) if as_json else "\n".join(lines(letter)))


@dlq_app.command("replay")
def replay(  # noqa: PLR0913, PLR0917
    topic: Topics = None,
    reason: Reasons = None,
    flag: Flags = None,
    offset: Offsets = None,
    since: Since = None,
    until: Until = None,
    to: Annotated[
        list[str] | None,
        typer.Option(help="Send to this topic, or as FROM=TOPIC what failed in FROM; may be repeated."),
    ] = None,
    most: Annotated[int | None, typer.Option("--max", min=1, help="Send so many at most.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Send so many a second at most.")] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Send also what would be refused or late again.")] = False,  # noqa: FBT002
    max_replays: Annotated[int, typer.Option(min=1, help="Park what was replayed so often.")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Send records of dead letters again, each once; a replay that was stopped goes on when it is run again.

    What is in a fact is passed over. What would only be refused or late again stays, with the reason: exit code 4.
    """
    from pipeline.cli import Exit, shown_progress  # noqa: PLC0415
    from pipeline.dlq.command import Wanted  # noqa: PLC0415
    from pipeline.dlq.command import replay as run  # noqa: PLC0415
    from pipeline.settings import load  # noqa: PLC0415

    with shown_progress("letters") as progress:
        wanted = Wanted(
            chosen=_filter(reason, flag, offset, since, until),
            to=to or (),
            most=most,
            rate=rate,
            anyway=anyway,
            max_replays=max_replays,
            dry_run=dry_run,
        )
        plan, done = run(load(), topic or (), wanted, progress)
    if as_json:
        _say(json.dumps({**plan.as_json(), "sent": done.sent, "parked": done.parked, "dry_run": dry_run}))
    else:
        parked = f", {done.parked:,} parked" if done.parked else ""
        ended = "nothing was sent: a dry run" if dry_run else f"{done.sent:,} sent{parked}"
        _say("\n".join([*plan.lines(), ended]))
    if plan.refused and not dry_run:
        raise typer.Exit(Exit.PARTLY)


@dlq_app.command("export")
def export(topic: Topics = None, as_json: Json = False) -> None:  # noqa: FBT002
    """Bring new dead letters into the lake, as the table dead_letters; each once, however often it is run."""
    from pipeline.cli import shown_progress  # noqa: PLC0415
    from pipeline.dlq.command import export as run  # noqa: PLC0415
    from pipeline.settings import load  # noqa: PLC0415

    with shown_progress("letters") as progress:
        exported = run(load(), topic or (), progress)
    if as_json:
        _say(json.dumps({"letters": exported.letters, "files": exported.files}))
    else:
        _say(f"{exported.letters:,} dead letters exported to {exported.files} files of the table dead_letters")


def _filter(
    reason: list[str] | None, flag: list[str] | None, offset: list[str] | None, since: str | None, until: str | None
) -> Any:  # noqa: ANN401 - its module is loaded with the command
    from pipeline.dlq.filters import Filter, parse_moment  # noqa: PLC0415
    from pipeline.dlq.places import Span  # noqa: PLC0415

    now = time.time_ns() // 1_000
    return Filter(
        reasons=frozenset(reason or ()),
        flags=frozenset(flag or ()),
        since=parse_moment(since, now),
        until=parse_moment(until, now),
        spans=tuple(Span.parse(each) for each in offset or ()),
    )


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the result
