"""What workers refuse of each contract, by reason and by field, and which of it has a name of its own."""

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from contracts.flags import Contract, ContractBook
from contracts.naming import named_after_models, names_model
from pipeline.dlq.places import Place
from pipeline.doctor.findings import FaultId, Finding, InOrder, Remark, share
from pipeline.doctor.reading import Reading, Row

__all__ = ["FlagCounts", "contract_names", "count_flags", "looks_like_route", "refusals"]

LEAST: Final = 3
"""Refused records of one flag, topic and reason: one or two are somebody's experiments. The table counts them."""

LEAST_SHARE: Final = 0.01
"""Of the flag's records on the topic: the alert of refused records has the same threshold."""

_CLOSE: Final = 0.8  # of difflib's ratio: support_model_c and support_model_a have 0.93
_SHOWN: Final = 5
_LONGEST: Final = 256  # characters of a name that are looked at: the contract's bound
_REMEMBERED: Final = 4_096  # names and details that were looked at: most come again and again
_NO_FLAG: Final = "(no flag)"

_SAYING: Final[Mapping[str, str]] = {
    "variation_is_route": "name a model route in place of the variation",
    "unknown_flag": "name a flag or experiment without a flag file",
    "unknown_variation": "name a variation that their flag does not have",
}


class FlagCounts(NamedTuple):
    """What a flag has in the sample: valid records by kind, and refused ones by reason."""

    flag: str
    known: bool
    exposures: int
    outcomes: int
    guardrails: int
    refused: Mapping[str, int]


@dataclass(slots=True)
class _Told:
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # by topic and flag
    names: Counter[str] = field(default_factory=Counter)  # what is unknown, or the field that is wrong
    first: Place | None = None


def refusals(reading: Reading) -> Iterator[Remark]:
    """Tell what is refused. Events from the future are left to the clocks."""
    totals = Counter(row.topic.name for row in reading.rows)
    of_flag = Counter((row.topic.name, row.event.flag_key) for row in reading.rows if row.event is not None)
    told: dict[tuple[FaultId, str], _Told] = {}
    refused = 0
    for number, row in enumerate(reading.rows):
        if row.refusal is None or row.refusal.reason == "future_timestamp":
            continue
        refused += 1
        flag = reading.flag_of.get(number, _NO_FLAG)
        of_flag[row.topic.name, flag] += 1
        fault, names = _sort(row, reading.book, flag)
        own = told.setdefault((fault, row.refusal.reason), _Told())
        own.counts[row.topic.name, flag] += 1
        own.names.update(names)
        own.first = own.first or row.place
    found = False
    for (fault, reason), own in sorted(told.items()):
        wide = fault == "unknown_flag"
        counts = {
            (topic, flag): count
            for (topic, flag), count in own.counts.items()
            if _matters(own.counts, topic, flag, totals[topic] if wide or flag == _NO_FLAG else of_flag[topic, flag])
        }
        if counts:
            found = True
            yield _finding(fault, reason, counts, own, totals, of_flag)
    if reading.rows and not found:
        yield InOrder(f"contracts: {share(len(reading.rows) - refused, len(reading.rows))} records are accepted")


def contract_names(reading: Reading) -> Iterator[Remark]:
    """Tell of contracts whose variations have the names of models or of their routes."""
    for contract in reading.book:
        named = named_after_models(contract)
        if named:
            what = f"The flag {contract.flag_key} calls its variations after models: {', '.join(named[:_SHOWN])}."
            lines = [f"{contract.file}: {name}" for name in named[:_SHOWN]]
            yield Finding("contract_names_routes", what, lines, len(named), len(contract.variations))


def count_flags(reading: Reading) -> list[FlagCounts]:
    """Return what each flag has in the sample: those with a contract first, then the most frequent of the others."""
    valid: Counter[tuple[str, str]] = Counter()
    refused: dict[str, Counter[str]] = {}
    for number, row in enumerate(reading.rows):
        if row.event is not None:
            valid[row.event.flag_key, row.kind] += 1
        elif row.refusal is not None:
            refused.setdefault(reading.flag_of.get(number, _NO_FLAG), Counter())[row.refusal.reason] += 1
    others = sorted(refused.keys() - reading.book.flags.keys(), key=lambda flag: -refused[flag].total())
    return [
        FlagCounts(
            flag,
            flag in reading.book.flags,
            valid[flag, "exposure"],
            valid[flag, "outcome"],
            valid[flag, "guardrail"],
            dict(refused.get(flag, {})),
        )
        for flag in [*reading.book.flags, *others[: 2 * _SHOWN]]
    ]


