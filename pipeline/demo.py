"""The demo: an A/B test with planted faults, through the real worker, compared with what was planted.

It brings its own broker and directory, ignores `EVIDENCE_*` in the environment, and leaves the lake to be asked.
"""

import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import KafkaError as KafkaCode
from rich.console import Console

from contracts.columns import KINDS
from contracts.errors import EvidenceError, KafkaUnavailable
from contracts.flags import Contract, load_contract
from pipeline import topics
from pipeline.embedded import embedded_broker, free_port, stop
from pipeline.planted import ARTICLE_UNIT, Planted, generate
from pipeline.preflight import DLQ_SUFFIX
from pipeline.publish import publish
from pipeline.report import Answer, Check, Report, as_json, render
from pipeline.settings import PREFIX, Settings
from sinks.views import connect

__all__ = ["EXAMPLE", "contract_for", "run_demo"]

EXAMPLE: Final = Path(__file__).parent.parent / "examples" / "support_answer_model_route.yaml"

_PARTITIONS: Final = 4
_SEED: Final = 98_271
_WORKER_PATIENCE: Final = 120.0  # seconds
_KAFKA_PATIENCE: Final = 20.0  # seconds
_AB_SINCE: Final = 4  # days before today that the test began
_ORIGIN: Final = ("topic", "partition", "offset")
_DATE: Final = re.compile(r"\b(\d{4}-\d{2}-\d{2})(?=T00:00:00Z|\s*$)", re.MULTILINE)
_STARTED: Final = re.compile(r"state: ab, from: (\d{4}-\d{2}-\d{2})")

_QUERY: Final = """\
SELECT variation,
       count(*) AS facts,
       round(avg(metrics['resolved']), 3) AS resolved,
       round(avg(metrics['human_correction']), 3) AS corrected,
       round(quantile_cont(metrics['latency'], 0.95))::INT AS p95_ms,
       round(avg(metrics['cost']), 4) AS cost
FROM facts
WHERE clean
GROUP BY variation
ORDER BY variation DESC"""

_RECORDS: Final = """\
SELECT topic, "partition", "offset"
FROM (SELECT topic, "partition", "offset" FROM events
      UNION ALL SELECT topic, "partition", "offset" FROM unjoined
      UNION ALL SELECT topic, "partition", "offset" FROM refused)"""


def run_demo(home: Path | None = None, *, events: int = 20_000, seed: int = _SEED, as_json_text: bool = False) -> int:
    """Run the demo and print its report to stdout; return 0, or 1 if something is not as planted.

    `home` must not exist yet; it gets the flag file, the worker's logs and the lake. None is a new directory below
    ./build. Raises EvidenceError in one line for what stands in the way.
    """
    now = time.time()
    home = home or Path("build") / f"demo-{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}"
    try:
        home.mkdir(parents=True)
    except FileExistsError:
        raise EvidenceError(f"{home} exists; name a new directory for the demo") from None
    except OSError as error:
        raise EvidenceError(f"cannot make {home} ({error.strerror}); name a directory that can be made") from None
    return _show(_run(home, int(now * 1_000) * 1_000, events, seed), as_json_text=as_json_text)


def contract_for(example: str, today: date) -> str:
    """Return the example flag's text with all dates moved by whole days, so that its test runs at `today`."""
    started = _STARTED.search(example)
    if started is None:
        raise EvidenceError(f"{EXAMPLE}: no state ab; restore the file")
    shift = today - timedelta(days=_AB_SINCE) - date.fromisoformat(started[1])
    return _DATE.sub(lambda match: (date.fromisoformat(match[1]) + shift).isoformat(), example)


def _show(report: Report, *, as_json_text: bool) -> int:
    if as_json_text:
        print(json.dumps(as_json(report), indent=2))  # noqa: T201  # the result
    else:
        console = Console(highlight=False)
        console.width = max(console.width, 100) if not console.is_terminal else console.width
        render(report, console)
    if report.wrong:
        more = f" (and {len(report.wrong) - 1} more)" if len(report.wrong) > 1 else ""
        print(f"evidence: the account does not match: {report.wrong[0]}{more}; see {report.lake}", file=sys.stderr)  # noqa: T201
    return 1 if report.wrong else 0


