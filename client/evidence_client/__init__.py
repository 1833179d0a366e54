"""Publishes what AI features really ran, what came of it and what went wrong.

    evidence = Evidence(KafkaPublisher({"bootstrap.servers": "localhost:9092"}))
    with evidence.run(assignment) as run:
        answer = ...
        run.executed(model_route="support_model_b", prompt_version="support_v3", retrieval_profile="baseline")
    run.outcome("support_conversation_outcome", {"resolvedWithoutEscalation": True})

`evidence_client.openfeature` and `evidence_client.growthbook` make assignments of what those flags decide.
"""

from evidence_client.assignment import Assignment, Route
from evidence_client.assignments import Assignments
from evidence_client.counts import Counts, DropReason, Loss, SkipReason
from evidence_client.events import Kind, Message
from evidence_client.evidence import Evidence
from evidence_client.kafka import KafkaPublisher
from evidence_client.publisher import MemoryPublisher, Publisher
from evidence_client.run import Run

__all__ = [
    "Assignment",
    "Assignments",
    "Counts",
    "DropReason",
    "Evidence",
    "KafkaPublisher",
    "Kind",
    "Loss",
    "MemoryPublisher",
    "Message",
    "Publisher",
    "Route",
    "Run",
    "SkipReason",
]