@lru_cache(maxsize=_REMEMBERED)
def looks_like_route(name: str, contract: Contract | None, book: ContractBook) -> bool:
    """Return whether a variation's name is a model route's, or nearer to one than to a variation's."""
    routes = {route.model_route for each in book for route in each.variations.values() if route.model_route}
    variations = set(contract.variations) if contract else set()
    if name in routes - variations:
        return True
    low = name.lower()
    if difflib.get_close_matches(low, [each.lower() for each in variations], n=1, cutoff=_CLOSE):
        return False
    return bool(
        names_model(low) or difflib.get_close_matches(low, [each.lower() for each in routes], n=1, cutoff=_CLOSE)
    )


def _sort(row: Row, book: ContractBook, flag: str) -> tuple[FaultId, list[str]]:
    """Return which fault a refusal is, and the names or fields that show it."""
    reason = row.refusal.reason if row.refusal else ""
    body = row.body()
    if reason == "unknown_flag":
        return "unknown_flag", [flag[:_LONGEST] + _hint(flag[:_LONGEST], book)]
    if reason == "unknown_variation":
        variation = body.get("variation")
        name = variation[:_LONGEST] if isinstance(variation, str) else "(unreadable)"
        is_route = looks_like_route(name, book.flags.get(flag), book)
        if is_route:
            return "variation_is_route", [name]
        there = tuple(book.flags[flag].variations) if flag in book.flags else ()
        return "unknown_variation", [name + _like(name, there)]
    return "refused_records", list(_fields(row.refusal.details if row.refusal else "[]"))


@lru_cache(maxsize=_REMEMBERED)
def _hint(flag: str, book: ContractBook) -> str:
    if flag in book.experiments:
        return f", which is the experiment of {book.experiments[flag].flag_key}: publish it as experimentKey"
    return _like(flag, (*book.flags, *book.experiments))


@lru_cache(maxsize=_REMEMBERED)
def _like(name: str, known: Sequence[str]) -> str:
    """Ask whether a name is meant to be one that is known, letter case aside."""
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=_CLOSE)
    return f", is it {by_lower[near[0]]}?" if near else ""


@lru_cache(maxsize=_REMEMBERED)
def _fields(details: str) -> tuple[str, ...]:
    """Return each field that is wrong, and how."""
    return tuple(
        f"{'.'.join(map(str, each['loc'])) or 'the record'}: {each['msg']}" for each in json.loads(details)[:_SHOWN]
    )


def _matters(counts: Counter[tuple[str, str]], topic: str, flag: str, of: int) -> bool:
    return counts[topic, flag] >= LEAST and counts[topic, flag] >= LEAST_SHARE * of


def _finding(  # noqa: PLR0913, PLR0917 - the parts of one finding
    fault: FaultId,
    reason: str,
    counts: Mapping[tuple[str, str], int],
    own: _Told,
    totals: Counter[str],
    of_flag: Counter[tuple[str, str]],
) -> Finding:
    topics = sorted({topic for topic, _ in counts})
    count, of = sum(counts.values()), sum(totals[topic] for topic in topics)
    saying = _SAYING.get(fault, f"break the contract ({reason})")
    lines = []
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    for (topic, flag), number in ranked[:_SHOWN]:
        if fault == "unknown_flag" or flag == _NO_FLAG:
            lines.append(f"{topic}, {flag}: {share(number, totals[topic])} records of the topic")
        else:
            lines.append(f"{topic}, flag {flag}: {share(number, of_flag[topic, flag])} records of the flag")
    if len(ranked) > _SHOWN:
        lines.append(f"and {len(ranked) - _SHOWN} more flags and topics")
    lines += [f"{name}, in {number:,}" for name, number in own.names.most_common(_SHOWN)]
    what = f"Records of {' and '.join(topics)} {saying}: {share(count, of)}."
    return Finding(fault, what, lines, count, of, own.first)