def _run(home: Path, now_us: int, events: int, seed: int) -> Report:
    lake, steps = home / "lake", _Steps()
    contract = _write_contract(home / "flags", datetime.fromtimestamp(now_us // 1_000_000, UTC).date())
    rng = random.Random(seed)  # noqa: S311  # made-up traffic
    traffic = generate(rng, now_us, contract, events=events, partitions=_PARTITIONS)
    with ExitStack() as running:
        with steps.step("start a Kafka broker"):
            bootstrap = running.enter_context(embedded_broker(home / "broker.log"))
            settings = _settings(bootstrap, home)
            topics.create(settings, [contract], _PARTITIONS, 1)
        # one record a batch: the embedded broker gives the last batch's first offset as the end of a partition
        kafka = {**settings.librdkafka(), "batch.num.messages": 1}
        names = dict(zip(KINDS, settings.topics, strict=True))
        for part, messages, flags in (1, traffic.first, []), (2, traffic.second, ["--close-windows"]):
            with steps.step(f"publish part {part}") as say:
                publish(kafka, names, messages, lambda sent: say(f"{sent:,} messages"))
            with steps.step(f"run the worker on part {part}"):
                _work(settings, f"demo-{part}", home / f"worker-{part}.log", flags)
        with steps.step("compare"):
            places, letters = _read_back(settings)
    found, answer = _look(lake)
    files = [path.stat().st_size for path in (lake / "tables").rglob("*.parquet")]
    return Report(
        flag=contract.flag_key,
        lake=lake,
        published=traffic.planted.published,
        faults=traffic.planted.faults,
        seconds=steps.seconds,
        checks=_checks(traffic.planted, found, letters, places),
        answer=answer,
        files=len(files),
        size=sum(files),
        next=_next_commands(lake),
    )


class _Steps:
    """How long each step took; the one under way is shown on stderr where that is a terminal."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a step; the given function tells how far it is."""
        start = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(name) as status:
                yield lambda detail: status.update(f"{name} [dim]{detail}[/dim]")
        else:
            yield lambda _: None
        self.seconds[name] = time.monotonic() - start
        if self._console.is_terminal:
            self._console.print(f"[green]✓[/green] {name} [dim]{self.seconds[name]:.1f} s[/dim]")


def _write_contract(flags: Path, today: date) -> Contract:
    try:
        example = EXAMPLE.read_text()
    except OSError as error:
        raise EvidenceError(f"{EXAMPLE}: {error.strerror}; run the demo from a checkout") from None
    flags.mkdir()
    file = flags / EXAMPLE.name
    file.write_text(contract_for(example, today))
    return load_contract(file.read_text(), str(file))


def _settings(bootstrap: str, home: Path) -> Settings:
    # another prefix: what the user has set for a real cluster is not meant for the demo
    return Settings(
        _env_prefix="NOT_SET_",
        bootstrap_servers=bootstrap,
        lake=home / "lake",
        flags=home / "flags",
        web_port=free_port(),
    )


def _work(settings: Settings, group: str, log: Path, flags: Sequence[str]) -> None:
    """Run the worker to the end of the topics. Raises EvidenceError if it fails or takes too long.

    The lake, not the group, says where to go on. A group of its own spares the second worker twenty seconds: so long
    the embedded broker waits for the first one, which has left.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | {
        f"{PREFIX}BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        f"{PREFIX}LAKE": str(settings.lake),
        f"{PREFIX}FLAGS": str(settings.flags),
        f"{PREFIX}GROUP": group,
        f"{PREFIX}WEB_PORT": str(settings.web_port),
        f"{PREFIX}SESSION_TIMEOUT": "3s",  # the embedded broker makes a new group wait for half of it
    }
    command = [sys.executable, "-m", "pipeline.cli", "worker", "--stop-at-end", *flags]
    with log.open("wb") as told:
        worker = subprocess.Popen(  # noqa: S603  # our own program
            command, env=environment, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT
        )
        try:
            code = worker.wait(_WORKER_PATIENCE)
        except subprocess.TimeoutExpired:
            raise EvidenceError(f"the worker did not finish in {_WORKER_PATIENCE:.0f} s; read {log}") from None
        finally:
            if worker.poll() is None:
                stop(worker)
    if code != 0:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise EvidenceError(f"the worker exited with {code} ({lines[-1] if lines else 'it says nothing'}); read {log}")


Place = tuple[str, int, int]
"""Topic, partition and offset of a record."""


def _read_back(settings: Settings) -> tuple[set[Place], Counter[str]]:
    """Return the places of all records in the three topics, and how many of them have a dead letter of each reason.

    Two dead letters of one record count once. Reads each partition until the broker says that there is no more.
    """
    letters = {name + DLQ_SUFFIX for name in settings.topics}
    consumer = Consumer(
        {**settings.librdkafka(), "group.id": "demo", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    places: set[Place] = set()
    reasons: dict[Place, str] = {}
    begin = [TopicPartition(name, p, 0) for name in {*settings.topics, *letters} for p in range(_PARTITIONS)]
    unread, deadline = len(begin), time.monotonic() + _KAFKA_PATIENCE
    try:
        consumer.assign(begin)
        while unread > 0:
            for record in consumer.consume(5_000, timeout=0.1):
                if record.error() is not None:
                    if record.error().code() != KafkaCode._PARTITION_EOF:  # noqa: SLF001  # public in all but name
                        raise KafkaUnavailable(f"cannot read the topics: {record.error().str()}; try again")
                    unread -= 1
                elif record.topic() in letters:
                    headers = {name: value.decode() for name, value in record.headers()}
                    topic, partition, offset = (headers[f"__dlq.errors.{part}"] for part in _ORIGIN)
                    reasons[topic, int(partition), int(offset)] = headers["evidence.dlq.reason"]
                else:
                    places.add((record.topic(), record.partition(), record.offset()))
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"the topics could not be read in {_KAFKA_PATIENCE:.0f} s; try again")
    finally:
        consumer.close()
    return places, Counter(reasons.values())


@dataclass(frozen=True, slots=True)
class _Found:
    """What stands in the lake, counted."""

    facts: Mapping[str, int]
    clean: Mapping[str, int]
    flags: Mapping[tuple[str, str], int]
    joined: Mapping[str, int]
    unjoined: Mapping[str, int]
    refused: Mapping[str, int]
    places: Sequence[Place]  # of which events, unjoined and refused tell


def _look(lake: Path) -> tuple[_Found, Answer]:
    connection = connect(lake)
    try:

        def pairs(sql: str) -> dict[Any, int]:
            rows = connection.sql(sql).fetchall()
            return {row[0] if len(row) == 2 else tuple(row[:-1]): row[-1] for row in rows}  # noqa: PLR2004

        found = _Found(
            facts=pairs("SELECT variation, count(*) FROM facts GROUP BY 1"),
            clean=pairs("SELECT variation, count(*) FROM facts WHERE clean GROUP BY 1"),
            flags=pairs("SELECT variation, unnest(flags) AS flag, count(*) FROM facts GROUP BY 1, 2"),
            joined=pairs("SELECT kind, count(*) FROM events GROUP BY 1"),
            unjoined=pairs("SELECT reason, count(*) FROM unjoined GROUP BY 1"),
            refused=pairs("SELECT reason, count(*) FROM refused GROUP BY 1"),
            places=connection.sql(_RECORDS).fetchall(),
        )
        answer = connection.sql(_QUERY)
        return found, Answer(_QUERY, tuple(answer.columns), answer.fetchall())
    finally:
        connection.close()


def _checks(planted: Planted, found: _Found, letters: Mapping[str, int], places: set[Place]) -> list[Check]:
    """Lay what was found beside what was planted."""
    telemetry = {reason: planted.unjoined.get(reason, 0) for reason in ("late", "no_exposure")}
    total = planted.published + planted.rerouted  # each rerouted message has a copy
    told = set(found.places)
    return [
        *_side_by_side("facts", _named("facts", found.facts), _named("facts", planted.facts)),
        *_side_by_side("facts", _named("clean", found.clean), _named("clean", planted.clean)),
        *_side_by_side("facts", found.flags, planted.flags),
        *_side_by_side("dead letters", letters, {**planted.refused, **telemetry}),
        *_side_by_side("joined", found.joined, planted.joined),
        *_side_by_side("unjoined", found.unjoined, planted.unjoined),
        *_side_by_side("refused", found.refused, {**planted.refused, "rerouted": planted.rerouted}),
        Check("account", "accounted for", len(told & places), total),
        Check("account", "without a fate", len(places - told), 0),
        Check("account", "twice", len(found.places) - len(told), 0),
        Check("account", "from nowhere", len(told - places), 0),
    ]


def _named(name: str, by_variation: Mapping[str, int]) -> dict[tuple[str, str], int]:
    return {(variation, name): count for variation, count in by_variation.items()}


def _side_by_side(group: str, found: Mapping[Any, int], planted: Mapping[Any, int]) -> list[Check]:
    """Compare two counts by name, or by (variation, name); the greatest first."""
    checks = []
    for key in sorted({*found, *planted}, key=lambda key: (-planted.get(key, 0), key)):
        variation, name = key if isinstance(key, tuple) else (None, key)
        checks.append(Check(group, name, found.get(key, 0), planted.get(key, 0), variation))
    return checks


def _next_commands(lake: Path) -> list[tuple[str, str]]:
    evidence = Path(sys.executable).parent / "evidence"
    here = evidence.relative_to(Path.cwd()) if evidence.is_relative_to(Path.cwd()) else evidence
    query = f"{PREFIX}LAKE={shlex.quote(str(lake))} {here} query"
    return [
        ("one conversation", f"{query} \"FROM facts WHERE unit_id = '{ARTICLE_UNIT}'\""),
        ("records that found no exposure", f"{query} \"FROM unjoined WHERE reason = 'no_exposure' LIMIT 3\""),
        ("your own topics", f"{PREFIX}BOOTSTRAP_SERVERS=localhost:9092 {PREFIX}FLAGS=examples {here} topics check"),
    ]
