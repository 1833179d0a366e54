"""Three topics in, facts in Parquet: every record has the fate that was planted, in one run or in several."""

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from contracts.flags import load_contract
from pipeline.demo import EXAMPLE, contract_for
from pipeline.planted import generate
from tests.integration.deployment import Deployment, exposure, outcome

EVENTS, PARTITIONS = 2_000, 3


def test_every_record_has_its_fate(bootstrap: str, deploy: Callable[..., Deployment]) -> None:
    """Planted traffic in two parts, each read by a worker of its own, becomes what was planted and nothing else."""
    now = time.time_ns() // 1_000_000 * 1_000
    text = contract_for(EXAMPLE.read_text(), datetime.fromtimestamp(now // 1_000_000, UTC).date())
    contract = load_contract(text, "route.yaml")
    traffic = generate(random.Random(3), now, contract, events=EVENTS, partitions=PARTITIONS)  # noqa: S311
    planted = traffic.planted
    deployed = deploy(bootstrap, flag=text, partitions=PARTITIONS)

    deployed.publish(traffic.first)
    deployed.read_to_end()
    deployed.publish(traffic.second)
    deployed.with_new_group().read_to_end("--close-windows")

    assert deployed.told() == deployed.places()
    assert len(deployed.places()) == planted.published + planted.rerouted
    assert deployed.fates() == Counter(planted.refused) + Counter(planted.unjoined) + Counter(
        rerouted=planted.rerouted, joined=sum(planted.joined.values())
    )
    facts = deployed.rows("facts")
    assert Counter(fact["variation"] for fact in facts) == planted.facts
    assert Counter(fact["variation"] for fact in facts if fact["clean"]) == +Counter(planted.clean)
    assert Counter((fact["variation"], flag) for fact in facts for flag in fact["flags"]) == planted.flags
    telemetry = {reason: planted.unjoined[reason] for reason in ("late", "no_exposure")}
    assert Counter(letter.reason for letter in deployed.letters()) == Counter(planted.refused) + Counter(telemetry)


def test_a_restart_in_the_middle_changes_no_fact(deployment: Deployment) -> None:
    """Windows that were open when a worker ended are joined by the next with what came since."""
    units = [f"u{number}" for number in range(40)]
    deployment.publish(exposure(unit, hour / 4) for hour, unit in enumerate(units))
    deployment.read_to_end()
    deployment.publish(outcome(unit, hour / 4 + 1) for hour, unit in enumerate(units))
    deployment.with_new_group().read_to_end("--close-windows")

    at_once = deployment.with_new_lake()
    at_once.read_to_end("--close-windows")
    assert deployment.facts() == at_once.facts()
    assert [fact["outcomes"] for fact in deployment.facts()] == [1] * len(units)
    assert deployment.told() == at_once.told() == deployment.places()
