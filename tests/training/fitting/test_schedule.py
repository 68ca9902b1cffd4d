"""How the learning rate falls in a phase, and why the phase ends."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_training.config import FitConfig
from classify_training.fitting.checkpoint import Decay, Epoch, State
from classify_training.fitting.phases import Phase
from classify_training.fitting.schedule import Clock, is_settled, learning_rate, next_step


class Steps:
    """A phase whose validation losses are given: which learning rates it has, and why it ends.

    Args:
        options: of the fit.
        epoch_seconds: duration of an epoch.
        budget: seconds that the phase may take.
    """

    def __init__(self, epoch_seconds: float = 1.0, budget: float = math.inf, **options: Any) -> None:
        self.config = FitConfig(**options)
        self.phase = Phase("all layers", "all", self.config.epochs, 1.0)
        self.seconds, self.epoch_seconds = 0.0, epoch_seconds
        self.clock = Clock(0.0, budget, lambda: self.seconds)

    def run(self, losses: Callable[[int], float], has_validation: bool = True) -> tuple[list[float], str]:
        """Rates in the middle of each epoch, and the reason; `losses` gives the loss after an epoch, from 1."""
        state, rates = State(best_loss=9.0, start_loss=9.0) if has_validation else State(), []
        while not isinstance(following := next_step(self.config, self.phase, state, has_validation, self.clock), str):
            rates.append(learning_rate(self.config, self.phase, following, 0.5))
            self.seconds += self.epoch_seconds
            number = following.epoch + 1
            loss = losses(number) if has_validation else None
            done = Epoch(
                phase="", epoch=number, loss=1, accuracy=0, val_loss_calibrated=loss, seconds=self.epoch_seconds
            )
            state = replace(following, epoch=number, history=(*following.history, done))
            if loss is None or loss < (state.best_loss or 0):
                state = replace(state, best_loss=loss, best_epoch=number)
        return rates, following


def test_the_rate_falls_once_the_loss_does_not() -> None:
    rates, reason = Steps(patience=3).run(lambda epoch: max(1.0, 3 - 0.2 * epoch) + 0.001 * epoch)
    # The loss is lowest after 10 epochs; a quarter of 13 epochs more.
    assert rates == pytest.approx([0.5, *[1.0] * 12, 5 / 6, 3 / 6, 1 / 6])
    assert reason == "the validation loss did not fall for 3 epochs"


def test_a_lucky_epoch_does_not_end_a_phase_in_which_the_loss_still_falls() -> None:
    falling = [2.0, 1.8, 1.6, 0.6, 1.4, 1.3, 1.2, 1.1, 1.0, 0.9, 0.8]
    rates, _ = Steps(patience=3).run(lambda epoch: falling[epoch - 1] if epoch <= len(falling) else 0.8)
    # The loss is lowest from epoch 11 on; three epochs later the rate begins to fall.
    assert rates[:14] == pytest.approx([0.5, *[1.0] * 13])
    assert rates[14] < 1
    # Where the loss rises, nothing is waited for.
    rates, _ = Steps(patience=3).run(lambda epoch: abs(epoch - 4) + 1.0)
    assert rates[:7] == pytest.approx([0.5, *[1.0] * 6])
    assert rates[7] < 1


def test_from_random_weights_the_rate_falls_for_as_long_as_it_was_high() -> None:
    rates, reason = Steps(patience=4, weights="random").run(lambda epoch: abs(epoch - 4) + 1.0)
    assert rates == pytest.approx([0.5, *[1.0] * 5, *(np.arange(5.5, 0, -1) / 6)])
    assert reason == "the validation loss did not fall for 2 epochs"


@pytest.mark.parametrize(("last", "settled"), [(0.55, True), (0.75, False)])
def test_the_end_of_a_decay_is_as_good_as_a_lucky_epoch(last: float, settled: bool) -> None:
    losses = [2.0, 1.5, 0.9, 0.7, 0.8, 0.5, 0.65, 0.8, 0.7, 0.6, last]
    history = tuple(
        Epoch(phase="", epoch=number, loss=1, accuracy=0, val_loss_calibrated=loss, seconds=1)
        for number, loss in enumerate(losses, start=1)
    )
    decay = Decay(start=9, epochs=2, share=1, reason="")
    state = State(epoch=11, best_epoch=6, best_loss=0.5, start_loss=2.3, decay=decay, history=history)
    assert is_settled(state) == settled
    # Not before its end, and not where the phase made it worse.
    assert not is_settled(replace(state, epoch=10, history=history[:-1]))
    assert not is_settled(replace(state, start_loss=0.5))


def test_a_phase_that_only_makes_it_worse_tries_a_low_rate_and_ends() -> None:
    rates, _ = Steps(patience=3).run(lambda epoch: 10.0)
    assert rates == pytest.approx([0.5, 1, 1, 0.075, 0.025])


def test_the_largest_number_of_epochs_is_kept_and_said() -> None:
    rates, reason = Steps(epochs=8).run(lambda epoch: 5 - 0.1 * epoch)
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.25])
    assert "still falling: more --epochs" in reason
    # No epoch was better than the start: nothing is falling.
    _, reason = Steps(epochs=1).run(lambda epoch: 9.5)
    assert reason == "--epochs was reached"


@given(st.floats(0, 200), st.floats(0.5, 30), st.integers(1, 6), st.integers(1, 40), st.booleans())
def test_a_phase_ends_when_its_time_is_used_up(
    budget: float, seconds: float, patience: int, epochs: int, has_validation: bool
) -> None:
    steps = Steps(seconds, budget, patience=patience, epochs=epochs)
    rates, reason = steps.run(lambda epoch: 5 - 0.01 * epoch, has_validation)
    assert len(rates) <= epochs
    # An epoch that has begun is cut short in a real training.
    assert steps.seconds <= budget + seconds + 1e-6
    assert reason


def test_the_rate_falls_over_the_last_part_of_the_time() -> None:
    seconds = [0.0]
    clock = Clock(10.0, 110.0, lambda: seconds[0])
    shares = []
    for seconds[0] in (10, 69, 90, 100, 110, 120):
        shares.append(clock.rate_share())
    assert shares == pytest.approx([1, 1, 0.5, 0.25, 0, 0])
    assert clock.is_over()
    assert Clock().rate_share() == 1


def test_without_validation_images_the_rate_still_falls() -> None:
    rates, reason = Steps().run(lambda epoch: 0.0, has_validation=False)
    assert len(rates) == 15
    assert rates[-1] < 0.3
    assert "no validation images" in reason
