"""What the README says is so: its commands print what it shows, its tables are complete, its links lead somewhere.

A block marked `console` is a session: a line after `$` is typed (`>` continues it), the lines below are the answer, and
a line of three dots stands for any number of lines. Times, paths, sizes and durations may differ; all other words and
numbers may not.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from contracts.columns import KINDS
from contracts.dead_letters import REASONS, DeadLetter
from contracts.decode import Decoder
from contracts.events import Kind
from contracts.flags import ContractBook, load_contract
from contracts.impacts import FIELDS
from pipeline.cli import Exit
from pipeline.embedded import embedded_broker
from pipeline.settings import PREFIX, Settings, describe
from sinks import dictionary
from tests.brokers import ApacheKafka
from tests.client.topics import Topics
from tests.contracts.records import NOON, PlainRecord

ROOT: Final = Path(__file__).resolve().parent.parent
README: Final = (ROOT / "README.md").read_text()
PAGES: Final = (
    "README.md",
    "CHANGELOG.md",
    "client/README.md",
    *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))),
)

COMMAND_S: Final = 240.0
REFUSED: Final = 120  # as the chapter on call tells

VARYING: Final = (
    (r"^\d{4}-\d\d-\d\dT[\d:.]+Z(?= (INFO|ERROR) )", "<now>"),
    (r"^(evidence\.dlq\.(failed_at|timestamp)):.*", r"\1:<now>"),
    (r"^(evidence\.dlq\.pipeline_version):.*", r"\1:<version>"),
    (r"(?<=  )\d{4}-\d\d-\d\dT[\d:.]+Z\b", "<now>"),
    (r"(?<=  failed in    evidence )[\w.+]+(?=,)", "<version>"),
    (r"\bdemo-\d{8}-\d{6}\b", "demo-<now>"),
    (r"\d+ Parquet files, [\d.]+ MB", "<n> Parquet files, <n> MB"),
    (r"\(\d+ s\)", "(<n> s)"),
    (r", \d+\.\d s$", ", <n> s"),
)
"""What differs from run to run, and what the comparison reads in its place."""


class Block(NamedTuple):
    """A fenced block of the README."""

    chapter: str
    language: str
    text: str


class Exchange(NamedTuple):
    """A command of a session and the answer to it."""

    command: str
    answer: str


@dataclass
class Terminal:
    """A shell in a directory that looks like a checkout: `evidence` and `python` are this project's."""

    directory: Path
    variables: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)  # what stands in commands, and what is typed for it

    def __post_init__(self) -> None:
        """Lay out the directory."""
        (self.directory / "examples").symlink_to(ROOT / "examples")
        self.install("evidence", f"{sys.executable} -c 'from pipeline.cli import command; command()'")
        self.install("python", sys.executable)

    def install(self, name: str, command: str) -> None:
        """Let `name` run `command` with the arguments given."""
        program = self.directory / ".venv" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)

    def type(self, command: str) -> str:
        """Run the command and return all that it says; what it exports holds for those that follow."""
        for shown, here in self.replaced.items():
            command = command.replace(shown, here)
        if not command.startswith("export "):
            return self._run(command)
        after = dict(line.split("=", 1) for line in self._run(f"{command}; env -0").split("\0") if "=" in line)
        self.variables |= {name: after[name] for name in re.findall(r"(\w+)=", command)}
        return ""

    def _run(self, script: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "COLUMNS"))}
        path = f"{self.directory / '.venv' / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=self.directory,
            env=kept | {"PYTHONPATH": str(ROOT), "PATH": path} | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_S,
        ).stdout


