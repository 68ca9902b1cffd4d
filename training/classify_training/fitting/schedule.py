"""Learning rates within a phase, and when a phase has learnt what it can."""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from classify_training.config import FitConfig
from classify_training.fitting.checkpoint import Decay, State
from classify_training.fitting.phases import RANDOM, Phase

_COSINE_WARM_UP: Final = 0.1
_DECAY_SHARE: Final = 0.25
_SHORTEST_DECAY: Final = 2
_LOW_SHARE: Final = 0.1
_DECAY_TIME: Final = 0.4
_EPOCHS_WITHOUT_VALIDATION: Final = 15
_NOTICEABLE_FALL: Final = 0.005
_NOISE_EPOCHS: Final = 9
_SHORTEST_NOISE: Final = 4
_RANDOM_DECAY_SHARE: Final = 1.0
_RANDOM_PATIENCE: Final = 0.5
"""From random weights, the loss jumps as long as the rate is high, and most is learnt while it falls: that begins
earlier, and takes longer."""


@dataclass(frozen=True)
class Clock:
    """The time that a phase may take.

    Attributes:
        start: when it began, in the seconds of `now`.
        end: when it must have ended; infinity for no limit.
        now: gives seconds.
        is_all: whether the phase may take all of the time budget that is left.
    """

    start: float = 0.0
    end: float = math.inf
    now: Callable[[], float] = time.monotonic
    is_all: bool = True

    def is_over(self) -> bool:
        """Whether the time is used up."""
        return self.now() >= self.end

    def rate_share(self) -> float:
        """Share of the learning rate, 0-1: it falls to 0 over the last part of the time."""
        if math.isinf(self.end) or self.end <= self.start:
            return 1.0
        left = (self.end - self.now()) / (self.end - self.start)
        return min(1.0, max(0.0, left) / _DECAY_TIME)


@dataclass(frozen=True)
class TimeLimit:
    """What a phase may take of the time that is left.

    Attributes:
        end: when the whole fit must have ended, by `time.monotonic`; infinity for no limit.
        share: largest share of the time left, 0-1.
        least: seconds that it may take also where its share is smaller.
    """

    end: float
    share: float
    least: float

    def clock(self) -> Clock:
        """The time of a phase that begins now."""
        now = time.monotonic()
        seconds = max(self.share * (self.end - now), self.least)
        return Clock(now, min(now + seconds, self.end), is_all=self.share == 1)


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
    see `_last_fall`, and then decays to 0 from the best weights on, over a quarter as many epochs as there were (from
    random weights: as many), and 2 at least. Most of what a phase gains late it gains in this decay (Hu et al.,
    "MiniCPM", 2024, call it warmup-stable-decay). Its advantage over a cosine is that the number of epochs need not be
    known before.
    """
    if clock.is_over():
        used = "the time budget was used up" if clock.is_all else "its share of the time budget was used up"
        if not state.epoch:
            return f"{used} before its first epoch: a longer --time-budget may help"
        return used + _still_falling(state, has_validation, "a longer --time-budget")
    is_random = config.weights == RANDOM and config.schedule == "plateau"
    patience = math.ceil(config.patience * (_RANDOM_PATIENCE if is_random else 1))
    has_stalled = has_validation and state.epoch - _last_fall(config, state) >= patience
    stalled = f"the validation loss did not fall for {patience} epoch{'s' if patience > 1 else ''}"
    reached = f"{_option(phase)} was reached" + _still_falling(state, has_validation, f"more {_option(phase)}")
    if config.schedule != "plateau":
        return stalled if has_stalled else reached if state.epoch >= phase.epochs else state
    if state.decay:
        return state.decay.reason if state.epoch >= state.decay.start + state.decay.epochs else state
    most = phase.epochs if has_validation else min(phase.epochs, _EPOCHS_WITHOUT_VALIDATION)
    decay_share = _RANDOM_DECAY_SHARE if is_random else _DECAY_SHARE
    length = max(_SHORTEST_DECAY, round(decay_share * state.epoch))
    if has_stalled:
        reason = stalled
    elif state.epoch + min(length, most // 2) >= most:
        reason = reached if has_validation else "there are no validation images to see when to stop"
    else:
        return state
    length = min(length, most - state.epoch)
    if length < 1:
        return reason
    # If no epoch was better than the start, the rate was too high for these weights.
    share = 1.0 if state.best_epoch or not has_validation else _LOW_SHARE
    return replace(state, decay=Decay(start=state.epoch, epochs=length, share=share, reason=reason))


def _last_fall(config: FitConfig, state: State) -> int:
    """Number of the epoch after which the validation loss has not fallen; 0 if no epoch was better than the start.

    Few validation images make their loss jump. One lucky epoch must not end a phase in which the loss still falls: so
    the median of three epochs in a row counts as well.
    """
    if not state.best_epoch or config.schedule != "plateau":
        return state.best_epoch
    own = state.phase_history
    last, lowest = 0, math.inf
    for place in range(1, len(own) - 1):
        smoothed = statistics.median(epoch.val_loss_calibrated or 0.0 for epoch in own[place - 1 : place + 2])
        if smoothed < (1 - _NOTICEABLE_FALL) * lowest:
            last, lowest = place + 1, smoothed
    return max(state.best_epoch, last)


def is_settled(state: State) -> bool:
    """Whether the last epoch ends a decay with a validation loss that its noise cannot tell from the lowest one.

    With few validation images the lowest of many losses is partly luck, and the weights after the decay, which the
    jumps of a high rate no longer reach, are the better choice. The noise is how much the loss changed from one epoch
    to the next before the decay, in the median.
    """
    decay = state.decay
    if not decay or not state.best_epoch or state.epoch != decay.start + decay.epochs:
        return False
    losses = [epoch.val_loss_calibrated for epoch in state.phase_history if epoch.val_loss_calibrated is not None]
    before = losses[max(0, decay.start - _NOISE_EPOCHS) : decay.start]
    if len(losses) < state.epoch or len(before) < _SHORTEST_NOISE or losses[-1] >= (state.start_loss or math.inf):
        return False
    noise = statistics.median(abs(later - earlier) for earlier, later in itertools.pairwise(before))
    return losses[-1] <= (state.best_loss or 0.0) + noise


def _still_falling(state: State, has_validation: bool, remedy: str) -> str:
    # If no epoch was better than the start, or hardly, nothing is falling.
    start, best = state.start_loss or 0.0, state.best_loss or 0.0
    is_better = state.best_epoch > 0 and best < (1 - _NOTICEABLE_FALL) * start
    is_falling = has_validation and is_better and state.epoch - state.best_epoch <= 1
    return f" while the validation loss was still falling: {remedy} may help" if is_falling else ""


def _option(phase: Phase) -> str:
    return "--head-epochs" if phase.unfreeze == "none" else "--epochs"
