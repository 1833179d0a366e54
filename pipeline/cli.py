"""The command line: text for people, `--json` for machines; results on stdout, everything else on stderr.

Exit codes: 0 fine, 1 found wrong, 2 usage, 3 cannot reach Kafka or storage, 4 partly done.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError  # typer has no public names for them

from contracts.durations import parse_duration
from contracts.errors import (
    ContractError,
    EvidenceError,
    KafkaUnavailable,
    SettingsError,
    StorageUnavailable,
)
from pipeline.contracts.cli import contracts_app
from pipeline.dlq.cli import dlq_app
from pipeline.leaving import leaving
from pipeline.settings import load
from pipeline.terminal import safe

__all__ = ["Exit", "app", "command", "main", "shown_progress"]

app = typer.Typer(
    name="evidence",
    help="Turn exposures, outcomes and guardrails from Kafka into Parquet facts, each exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(help="Make the topics, or see whether they are fit.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(dlq_app, name="dlq")
app.add_typer(contracts_app, name="contracts")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
StopAtEnd = Annotated[bool, typer.Option("--stop-at-end", help="Read to the end offsets of the start, and exit.")]
CloseWindows = Annotated[bool, typer.Option("--close-windows", help="Then decide all that is open: input has ended.")]


def _duration(text: str) -> int:
    """Return µs; a wrong one is an error of usage."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"--older-than: {error}") from None


class Exit(IntEnum):
    """What the exit code of every command says."""

    FINE = 0
    WRONG = 1
    USAGE = 2
    UNREACHABLE = 3
    PARTLY = 4


def command() -> None:
    """Be the command `evidence`: `main`, and the end of the process."""
    with leaving():
        main()


def main() -> None:
    """Run the command line; an error is one line on stderr that says what to do next."""
    with _errors():
        sys.exit(app(prog_name=app.info.name, standalone_mode=False))


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except NoArgsIsHelpError as missing:
        missing.show()
        sys.exit(Exit.USAGE)
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else app.info.name
        _fail(f"{error.format_message().rstrip('.')}; see: {command} --help", Exit.USAGE)
    except (SettingsError, ContractError) as error:
        _fail(error, Exit.USAGE)
    except (KafkaUnavailable, StorageUnavailable) as error:
        _fail(error, Exit.UNREACHABLE)
    except EvidenceError as error:
        _fail(error, Exit.WRONG)
    except BrokenPipeError:
        sys.exit(Exit.FINE)  # whoever reads has seen enough, as in `evidence query … | head`


def _fail(why: EvidenceError | str, code: Exit) -> None:
    print(f"evidence: {safe(str(why))}", file=sys.stderr)  # noqa: T201 - DuckDB's errors quote values of records
    sys.exit(code)


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the result