def blocks(chapter: str = "", language: str = "", page: str = README) -> list[Block]:
    """Return the fenced blocks of a chapter of a page, in a language; of all where none is given."""
    found, here = [], ""
    for match in re.finditer(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        here = match[1] or here
        if match[2]:
            found.append(Block(here, match[2], match[3]))
    return [block for block in found if chapter in ("", block.chapter) and language in ("", block.language)]


def exchanges(chapter: str, page: str = README) -> Iterator[Exchange]:
    """Yield the commands of a chapter's sessions with their answers."""
    for block in blocks(chapter, "console", page):
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            last = next((n for n, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines))
            command = "\n".join([lines[0], *(line.removeprefix("> ") for line in lines[1:last])])
            yield Exchange(command, "\n".join(lines[last:]))


def same(text: str) -> str:
    """Return the text without what differs from run to run."""
    text = text.replace(f"{Path(sys.executable).parent}/", ".venv/bin/")
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def assert_shown(shown: str, said: str) -> None:
    """Assert that the README shows what was said, but for lines of three dots."""
    expected, found = same(shown), same(said)
    lines = (r"(.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in expected.splitlines())
    assert re.fullmatch("".join(lines), found + "\n") or expected == found, f"shown:\n{expected}\n\nsaid:\n{found}"


def rehearse(terminal: Terminal, session: Iterable[Exchange]) -> None:
    """Type each command and compare its answer."""
    for command, answer in session:
        assert_shown(answer, terminal.type(command))


def rows(header: str) -> list[list[str]]:
    """Return the rows of the table whose header line begins so, as cells."""
    _, _, below = README.partition(f"\n{header}")
    assert below, f"no table begins with {header}"
    table = below.splitlines()[2:]
    end = next(n for n, line in enumerate(table) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[:end]]


def names(header: str) -> list[str]:
    """Return the first cells of that table, without backquotes."""
    return [cells[0].strip("` ") for cells in rows(header)]


# the demo and its lake


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, embedded: str) -> tuple[Terminal, str]:
    """Run the demo once, where its broker can run at all; give a terminal beside its lake, and what it said."""
    directory = tmp_path_factory.mktemp("readme")
    terminal = Terminal(directory)
    said = terminal.type("evidence demo")
    lake = re.search(r"build/demo-[\d-]+/lake", said)
    assert lake, said
    shown = re.search(r"build/demo-[\d-]+/lake", README)
    assert shown
    terminal.replaced[shown[0]] = lake[0]
    (directory / "lake").symlink_to(directory / lake[0])
    return terminal, said


def test_the_demo_prints_what_is_shown(demo: tuple[Terminal, str]) -> None:
    terminal, said = demo
    (command, answer), *more = exchanges("Try it")
    assert command == "make demo"
    recipe = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert recipe.stdout.splitlines()[-1] == ".venv/bin/evidence demo"
    assert_shown(answer, said)
    rehearse(terminal, more)


def test_the_lake_answers_what_is_shown(demo: tuple[Terminal, str]) -> None:
    terminal, _ = demo
    _, lake, *_ = exchanges("Try it")
    rehearse(terminal, [lake, *exchanges("Ask")])


def test_plain_duckdb_answers_what_is_shown(demo: tuple[Terminal, str]) -> None:
    terminal, _ = demo
    [script] = blocks("Ask", "python")
    [shown] = blocks("Ask", "text")
    (terminal.directory / "ask.py").write_text(script.text)
    assert_shown(shown.text, terminal.type("python ask.py"))


def test_the_lake_has_the_directories_that_are_shown(demo: tuple[Terminal, str]) -> None:
    terminal, _ = demo
    [path] = blocks("A record's path", "text")
    for shown in re.findall(r"^ *lake/(\S+)/ ", path.text, re.MULTILINE):
        pattern = re.sub(r"\d{4}-\d\d-\d\d", "????-??-??", shown)
        assert list((terminal.directory / "lake").resolve().glob(pattern)), shown


# a cluster


def test_a_cluster_answers_what_is_shown(own_apache: ApacheKafka, tmp_path: Path) -> None:
    """From topics that do not exist to a fact, then a release that breaks the contract, as on-call sees it."""
    terminal = Terminal(tmp_path, replaced={"localhost:9092": own_apache.bootstrap})
    consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    terminal.install("kafka-console-consumer.sh", f"java -cp '{own_apache.jars}/*' {consumer}")
    events = [json.loads(block.text) for block in blocks("Publish", "json")]
    topics = ("exposures", "outcomes", "guardrails")

    for command, answer in exchanges("Run it on your cluster"):
        if command.startswith("evidence worker"):
            publish(terminal, zip(topics, events, strict=True))
        assert_shown(answer, terminal.type(command))

    wrong = {"flagKey": events[0]["flagKey"], "unitId": 98271}
    publish(terminal, [("outcomes", wrong)] * REFUSED, key=events[0]["unitId"])
    letters, worker, *more = exchanges("On call")
    assert_shown(worker.answer, terminal.type(worker.command))
    assert_shown(letters.answer, terminal.type(letters.command))
    rehearse(terminal, more)


def publish(terminal: Terminal, events: Iterable[tuple[str, object]], key: str | None = None) -> None:
    """Publish with the README's own function; `key` goes before the unit ID."""
    _, script = blocks("Publish", "python")
    text = script.text if key is None else script.text.replace('event["unitId"]', repr(key))
    calls = "".join(f"publish({topic!r}, {event!r})\n" for topic, event in events)
    for shown, here in terminal.replaced.items():
        text = text.replace(shown, here)
    (terminal.directory / "publish.py").write_text(f"{text}\n\n{calls}assert producer.flush(60) == 0\n")
    terminal.type("python publish.py")


@pytest.mark.embedded
def test_the_client_publishes_what_is_shown(tmp_path: Path, settings_for: Callable[..., Settings]) -> None:
    """One valid event of each kind, in the topics that the settings have by default."""
    names = {f"{kind}s_topic": f"{kind}s" for kind in KINDS}
    script, _ = blocks("Publish", "python")
    [flag] = blocks("Publish", "yaml")
    with embedded_broker() as bootstrap:
        terminal = Terminal(tmp_path, replaced={"localhost:9092": bootstrap})
        topics = Topics(settings_for(bootstrap, **names))
        text = script.text.replace("localhost:9092", bootstrap)
        (tmp_path / "service.py").write_text(f"{text}\nprint(evidence.close(60), evidence.counts().acknowledged)\n")
        assert terminal.type("python service.py") == "0 3\n"
        records = topics.read(3)
    decoder = Decoder(ContractBook([load_contract(flag.text, "README.md")]), max_value_bytes=1 << 20, max_future_us=0)
    now = time.time_ns() // 1_000
    own: dict[Kind, str] = {"exposure": "modelRoute", "outcome": "latencyMs", "guardrail": "guardrail"}
    for kind, field_name in own.items():
        [value] = [json.dumps(body).encode() for _, _, body in records if field_name in body]
        decoded = decoder.decode(kind, kind, [PlainRecord(value, timestamp=now // 1_000)], now)
        assert (decoded.refused, decoded.events.num_rows) == ((), 1)


# contracts


def test_the_schema_is_what_is_shown(tmp_path: Path) -> None:
    rehearse(Terminal(tmp_path), exchanges("Publish"))


@pytest.mark.parametrize("name", ["README.md", "docs/contracts.md"])
def test_contracts_are_judged_as_is_shown(tmp_path: Path, name: str) -> None:
    page = (ROOT / name).read_text()
    chapters = ["Contracts"] if page == README else ["Check", "Diff"]
    rehearse(Terminal(tmp_path), [each for chapter in chapters for each in exchanges(chapter, page)])


def test_the_page_on_contracts_has_the_effect_of_every_field() -> None:
    _, _, below = (ROOT / "docs" / "contracts.md").read_text().partition("| field | added | removed | changed |\n")
    listed = [
        [cell.strip("` ") for cell in line.strip("|").split("|")] for line in below.split("\n\n")[0].splitlines()[1:]
    ]
    effects = [[name, field.added.effect, field.removed.effect, field.changed.effect] for name, field in FIELDS.items()]
    assert listed == effects


@pytest.mark.parametrize(("kind", "block"), list(zip(KINDS, blocks("Publish", "json"), strict=True)), ids=KINDS)
def test_the_events_are_valid_under_the_flag_file(kind: Kind, block: Block) -> None:
    [flag] = blocks("Publish", "yaml")
    contract = load_contract(flag.text, "README.md")
    decoder = Decoder(ContractBook([contract]), max_value_bytes=1 << 20, max_future_us=0)
    decoded = decoder.decode(kind, kind, [PlainRecord(block.text.encode())], NOON)
    assert [refusal.details for refusal in decoded.refused] == []
    assert decoded.events.num_rows == 1


def test_the_flag_file_is_part_of_the_example() -> None:
    [flag] = blocks("Publish", "yaml")
    shown = load_contract(flag.text, "README.md")
    whole = load_contract((ROOT / "examples" / "support_answer_model_route.yaml").read_text(), "example")
    assert shown.variations.items() <= whole.variations.items()
    assert set(shown.metrics) <= set(whole.metrics)
    assert (shown.flag_key, shown.experiment_key) == (whole.flag_key, whole.experiment_key)


# tables


def test_every_setting_is_in_the_table() -> None:
    cells = [[f"`{row.name}`", f"`{row.default}`" if row.default else "", row.meaning] for row in describe()]
    assert rows("| setting |") == cells


def test_every_reason_is_in_the_table() -> None:
    assert set(names("| reason |")) == REASONS


def test_every_relation_is_in_the_table() -> None:
    assert set(names("| view |")) == {*dictionary.RELATIONS, "metrics_<flag key>"}


def test_every_exit_code_is_in_the_table() -> None:
    assert names("| exit code |") == [str(code.value) for code in Exit]


def test_every_recipe_is_in_the_table() -> None:
    help_lines = subprocess.run(
        ["make", "--no-print-directory", "help"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    recipes = [line.split(maxsplit=1) for line in help_lines.stdout.splitlines()]
    assert rows("## Develop\n\n| |") == [[f"`make {name}`", what] for name, what in recipes if name != "help"]


def test_every_header_of_a_dead_letter_is_named() -> None:
    letter = DeadLetter("t", 0, 0, "not_json", "decode", "", "", "", 0, 0, "", 0, None, b"x").truncated(0)
    assert [name for name, _ in letter.headers() if name not in README] == []


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        pytest.param("| mark |", dictionary.FLAGS, id="marks"),
        pytest.param("| reason |", dictionary.REASONS, id="reasons"),
    ],
)
def test_the_page_on_joining_lists_all(header: str, texts: Sequence[str]) -> None:
    _, _, below = (ROOT / "docs" / "joining.md").read_text().partition(header)
    listed = re.findall(r"^\| `(\w+)` \|", below.split("\n\n")[0], re.MULTILINE)
    assert listed == list(texts)


# references


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)", file.read_text()):
        name, _, anchor = target.partition("#")
        if "://" not in target:
            led_to = file.parent / name if name else file
            assert led_to.exists(), target
            assert not anchor or anchor in anchors(led_to), target


def anchors(page: Path) -> set[str]:
    """Return what a link to a chapter of the page may end in."""
    headings = [line.lower() for line in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings}


def test_files_that_are_named_exist() -> None:
    named = set(re.findall(r"\b(?:contracts|sinks|pipeline|tests|docs|examples)/[\w./-]+\w", README))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_the_kafka_that_is_named_is_the_one_that_is_tried() -> None:
    pom = (ROOT / "tests" / "kafka" / "pom.xml").read_text()
    tried = re.search(r"<kafka\.version>(\d+\.\d+)", pom)
    assert tried
    assert set(re.findall(r"Apache Kafka (\d+\.\d+)", README)) == {tried[1]}
