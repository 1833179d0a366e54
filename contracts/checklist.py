"""The production checklist: every rule of `evidence contracts check`, why it is one, and what to do.

This table is the one source: `contracts.checks`, with `contracts.breaches` and `contracts.texts`, looks for breaches,
`python -m contracts.checklist` prints the page `docs/checklist.md`.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["ITEMS", "RULES", "SEVERITIES", "Finding", "Rule", "Severity", "main", "markdown"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("note", "warning", "error")

ITEMS: Final[Mapping[str, str]] = {
    "file": "The file can be read",
    "route": "The flag's variation represents the model route under test",
    "unit": "The assignment unit matches the product experience and the metric windows",
    "metrics": "The primary metric and the guardrails are written before traffic starts",
    "rollback": "Operators can roll back globally or by segment without redeploying",
    "secrets": "Secrets and prompts stay outside the flag",
    "segments": "Segment readouts are reviewed before expansion",
    "owner": "The experiment has an owner, a decision date and a cleanup rule",
    "telemetry": "Exposures, outcomes and guardrails arrive, and stay long enough",
}
"""What the rules are about: the items of the checklist that a flag file or its topics can show."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: an `error` makes evidence wrong or a rollback impossible, a `warning` may, a `note` says what is so."""

    severity: Severity
    item: str  # a key of ITEMS
    wants: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach of a rule. `line` is 1-based, 0 where there is none; `field` is dotted, empty where there is none."""

    rule: str
    severity: Severity
    file: str
    line: int
    field: str
    message: str
    remedy: str
    ignored: str | None = None  # the reason that a comment in the file gives

    def as_json(self) -> dict[str, str | int | None]:
        """Return it for machines."""
        return {name: getattr(self, name) for name in self.__slots__}


RULES: Final[Mapping[str, Rule]] = {
    "readable": Rule(
        "error",
        "file",
        "The file is a flag file: YAML in UTF-8 with the fields of one, and no others.",
        "A worker that meets a broken file at start does not start; one that runs goes on with the contract before.",
        "correct the file",
    ),
    "one-file": Rule(
        "error",
        "file",
        "Each flag and each experiment has one file.",
        "Two files for one key are two contracts for one record; a worker refuses both.",
        "remove one of the files, or rename one of the keys",
    ),
    "plain-name": Rule(
        "warning",
        "file",
        "Names look like what they are: one alphabet, nothing unseen, no white space at an end.",
        "A service that publishes the name as it looks publishes another: its records are refused as unknown.",
        "type the name anew",
    ),
    "ignored": Rule(
        "warning",
        "file",
        "A comment that ignores a rule names a rule of this page, gives a reason, and is needed.",
        "An exception without a reason outlives whoever knew it.",
        "write it as: # evidence: ignore[rule] reason",
    ),
    "experiment": Rule(
        "warning",
        "metrics",
        "The flag has an experiment.",
        "Without one its windows last a day and have no metrics, so its facts only count exposures.",
        "add an experiment block, or ignore the rule for a flag that measures nothing",
    ),
    "route-named": Rule(
        "error",
        "route",
        "Every variation names its model route.",
        "A variation that names no route is compared with nothing: what really ran cannot be held against it.",
        "use type json or string, and give each variation its modelRoute",
    ),
    "route-whole": Rule(
        "warning",
        "route",
        "Every variation names its prompt version and its retrieval profile.",
        "A dimension that is not named may change unseen; route_drift marks only what the contract names.",
        "use type json, and give promptVersion and retrievalProfile, with a word such as none where there is nothing",
    ),
    "routes-differ": Rule(
        "error",
        "route",
        "Variations that are compared run different routes.",
        "Two variations of one route are an A/A test: a difference between them is chance.",
        "correct the route of one; for an A/A test ignore the rule and say so",
    ),
    "variation-name": Rule(
        "warning",
        "route",
        "A variation is not named like a model, or like a model route.",
        "Services then publish the route as the variation; when a fallback runs, nobody can tell the two apart.",
        "name variations by their part in the test: control, candidate, fallback",
    ),
    "changed-dimensions": Rule(
        "note",
        "route",
        "What differs between the variations is listed.",
        "A readout may credit a difference only to what differs.",
        "none needed",
    ),
    "route-not-model": Rule(
        "warning",
        "route",
        "Variations differ in one dimension: the model, the prompt or the retrieval profile.",
        "Where more than one changes, the result belongs to the route as a whole and not to the model.",
        "name the route in the readout, or split the change into two experiments",
    ),
    "unit": Rule(
        "error",
        "unit",
        "The assignment unit is named.",
        "The same unit must stand in flag evaluation, exposures and outcomes; unnamed, a mix-up is not marked.",
        "add assignment.unit, such as conversation_id",
    ),
    "unit-fits-windows": Rule(
        "warning",
        "unit",
        "A unit lives about as long as the metric windows.",
        "In a window longer than its unit outcomes belong to something else; a unit that is met again and again in a "
        "short window brings one fact each time, and these are not independent.",
        "choose a longer-lived unit, or a shorter window",
    ),
    "primary-metric": Rule(
        "error",
        "metrics",
        "A primary metric is named.",
        "Who chooses the metric after the data finds one that wins.",
        "name it as primaryMetric",
    ),
    "guardrail-metrics": Rule(
        "error",
        "metrics",
        "Guardrail metrics are named.",
        "A candidate that wins the primary metric may still be slower, dearer or worse for people.",
        "list them as guardrailMetrics",
    ),
    "primary-apart": Rule(
        "warning",
        "metrics",
        "The primary metric is no guardrail.",
        "A guardrail must not get worse, the primary metric shall get better: one metric cannot be judged both ways.",
        "take it out of guardrailMetrics",
    ),
    "metrics-differ": Rule(
        "warning",
        "metrics",
        "No two metrics measure the same.",
        "One number under two names looks like twice the evidence.",
        "remove one, or correct its field, aggregate or window",
    ),
    "field-kind": Rule(
        "warning",
        "metrics",
        "A field is read either as yes or no, or as an amount.",
        "A proportion of amounts, and an amount of yes and no, are numbers that say nothing.",
        "correct the field or the kind of one",
    ),
    "latency-metric": Rule(
        "warning",
        "metrics",
        "A metric measures latency.",
        "Quality bought with waiting shows nowhere else.",
        "add a metric of a field such as latencyMs, and publish it with each outcome",
    ),
    "cost-metric": Rule(
        "warning",
        "metrics",
        "A metric measures cost.",
        "Quality bought with money shows nowhere else.",
        "add a metric of a field such as estimatedCost, and publish it with each outcome",
    ),
    "minimum-units": Rule(
        "warning",
        "metrics",
        "The least number of units a variation needs is written down.",
        "Without it the first lucky day decides.",
        "add minimumUnits, from the smallest difference worth a decision",
    ),
    "allocation": Rule(
        "warning",
        "metrics",
        "At least two variations have a share of the traffic.",
        "Without planned shares nobody notices that one group is too small, the first sign of a broken assignment.",
        "add allocation, such as {control: 0.5, candidate: 0.5}",
    ),
    "states": Rule(
        "warning",
        "metrics",
        "The exposure ladder is written down, with the time of each state.",
        "Facts from before the test, from inside the company and from after the decision look like evidence.",
        "add states, such as internal, canary, ab, decision, cleanup",
    ),
    "ladder": Rule(
        "warning",
        "metrics",
        "Internal traffic or a canary comes before the A/B test.",
        "A wide split is the dearest way to find that events are missing.",
        "add an internal or a canary state before ab",
    ),
    "guardrail-bound": Rule(
        "note",
        "rollback",
        "Each guardrail metric has a rule that rolls back.",
        "A guardrail without a bound is looked at only when someone looks.",
        "add a rule with metric and above or below to rollbackWhen",
    ),
    "rollback-default": Rule(
        "error",
        "rollback",
        "A rollback leads to a named variation.",
        "In an incident nobody should have to choose where to go.",
        "add rollback.defaultVariation to the flag",
    ),
    "rollback-apart": Rule(
        "warning",
        "rollback",
        "A rollback does not lead to what is under test.",
        "It would end the incident with its cause.",
        "let it lead to the control, or to a fallback",
    ),
    "rollback-rules": Rule(
        "error",
        "rollback",
        "It is written down what rolls the experiment back.",
        "Thresholds that are set during an incident are set by whoever speaks first.",
        "add rules to rollbackWhen",
    ),
    "rollback-steps": Rule(
        "warning",
        "rollback",
        "It is written down how to roll back all traffic.",
        "Whoever is on call has not read the code.",
        "add rollbackAction.immediate",
    ),
    "rollback-segment": Rule(
        "warning",
        "rollback",
        "It is written down how to take one segment out.",
        "If only the whole test can be stopped, harm to a few is borne too long.",
        "add rollbackAction.scoped",
    ),
    "fallback-rule": Rule(
        "warning",
        "rollback",
        "A rule stops the experiment when too many units fall back.",
        "A candidate that falls back is not tested: its facts show the fallback's quality.",
        "add a rule with above and window to rollbackWhen",
    ),
    "secret": Rule(
        "error",
        "secrets",
        "Nothing in the file looks like a key, a token or a password.",
        "The lake keeps every version of the file for good, and whoever reads evidence reads it.",
        "take it out, and change it where it is used: it has been seen",
    ),
    "prompt": Rule(
        "error",
        "secrets",
        "Nothing in the file looks like a prompt.",
        "A flag selects a named route; the service that makes the call owns the prompt.",
        "keep the prompt with the service, and name its version",
    ),
    "large-value": Rule(
        "warning",
        "secrets",
        "Names are short and texts are a few sentences.",
        "A flag that carries policies becomes the place where they are changed, without review.",
        "keep the text elsewhere, and name it here",
    ),
    "segment-rule": Rule(
        "warning",
        "segments",
        "A rule looks at segments that must not be harmed.",
        "An average hides that the most valuable segment gets worse.",
        "add a rule with attribute, segments, metric and worseBy to rollbackWhen",
    ),
    "segment-attributes": Rule(
        "warning",
        "segments",
        "Facts keep at least one attribute.",
        "Without attributes no readout can be by segment, not even later.",
        "list attributes such as locale or plan",
    ),
    "owner": Rule(
        "error",
        "owner",
        "The experiment, or its flag, has an owner.",
        "Someone must be asked, and someone must decide.",
        "add owner",
    ),
    "decision-date": Rule(
        "error",
        "owner",
        "The experiment has a decision date.",
        "A test without an end is a release that nobody decided.",
        "add decisionDate",
    ),
    "decision-date-past": Rule(
        "error",
        "owner",
        "The decision date has not passed, unless the flag is in cleanup.",
        "Looking on until the result is right is not a test.",
        "decide, and go on to the state cleanup; or write down a new date and why",
    ),
    "decision-date-early": Rule(
        "warning",
        "owner",
        "The first window of the A/B test can be over by the decision date.",
        "Until a window is over its unit has no fact.",
        "move decisionDate to a later day, or start earlier",
    ),
    "cleanup": Rule(
        "error",
        "owner",
        "It is written down what remains in the end.",
        "Flags that nobody removes become traffic that nobody owns.",
        "add cleanup",
    ),
    "cleanup-due": Rule(
        "warning",
        "owner",
        "A flag is in cleanup for a month at most.",
        "What was to be removed is still there.",
        "remove the losing route and, when no service publishes the flag any more, this file",
    ),
    "telemetry-rule": Rule(
        "warning",
        "telemetry",
        "A rule rolls back when exposures or outcomes stop coming.",
        "An experiment without telemetry harms unseen.",
        "add a rule with for to rollbackWhen, such as {for: 10m}",
    ),
    "topic-there": Rule(
        "error",
        "telemetry",
        "The three topics are there.",
        "Nothing that is published is kept.",
        "run: evidence topics create",
    ),
    "topic-retention": Rule(
        "error",
        "telemetry",
        "The topics keep records for longer than the longest metric window and the allowed lateness.",
        "A worker that was away for a while, and every audit, finds records gone whose window is still open.",
        "raise retention.ms",
    ),
    "topic-partitions": Rule(
        "error",
        "telemetry",
        "The three topics have one partition count.",
        "Records of a unit meet by their partition number; with other counts they do not meet, and it looks like few "
        "outcomes.",
        "make the smaller topics as large as the largest, and begin a new lake",
    ),
}
"""By the name that comments and reports use. Those of topics are judged with --kafka alone."""

_ELSEWHERE: Final[Mapping[str, str]] = {
    "The application evaluates the flag where the model behaviour actually runs": "no file shows it; a share of units "
    "without outcomes in `facts`, or `no_exposure` among the dead letters, does",
    "Exposure events record the actual execution": "every exposure is held against the contract; what differs is "
    "marked `route_drift` or `fallback_contaminated`",
    "Outcome and guardrail events carry the same unit ID and variation": "every event is joined by them; what differs "
    "is marked `variation_mismatch`, what meets nothing is `no_exposure`",
}


def markdown() -> str:
    """Return the page of the checklist."""
    return "\n".join(_lines()) + "\n"


def main() -> None:
    """Print the page."""
    sys.stdout.write(markdown())


def _lines() -> Iterator[str]:
    yield "# The checklist before traffic"
    yield ""
    yield "<!-- made by `python -m contracts.checklist`; change the texts there -->"
    yield ""
    yield "`evidence contracts check` holds flag files against these rules. An **error** makes evidence wrong or a"
    yield "rollback impossible, a **warning** may, a **note** tells what is so. Rules of topics ask the brokers, with"
    yield "`--kafka`."
    yield ""
    yield "A rule that does not fit can be ignored, with a reason, on the line that the finding names or above it:"
    yield ""
    yield "```yaml"
    yield "experiment: # evidence: ignore[minimum-units] every one of our nine accounts is in it"
    yield "```"
    for item, title in ITEMS.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| rule | severity | wants | why | remedy |"
        yield "|---|---|---|---|---|"
        for name, rule in RULES.items():
            if rule.item == item:
                yield f"| `{name}` | {rule.severity} | {rule.wants} | {rule.why} | {rule.remedy} |"
    yield ""
    yield "## What a flag file cannot show"
    yield ""
    for item, shown in _ELSEWHERE.items():
        yield f"- {item}: {shown}."


if __name__ == "__main__":  # pragma: no cover - tests call main
    main()