@topics_app.command("create")
def topics_create(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic.")] = 12,
    replication: Annotated[int, typer.Option(help="Replicas of each; -1 leaves it to the brokers.")] = -1,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Make those of the three topics and their dead-letter topics that are missing."""
    from pipeline.flag_directory import FlagDirectory  # noqa: PLC0415 - each command loads what it needs
    from pipeline.topics import create  # noqa: PLC0415

    settings = load()
    made = create(settings, FlagDirectory(settings.flags).read(), partitions, replication)
    if as_json:
        _say(json.dumps([{"topic": t.topic, "partitions": t.partitions, "made": t.made} for t in made]))
        return
    for topic in made:
        _say(f"{topic.topic:<24} {topic.partitions:>4} partitions  {'made' if topic.made else 'was there'}")


@topics_app.command("check")
def topics_check(as_json: Json = False) -> None:  # noqa: FBT002
    """Tell what is wrong with the topics: one line a problem, with its remedy. Exits 1 if an error is among them."""
    from pipeline.flag_directory import FlagDirectory  # noqa: PLC0415
    from pipeline.topics import check  # noqa: PLC0415

    settings = load()
    problems = check(settings, FlagDirectory(settings.flags).read())
    if as_json:
        fields = ("severity", "topic", "message", "remedy")
        _say(json.dumps([{name: getattr(problem, name) for name in fields} for problem in problems]))
    else:
        for problem in problems:
            _say(f"{problem.severity}: {problem.topic}: {problem.message}; {problem.remedy}")
        if not problems:
            _say("the topics are fit")
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(Exit.WRONG)


@app.command()
def worker(
    stop_at_end: StopAtEnd = False,  # noqa: FBT002
    close_windows: CloseWindows = False,  # noqa: FBT002
) -> None:
    """Read the topics and write the lake, until SIGTERM or the end of input."""
    gc.disable()  # what is loaded stays: to look for garbage meanwhile takes 0.1 s
    from pipeline.logs import configure  # noqa: PLC0415
    from pipeline.memory import hold_memory  # noqa: PLC0415
    from pipeline.worker import Worker  # noqa: PLC0415

    gc.enable()
    if close_windows and not stop_at_end:
        raise SettingsError("--close-windows goes with --stop-at-end: a stream that goes on has no end; add it")
    settings = load()
    configure(settings)
    hold_memory()
    with shown_progress("offsets") as progress:
        one = Worker(settings, stop_at_end=stop_at_end, close_windows=close_windows, progress=progress)
        ended = asyncio.run(one.run())
    if ended.stopped:
        partitions = ", ".join(map(str, ended.stopped))
        print(  # noqa: T201
            f"evidence: partition {partitions} is stopped; see the dead letters, mend the producer, "
            "then run: evidence resume",
            file=sys.stderr,
        )
        raise typer.Exit(Exit.PARTLY)


@app.command()
def resume(as_json: Json = False) -> None:  # noqa: FBT002
    """Let partitions go on that a circuit breaker stopped; running workers notice within seconds."""
    from pipeline.resume import resume_all  # noqa: PLC0415

    resumed = resume_all(load().lake)
    if as_json:
        _say(json.dumps([{"partition": p.partition, "topic": p.topic, "reason": p.reason} for p in resumed]))
        return
    for each in resumed:
        _say(f"partition {each.partition}: goes on (it was stopped at {each.topic}: {each.reason})")
    if not resumed:
        _say("no partition is stopped")


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it on the whole terminal, until Ctrl-C.")] = False,  # noqa: FBT002
    seconds: Annotated[float, typer.Option(min=0.5, help="How often --watch looks.")] = 2.0,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Tell how the partitions stand, by the lake and the topics. Exits 1 if one is stopped or waits."""
    from rich.console import Console  # noqa: PLC0415

    from pipeline.status import command  # noqa: PLC0415

    if watch and (as_json or not sys.stdout.isatty()):
        raise SettingsError("--watch needs a terminal; leave it out to see the status once")
    settings = load()
    found = command.watch(settings, Console(), seconds) if watch else command.show(settings, as_json=as_json)
    if found.unreachable:
        raise typer.Exit(Exit.UNREACHABLE)
    if not found.fine:
        raise typer.Exit(Exit.WRONG)


@app.command()
def compact(
    older_than: Annotated[
        int | None,
        typer.Option(parser=_duration, metavar="DURATION", help="Leave days alone that ended less long ago than this."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Merge small table files of past days into few large ones, now; workers do it by themselves."""
    from pipeline.compact import compact_lake  # noqa: PLC0415

    settings = load()
    with shown_progress("files") as progress:
        done = compact_lake(
            settings.lake,
            older_than=older_than or 0,
            dry_run=dry_run,
            memory_limit=settings.memory_limit,
            progress=progress,
        )
    if as_json:
        _say(json.dumps(done.as_json()))
    else:
        for line in done.lines():
            _say(line)
    if done.busy:
        partitions = ", ".join(map(str, done.busy))
        print(  # noqa: T201
            f"evidence: partition {partitions} is not done, its worker always committed first; leave it to the worker, "
            "or stop that and run again",
            file=sys.stderr,
        )
        raise typer.Exit(Exit.PARTLY)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help='SQL over the views, such as "SELECT * FROM facts LIMIT 5".')],
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Ask the lake in SQL (DuckDB) over its views: facts, events, unjoined, refused, account and more."""
    from pipeline.query import ask  # noqa: PLC0415

    answer = ask(load().lake, sql)
    if as_json:
        for row in answer.rows:
            _say(json.dumps(dict(zip(answer.columns, row, strict=True)), default=str, allow_nan=False))
    else:
        _say(answer.text)


@app.command()
def verify(
    partition: Annotated[list[int] | None, typer.Option(min=0, help="Audit this partition; may be repeated.")] = None,
    start: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="TOPIC:PARTITION:OFFSET", help="Read from this offset on; may be repeated."),
    ] = None,
    lake_only: Annotated[bool, typer.Option("--lake-only", help="Do the checks that need no Kafka.")] = False,  # noqa: FBT002
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Audit the lake: join the topics anew, another way, and compare. Exits 1 if anything is wrong."""
    from pipeline.verify.command import verify_lake  # noqa: PLC0415

    with shown_progress("offsets") as progress:
        audited = verify_lake(load(), partitions=partition, starts=start or (), lake_only=lake_only, progress=progress)
    if as_json:
        _say(json.dumps(audited.as_json()))
    else:
        for line in audited.lines():
            _say(line)
    if not audited.clean:
        raise typer.Exit(Exit.WRONG)


@app.command()
def doctor(
    records: Annotated[
        int | None, typer.Option(min=1, help="Read so many of each partition, the newest; 2000 if not given.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Read all since: 2026-06-07T10:15:30Z, or 2h ago as 2h.")] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that reading may take.")] = 30.0,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Tell what is wrong with the producers, by a sample of the topics. Exits 1 for an error or a warning."""
    from pipeline.doctor import report  # noqa: PLC0415
    from pipeline.doctor.command import diagnose  # noqa: PLC0415

    examined = diagnose(load(), records, since, time_limit)
    if as_json:
        _say(json.dumps(report.as_json(examined)))
    else:
        for line in report.lines(examined):
            _say(line)
    if not examined.fine:
        raise typer.Exit(Exit.WRONG)


@app.command()
def demo(
    home: Annotated[Path | None, typer.Option(help="A new directory for it; build/demo-… if not given.")] = None,
    events: Annotated[int, typer.Option(min=2_000, help="About how many events to publish.")] = 20_000,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """Publish an A/B test with planted faults to a broker of its own, run the worker, compare."""
    from pipeline.demo import run_demo  # noqa: PLC0415

    raise typer.Exit(run_demo(home, events=events, as_json_text=as_json))


@app.command()
def traffic(
    rate: Annotated[float, typer.Option(min=0.1, help="Events a second.")] = 50.0,
    units: Annotated[int, typer.Option(min=1, help="Units that come and go.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same events.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0, help="When to stop; never if not given.")] = None,
) -> None:
    """Publish made-up live events of all flags, some of them faulty, until SIGTERM: for trying things out."""
    from pipeline.flag_directory import FlagDirectory  # noqa: PLC0415
    from pipeline.publish import run_traffic  # noqa: PLC0415

    settings = load()
    sent = run_traffic(
        settings, FlagDirectory(settings.flags).read(), rate=rate, units=units, seed=seed, seconds=seconds
    )
    _say(f"{sent:,} events published")


@contextmanager
def shown_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows how much is done of how much, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _all: None
        return
    from rich.console import Console  # noqa: PLC0415 - 40 ms of 230 that a command takes to begin
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + what), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=0, visible=False)
        yield lambda done, total: shown.update(task, completed=done, total=total, visible=total > 0)


if __name__ == "__main__":
    command()
