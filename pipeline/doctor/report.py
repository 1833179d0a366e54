"""What was found, as text for people and as JSON for machines."""

from collections.abc import Iterator
from typing import Any

from contracts.times import format_time
from pipeline.doctor.examination import Examined
from pipeline.doctor.findings import FAULTS, SEVERITIES
from pipeline.doctor.refusals import FlagCounts
from pipeline.doctor.sample import Topic
from pipeline.terminal import safe

__all__ = ["as_json", "lines"]


def lines(examined: Examined) -> Iterator[str]:
    """Yield the report line by line, harmless to a terminal whatever is in the records."""
    for topic in examined.sample:
        yield _topic(topic)
    yield ""
    yield from _table(examined)
    for finding in examined.findings:
        yield ""
        at = f"  (see {finding.example})" if finding.example else ""
        yield safe(f"{finding.severity} {finding.id}: {finding.what}{at}")
        for line in finding.evidence:
            yield safe(f"  {line}")
        yield f"  → {FAULTS[finding.id].remedy}"
    for title, remarks in (("in order", examined.in_order), ("not judged", examined.not_judged)):
        if remarks:
            yield ""
            yield title
            for remark in remarks:
                yield safe(f"  {remark.what}")
    yield ""
    yield _verdict(examined)


def as_json(examined: Examined) -> dict[str, Any]:
    """Return the report as one JSON object."""
    return {
        "fine": examined.fine,
        "taken_at": format_time(examined.sample.taken_us),
        "topics": [
            {
                "kind": kind,
                "topic": topic.name,
                "partitions": topic.partitions,
                "records": topic.count,
                "from_the_beginning": not topic.cut,
                "unread": {str(partition): why for partition, why in topic.unread.items()},
            }
            for kind, topic in examined.sample.kinds()
        ],
        "flags": [
            {
                "flag": counts.flag,
                "contract": counts.known,
                "exposures": counts.exposures,
                "outcomes": counts.outcomes,
                "guardrails": counts.guardrails,
                "refused": dict(counts.refused),
            }
            for counts in examined.flags
        ],
        "findings": [finding.as_json() for finding in examined.findings],
        "in_order": [remark.what for remark in examined.in_order],
        "not_judged": [remark.what for remark in examined.not_judged],
    }


def _topic(topic: Topic) -> str:
    if not topic.partitions:
        return f"{topic.name}: not there"
    times = [record.timestamp for records in topic.records.values() for record in (*records[:1], *records[-1:])]
    span = f", of {format_time(min(times) * 1000)} to {format_time(max(times) * 1000)}" if times else ""
    whole = "not all that was asked for" if topic.unread else "the newest" if topic.cut else "all there are"
    looked = f"{_plural(topic.count, 'record')}{span}, {whole}" if topic.count else "no records"
    return f"{topic.name}: {looked}; {_plural(topic.partitions, 'partition')}"


def _table(examined: Examined) -> Iterator[str]:
    heads = ("flag", "exposures", "outcomes", "guardrails", "refused", "")
    rows = [heads, *map(_row, examined.flags)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(heads))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[place].rjust(widths[place]) for place in range(1, 5)), row[5]]
        yield "  ".join(cells).rstrip()


def _row(counts: FlagCounts) -> tuple[str, ...]:
    refused = sum(counts.refused.values())
    total = counts.exposures + counts.outcomes + counts.guardrails + refused
    part = "-" if not refused else f"{refused:,} ({100 * refused / total:.1f} %)" if counts.known else f"{refused:,}"
    why = ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.refused.items(), key=lambda one: -one[1]))
    name = safe(counts.flag[:60]) + ("" if counts.known else " (no flag file)" if counts.flag != "(no flag)" else "")
    return name, f"{counts.exposures:,}", f"{counts.outcomes:,}", f"{counts.guardrails:,}", part, why


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _verdict(examined: Examined) -> str:
    counts = {severity: sum(finding.severity == severity for finding in examined.findings) for severity in SEVERITIES}
    told = ", ".join(_plural(count, severity) for severity, count in counts.items() if count)
    if not told:
        return "nothing is wrong with the producers, as far as the sample tells"
    return f"{told}; what each means: docs/doctor.md"
