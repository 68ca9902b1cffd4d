"""Learning rates within a phase, and when a phase has learnt what it can."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from classify_training.config import FitConfig
from classify_training.fitting.checkpoint import Decay, State
from classify_training.fitting.phases import Phase

_COSINE_WARM_UP: Final = 0.1
_DECAY_SHARE: Final = 0.25
_SHORTEST_DECAY: Final = 2
_LOW_SHARE: Final = 0.1
_EPOCHS_WITHOUT_VALIDATION: Final = 15


@dataclass(frozen=True)
class Clock:
    """The time that a phase may take.

    Attributes:
        end: when it must have ended, in the seconds of `now`; infinity for no limit.
        now: gives seconds.
    """

    end: float = math.inf
    now: Callable[[], float] = time.monotonic

    def epochs_left(self, seconds: float) -> float:
        """How many epochs of so many seconds fit into what is left."""
        return max(0.0, self.end - self.now()) / max(seconds, 1e-3)


def learning_rate(config: FitConfig, phase: Phase, state: State, place: float) -> float:
    """Learning rate at a place of the epoch that follows a state.

    Args:
        config: the options.
        phase: the phase.
        state: after the epochs that are finished.
        place: finished share of the epoch, 0-1.
    """
    at, peak = state.epoch + place, phase.learning_rate
    if config.schedule == "constant":
        return peak
    if config.schedule == "cosine":
        # Linear warm-up over the first tenth, then decay to 0 (Loshchilov and Hutter, 2017).
        warm_up = _COSINE_WARM_UP * phase.epochs
        if at < warm_up:
            return peak * at / warm_up
        return peak * 0.5 * (1 + math.cos(math.pi * (at - warm_up) / (phase.epochs - warm_up)))
    if state.decay:
        return peak * state.decay.share * max(0.0, 1 - (at - state.decay.start) / state.decay.epochs)
    # Adam's estimates of the gradients' size are poor in the first steps.
    return peak * min(1.0, at)


def next_step(config: FitConfig, phase: Phase, state: State, has_validation: bool, clock: Clock) -> State | str:
    """What follows an epoch: another one, after the returned state, or the end of the phase, for the returned reason.

    With the schedule `plateau`, the rate is constant until the validation loss has not fallen for `patience` epochs,
    and then decays to 0 from the best weights on, over a quarter as many epochs as there were, and 2 at least. Most of
    what a phase gains late it gains in this decay (Hu et al., "MiniCPM", 2024, call it warmup-stable-decay). Its
    advantage over a cosine is that the number of epochs need not be known before.
    """
    seconds = state.history[-1].seconds if state.epoch else 0.0
    left = clock.epochs_left(seconds) if state.epoch else math.inf
    if config.schedule != "plateau":
        return _next_of_fixed(config, phase, state, has_validation, left)
    if state.decay:
        is_over = state.epoch >= state.decay.start + state.decay.epochs
        return state.decay.reason if is_over or left < 1 else state
    most = phase.epochs if has_validation else min(phase.epochs, _EPOCHS_WITHOUT_VALIDATION)
    length = max(_SHORTEST_DECAY, round(_DECAY_SHARE * state.epoch))
    reason = _reason_to_decay(config, phase, state, has_validation, most, left, length)
    if not reason:
        return state
    length = min(length, most - state.epoch, math.floor(min(left, length)))
    if length < 1:
        return reason
    # If no epoch was better than the start, the rate was too high for these weights.
    share = 1.0 if state.best_epoch or not has_validation else _LOW_SHARE
    return replace(state, decay=Decay(start=state.epoch, epochs=length, share=share, reason=reason))


def _reason_to_decay(
    config: FitConfig, phase: Phase, state: State, has_validation: bool, most: int, left: float, length: int
) -> str:
    """Why the learning rate decays from now on; empty if it does not."""
    if has_validation and state.epoch - state.best_epoch >= config.patience:
        return f"the validation loss did not fall for {config.patience} epochs"
    if left < length + 1:
        return "the time budget was used up" + _still_falling(state, has_validation, "a longer --time-budget")
    if state.epoch + min(length, most // 2) >= most:
        if not has_validation:
            return "there are no validation images to see when to stop"
        return f"{_option(phase)} was reached" + _still_falling(state, has_validation, f"more {_option(phase)}")
    return ""


def _next_of_fixed(config: FitConfig, phase: Phase, state: State, has_validation: bool, left: float) -> State | str:
    if has_validation and state.epoch - state.best_epoch >= config.patience:
        return f"the validation loss did not fall for {config.patience} epochs"
    if state.epoch >= phase.epochs:
        return f"{_option(phase)} was reached" + _still_falling(state, has_validation, f"more {_option(phase)}")
    if left < 1:
        return "the time budget was used up" + _still_falling(state, has_validation, "a longer --time-budget")
    return state


def _still_falling(state: State, has_validation: bool, remedy: str) -> str:
    is_falling = has_validation and state.epoch - state.best_epoch <= 1
    return f" while the validation loss was still falling: {remedy} may help" if is_falling else ""


def _option(phase: Phase) -> str:
    return "--head-epochs" if phase.unfreeze == "none" else "--epochs"
