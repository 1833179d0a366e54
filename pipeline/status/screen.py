"""The status as one screen: what needs somebody first, as many partitions as there is room for."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from contracts.times import format_time
from pipeline.status.state import RANK, Letters, PartitionStatus, State, Status

__all__ = ["screen", "span"]

STYLES: Final[dict[State, str]] = {"moves": "green", "new": "dim", "stopped": "bold red", "waits": "bold yellow"}

WIDE: Final = 120
"""A narrower screen leaves out the columns that say how big a partition is, not how it stands."""

SIZES: Final[tuple[tuple[str, Literal["left", "right"]], ...]] = (
    ("closed through\nago", "right"),
    ("open events", "right"),
    ("state", "right"),
)

TOPIC_CHARACTERS: Final = 12

ADVICE_ROWS: Final = 5
"""So many partitions are told of in words; the others have the same trouble more often than not."""

_REFUSED, _UNJOINED = "refused.", "unjoined."


def screen(status: Status, width: int, height: int | None = None) -> RenderableType:
    """Return the screen for so many characters a line; `height` is how many lines there are, none for all it takes."""
    worst_first = sorted(status.partitions, key=lambda p: (RANK[p.state], p.number))
    troubled = [partition for partition in worst_first if partition.advice]
    rest = [
        *_advice(troubled),
        *(Text(f"{topic} does not exist; run: evidence topics create", "bold red") for topic in status.missing),
        Text(),
        _letters(status.letters) if status.letters is not None else Text(status.unreachable, style="bold red"),
        Text(),
        _totals(status),
    ]
    taken = 6 + len(rest) + 4 + min(len(troubled), ADVICE_ROWS)
    shown = worst_first if height is None else worst_first[: max(height - taken, 3)]
    left_out = len(worst_first) - len(shown)
    more = [Text(f"and {left_out} more that are {_worst(worst_first[len(shown) :])}", style="dim")] if left_out else []
    return Group(_head(status), Text(), _partitions(shown, status, wide=width >= WIDE), *more, *rest)


def span(microseconds: int) -> str:
    """Return a span of time in its two greatest units: 1 h 20 min, 45 s; what is less than a second is 0 s."""
    seconds = max(microseconds, 0) // 1_000_000
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts = [(seconds // size % (limit // size), name) for (name, size), limit in zip(units, _LIMITS, strict=True)]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {name}" for count, name in parts[first : first + 2] if count or first == len(parts) - 1)


_LIMITS: Final = (86_400 * 100_000, 86_400, 3_600, 60)


def _head(status: Status) -> Text:
    counts = {state: sum(p.state == state for p in status.partitions) for state in RANK}
    told = ", ".join(f"{count} {_PLURAL[state]}" for state, count in counts.items() if count) or "no partition yet"
    head = Text(f"{format_time(status.now)[:19]}Z  lake {status.lake}, group {status.group}, {status.brokers}\n", "dim")
    if status.unreachable:  # what waits in the topics is not known then, only what the lake says
        told += "; no broker answers"
    return head.append(told, "bold green" if status.fine and not status.unreachable else "bold red")


_PLURAL: Final[dict[State, str]] = {"moves": "move", "new": "new", "stopped": "stopped", "waits": "wait"}


def _worst(partitions: Sequence[PartitionStatus]) -> str:
    return ", ".join(dict.fromkeys(_PLURAL[partition.state] for partition in partitions)).replace("move", "moving")


def _table(*columns: tuple[str, Literal["left", "right"]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for header, justify in columns:
        table.add_column(header, justify=justify, no_wrap=True)
    return table


def _partitions(partitions: Sequence[PartitionStatus], status: Status, *, wide: bool) -> Table:
    topics = list(dict.fromkeys(topic for partition in partitions for topic in partition.lag or {}))
    table = _table(
        ("partition", "right"),
        ("", "left"),
        ("checkpoint\nago", "right"),
        *((f"{_short(topic)}\nbehind", "right") for topic in topics),
        ("watermark\nago", "right"),
        *(SIZES if wide else ()),
    )
    for each in partitions:
        table.add_row(
            str(each.number),
            Text(each.state, STYLES[each.state]),
            _ago(each.committed_at, status.now),
            *("?" if each.lag is None else f"{each.lag.get(topic, 0):,}" for topic in topics),
            _ago(each.watermark, status.now),
            *([_ago(each.closed_through, status.now), f"{each.open_events:,}", _megabytes(each)] if wide else []),
        )
    return table


def _short(topic: str) -> str:
    return topic if len(topic) <= TOPIC_CHARACTERS else f"{topic[: TOPIC_CHARACTERS - 1]}…"


def _megabytes(partition: PartitionStatus) -> str:
    return f"{partition.state_bytes / 1e6:,.1f} MB"


def _ago(time: int | None, now: int) -> str:
    return "-" if time is None else span(now - time)


def _advice(troubled: Sequence[PartitionStatus]) -> Iterator[Text]:
    for partition in troubled[:ADVICE_ROWS]:
        yield Text(f"partition {partition.number}: {partition.advice}", STYLES[partition.state])


def _letters(letters: Sequence[Letters]) -> Table:
    table = _table(
        ("dead letters", "left"),
        ("held", "right"),
        ("last hour", "right"),
        ("last 10 min", "right"),
        ("a minute", "right"),
    )
    for each in letters:
        style = "bold" if each.last_ten_minutes else ""
        counts = (each.held, each.last_hour, each.last_ten_minutes)
        table.add_row(each.topic, *(f"{n:,}" for n in counts), f"{each.last_ten_minutes / 10:,.1f}", style=style)
    return table


def _totals(status: Status) -> Text:
    """Return the fates since the lake began, as the view `account` counts them."""
    totals = status.totals
    parts = [f"{totals.get('facts', 0):,} facts of {totals.get('joined', 0):,} records"]
    for title, prefix in (("unjoined", _UNJOINED), ("refused", _REFUSED)):
        found = {name.removeprefix(prefix): count for name, count in totals.items() if name.startswith(prefix)}
        told = ", ".join(f"{name} {count:,}" for name, count in sorted(found.items(), key=lambda each: -each[1]))
        parts.append(f"{title}: {told or 'none'}")
    return Text("since the lake began  ", "dim").append("; ".join(parts), "not dim")
