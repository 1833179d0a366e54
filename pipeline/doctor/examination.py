"""All rules over one sample."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.flags import ContractBook
from pipeline.doctor.clocks import clocks
from pipeline.doctor.exposures import exposures
from pipeline.doctor.fields import fields
from pipeline.doctor.findings import SEVERITIES, FaultId, Finding, InOrder, NotJudged, Remark
from pipeline.doctor.flags import flags
from pipeline.doctor.joining import joining
from pipeline.doctor.keys import keys
from pipeline.doctor.metrics import metrics
from pipeline.doctor.placing import placing
from pipeline.doctor.reading import Limits, Reading, read
from pipeline.doctor.refusals import FlagCounts, contract_names, count_flags, refusals
from pipeline.doctor.sample import Sample
from pipeline.doctor.splits import splits
from pipeline.doctor.topics import topics
from pipeline.doctor.windows import windows

__all__ = ["Examined", "examine"]

_RULES: Final[Sequence[Callable[[Reading], Iterator[Remark]]]] = (
    topics,
    placing,
    keys,
    refusals,
    contract_names,
    clocks,
    exposures,
    joining,
    windows,
    metrics,
    flags,
    splits,
    fields,
)


_CLOCKS: Final[frozenset[FaultId]] = frozenset({"clock_ahead", "clock_skew"})
_OF_CLOCKS: Final[frozenset[FaultId]] = frozenset({"events_before_exposure", "events_after_window"})
"""What a wrong clock makes of events: one cause is told once."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was looked at, and what was found: findings with the worst first, else in the order of the rules."""

    sample: Sample
    flags: Sequence[FlagCounts]
    findings: Sequence[Finding]
    in_order: Sequence[InOrder]
    not_judged: Sequence[NotJudged]

    @property
    def fine(self) -> bool:
        """Whether nothing worse than a note was found."""
        return all(finding.severity == "note" for finding in self.findings)


def examine(sample: Sample, book: ContractBook, limits: Limits) -> Examined:
    """Look at the sample under the contracts. Raises nothing for any record."""
    reading = read(sample, book, limits)
    remarks = [remark for rule in _RULES for remark in rule(reading)]
    findings = [remark for remark in remarks if isinstance(remark, Finding)]
    if any(finding.id in _CLOCKS for finding in findings):
        findings = [finding for finding in findings if finding.id not in _OF_CLOCKS]
    return Examined(
        sample,
        count_flags(reading),
        sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)),
        [remark for remark in remarks if isinstance(remark, InOrder)],
        [remark for remark in remarks if isinstance(remark, NotJudged)],
    )
