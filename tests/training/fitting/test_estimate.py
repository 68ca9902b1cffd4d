"""Which phases there are, and which of them a time budget has room for."""

from typing import Any

import pytest

from classify_training.config import FitConfig
from classify_training.errors import TimeBudgetError
from classify_training.fitting.estimate import EpochCosts, affordable, check_budget
from classify_training.fitting.phases import Transferability, head_phase, plan_phases
from classify_training.model.vgg16 import VGG16


def phases_of(transfer: Transferability | None = None, **options: Any) -> list[str]:
    phases = plan_phases(FitConfig(**options), VGG16, transfer or Transferability())
    return [phase.unfreeze for phase in phases]


def test_phases_follow_the_options_and_what_the_frozen_network_is_good_for() -> None:
    assert phases_of() == ["none", "block5", "block3"]
    assert phases_of(Transferability("block5")) == ["none", "block5", "block3"]
    assert phases_of(Transferability("block3")) == ["block3"]
    assert phases_of(Transferability("block3"), epochs=0) == ["none"]
    assert phases_of(Transferability("block5", is_solved=True)) == ["none"]
    assert phases_of(unfreeze="none") == ["none"]
    assert phases_of(Transferability("block3"), unfreeze="block4") == ["none", "block4"]
    assert phases_of(Transferability("block5", is_solved=True), head_epochs=0) == ["block5", "block3"]
    assert phases_of(weights="random") == ["all"]
    assert phases_of(head_epochs=0, unfreeze="all") == ["all"]
    *_, last = plan_phases(FitConfig(), VGG16, Transferability("block5"))
    assert last.needed_gain > 0


class Costs(EpochCosts):
    """A second for an epoch of the head, 10 from block5, 40 from block3; features are computed in 5 seconds."""

    def __init__(self) -> None:
        pass

    def epoch(self, unfreeze: str) -> float:
        return {"none": 1.0, "block5": 10.0, "block3": 40.0}[unfreeze]

    def first_epochs(self, unfreeze: str) -> float:
        return {"none": 5 + 5.0, "block5": 5 + 40.0, "block3": 160.0}[unfreeze]


@pytest.mark.parametrize(
    ("time_left", "stage", "kept"),
    [
        (1000, "block5", ["none", "block5", "block3"]),
        (200, "block5", ["none", "block5"]),
        (50, "block5", ["none"]),
        (161, "block3", ["block3"]),
        (159, "block3", ["none"]),
    ],
)
def test_phases_without_room_in_the_time_budget_are_left_out(time_left: float, stage: str, kept: list[str]) -> None:
    config = FitConfig(time_budget=time_left + 30)
    phases = affordable(plan_phases(config, VGG16, Transferability(stage)), config, Costs(), time_left)
    assert [phase.unfreeze for phase in phases] == kept
    check_budget(phases, config, Costs(), time_left)


def test_a_budget_without_room_for_a_few_epochs_of_the_head_is_refused() -> None:
    config = FitConfig(time_budget=39)
    check_budget([head_phase(config)], config, Costs(), 10)
    with pytest.raises(TimeBudgetError, match=r"39s is too short.*at least 50 s"):
        check_budget([head_phase(config)], config, Costs(), 9)
