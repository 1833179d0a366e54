"""A fact: what is known of one unit in one metric window. One row of the lake's `facts` table."""

from typing import Annotated, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts.flag_files import State

__all__ = ["FLAGS", "Fact", "FactFlag"]

FactFlag = Literal[
    "fallback_contaminated",  # an exposure ran a fallback
    "variation_mismatch",  # an outcome or guardrail names another variation
    "route_drift",  # an exposure ran another route than the contract's
    "crossover",  # the unit has an overlapping window of another variation
    "assignment_unit_mismatch",  # an exposure names another kind of unit than the contract
    "excluded_unit",  # an exposure is of an excluded segment, or not of the eligible one
    "wrong_state",  # the experiment had not begun, was offline or in cleanup
]
FLAGS: Final[tuple[FactFlag, ...]] = get_args(FactFlag)
"""What may make a fact unclean, in the order in which a fact lists it."""

Count = Annotated[int, Field(ge=0)]


class Fact(BaseModel):
    """One metric window of one unit and variation, decided for good."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flag_key: str
    experiment_key: str | None = Field(description="Null where the flag has no experiment.")
    unit_id: str
    assignment_unit: str = Field(description="What a unit is, as at the first exposure.")
    variation: str
    state: State | None = Field(description="The exposure ladder's state at the start; null before the first.")
    window_start: AwareDatetime = Field(description="The first exposure.")
    window_end: AwareDatetime = Field(description="Exclusive.")
    last_exposure_at: AwareDatetime
    exposures: Annotated[int, Field(ge=1)] = Field(description="Without duplicates.")
    fallbacks: Count = Field(description="The exposures among them that ran a fallback.")
    model_route: str = Field(description="As it ran at the first exposure.")
    prompt_version: str
    retrieval_profile: str
    outcomes: Count = Field(description="Attached, whether or not they name this variation.")
    guardrails: Count = Field(description="Attached, whether or not they name this variation.")
    metrics: dict[str, float] = Field(description="By name; one without events in its window is absent.")
    flags: tuple[FactFlag, ...] = Field(description="Why the evidence is not clean.")
    clean: bool = Field(description="Whether there are no flags.")
    attributes: dict[str, str] = Field(description="As at the first exposure.")
    contract_version: str = Field(description="The contract of the first exposure.")
