"""The flags of the generated streams: a changed contract, a string flag, and a flag without an experiment."""

from collections.abc import Mapping
from typing import Final

from contracts.flags import Contract, load_contract

__all__ = ["CONTRACTS", "GROWING", "STEADY"]

_ANSWERS: Final = """\
flag:
  key: answers
  type: json
  owner: ai_platform
  variations:
    control: {{modelRoute: model_a, promptVersion: p1, retrievalProfile: plain}}
    candidate: {{modelRoute: {model}, promptVersion: p1, retrievalProfile: plain}}
    third: {{modelRoute: model_c, promptVersion: p2, retrievalProfile: plain}}
  assignment:
    unit: conversation_id
    eligibleSegment: paid
    exclusions: [incident, regulated]
  rollback: {{defaultVariation: control}}
experiment:
  key: answers_2026_06
  owner: support_ai
  decisionDate: 2026-06-29
  cleanup: remove the losing route
  states:
    - {{state: offline, from: 2026-06-01T06:00:00Z}}
    - {{state: internal, from: 2026-06-01T12:00:00Z}}
    - {{state: ab, from: 2026-06-02T00:00:00Z}}
    - {{state: cleanup, from: 2026-06-03T00:00:00Z}}
  allocation: {{control: 0.5, candidate: 0.5}}
  minimumUnits: 100
  attributes: [locale]
  metrics:
    solved: {{event: done, field: solved, kind: proportion, aggregate: last, window: {long}, goal: increase}}
    solved_first: {{event: done, field: solved, kind: proportion, aggregate: first, window: {long}, goal: increase}}
    solved_ever: {{event: done, field: solved, kind: proportion, aggregate: any, window: {long}, goal: increase}}
    solved_always: {{event: done, field: solved, kind: proportion, aggregate: all, window: {short}, goal: increase}}
    cost: {{event: done, field: cost, kind: mean, aggregate: sum, window: {long}, goal: decrease}}
    cost_mean: {{event: done, field: cost, kind: mean, aggregate: mean, window: {short}, goal: decrease}}
    cost_least: {{event: asked, field: cost, kind: mean, aggregate: min, window: {short}, goal: decrease}}
    cost_most: {{event: done, field: cost, kind: mean, aggregate: max, window: {short}, goal: decrease}}
    turns: {{event: asked, kind: mean, aggregate: count, window: {long}, goal: decrease}}
  primaryMetric: solved
"""

_SUMMARIES: Final = """\
flag:
  key: summaries
  type: string
  owner: ai_platform
  variations: {control: model_a, candidate: model_b}
  rollback: {defaultVariation: control}
experiment:
  key: summaries_2026_06
  owner: support_ai
  decisionDate: 2026-06-29
  cleanup: remove the losing route
  states:
    - {state: ab, from: 2026-06-01T00:00:00Z}
  allocation: {control: 0.5, candidate: 0.5}
  minimumUnits: 100
  metrics:
    cost: {event: done, field: cost, kind: mean, aggregate: sum, window: 10h, goal: decrease}
  primaryMetric: cost
"""

_RANKING: Final = """\
flag:
  key: ranking
  type: json
  owner: ai_platform
  variations:
    control: {modelRoute: model_a, promptVersion: p1, retrievalProfile: plain}
    candidate: {modelRoute: model_b, promptVersion: p1, retrievalProfile: plain}
  rollback: {defaultVariation: control}
"""

_SMALL: Final = load_contract(_ANSWERS.format(model="model_x", long="6h", short="1h"), "flags/answers.yaml")
_DAY: Final = load_contract(_ANSWERS.format(model="model_b", long="24h", short="2h"), "flags/answers.yaml")
_WEEKEND: Final = load_contract(_ANSWERS.format(model="model_b", long="48h", short="2h"), "flags/answers.yaml")

_OTHERS: Final = (load_contract(_SUMMARIES, "flags/summaries.yaml"), load_contract(_RANKING, "flags/ranking.yaml"))

STEADY: Final = (_DAY, _SMALL, *_OTHERS)  # the longest window of each flag is in use from the start
GROWING: Final = (_SMALL, _DAY, _WEEKEND)  # a flag whose window grows from version to version
CONTRACTS: Final[Mapping[str, Contract]] = {contract.version: contract for contract in (*STEADY, *GROWING)}
