"""The page docs/doctor.md: what the doctor looks at, every fault with its why and remedy, partitioners by client.

`python -m pipeline.doctor.page > docs/doctor.md` writes it.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from pipeline.doctor.findings import FAULTS, SEVERITIES

__all__ = ["CLIENTS", "markdown"]


class Client(NamedTuple):
    """A client library: by what it places keys unless told otherwise, and how it is told to by murmur2."""

    name: str
    default: str
    setting: str


CLIENTS: Final[Sequence[Client]] = (
    Client("Java, Kafka Streams, Connect, Spring", "murmur2", "leave `partitioner.class` unset"),
    Client("librdkafka in Python, Go and .NET (confluent-kafka)", "CRC32", "`partitioner=murmur2_random`"),
    Client("librdkafka in Node, PHP, Rust and Ruby (Karafka)", "CRC32", "`partitioner=murmur2_random`"),
    Client("aiokafka, kafka-python, Faust", "murmur2", "none needed"),
    Client("KafkaJS", "murmur2", "`createPartitioner: Partitioners.DefaultPartitioner`"),
    Client("franz-go", "murmur2", "none needed: `kgo.StickyKeyPartitioner(nil)`"),
    Client(
        "Sarama",
        "FNV-1a",
        "`sarama.NewCustomPartitioner(sarama.WithAbsFirst(), sarama.WithCustomHashFunction(…))` with Kafka's murmur2",
    ),
    Client("kafka-go", "in turn, whatever the key", "`Balancer: kafka.Murmur2Balancer{}`"),
    Client("ruby-kafka", "CRC32", "`partitioner: Kafka::Partitioner.new(hash_function: :murmur2)`"),
)

_HEAD: Final = """\
# The doctor

`evidence doctor` samples the three topics and says in plain words what is wrong with the producers: who places records
where they do not belong, whose keys are not unit IDs, whose clock is off, which records the contracts refuse and why,
which flags get traffic that their contracts do not foresee. It only reads: it joins no group, commits nothing, changes
nothing, and needs no right but to describe and read the topics. Workers may run meanwhile, or not be there yet.

- `evidence doctor` reads the newest 2,000 records of each partition; `--records N` so many; `--since 25h` all that are
  younger. Reading takes `--time-limit` seconds at most (30); a partition that is not read to its end by then is told.
- Exit code 0: no more than notes. 1: errors or warnings. 2: an option, a setting or a flag file is wrong. 3: no broker
  answers.
- `--json` prints one object: `fine`, `topics`, `flags`, `findings` (each with `id`, `severity`, `what`, `count`, `of`,
  `evidence`, `example`, `why`, `remedy`), `in_order`, `not_judged`. The IDs below stay as they are.
- An example, such as `outcomes/5/17`, is topic, partition and offset.

## What a sample can tell

The report has three parts: what is wrong, what was looked at and is in order, and what could not be judged. A finding
needs enough records; the least numbers and shares are constants at the head of each module of `pipeline/doctor/`, with
their reasons. One cause is told once: records that are refused are not missed again as exposures, keys that are quoted
are not blamed on the partitioner as well.

- **Partitioner.** With two partitions every second key lies by chance where another partitioner would have put it. So
  each distinct key with its partition is explained as placed by murmur2, CRC32, FNV-1a or none of them, by the mixture
  of greatest likelihood, and a cause is told where the explanation without it is a million times less likely. The key
  is taken as it is: a quoted key that murmur2 has placed is a fault of the key alone.
- **Producers** are told apart by the ID of an idempotent producer, else by a header (`producer`, `service.name`,
  `service`, `application`, `client.id`, `source`), else by the source of a CloudEvent, else by the type of event. The
  report says which.
- **Clocks.** An event that is later than the broker's append time or than the doctor's clock comes from a clock that is
  ahead. The other way round a clock that is behind and a delay look alike: it is told only where one
  producer of several differs always by as much. Topics with `message.timestamp.type=LogAppendTime` tell more.
- **Exposures and outcomes.** An outcome is judged where two whole metric windows before it lie in the sample (it may
  come late for the first), an exposure where its window is over. For windows of 24 hours sample `--since 49h`, or
  topics that begin in the sample.
- **Facts that will not be clean.** What a service may publish, and what makes a fact that readouts leave out, is told
  under the names that facts have for it: `route_drift`, `assignment_unit_mismatch`, `excluded_unit`, `crossover`,
  `variation_mismatch`. So a fault shows before the first window closes.
- **Copies** that workers made of misplaced records, and replayed dead letters, are left out.
"""


def markdown() -> str:
    """Return the page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    yield "<!-- made by `python -m pipeline.doctor.page`; change the texts there -->"
    yield ""
    yield "## Partitioners"
    yield ""
    yield "| client | places keys by | to place by murmur2 |"
    yield "|---|---|---|"
    for client in CLIENTS:
        yield f"| {client.name} | {client.default} | {client.setting} |"
    yield ""
    yield "## Findings"
    for severity in SEVERITIES:
        for name, fault in FAULTS.items():
            if fault.severity == severity:
                yield ""
                yield f"### {name}"
                yield ""
                yield f"*{severity.capitalize()}.* {fault.meaning} {fault.why}"
                yield ""
                yield f"**Remedy:** {fault.remedy}"
    yield ""


def main() -> None:
    """Print the page."""
    print(markdown(), end="")  # noqa: T201 - the result


if __name__ == "__main__":
    main()
